"""Throughput of scoring benchmark items: shared prompts and length-sorted batches against independent rows as they come.

    python benchmarks/evaluate.py                      # a random 2-layer Llama-shaped decoder, CPU or GPU
    python benchmarks/evaluate.py --model HuggingFaceTB/SmolLM2-135M-Instruct --items 4

Item shapes follow the benchmarks: token counts of prompts and answers are log-normal with the medians below, answers of
RM-Bench come in its three styles (concise, detailed, detailed with markdown). The baseline pads batches of `--batch`
rows in arrival order, each row with its own copy of the prompt; a second one runs one row at a time (no padding). On a
busy machine set OMP_NUM_THREADS=1: threads that wait for each other count as CPU time.
"""

import argparse
import logging
import tempfile
import time

import numpy as np
import torch
from record import record

from wildreward.modeling_wildreward import WildRewardForSequenceClassification
from wildreward.modeling_wildreward.template import encode_batch, install_template
from wildreward.scoring.scorer import RewardScorer

# name: (median prompt tokens, median tokens of each candidate in turn, candidates, items, least ratio promised)
SHAPES = {
    "RM-Bench": (60, (120, 300, 340), 6, 4, 1.3),
    "JudgeBench": (450, (450,), 2, 5, 1.3),
    "best-of-32 (PPE)": (200, (280,), 32, 1, 2.0),
}
SPREAD = 0.5  # standard deviation of the log of the token counts
WORDS = [a + b + c for a in "bdfgklmnprst" for b in "aeiou" for c in "bdgklmnprst"]


def word_tokenizer():
    """One word, one token: text lengths are token counts."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    vocab = {token: i for i, token in enumerate(["<pad>", "<unk>", "</s>", *WORDS])}
    core = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="<pad>", unk_token="<unk>", eos_token="</s>")


def make_scorer(model, device, dtype):
    from transformers import AutoTokenizer, LlamaConfig, LlamaModel

    torch.manual_seed(0)
    if model is not None:
        path = model
        tokenizer = AutoTokenizer.from_pretrained(path, trust_remote_code=False)
    else:
        tokenizer = word_tokenizer()
        path = tempfile.mkdtemp()
        shape = {"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 2, "num_attention_heads": 12}
        limits = {"num_key_value_heads": 4, "max_position_embeddings": 4096}
        LlamaModel(LlamaConfig(vocab_size=len(tokenizer), pad_token_id=0, **shape, **limits)).save_pretrained(path)
    network = WildRewardForSequenceClassification.from_backbone(path, dtype=dtype, base_model="benchmark")
    with torch.no_grad():
        network.score.weight.normal_(0, 0.1)
    return RewardScorer(network.to(device), install_template(tokenizer))


def make_items(shape, count, seed=0):
    prompt_median, medians, candidates, _, _ = shape
    rng = np.random.default_rng(seed)

    def text(median):
        return " ".join(rng.choice(WORDS, max(4, int(median * np.exp(SPREAD * rng.normal())))))

    items = []
    for _ in range(count):
        answers = [text(medians[i % len(medians)]) for i in range(candidates)]
        items.append(([{"role": "user", "content": text(prompt_median)}], answers))
    return items


@torch.inference_mode()
def independent(scorer, items, batch):
    """Every row on its own, padded batches in arrival order."""
    rows = [[*prompt, {"role": "assistant", "content": c}] for prompt, answers in items for c in answers]
    ids = [e.input_ids for e in encode_batch(scorer.tokenizer, rows, scorer.model.config.max_length)]
    scores = []
    for start in range(0, len(ids), batch):
        inputs = scorer.tokenizer.pad({"input_ids": ids[start : start + batch]}, return_tensors="pt")
        scores += scorer.model(**inputs.to(scorer.model.device)).logits[:, 0].tolist()
    return scores


def shared(scorer, items):
    return [score for scores in scorer.score_groups(items) for score in scores]


def timed(function, *arguments):
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        start = time.perf_counter()
        result = function(*arguments)
        torch.cuda.synchronize()
        return time.perf_counter() - start, result
    start = time.process_time()  # CPU seconds: other work on the machine disturbs them less than the clock
    result = function(*arguments)
    return time.process_time() - start, result


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="backbone: Hub id or folder; default: a random 2-layer decoder")
    parser.add_argument("--items", type=int, help="items of each shape")
    parser.add_argument("--batch", type=int, default=8, help="rows a batch of the baseline")
    parser.add_argument("--rounds", type=int, default=2, help="repetitions; the fastest counts")
    parser.add_argument("--shape", choices=SHAPES, help="run only this one")
    parser.add_argument("--dtype", default="float32")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    scorer = make_scorer(options.model, device, options.dtype)
    place = torch.cuda.get_device_name() if device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(f"{options.model or 'random 2-layer Llama-shaped decoder'}, {options.dtype}, {place}")
    unit = "seconds" if device == "cuda" else "CPU seconds"
    print(f"{unit}; ratios: baseline over ours, for batches in arrival order and for one row at a time")
    print(
        f"{'shape':<18}{'items':>6}{'rows':>6}{'tokens':>9}{'arrival':>10}{'one row':>10}{'ours':>10}  ratios    max diff"
    )
    recorded = []
    for name, shape in SHAPES.items():
        if options.shape not in (None, name):
            continue
        items = make_items(shape, options.items or shape[3])
        rows = [[*p, {"role": "assistant", "content": c}] for p, answers in items for c in answers]
        tokens = sum(len(e.input_ids) for e in encode_batch(scorer.tokenizer, rows, scorer.model.config.max_length))
        shared(scorer, items[:1])
        times = {"arrival": [], "one": [], "ours": []}
        for _ in range(options.rounds):
            for key, call in (
                ("arrival", lambda: independent(scorer, items, options.batch)),  # noqa: B023
                ("one", lambda: independent(scorer, items, 1)),  # noqa: B023
                ("ours", lambda: shared(scorer, items)),  # noqa: B023
            ):
                seconds, scores = timed(call)
                times[key].append(seconds)
                if key == "one":
                    reference = scores
                elif key == "ours":
                    difference = float(np.abs(np.subtract(scores, reference)).max())
        best = {key: min(values) for key, values in times.items()}
        ratio, ratio_one = best["arrival"] / best["ours"], best["one"] / best["ours"]
        verdict = "" if ratio >= shape[4] else f"  below the promised {shape[4]}"
        print(
            f"{name:<18}{len(items):>6}{len(rows):>6}{tokens:>9,}{best['arrival']:>9.2f}s{best['one']:>9.2f}s"
            f"{best['ours']:>9.2f}s  {ratio:.2f} {ratio_one:.2f}  {difference:.1e}{verdict}",
            flush=True,
        )
        measure = (
            f"{unit} to score {len(rows)} candidates of {len(items)} {name} items; alternative: rows in arrival order"
        )
        recorded.append({"measure": measure, "ours": best["ours"], "alternative": best["arrival"], "ratio": ratio})
    record("evaluate", recorded)


if __name__ == "__main__":
    main()
