"""Scoring speed with the same weights, four ways: this library, vLLM, sentence-transformers' CrossEncoder, a transformers loop.

    python benchmarks/scoring.py [--rounds 2] [--threads 1]

The weights are SmolLM2-135M-Instruct with a random coral head, in float32 on CPUs. Two loads: best-of-8, eight answers to one
prompt that is four times as long as an answer; and single conversations of mixed length. Tokens a second count every token of
every conversation, whether it was computed or shared. Each way gets all conversations of a load at once, in its own best form:
`RewardScorer.score_groups` (prompts shared) and `.score`; vLLM's `classify` with prefix caching; `CrossEncoder.predict`, which
sorts by length; the loop takes batches of 8 as they come. Every round has new texts, the fastest round counts, and starts are
not counted. The scores of the four must agree. vLLM runs in an environment of its own, see benchmarks/engines.py.
"""

import argparse
import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from engines import VLLM, classify, save_reward_model, scores_of
from record import record
from transformers.utils.logging import disable_progress_bar

Item = tuple[list[dict[str, str]], list[str]]
WORDS = [
    "the",
    "sea",
    "was",
    "calm",
    "and",
    "some",
    "people",
    "walked",
    "along",
    "the",
    "shore",
    "with",
    "bread",
    "tea",
    "music",
    "paper",
    "winter",
    "garden",
    "train",
    "moon",
    "light",
    "house",
    "water",
    "stone",
    "road",
    "river",
    "bird",
    "tree",
    "window",
    "door",
    "table",
    "hand",
    "night",
    "day",
    "small",
    "large",
    "old",
    "new",
    "good",
    "long",
]
BATCH = 8
# CrossEncoder makes messages of a pair; the text has been rendered already
AS_IT_IS = "{{ (messages | selectattr('role', 'eq', 'query') | first).content[0].text }}"
AS_IT_IS += "{{ (messages | selectattr('role', 'eq', 'document') | first).content[0].text }}"


def make_items(seed: int, prompt: int, answer: int, candidates: int, count: int, spread: float = 0.0) -> list[Item]:
    """Prompts and answers of about so many tokens (a word is one); `spread` is the standard deviation of the length's log."""
    rng = np.random.default_rng(seed)

    def text(tokens: int) -> str:
        return " ".join(rng.choice(WORDS, max(4, int(tokens * np.exp(spread * rng.normal())))))

    return [
        ([{"role": "user", "content": text(prompt)}], [text(answer) for _ in range(candidates)]) for _ in range(count)
    ]


def chats_of(items: list[Item]) -> list[list[dict[str, str]]]:
    return [[*prompt, {"role": "assistant", "content": text}] for prompt, answers in items for text in answers]


@torch.inference_mode()
def loop(model: Any, tokenizer: Any, texts: list[str]) -> list[float]:
    """What one would write: padded batches as they come."""
    logits = []
    for start in range(0, len(texts), BATCH):
        batch = tokenizer(texts[start : start + BATCH], padding=True, return_tensors="pt", add_special_tokens=False)
        logits += model(**batch).logits[:, 0].tolist()
    return logits


def ways_of(reward: str, plain: str) -> dict[str, Callable[[list[Item], list[str]], list[float]]]:
    """What scores items, given as messages and as the texts of them, in this process."""
    from sentence_transformers import CrossEncoder
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from wildreward import RewardScorer

    scorer = RewardScorer.from_pretrained(reward)
    tokenizer = AutoTokenizer.from_pretrained(plain, trust_remote_code=False)
    model = AutoModelForSequenceClassification.from_pretrained(plain, trust_remote_code=False).eval()
    encoder = CrossEncoder(plain, activation_fn=torch.nn.Identity(), processor_kwargs={"chat_template": AS_IT_IS})

    def encoded(texts: list[str]) -> list[float]:
        pairs = [(text, "") for text in texts]
        return encoder.predict(pairs, batch_size=BATCH, show_progress_bar=False).tolist()

    return {
        "ours": lambda items, _: [score for row in scorer.score_groups(items) for score in row],
        "CrossEncoder": lambda _, texts: scores_of(plain, encoded(texts)),
        "transformers loop": lambda _, texts: scores_of(plain, loop(model, tokenizer, texts)),
    }


