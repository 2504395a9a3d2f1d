"""Useful tokens a second of reward training, against the usual ways of batching, in one run.

    python benchmarks/train_reward.py                 # a small random decoder on this machine's CPU, minutes
    python benchmarks/train_reward.py --shape 0.6b --rows 256 --rows-per-step 256 --compile    # on a GPU

The same random weights and the same rows (lengths of real chats, up to 4,096 tokens) go through: a plain loop that pads
every row to 4,096, `transformers.Trainer` with its shuffled batches, the same with its grouping by length, and
`OrdinalRewardTrainer`; with `--compile`, it runs with compiled layers, and once more without. A useful token is one that
is not padding. Printed: tokens a second, padding, and the floating-point operations that the useful tokens need, a
second, against what a large matrix multiplication reaches on this machine. On a GPU every contestant runs a few rows
first.
"""

import argparse
import gc
import json
import tempfile
import time
from functools import partial

import numpy as np
import torch
from datasets import Dataset
from record import record
from transformers import AutoModel, DataCollatorWithPadding, LlamaConfig, Qwen3Config, Trainer, TrainingArguments

from wildreward.modeling_wildreward import WildRewardConfig, WildRewardForSequenceClassification
from wildreward.packages import minilm_folder, sharegpt_file
from wildreward.training.model_setup import fast_bf16
from wildreward.training.reward_config import OrdinalRewardConfig
from wildreward.training.reward_trainer import OrdinalRewardTrainer

LONGEST = 4096
WARM_UP = 96  # rows, on a GPU
SHAPES = {
    "tiny": LlamaConfig(
        vocab_size=4096, hidden_size=256, intermediate_size=1024, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=4, pad_token_id=0, max_position_embeddings=LONGEST,
    ),
    "smollm2": LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, pad_token_id=0, max_position_embeddings=LONGEST,
    ),
    "0.6b": Qwen3Config(
        vocab_size=151936, hidden_size=1024, intermediate_size=3072, num_hidden_layers=28, num_attention_heads=16,
        num_key_value_heads=8, head_dim=128, pad_token_id=0, max_position_embeddings=LONGEST,
    ),
}  # fmt: skip


