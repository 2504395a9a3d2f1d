"""From a benchmark's name to its results: load the items, score each candidate once, apply the published rule."""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from wildreward.common.errors import UserError
from wildreward.evaluation.benchmarks.items import Benchmark, Credits, Item, load_items
from wildreward.evaluation.benchmarks.judge_bench import JudgeBench
from wildreward.evaluation.benchmarks.ppe import PPECorrectness, PPEHuman
from wildreward.evaluation.benchmarks.preference import LLMBar, Preference
from wildreward.evaluation.benchmarks.reward_bench import RewardBench, RewardBench2
from wildreward.evaluation.benchmarks.rm_bench import RMBench
from wildreward.evaluation.benchmarks.rmb import RMB
from wildreward.evaluation.bootstrap import bootstrap_all, defined_or_none
from wildreward.evaluation.metrics import length_bias
from wildreward.evaluation.pairs import Pairs, chances, core_results, like_margins, too_few_answers, withheld
from wildreward.evaluation.settings import EvaluateConfig
from wildreward.evaluation.statistics import Floats, Ints, roc_auc, too_few
from wildreward.evaluation.store import ScoreStore, score_groups
from wildreward.scoring.protocol import Scored, Scorer

BENCHMARKS: dict[str, type[Benchmark]] = {
    cls.name: cls for cls in (RewardBench, RewardBench2, RMBench, PPEHuman, PPECorrectness, JudgeBench, RMB)
}
PRESETS: dict[str, type[Preference]] = {LLMBar.name: LLMBar}
"""Sets of pairs with a rule of their own."""


def split_name(text: str) -> tuple[str, str | None]:
    """`NAME` or `NAME=PATH` → (name, path).

    Raises:
        UserError: no such benchmark, listing the names.
    """
    name, _, path = text.partition("=")
    name = name.lower().replace("-", "_")
    if name not in BENCHMARKS:
        raise UserError(f"unknown benchmark {name!r}; expected one of {', '.join(BENCHMARKS)}")
    return name, path or None


def load_benchmark(text: str, limit: int | None = None, seed: int = 0) -> tuple[Benchmark, list[Item]]:
    """Open a benchmark, `NAME` (from the Hub) or `NAME=PATH` (local file or folder); of `limit` items a seeded sample."""
    name, path = split_name(text)
    benchmark = BENCHMARKS[name]()
    items, benchmark.read_from = load_items(benchmark, None if path is None else Path(path))
    return benchmark, sample(items, limit, seed)


def sample(items: list[Item], limit: int | None, seed: int) -> list[Item]:
    """Of more than `limit` items a seeded sample, in their order."""
    if limit is None or limit >= len(items):
        return items
    keep = sorted(np.random.default_rng(seed).permutation(len(items))[:limit].tolist())
    return [items[i] for i in keep]


def score_benchmark(
    benchmark: Benchmark, items: Sequence[Item], scorer: Scorer, store: ScoreStore, chunk_size: int = 256
) -> list[list[Scored]]:
    """Scores of all candidates; those the store knows are not scored again."""
    groups = [group for item in items for group in item.groups]
    scored = iter(score_groups(groups, scorer, store, chunk_size, f"scoring {benchmark.name}"))
    return [[one for _ in item.groups for one in next(scored)] for item in items]


def benchmark_results(
    benchmark: Benchmark, items: Sequence[Item], scored: Sequence[Sequence[Scored]], config: EvaluateConfig
) -> dict[str, Any]:
    """`published_numbers` from scores, with calibration and length bias of the pairs."""
    credits = benchmark.credits(items, [[one.score for one in group] for group in scored])
    result = published_numbers(benchmark, items, credits, config)
    pairs, lengths = benchmark_pairs(benchmark, items, scored)
    if len(pairs):
        few = too_few_answers(pairs)
        result["pairs"] = withheld(core_results(pairs, config.bins), few)
        bias = length_bias(pairs.better_scores, pairs.worse_scores, lengths[pairs.better], lengths[pairs.worse])
        result["length_bias"] = withheld({name: defined_or_none(value) for name, value in bias.items()}, few)
    return result


def published_numbers(
    benchmark: Benchmark, items: Sequence[Item], credits: Credits, config: EvaluateConfig
) -> dict[str, Any]:
    """The benchmark's numbers with intervals (items resampled), and every subset."""
    # All numbers are shares, those of subsets of their own clusters.
    clusters = np.asarray(credits.cluster)
    of_subset = {f"subset:{name}": clusters[credits.subset == i] for i, name in enumerate(credits.names)}
    names = benchmark.combine(credits, np.arange(len(clusters)))
    share_of = {name: np.unique(of_subset.get(name, clusters)).size for name in names}
    combine = partial(benchmark.combine, credits)
    estimates = bootstrap_all(combine, credits.cluster, config.bootstrap, config.seed, share_of=share_of)
    counts = Counter(item.subset for item in items)
    subsets = {
        key.removeprefix("subset:"): {"n": counts[key.removeprefix("subset:")], **estimate.as_dict()}
        for key, estimate in estimates.items()
        if key.startswith("subset:")
    }
    parts = {k: e.as_dict() for k, e in estimates.items() if k != "score" and not k.startswith("subset:")}
    return {
        "n": len(items),
        "candidates": sum(len(item.candidates) for item in items),
        "score": estimates["score"].as_dict(),
        "parts": parts,
        "subsets": subsets,
        "rule": benchmark.rule,
        "missing": benchmark.missing(credits.names),
        "sources": [source.repo for source in benchmark.sources],
        "read_from": list(benchmark.read_from),
    }


