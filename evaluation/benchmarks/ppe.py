"""Preference Proxy Evaluations (Frick et al. 2024, arXiv 2410.14872): human preferences, and verified correctness."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from wildreward.common.errors import described
from wildreward.evaluation.benchmarks.items import (
    Benchmark,
    Credits,
    Item,
    Source,
    finite,
    nan_mean,
    prompt_field,
    text_field,
)
from wildreward.evaluation.best_of_n import best_of_k_curve
from wildreward.evaluation.statistics import Ints, roc_auc

BEST_OF = 32
WINNERS = ("model_a", "model_b", "tie", "tie (bothbad)")


class PPEHuman(Benchmark):
    """Rows: `question_id`, `prompt`, `response_1`, `response_2`, `winner` (model_a, model_b, tie…), `language`."""

    name = "ppe_human"
    sources = (Source("lmarena-ai/PPE-Human-Preference-V1", "test"),)
    rule = "Share of human preferences predicted; votes for a tie are set aside; equal scores count half."

    def parse(self, row: Mapping[str, Any], subset: str) -> list[Item]:
        """One pair, the winner first; nothing for a tied vote."""
        winner = row.get("winner")
        if winner not in WINNERS:
            raise ValueError(f"winner is {winner!r}; expected one of {', '.join(WINNERS)}")
        first, second = text_field(row, "response_1", empty=True), text_field(row, "response_2", empty=True)
        prompt, key = prompt_field(row), text_field(row, "question_id")
        if winner.startswith("tie"):
            return []
        candidates = [first, second] if winner == "model_a" else [second, first]
        return [Item(key, str(row.get("language") or "unknown"), prompt, candidates)]

    def credit(self, item: Item, scores: Sequence[float]) -> Sequence[float]:
        """1 for a win, half for equal scores."""
        return [(1.0 + float(np.sign(scores[0] - scores[1]))) / 2.0]

    def combine(self, credits: Credits, rows: Ints) -> dict[str, float]:
        """Mean over pairs, and over each language."""
        subsets = zip(credits.names, credits.means(rows)[:, 0].tolist(), strict=True)
        score = float(credits.values[rows, 0].mean())
        return {"score": score, **{f"subset:{name}": value for name, value in subsets}}


class PPECorrectness(Benchmark):
    """Rows: `question_id`, `prompt`, `response_1`…`response_32`, `scores` (32 verdicts), `sampled_conflict_pairs`."""

    name = "ppe_correctness"
    pairwise = False
    sources = (
        Source("lmarena-ai/PPE-MMLU-Pro-Best-of-K", "train", "mmlu_pro"),
        Source("lmarena-ai/PPE-MATH-Best-of-K", "train", "math"),
        Source("lmarena-ai/PPE-GPQA-Best-of-K", "train", "gpqa"),
        Source("lmarena-ai/PPE-IFEval-Best-of-K", "train", "ifeval"),
        Source("lmarena-ai/PPE-MBPP-Plus-Best-of-K", "train", "mbpp_plus"),
    )
    expected = tuple(source.subset for source in sources)
    rule = (
        "Accuracy on the sampled pairs of a right and a wrong answer (equal scores count half), mean over the five "
        "benchmarks. Best-of-k: expected correctness of the top-scored among k of 32 answers, its highest and last value, "
        "and the mean ROC-AUC of right against wrong answers of a prompt."
    )

    def parse(self, row: Mapping[str, Any], subset: str) -> list[Item]:
        """All answers of one prompt, in their own order; verdicts and pairs ride along."""
        subset = str(row.get("subset") or row.get("benchmark") or subset).lower().replace("-", "_")
        if not subset:
            known = ", ".join(s.subset for s in self.sources)
            raise ValueError(f"no subset: name the file after one of {known}, or add a column subset")
        verdicts = row.get("scores")
        if not isinstance(verdicts, list) or len(verdicts) < 2:
            raise ValueError(f"scores is {described(verdicts)}; expected a list with one verdict an answer")
        truth = [finite(v, "a verdict in scores") for v in verdicts]
        candidates = [text_field(row, f"response_{i}", empty=True) for i in range(1, len(truth) + 1)]
        sampled, pairs = row.get("sampled_conflict_pairs") or [], []
        if not isinstance(sampled, list):
            raise ValueError(f"sampled_conflict_pairs is {described(sampled)}; expected a list of pairs of positions")
        for pair in sampled:
            if (
                not isinstance(pair, list)
                or len(pair) != 2
                or not all(isinstance(i, int) and 0 <= i < len(truth) for i in pair)
            ):
                shown = pair if isinstance(pair, list) else described(pair)
                raise ValueError(f"sampled_conflict_pairs holds {shown}; expected two positions below {len(truth)}")
            first, second = pair
            if truth[first] != truth[second]:
                pairs.append((first, second) if truth[first] > truth[second] else (second, first))
        key = text_field(row, "question_id")
        if row.get("model_name"):
            key = f"{key}:{row['model_name']}"
        return [Item(key, subset, prompt_field(row), candidates, 0, {"truth": truth, "pairs": pairs})]

    def pairs(self, item: Item) -> list[tuple[int, int]]:
        """The sampled conflict pairs."""
        return list(item.extra["pairs"])

    def credit(self, item: Item, scores: Sequence[float]) -> Sequence[float]:
        """(pairs right, pairs, ROC-AUC or NaN, best-of-k for k = 1..32, NaN beyond the answers there are)."""
        truth = np.asarray(item.extra["truth"])
        right = sum((1.0 + float(np.sign(scores[b] - scores[w]))) / 2.0 for b, w in item.extra["pairs"])
        area = roc_auc(scores, (truth > 0.5).astype(float))
        curve = np.full(BEST_OF, np.nan)
        curve[: truth.size] = best_of_k_curve(scores, truth)[:BEST_OF]
        return [right, float(len(item.extra["pairs"])), area, *curve]

    def combine(self, credits: Credits, rows: Ints) -> dict[str, float]:
        """Per benchmark, then the mean over benchmarks."""
        sums, _ = credits.sums(rows)
        with np.errstate(invalid="ignore", divide="ignore"):
            accuracies = sums[:, 0] / sums[:, 1]
        ends, tops, areas = [], [], []
        for position in range(len(credits.names)):
            inside = credits.values[rows[credits.subset[rows] == position]]
            curve = [nan_mean(column) for column in inside[:, 3:].T]
            known = [value for value in curve if not np.isnan(value)]
            if known:
                tops.append(max(known))
                ends.append(known[-1])
                areas.append(nan_mean(inside[:, 2]))
        return {
            "score": nan_mean(accuracies),
            "best_of_k_highest": nan_mean(tops),
            "best_of_k_last": nan_mean(ends),
            "roc_auc": nan_mean(areas),
            **{f"subset:{name}": float(a) for name, a in zip(credits.names, accuracies, strict=True)},
        }
