"""JudgeBench (Tan et al. 2024, arXiv 2410.12784): pairs of answers of which one is objectively right."""

from collections.abc import Mapping, Sequence
from typing import Any

from wildreward.evaluation.benchmarks.items import Benchmark, Credits, Item, Source, prompt_field, text_field
from wildreward.evaluation.statistics import Ints

CATEGORIES = {
    "mmlu-pro": "knowledge",
    "livebench-reasoning": "reasoning",
    "livebench-math": "math",
    "livecodebench": "coding",
}


class JudgeBench(Benchmark):
    """Rows: `pair_id`, `source`, `question`, `response_A`, `response_B`, `label` ("A>B" or "B>A")."""

    name = "judge_bench"
    sources = (Source("ScalerLab/JudgeBench", "gpt"),)
    expected = tuple(CATEGORIES.values())
    rule = (
        "Share of all pairs decided rightly; equal scores are read as B>A. The published table uses the 350 pairs of "
        "GPT-4o answers."
    )

    def parse(self, row: Mapping[str, Any], subset: str) -> list[Item]:
        """One pair, the right answer first."""
        source, label = text_field(row, "source"), row.get("label")
        category = next((c for prefix, c in CATEGORIES.items() if source.startswith(prefix)), None)
        if category is None:
            raise ValueError(f"source is {source!r}; expected one that begins with {', '.join(CATEGORIES)}")
        if label not in ("A>B", "B>A"):
            raise ValueError(f"label is {label!r}; expected 'A>B' or 'B>A'")
        first, second = text_field(row, "response_A"), text_field(row, "response_B")
        candidates = [first, second] if label == "A>B" else [second, first]
        prompt = prompt_field(row, "question")
        return [Item(text_field(row, "pair_id"), category, prompt, candidates, extra={"label": label})]

    def credit(self, item: Item, scores: Sequence[float]) -> Sequence[float]:
        """1 when decided rightly."""
        tie_counts = item.extra["label"] == "B>A"
        return [float(scores[0] > scores[1] or (tie_counts and scores[0] == scores[1]))]

    def combine(self, credits: Credits, rows: Ints) -> dict[str, float]:
        """Mean over pairs, and over each category."""
        subsets = zip(credits.names, credits.means(rows)[:, 0].tolist(), strict=True)
        score = float(credits.values[rows, 0].mean())
        return {"score": score, **{f"subset:{name}": value for name, value in subsets}}
