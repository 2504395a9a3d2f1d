"""From a benchmark's name to its results: load the items, score each candidate once, apply the published rule."""

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wildreward.errors import UserError
from wildreward.evaluation.benchmarks.items import Benchmark, Credits, Item, load_items
from wildreward.evaluation.benchmarks.judge_bench import JudgeBench
from wildreward.evaluation.benchmarks.ppe import PPECorrectness, PPEHuman
from wildreward.evaluation.benchmarks.reward_bench import RewardBench, RewardBench2
from wildreward.evaluation.benchmarks.rm_bench import RMBench
from wildreward.evaluation.bootstrap import Estimate, defined_or_none, interval, resamples
from wildreward.evaluation.metrics import length_bias
from wildreward.evaluation.pairs import Pairs, chances, core_results, too_few_answers, withheld
from wildreward.evaluation.statistics import Ints
from wildreward.evaluation.store import Group, Scored, Scorer, ScoreStore, score_groups

logger = logging.getLogger(__name__)

BENCHMARKS: dict[str, type[Benchmark]] = {
    cls.name: cls for cls in (RewardBench, RewardBench2, RMBench, PPEHuman, PPECorrectness, JudgeBench)
}


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
    """Open a benchmark.

    Args:
        text: `NAME` (from the Hub) or `NAME=PATH` (local file or folder).
        limit: take a seeded sample of so many items.
        seed: of the sample.
    """
    name, path = split_name(text)
    benchmark = BENCHMARKS[name]()
    items, benchmark.read_from = load_items(benchmark, path)
    if limit is not None and limit < len(items):
        keep = sorted(np.random.default_rng(seed).permutation(len(items))[:limit].tolist())
        items = [items[i] for i in keep]
    return benchmark, items


def score_benchmark(
    benchmark: Benchmark, items: Sequence[Item], scorer: Scorer, store: ScoreStore, chunk_size: int = 256
) -> list[list[Scored]]:
    """Scores of all candidates; those the store knows are not scored again."""
    groups = [Group(item.id, item.prompt, item.candidates) for item in items]
    return score_groups(groups, scorer, store, chunk_size, f"scoring {benchmark.name}")


def benchmark_results(
    benchmark: Benchmark, items: Sequence[Item], scored: Sequence[Sequence[Scored]], options: Any
) -> dict[str, Any]:
    """The published numbers with intervals (items resampled), every subset, calibration and length bias of its pairs."""
    values = [[one.score for one in group] for group in scored]
    credits = benchmark.credits(items, values)
    estimates = bootstrap_combined(benchmark, credits, options.bootstrap, options.seed)
    counts = Counter(item.subset for item in items)
    subsets = {
        key.removeprefix("subset:"): {"n": counts[key.removeprefix("subset:")], **estimate.as_dict()}
        for key, estimate in estimates.items()
        if key.startswith("subset:")
    }
    parts = {k: e.as_dict() for k, e in estimates.items() if k != "score" and not k.startswith("subset:")}
    result = {
        "n": len(items),
        "candidates": sum(len(item.candidates) for item in items),
        "score": estimates["score"].as_dict(),
        "parts": parts,
        "subsets": subsets,
        "rule": benchmark.rule,
        "sources": [source.repo for source in benchmark.sources],
        "read_from": list(benchmark.read_from),
    }
    pairs, lengths = benchmark_pairs(benchmark, items, scored)
    if len(pairs):
        few = too_few_answers(pairs)
        result["pairs"] = withheld(core_results(pairs, options.bins), few)
        bias = length_bias(pairs.better_scores, pairs.worse_scores, lengths[pairs.better], lengths[pairs.worse])
        result["length_bias"] = withheld({name: defined_or_none(value) for name, value in bias.items()}, few)
    return result


def bootstrap_combined(benchmark: Benchmark, credits: Credits, repeats: int, seed: int) -> dict[str, Estimate]:
    """Every number `combine` gives, with its interval; all are shares, those of subsets of their own clusters."""
    everything = np.arange(len(credits.cluster))
    full = benchmark.combine(credits, everything)
    samples: dict[str, list[float]] = {name: [] for name in full}
    for rows in resamples(credits.cluster, repeats, seed):
        for name, value in {**dict.fromkeys(full, float("nan")), **benchmark.combine(credits, rows)}.items():
            samples[name].append(value)
    clusters = np.asarray(credits.cluster)
    of_subset = {f"subset:{name}": clusters[credits.subset == i] for i, name in enumerate(credits.names)}
    share_of = {name: np.unique(of_subset.get(name, clusters)).size for name in full}
    return {
        name: Estimate(defined_or_none(value), *interval(samples[name], 0.95, share_of[name]))
        for name, value in full.items()
    }


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
    options: Any,
) -> None:
    """Draw `figures/<name>_*.png` of a benchmark that has pairs."""
    from wildreward.evaluation import plots
    from wildreward.evaluation.bootstrap import row_weights

    pairs, _ = benchmark_pairs(benchmark, items, scored)
    owners = [benchmark.cluster(item) for item in items for _ in benchmark.pairs(item)]
    weights = row_weights(owners, 200, options.seed)
    title = f"{model} on {benchmark.name} ({len(pairs)} pairs of {len(items)} prompts)"
    panel = plots.Reliability(pairs.confidence, pairs.correct, weights, "pairs")
    plots.reliability([panel], figures / f"{benchmark.name}_reliability.png", title, options.bins)
    path = figures / f"{benchmark.name}_accuracy_by_margin.png"
    plots.accuracy_by_margin(pairs.better_scores, pairs.worse_scores, weights, path, title, "score")