def measure(options: argparse.Namespace, folder: Path) -> dict[str, dict[str, tuple[float, float]]]:
    """Tokens a second and the largest difference of a score from ours, by load and way."""
    from transformers import AutoTokenizer

    prompt, answer = 4 * options.answer, options.answer
    loads = {
        f"best-of-8 ({prompt} + {answer} tokens)": (prompt, answer, 8, options.groups, 0.0),
        "mixed conversations": (60, 120, 1, options.singles, 0.7),
    }
    reward, plain = str(folder / "reward-model"), str(folder / "plain")
    save_reward_model(reward, plain, chats_of(make_items(99, 40, 40, 1, 16, 0.7)))
    tokenizer, ways = AutoTokenizer.from_pretrained(plain, trust_remote_code=False), ways_of(reward, plain)
    texts: dict[tuple[str, int], list[str]] = {}
    seconds: dict[tuple[str, int, str], float] = {}
    scores: dict[tuple[str, int, str], list[float]] = {}
    for turn in range(options.rounds):
        for load, shape in loads.items():
            items = make_items(turn, *shape)
            texts[load, turn] = [tokenizer.apply_chat_template(chat, tokenize=False) for chat in chats_of(items)]
            for way, call in ways.items():
                start = time.perf_counter()
                scores[load, turn, way] = call(items, texts[load, turn])
                seconds[load, turn, way] = time.perf_counter() - start
                print(f"{load}, round {turn + 1}, {way}: {seconds[load, turn, way]:.1f} s", flush=True)
    answers = classify(list(texts.values()), plain, folder / "vllm.log", options.threads)
    for (load, turn), (took, logits) in zip(texts, answers, strict=True):
        seconds[load, turn, "vLLM"], scores[load, turn, "vLLM"] = took, scores_of(plain, logits)
        print(f"{load}, round {turn + 1}, vLLM: {took:.1f} s", flush=True)
    results: dict[str, dict[str, tuple[float, float]]] = {load: {} for load in loads}
    tokens = {key: sum(map(len, tokenizer(rows, add_special_tokens=False)["input_ids"])) for key, rows in texts.items()}
    for load in loads:
        for way in ("ours", "vLLM", "CrossEncoder", "transformers loop"):
            keys = [(load, turn) for turn in range(options.rounds)]
            apart = [np.abs(np.subtract(scores[*key, way], scores[*key, "ours"])).max() for key in keys]
            results[load][way] = max(tokens[key] / seconds[*key, way] for key in keys), float(max(apart))
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="more only on an idle machine")
    parser.add_argument("--groups", type=int, default=1, help="prompts of best-of-8 a round")
    parser.add_argument("--singles", type=int, default=24, help="mixed conversations a round")
    parser.add_argument("--answer", type=int, default=96, help="tokens of an answer in best-of-8")
    options = parser.parse_args()
    logging.disable(logging.WARNING)
    disable_progress_bar()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as folder:
        results = measure(options, Path(folder))
    print(f"\n{'tokens a second':<34}{'way':<20}{'tokens/s':>10}{'ours over it':>14}{'largest difference':>20}")
    rows = []
    for load, ways in results.items():
        ours = ways["ours"][0]
        for way, (rate, difference) in ways.items():
            print(f"{load:<34}{way:<20}{rate:>10.0f}{ours / rate:>14.2f}{difference:>20.1e}")
            assert difference < 1e-3, f"scores differ by {difference}"
            if way != "ours":
                other = f"vLLM ({VLLM})" if way == "vLLM" else way
                text = f"tokens scored a second, {load}, SmolLM2-135M in float32; alternative: {other}"
                rows.append({"measure": text, "ours": ours, "alternative": rate, "ratio": ours / rate})
    record("scoring", rows)


if __name__ == "__main__":
    main()
