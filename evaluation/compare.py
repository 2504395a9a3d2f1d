"""Several reward models on the same items: every measure's difference of every two, with a paired bootstrap."""

from collections.abc import Callable, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path
from string import ascii_lowercase
from typing import Any

import numpy as np

from wildreward.common.errors import UserError
from wildreward.common.files import FolderLock
from wildreward.common.names import public_name
from wildreward.evaluation.benchmarks.items import Benchmark, Credits
from wildreward.evaluation.benchmarks.run import score_benchmark
from wildreward.evaluation.bootstrap import Difference, paired_bootstrap_all
from wildreward.evaluation.inputs import Inputs, load_inputs
from wildreward.evaluation.metrics import ordinal_metrics
from wildreward.evaluation.report import library_versions
from wildreward.evaluation.results import FORMAT, evaluate_scorer, write_results
from wildreward.evaluation.settings import EvaluateConfig
from wildreward.evaluation.statistics import Ints, roc_auc, spearman, too_few
from wildreward.evaluation.store import ScoreStore, score_groups
from wildreward.evaluation.wildfb import LEVELS, HeldOut
from wildreward.scoring.load import load_scorer, model_levels, takes_reference
from wildreward.scoring.protocol import Scored, Scorer

LEVEL_MEASURES = ("mae", "rmse", "accuracy", "within_one_accuracy", "qwk")


def compare_models(config: EvaluateConfig) -> dict[str, Any]:
    """Evaluate models, each into its own of `output/a`, `output/b` …, and compare them in `output/results.json`.

    Returns:
        What `results.json` holds.
    """
    config.check()
    models, loading = config.compare or [], config.loading()
    if not 2 <= len(models) <= len(ascii_lowercase):
        raise UserError(f"--compare got {len(models)} models; expected two or more, up to {len(ascii_lowercase)}")
    if config.output is None:
        raise UserError("a comparison belongs to no model's folder; give --output DIR")
    folder = Path(config.output)
    with FolderLock(folder / "work"):
        inputs = load_inputs(config)
        levels = [model_levels(model, **loading) for model in models]
        policies = {model for model in models if loading["reference"] and takes_reference(model, **loading)}
        if loading["reference"] and not policies:
            raise UserError("--reference is for a causal language model trained by DPO, and none of the models is one")
        if config.dataset:
            _check_levels(models, levels)
        each: list[dict[str, Any]] = []
        scores: list[dict[str, list]] = []
        letters = ascii_lowercase[: len(models)]
        for letter, model in zip(letters, models, strict=True):
            scorer = load_scorer(model, **loading | ({} if model in policies else {"reference": None}))
            own = folder / letter
            each.append(evaluate_scorer(scorer, own, inputs, config))
            scores.append(_known_scores(scorer, ScoreStore(own / "work" / "scores", scorer), inputs))
            del scorer  # before the next one is loaded: both may not fit in memory together
        results = {
            "format": FORMAT,
            "comparison": {
                "models": {letter: one["model"]["name"] for letter, one in zip(letters, each, strict=True)},
                "differences": _all_differences(
                    dict(zip(letters, scores, strict=True)), inputs, config, each[0]["settings"]["positive_labels_from"]
                ),
            },
            "models": dict(zip(letters, each, strict=True)),
            "settings": each[0]["settings"],
            "versions": library_versions(),
        }
        write_results(folder, results)
    return results


def _check_levels(models: Sequence[str], levels: Sequence[int | None]) -> None:
    """Refuse models that do not agree on what a level, or a positive label, is."""
    from wildreward.modeling_wildreward.ordinal import positive_from  # brings torch, which reading does without

    stated = {k for k in levels if k is not None}
    positive = {positive_from(k or LEVELS) for k in levels}
    if len(stated) > 1 or len(positive) > 1:
        shown = " and ".join(
            f"{public_name(model)} has {k or 'no'} levels" for model, k in zip(models, levels, strict=True)
        )
        raise UserError(
            f"{shown}, so the same labels mean different things to them; compare models of equal levels on datasets"
        )