def preference_results(
    benchmark: Preference, items: Sequence[Item], scored: Sequence[Sequence[Scored]], config: EvaluateConfig
) -> dict[str, Any]:
    """Of a set of pairs: accuracy (intervals resample prompts), each subset, calibration, margins, ties, length bias."""
    tied = np.asarray([item.extra["tie"] for item in items])
    decided = [(item, scores) for item, scores in zip(items, scored, strict=True) if not item.extra["tie"]]
    if not decided:
        return {
            "n": 0,
            "n_ties": len(items),
            "accuracy": {"value": None, "low": None, "high": None, "reason": "all tied"},
        }
    kept, of_kept = [item for item, _ in decided], [scores for _, scores in decided]
    found = benchmark_results(benchmark, kept, of_kept, config)
    gaps = np.asarray([scores[0].score - scores[1].score for scores in scored])
    margins = [item.extra["margin"] for item in kept]
    result = {
        "n": len(kept),
        "n_ties": int(tied.sum()),
        "prompts": len({item.prompt_key for item in kept}),
        "accuracy": found["score"],
        **{name: found[name] for name in ("parts", "subsets", "rule", "missing", "read_from")},
        "calibration": {name: value for name, value in found["pairs"].items() if name not in ("n", "accuracy")},
        "length_bias": found["length_bias"],
    }
    if all(margin is not None for margin in margins):
        result["by_margin"] = accuracy_by(np.asarray(margins), gaps[~tied])
    if tied.any():  # a tie should be told by a smaller difference
        reason = too_few(decided=int((~tied).sum()), tied=int(tied.sum()))
        area = None if reason else roc_auc(np.abs(gaps), ~tied)
        result["ties"] = {"roc_auc": area} | ({"reason": reason} if reason else {})
    return result


def accuracy_by(margin: Floats, gap: Floats) -> list[dict[str, float]]:
    """Accuracy of pairs (`gap`: score of the better less that of the worse) by how much better the data say it is."""
    bins = like_margins(margin)
    return [
        {
            "low": float(margin[bins == k].min()),
            "high": float(margin[bins == k].max()),
            "n": int((bins == k).sum()),
            "accuracy": float(((1 + np.sign(gap[bins == k])) / 2).mean()),
        }
        for k in np.unique(bins)
    ]


def benchmark_pairs(
    benchmark: Benchmark, items: Sequence[Item], scored: Sequence[Sequence[Scored]]
) -> tuple[Pairs, Ints]:
    """All pairs of a better and a worse candidate under one prompt, over the flat list of candidates; and its lengths."""
    better, worse, start = [], [], 0
    for item in items:
        for b, w in benchmark.pairs(item):
            better.append(start + b)
            worse.append(start + w)
        start += len(item.candidates)
    flat = [one for group in scored for one in group]
    scores = np.asarray([one.score for one in flat])
    probs = None
    if all(one.level_probs is not None for one in flat):
        probs = np.asarray([one.level_probs for one in flat])
    lengths = np.asarray([len(c) for item in items for c in item.candidates])
    b, w = np.asarray(better, dtype=np.int64), np.asarray(worse, dtype=np.int64)
    chance = chances(scores, probs, b, w) if b.size else np.zeros(0)
    return Pairs(b, w, scores[b], scores[w], chance), lengths


def draw_benchmark(
    benchmark: Benchmark,
    items: Sequence[Item],
    scored: Sequence[Sequence[Scored]],
    figures: Path,
    model: str,
    config: EvaluateConfig,
    prefix: str = "",
) -> None:
    """Draw `figures/<prefix><name>_*.png` of a benchmark that has pairs."""
    from wildreward.evaluation import plots
    from wildreward.evaluation.bootstrap import row_weights

    pairs, _ = benchmark_pairs(benchmark, items, scored)
    owners = [benchmark.cluster(item) for item in items for _ in benchmark.pairs(item)]
    weights = row_weights(owners, 200, config.seed)
    title = f"{model} on {benchmark.name} ({len(pairs)} pairs of {len(items)} prompts)"
    panel = plots.Reliability(pairs.confidence, pairs.correct, weights, "pairs")
    plots.reliability([panel], figures / f"{prefix}{benchmark.name}_reliability.png", title, config.bins)
    path = figures / f"{prefix}{benchmark.name}_accuracy_by_margin.png"
    plots.accuracy_by_margin(pairs.better_scores, pairs.worse_scores, weights, path, title, "score")