def real_lengths(count: int, seed: int) -> list[int]:
    """Token counts of random turns of the bundled chats with all that came before them, at most 4,096.

    The file holds long chats in parts of some 2,000 tokens; here the parts of a chat are joined again.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(minilm_folder(), trust_remote_code=False)
    rng = np.random.default_rng(seed)
    with open(sharegpt_file(), encoding="utf-8") as handle:
        text = handle.read(40_000_000)
    decoder, position, chats = json.JSONDecoder(), 0, {}
    while len(chats) < 2 * count + 10:
        record, position = decoder.raw_decode(text, text.index("{", position))
        chats.setdefault(record["id"].rpartition("_")[0], []).extend(turn["value"] for turn in record["conversations"])
    chats.popitem()  # may go on
    lengths = []
    for turns in [turns for turns in chats.values() if len(turns) >= 2][:count]:
        until = 2 * int(rng.integers(1, len(turns) // 2 + 1))
        ids = tokenizer("\n".join(turns[:until])[: 20 * LONGEST], verbose=False)["input_ids"]
        lengths.append(min(len(ids), LONGEST))
    return lengths


def make_rows(lengths: list[int], vocabulary: int, seed: int) -> Dataset:
    rng = np.random.default_rng(seed)
    return Dataset.from_list(
        [
            {
                "input_ids": rng.integers(1, vocabulary, length).tolist(),
                "length": length,
                "label": int(rng.integers(1, 5)),
                "confidence": 1.0,
                "source": "explicit",
                "id": str(number),
                "group": str(number),
                "dropped_messages": 0,
                "status": 0,
            }
            for number, length in enumerate(lengths)
        ]
    )


def make_model(shape: str, attention: str, device: str) -> WildRewardForSequenceClassification:
    torch.manual_seed(0)
    with torch.device(device):
        backbone = AutoModel.from_config(SHAPES[shape], attn_implementation=attention, trust_remote_code=False)
        config = WildRewardConfig(
            text_config=backbone.config, pooling="last", max_length=LONGEST, pad_token_id=0,
            attn_implementation=attention,
        )  # fmt: skip
        return WildRewardForSequenceClassification(config, backbone=backbone)


class Tokenizer:
    """The little of a tokenizer that padding needs; the rows are random ids."""

    @staticmethod
    def collator():
        from tokenizers import Tokenizer as Backend
        from tokenizers import models
        from transformers import PreTrainedTokenizerFast

        return PreTrainedTokenizerFast(
            tokenizer_object=Backend(models.WordLevel({"[PAD]": 0, "a": 1}, unk_token="[PAD]")), pad_token="[PAD]"
        )


def model_of(arguments) -> WildRewardForSequenceClassification:
    return make_model(arguments.shape, arguments.attention, arguments.device)


def peak(device: str, dtype: torch.dtype) -> float:
    """Operations a second of the best of several large matrix multiplications."""
    size = 8192 if device == "cuda" else 2048
    a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
    best = 0.0
    for _ in range(6):
        _wait(device)
        started = time.perf_counter()
        a @ b
        _wait(device)
        best = max(best, 2 * size**3 / (time.perf_counter() - started))
    return best


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def useful_operations(model: WildRewardForSequenceClassification, lengths: list[int]) -> float:
    """Forward and backward operations that the rows need: 6 a weight and token, and causal attention."""
    text = model.config.text_config
    width = text.num_attention_heads * (getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads)
    dense = model.num_parameters(exclude_embeddings=True)
    return float(sum(6 * dense * n + 6 * text.num_hidden_layers * width * n * n for n in lengths))


def padded_loop(model, rows: Dataset, arguments, dtype: torch.dtype) -> float:
    """Every row padded to 4,096, as a first version of a training script does."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    model.train()
    columns = rows.select_columns(["input_ids", "label"])
    started = time.perf_counter()
    for start in range(0, len(columns), arguments.rows_per_step):
        step = columns[start : start + arguments.rows_per_step]
        for begin in range(0, len(step["label"]), arguments.rows_per_pass):
            ids = step["input_ids"][begin : begin + arguments.rows_per_pass]
            batch = torch.zeros(len(ids), LONGEST, dtype=torch.long)
            for row, values in enumerate(ids):
                batch[row, : len(values)] = torch.tensor(values)
            batch = batch.to(arguments.device)
            labels = torch.tensor(step["label"][begin : begin + len(ids)], device=arguments.device)
            with torch.autocast(arguments.device, dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
                loss = model(batch, attention_mask=(batch > 0).long(), labels=labels).loss
            (loss * len(ids) / len(step["label"])).backward()
        optimizer.step()
        optimizer.zero_grad()
    _wait(arguments.device)
    return time.perf_counter() - started


def plain_trainer(model, rows: Dataset, arguments, dtype: torch.dtype, strategy: str) -> float:
    """`transformers.Trainer` with dynamic padding."""
    rows = rows.select_columns(["input_ids", "label", "length"]).rename_column("label", "labels")
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(
            folder, per_device_train_batch_size=arguments.rows_per_pass, max_grad_norm=1.0, save_strategy="no",
            gradient_accumulation_steps=arguments.rows_per_step // arguments.rows_per_pass, learning_rate=1e-5,
            train_sampling_strategy=strategy, bf16=dtype == torch.bfloat16, use_cpu=arguments.device == "cpu",
            num_train_epochs=1, disable_tqdm=True, report_to="none", logging_strategy="no", label_names=["labels"],
        )  # fmt: skip
        collate = DataCollatorWithPadding(Tokenizer.collator())
        trainer = Trainer(model, settings, collate, rows)
        return timed(trainer, arguments.device)


def our_trainer(model, rows: Dataset, arguments, dtype: torch.dtype, compiled: bool = False) -> tuple[float, float]:
    with tempfile.TemporaryDirectory() as folder:
        settings = OrdinalRewardConfig(
            folder, rows_per_step=arguments.rows_per_step, tokens_per_device=arguments.tokens_per_device,
            eval_strategy="no", save_strategy="no", learning_rate=1e-5, warmup_steps=0, bf16=dtype == torch.bfloat16,
            disable_tqdm=True, logging_strategy="no", use_cpu=arguments.device == "cpu", torch_compile=compiled,
            report_to="none",
        )  # fmt: skip
        trainer = OrdinalRewardTrainer(model, settings, rows, processing_class=Tokenizer.collator())
        seconds = timed(trainer, arguments.device)
        return seconds, trainer.get_train_dataloader().batch_sampler.padding_share()


def timed(trainer: Trainer, device: str) -> float:
    _wait(device)
    started = time.perf_counter()
    trainer.train()
    _wait(device)
    return time.perf_counter() - started


def padding_of(lengths: list[int], order: np.ndarray, size: int) -> float:
    """Padding of batches of `size` rows in this order."""
    ordered = np.asarray(lengths)[order]
    computed = sum(len(ordered[i : i + size]) * ordered[i : i + size].max() for i in range(0, len(ordered), size))
    return 1 - ordered.sum() / computed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="tiny")
    parser.add_argument("--rows", type=int, default=32)
    parser.add_argument("--rows-per-step", type=int, default=32)
    parser.add_argument("--rows-per-pass", type=int, default=4, help="of the alternatives")
    parser.add_argument("--tokens-per-device", type=int, default=16384)
    parser.add_argument("--attention", default="sdpa")
    parser.add_argument("--compile", action="store_true", help="ours with compiled layers, and once more without")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()

    dtype = torch.bfloat16 if fast_bf16() else torch.float32
    lengths = real_lengths(arguments.rows, arguments.seed)
    rows = make_rows(lengths, SHAPES[arguments.shape].vocab_size, arguments.seed)
    operations = useful_operations(make_model(arguments.shape, arguments.attention, "meta"), lengths)
    best = peak(arguments.device, dtype)
    tokens = sum(lengths)
    print(f"{len(lengths)} rows, {tokens} tokens, mean {tokens / len(lengths):.0f}, longest {max(lengths)}")
    print(
        f"{arguments.shape} decoder, {dtype}, {arguments.device}; matrix multiplication reaches {best / 1e9:.0f} GFLOP/s"
    )

    def padding(size: int, order: np.ndarray) -> float:
        return padding_of(lengths, order, size)

    by_length = np.argsort(-np.asarray(lengths), kind="stable")
    shuffled = np.random.default_rng(arguments.seed).permutation(len(lengths))
    contestants = {
        "ours": partial(our_trainer, compiled=arguments.compile),
        **({"ours, not compiled": our_trainer} if arguments.compile else {}),
        "Trainer, grouped by length": partial(plain_trainer, strategy="group_by_length"),
        "Trainer, shuffled": partial(plain_trainer, strategy="random"),
        f"loop padded to {LONGEST:,}": padded_loop,
    }
    known_padding = {
        "Trainer, grouped by length": padding(arguments.rows_per_pass, by_length),
        "Trainer, shuffled": padding(arguments.rows_per_pass, shuffled),
        f"loop padded to {LONGEST:,}": 1 - tokens / (LONGEST * len(lengths)),
    }
    results = {}
    for name, contestant in contestants.items():
        if arguments.device == "cuda":
            contestant(model_of(arguments), rows.select(range(min(len(rows), WARM_UP))), arguments, dtype)
            gc.collect()  # models and trainers refer to each other
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        found = contestant(model_of(arguments), rows, arguments, dtype)
        seconds, share = found if isinstance(found, tuple) else (found, known_padding[name])
        results[name] = (seconds, share)
        if arguments.device == "cuda":
            print(f"{name}: {seconds:.1f} s, at most {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB", flush=True)
    ours, ours_padding = results["ours"]

    print(f"{'':28s} {'seconds':>8s} {'tokens/s':>9s} {'padding':>8s} {'GFLOP/s':>8s} {'of peak':>8s} {'ours is':>8s}")
    for name, (seconds, padding) in results.items():
        rate = operations / seconds
        print(
            f"{name:28s} {seconds:8.1f} {tokens / seconds:9.0f} {padding:8.1%} {rate / 1e9:8.1f} {rate / best:8.1%} "
            f"{seconds / ours:7.2f}x"
        )
    record(
        "train_reward" + ("" if arguments.device == "cpu" else f"_{arguments.shape}_gpu"),
        [
            {
                "measure": f"training tokens a second, {padding:.1%} padding there, {ours_padding:.1%} ours; alternative: {name}",
                "ours": tokens / ours,
                "alternative": tokens / seconds,
                "ratio": seconds / ours,
            }
            for name, (seconds, padding) in results.items()
            if name != "ours"
        ]
        + [
            {
                "measure": "percent of the operations a second of a large matrix multiplication; alternative: "
                "Trainer, grouped by length",
                "ours": 100 * operations / ours / best,
                "alternative": 100 * operations / results["Trainer, grouped by length"][0] / best,
                "ratio": results["Trainer, grouped by length"][0] / ours,
            }
        ],
    )


if __name__ == "__main__":
    main()
