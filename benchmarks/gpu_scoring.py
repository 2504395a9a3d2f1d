"""Scoring on one NVIDIA GPU: tokens a second of single conversations and of best-of-8, and the exported classifier's scores.

    python benchmarks/gpu_scoring.py                                   # the shape of Qwen3-0.6B, bfloat16
    python benchmarks/gpu_scoring.py --shape tiny --rows 8 --groups 1  # whether it runs, on a CPU

Random weights, independent head, words as tokens; lengths are log-normal. Best-of-8 has eight answers to a prompt four times
as long as an answer. Tokens a second count every token of every conversation, whether it was computed or shared. The
alternatives: a `transformers` loop in batches of 8 as they come, for best-of-8 also each conversation on its own
(`RewardScorer.score`); with `--vllm`, vLLM's classify on the export, in this environment, started last. Scores of the export
are compared in float32. The fastest of `--rounds` counts, each with new texts; the first is a warm-up.
"""

import argparse
import gc
import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from evaluate import make_items, word_tokenizer
from record import record
from train_reward import LONGEST, SHAPES
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from wildreward.modeling_wildreward import WildRewardConfig, WildRewardForSequenceClassification
from wildreward.modeling_wildreward.interchange import export_model
from wildreward.modeling_wildreward.template import encode_batch, install_template
from wildreward.scoring.scorer import RewardScorer

Chat = list[dict[str, str]]
Item = tuple[Chat, list[str]]
SINGLE, BEST_OF_8 = (120, (240,), 1), (960, (240,), 8)  # median tokens of prompt and answers, candidates


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="0.6b")
    parser.add_argument("--rows", type=int, default=512, help="single conversations a round")
    parser.add_argument("--groups", type=int, default=48, help="prompts of best-of-8 a round")
    parser.add_argument("--rounds", type=int, default=3, help="the first is not counted")
    parser.add_argument("--vllm", action="store_true")
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    on_gpu = torch.cuda.is_available()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        difference = export(arguments.shape, folder, "cuda" if on_gpu else "cpu")
        loads = {"single conversations": (SINGLE, arguments.rows), "best-of-8": (BEST_OF_8, arguments.groups)}
        rates = measure(folder, loads, arguments.rounds, torch.bfloat16 if on_gpu else torch.float32, on_gpu)
        if arguments.vllm:
            for load, rate in vllm_rates(folder, loads, arguments.rounds).items():
                rates[load]["vLLM, prefixes cached"] = rate
    rows = report(rates, difference)
    if on_gpu:
        record("gpu_scoring", rows)


def export(shape: str, folder: Path, device: str) -> float:
    """Save a random model, and its export; returns the largest difference of their scores in float32."""
    tokenizer = install_template(word_tokenizer())
    torch.manual_seed(0)
    text = SHAPES[shape]
    text.vocab_size = max(len(tokenizer), 1024)
    config = WildRewardConfig(text_config=text, head="independent", pooling="last", max_length=LONGEST, pad_token_id=0)
    with torch.device(device):
        model = WildRewardForSequenceClassification(config)
    with torch.no_grad():
        model.score.weight.normal_(0, 0.1)
    scorer = RewardScorer(model.to(device).eval(), tokenizer)
    plain, _ = export_model(scorer.model, scorer.tokenizer)
    plain.to(device).eval().save_pretrained(folder / "plain")
    scorer.tokenizer.save_pretrained(folder / "plain")
    scorer.save_pretrained(folder / "reward")
    chats = chats_of(make_items((*SINGLE, 0, 0), 16))
    return float(np.abs(np.subtract(loop(plain, tokenizer, chats), scorer.score(chats))).max())


