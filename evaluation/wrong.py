"""The pairs that a model is most wrong about, to be read: kept in `work/wrong`, which is never pushed, for it holds chats."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wildreward.common.files import make_folder, write_json
from wildreward.evaluation.benchmarks.items import Benchmark, Item
from wildreward.evaluation.judge import Judged
from wildreward.evaluation.pairs import Pairs
from wildreward.evaluation.wildfb import HeldOut
from wildreward.scoring.protocol import Scored

MOST = 20


def write(folder: Path, name: str, pairs: list[dict[str, Any]]) -> None:
    """Put the pairs of one set where the page finds them."""
    write_json(make_folder(folder / "work" / "wrong") / f"{name}.json", pairs)


def of_benchmark(
    benchmark: Benchmark, items: Sequence[Item], scored: Sequence[Sequence[Scored]]
) -> list[dict[str, Any]]:
    """The worst pairs of a benchmark or a set of pairs, under one prompt each."""
    found = []
    for item, scores in zip(items, scored, strict=True):
        pairs = [] if item.extra.get("tie") else benchmark.pairs(item)
        gaps = [scores[worse].score - scores[better].score for better, worse in pairs]
        if gaps and max(gaps) > 0:  # of one item only the worst
            found.append((max(gaps), item, pairs[int(np.argmax(gaps))], scores))
    found.sort(key=lambda one: -one[0])
    return [_pair(item, pair, [{"score": scores[k].score} for k in pair]) for _, item, pair, scores in found[:MOST]]


def of_judged(benchmark: Benchmark, items: Sequence[Item], judged: Sequence[Sequence[Judged]]) -> list[dict[str, Any]]:
    """The first pairs of which a judge prefers the worse answer in both orders; of one item only one."""
    found = []
    for item, verdicts in zip(items, judged, strict=True):
        pairs = [] if item.extra.get("tie") else zip(benchmark.pairs(item), verdicts, strict=True)
        lost = [pair for pair, one in pairs if one.won == 0 and not one.failed]
        found += [_pair(item, pair, [{}, {}]) for pair in lost[:1]]
    return found[:MOST]


def _pair(item: Item, pair: tuple[int, int], more: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What is shown of a pair: the better answer first, each with `more` about it."""
    shown = [{"before": item.leads[k] if item.leads else [], "answer": item.candidates[k]} for k in pair]
    return {
        "id": f"{item.subset} {item.id}".strip(),
        "prompt": item.prompt,
        "answers": [one | other for one, other in zip(shown, more, strict=True)],
    }


def of_dataset(data: HeldOut, pairs: Pairs) -> list[dict[str, Any]]:
    """The worst pairs across prompts of a held-out split, each row in one of them only."""
    gaps = pairs.worse_scores - pairs.better_scores
    found: list[dict[str, Any]] = []
    used: set[int] = set()
    for k in np.argsort(-gaps, kind="stable"):
        rows = (int(pairs.better[k]), int(pairs.worse[k]))
        if gaps[k] <= 0 or len(found) == MOST:
            break
        if used.isdisjoint(rows):
            used.update(rows)
            scores = (float(pairs.better_scores[k]), float(pairs.worse_scores[k]))
            found.append(
                {
                    "id": " against ".join(data.groups[row].id for row in rows),
                    "prompt": [],
                    "answers": [
                        {
                            "before": list(data.groups[row].prompt),
                            "answer": data.groups[row].completions[0],
                            "score": score,
                            "label": int(data.labels[row]),
                        }
                        for row, score in zip(rows, scores, strict=True)
                    ],
                }
            )
    return found