def _known_scores(scorer: Scorer, store: ScoreStore, inputs: Inputs) -> dict[str, dict[str, list]]:
    """Scores of one model, all from its store: `datasets` and `benchmarks`, each name → scores in order."""
    return {
        "datasets": {
            name: [one for (one,) in score_groups(data.groups, scorer, store)] for name, data in inputs.datasets.items()
        },
        "benchmarks": {
            name: score_benchmark(benchmark, items, scorer, store)
            for name, (benchmark, items) in inputs.benchmarks.items()
        },
        "pairs": {
            name: score_benchmark(benchmark, items, scorer, store) for name, (benchmark, items) in inputs.pairs.items()
        },
    }


def _all_differences(
    scores: dict[str, dict[str, dict[str, list]]], inputs: Inputs, config: EvaluateConfig, positive: int
) -> dict[str, dict[str, dict[str, float | str | None]]]:
    """Measure → `a-b` → the difference, for every two models."""
    found: dict[str, dict[str, dict[str, float | str | None]]] = {}
    for a, b in combinations(scores, 2):
        for measure, difference in _differences([scores[a], scores[b]], inputs, config, positive).items():
            found.setdefault(measure, {})[f"{a}-{b}"] = difference
    return found


def _differences(
    scores: Sequence[dict[str, dict[str, list]]], inputs: Inputs, config: EvaluateConfig, positive: int
) -> dict[str, dict[str, float | str | None]]:
    result: dict[str, Difference] = {}

    def compare(title: str, measure: Callable[[Ints, int], dict[str, float]], clusters: Sequence[object]) -> None:
        for name, difference in paired_bootstrap_all(measure, clusters, config.bootstrap, config.seed).items():
            result[title if name == "score" else f"{title} {name}"] = difference

    for title, data in inputs.datasets.items():
        compare(title, dataset_measure(data, [s["datasets"][title] for s in scores], positive), data.users)
        n_positive = int((data.labels >= positive).sum())
        if reason := too_few(positive=n_positive, negative=len(data.labels) - n_positive):
            result[f"{title} roc_auc"] = Difference(reason=reason)
    for title, (benchmark, items) in inputs.benchmarks.items():
        credits = [benchmark.credits(items, [[one.score for one in g] for g in s["benchmarks"][title]]) for s in scores]
        compare(title, partial(_benchmark_measure, benchmark, credits), credits[0].cluster)
    for title, (benchmark, items) in inputs.pairs.items():
        kept = [position for position, item in enumerate(items) if not item.extra["tie"]]
        decided = [items[k] for k in kept]
        credits = [
            benchmark.credits(decided, [[one.score for one in s["pairs"][title][k]] for k in kept]) for s in scores
        ]
        if decided:
            compare(f"{title} pairs", partial(_benchmark_measure, benchmark, credits), credits[0].cluster)
    return {name: difference.as_dict() for name, difference in result.items()}


def _benchmark_measure(benchmark: Benchmark, credits: Sequence[Credits], rows: Ints, which: int) -> dict[str, float]:
    found = benchmark.combine(credits[which], rows)
    return {name: value for name, value in found.items() if not name.startswith("subset:")}


def dataset_measure(
    data: HeldOut, scored: Sequence[Sequence[Scored]], positive: int
) -> Callable[[Ints, int], dict[str, float]]:
    """Measures of two models on a held-out split, of (rows, 0 or 1); labels from `positive` are positive."""
    values = [np.asarray([s.score for s in model]) for model in scored]
    has_levels = all(s.level_probs is not None for model in scored for s in model)
    levels = len(scored[0][0].level_probs or ())

    def measure(rows: Ints, which: int) -> dict[str, float]:
        s, y = values[which][rows], data.labels[rows]
        found = {"roc_auc": roc_auc(s, y >= positive), "spearman": spearman(s, y)}
        if has_levels:
            ordinal = ordinal_metrics(s, y, levels, positive)
            found |= {name: ordinal[name] for name in LEVEL_MEASURES}
        return found

    return measure