def measure(folder: Path, loads: dict, rounds: int, dtype: torch.dtype, on_gpu: bool) -> dict[str, dict[str, float]]:
    """Load → way → tokens a second, of this library and of transformers."""
    device = "cuda" if on_gpu else "cpu"
    scorer = RewardScorer.from_pretrained(folder / "reward", dtype=dtype)
    scorer.model.to(device)
    plain = (
        AutoModelForSequenceClassification.from_pretrained(folder / "plain", dtype=dtype, trust_remote_code=False)
        .to(device)
        .eval()
    )
    alone = {"ours": lambda items: scorer.score(chats_of(items))}
    transformers_loop = {"transformers, batches of 8": lambda items: loop(plain, scorer.tokenizer, chats_of(items))}
    ways = {
        "single conversations": {**alone, **transformers_loop},
        "best-of-8": {
            "ours": lambda items: scorer.score_groups(items),
            "ours, prompts not shared": alone["ours"],
            **transformers_loop,
        },
    }
    return {
        load: {name: rate(way, scorer.tokenizer, shape, count, rounds) for name, way in ways[load].items()}
        for load, (shape, count) in loads.items()
    }


def rate(way: Callable[[list[Item]], object], tokenizer: object, shape: tuple, count: int, rounds: int) -> float:
    """Tokens a second of the fastest round but the first."""
    best = 0.0
    for seed in range(rounds):
        items = make_items((*shape, 0, 0), count, seed)
        tokens = sum(map(len, input_ids(tokenizer, chats_of(items))))
        started = time.perf_counter()
        way(items)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        if seed or rounds == 1:
            best = max(best, tokens / (time.perf_counter() - started))
    gc.collect()
    return best


@torch.inference_mode()
def loop(model: torch.nn.Module, tokenizer: object, chats: list[Chat]) -> list[float]:
    """Scores of the exported classifier in batches of 8 as they come."""
    scores, ids = [], input_ids(tokenizer, chats)
    for start in range(0, len(ids), 8):
        inputs = tokenizer.pad({"input_ids": ids[start : start + 8]}, return_tensors="pt")
        logits = model(**inputs.to(model.device)).logits.float()
        scores += (1 + logits.sigmoid().sum(1)).tolist()
    return scores


def vllm_rates(folder: Path, loads: dict, rounds: int) -> dict[str, float]:
    """Load → tokens a second of vLLM's classify, on the export."""
    from vllm import LLM

    tokenizer = AutoTokenizer.from_pretrained(folder / "plain", trust_remote_code=False)
    engine = LLM(model=str(folder / "plain"), runner="pooling", enable_prefix_caching=True, max_model_len=LONGEST,
                 gpu_memory_utilization=0.5)  # fmt: skip

    def classify(items: list[Item]) -> object:
        prompts = [{"prompt_token_ids": ids} for ids in input_ids(tokenizer, chats_of(items))]
        return engine.classify(prompts, use_tqdm=False)

    return {load: rate(classify, tokenizer, shape, count, rounds) for load, (shape, count) in loads.items()}


def input_ids(tokenizer: object, chats: list[Chat]) -> list[list[int]]:
    return [row.input_ids for row in encode_batch(tokenizer, chats, LONGEST)]


def chats_of(items: list[Item]) -> list[Chat]:
    return [[*prompt, {"role": "assistant", "content": answer}] for prompt, answers in items for answer in answers]


def report(rates: dict[str, dict[str, float]], difference: float) -> list[dict[str, str | float]]:
    """Print the figures; returns them as rows of a result."""
    rows: list[dict[str, str | float]] = []
    print(f"exported scores differ by at most {difference:.1e} (16 conversations, float32)")
    for load, found in rates.items():
        for way, value in found.items():
            print(f"{load:<22}{way:<28}{value:>12,.0f} tokens/s{found['ours'] / value:>8.2f}x")
            if way != "ours":
                measure = f"tokens scored a second, {load}; alternative: {way}"
                rows.append(
                    {"measure": measure, "ours": found["ours"], "alternative": value, "ratio": found["ours"] / value}
                )
    return rows


if __name__ == "__main__":
    main()
