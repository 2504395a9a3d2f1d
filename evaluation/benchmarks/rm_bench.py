"""RM-Bench (Liu et al. 2024, arXiv 2410.16184): three styles of a right answer against three of a wrong one."""

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from wildreward.common.errors import described
from wildreward.evaluation.benchmarks.items import (
    Benchmark,
    Credits,
    Item,
    Source,
    nan_mean,
    prompt_field,
    text_list,
)
from wildreward.evaluation.statistics import Floats, Ints

STYLES = 3  # concise, detailed plain, detailed markdown
PARTS = ("easy", "normal", "hard")
DOMAINS = ("chat", "code", "math", "safety-refuse", "safety-response")


def _wins(chosen: ArrayLike, rejected: ArrayLike) -> Floats:
    """(N, 3, 3): 1 where chosen style i scores strictly higher than rejected style j."""
    right, wrong = np.asarray(chosen, dtype=np.float64), np.asarray(rejected, dtype=np.float64)
    if right.ndim != 2 or right.shape[1] != STYLES or right.shape != wrong.shape or len(right) == 0:
        raise ValueError(f"chosen has shape {right.shape} and rejected {wrong.shape}; expected both (N, {STYLES})")
    if not (np.isfinite(right).all() and np.isfinite(wrong).all()):
        raise ValueError("chosen or rejected hold NaN or infinity; expected finite scores")
    return (right[:, :, None] > wrong[:, None, :]).astype(np.float64)


def rm_bench_accuracy(chosen: ArrayLike, rejected: ArrayLike) -> dict[str, float]:
    """Easy, normal and hard accuracy from a table of scores.

    Args:
        chosen: (N, 3) scores of the right answers: concise, detailed, detailed with markdown.
        rejected: (N, 3) scores of the wrong ones, in the same order of styles.

    Returns:
        `easy` (chosen in the richer style), `normal` (both in one style), `hard` (chosen in the plainer style); a tie
        is not a win.
    """
    return _by_style(_wins(chosen, rejected).mean(axis=0))


def _by_style(wins: Floats) -> dict[str, float]:
    """Easy, normal and hard of (3, 3) shares: of right style i against wrong style j."""
    lower, upper = np.tril_indices(STYLES, -1), np.triu_indices(STYLES, 1)
    return {"easy": float(wins[lower].mean()), "normal": float(np.diag(wins).mean()), "hard": float(wins[upper].mean())}


def _domain(row: Mapping[str, Any], of_file: str) -> str:
    """Whose mean an item goes into; nothing else than its domain can be taken for that."""
    for key in ("domain", "subset"):
        value = row.get(key)
        name = value.lower().replace("_", "-") if isinstance(value, str) else None
        if name in (*DOMAINS, "safety"):
            return name
        if key == "domain" and value is not None:
            raise ValueError(f"domain is {described(value)}; expected one of {', '.join(DOMAINS)}")
    if not of_file:
        raise ValueError(
            f"no domain in the row, nor in the file's name; the score is a mean over domains: add a column domain, or name "
            f"the file as its authors do, such as code_filtered.json ({', '.join(DOMAINS)})"
        )
    return of_file


class RMBench(Benchmark):
    """Rows: `id`, `prompt`, `chosen` [3 texts], `rejected` [3 texts], `domain`.

    The authors' files by domain have no such column: there the file's name says it. (Their `subset` is the source of the
    prompt, such as alpacaeval: no domain.)
    """

    name = "rm_bench"
    sources = (Source("THU-KEG/RM-Bench", "train"),)
    rule = (
        "Strict wins in 3 × 3 comparisons of styles: same style is normal, chosen in the plainer style hard, in the "
        "richer one easy. Each is the mean over the domains chat, code, math and safety (safety being the mean of "
        "safety-refuse and safety-response); the score is the mean of the three."
    )

    expected = DOMAINS

    def subset_of(self, path: Path) -> str:
        """The domain in the name of one of the authors' files, such as `code_filtered.json`."""
        name = path.name.lower().replace("_", "-")
        return next((domain for domain in DOMAINS if re.match(rf"{domain}\b", name)), "")

    def missing(self, subsets: Collection[str]) -> list[str]:
        """As `safety` may be one domain or two."""
        return [] if "safety" in subsets and {*DOMAINS[:3]} <= {*subsets} else super().missing(subsets)

    def parse(self, row: Mapping[str, Any], subset: str) -> list[Item]:
        """Six candidates under one prompt."""
        domain = _domain(row, subset)
        candidates = [*text_list(row, "chosen", STYLES), *text_list(row, "rejected", STYLES, empty=True)]
        if row.get("id") in (None, ""):
            raise ValueError("id is missing")
        return [Item(str(row["id"]), domain, prompt_field(row), candidates, STYLES)]

    def credit(self, item: Item, scores: Sequence[float]) -> Sequence[float]:
        """Easy, normal and hard share of one item."""
        parts = rm_bench_accuracy([scores[:STYLES]], [scores[STYLES:]])
        return [parts[part] for part in PARTS]

    def judged_credit(self, item: Item, won: Sequence[float]) -> Sequence[float]:
        """The same of nine preferences."""
        parts = _by_style(np.asarray(won, dtype=np.float64).reshape(STYLES, STYLES))
        return [parts[part] for part in PARTS]

    def combine(self, credits: Credits, rows: Ints) -> dict[str, float]:
        """Means over domains."""
        means = credits.means(rows)
        result = {f"subset:{name}": float(m.mean()) for name, m in zip(credits.names, means, strict=True)}
        domains: dict[str, list[Floats]] = {}
        for name, mean in zip(credits.names, means, strict=True):
            if not np.isnan(mean).any():
                domains.setdefault("safety" if name.startswith("safety") else name, []).append(mean)
        merged = np.asarray([np.mean(part, axis=0) for part in domains.values()])
        easy, normal, hard = merged.mean(axis=0).tolist() if len(merged) else [float("nan")] * 3
        return {"score": nan_mean([easy, normal, hard]), "easy": easy, "normal": normal, "hard": hard, **result}
