"""Two reward models on the same items: every measure's difference, with a paired bootstrap."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from wildreward.errors import UserError
from wildreward.evaluation.benchmarks.run import score_benchmark
from wildreward.evaluation.bootstrap import Difference, paired_bootstrap
from wildreward.evaluation.command import Options, check_options
from wildreward.evaluation.inputs import Inputs, load_inputs
from wildreward.evaluation.metrics import ordinal_metrics
from wildreward.evaluation.report import library_versions
from wildreward.evaluation.results import FORMAT, evaluate_scorer, write_results
from wildreward.evaluation.scorers import load_scorer, model_levels
from wildreward.evaluation.statistics import Ints, roc_auc, spearman, too_few
from wildreward.evaluation.store import Scored, Scorer, ScoreStore, score_groups
from wildreward.evaluation.wildfb import LEVELS, HeldOut
from wildreward.files import FolderLock
from wildreward.modeling_wildreward.ordinal import positive_from
from wildreward.names import public_name

logger = logging.getLogger(__name__)

LEVEL_MEASURES = ("mae", "rmse", "accuracy", "within_one_accuracy", "qwk")


def compare_models(
    models: Sequence[str],
    output: str | Path | None,
    datasets: Sequence[str] = (),
    benchmarks: Sequence[str] = (),
    options: Options | None = None,
    **loading: Any,
) -> dict[str, Any]:
    """Evaluate two models, each into `output/a` and `output/b`, and compare them in `output/results.json`.

    Args:
        models: A and B.
        output: folder to write to.
        datasets: feedback datasets.
        benchmarks: `NAME` or `NAME=PATH`.
        options: see `wildreward.evaluation.command.Options`.
        **loading: passed to `load_scorer`.

    Returns:
        What `results.json` holds.
    """
    options = options or Options()
    check_options(options, **loading)
    if len(models) != 2:
        raise UserError(f"--compare got {len(models)} models; expected two, A and B")
    if output is None:
        raise UserError("a comparison belongs to neither model's folder; give --output DIR")
    if not datasets and not benchmarks:
        raise UserError("nothing to compare on; give --dataset DIR_OR_ID or --benchmark NAME[=PATH]")
    folder = Path(output)
    with FolderLock(folder / "work"):
        inputs = load_inputs(datasets, benchmarks, options)
        levels = [model_levels(model, **loading) for model in models]
        if datasets:
            _check_levels(models, levels)
        each: list[dict[str, Any]] = []
        scores: list[dict[str, list]] = []
        for letter, model in zip("ab", models, strict=True):
            scorer = load_scorer(model, **loading)
            own = folder / letter
            each.append(evaluate_scorer(scorer, own, inputs, options))
            scores.append(_known_scores(scorer, ScoreStore(own / "work" / "scores", scorer), inputs))
            del scorer  # before the next one is loaded: both may not fit in memory together
        results = {
            "format": FORMAT,
            "comparison": {
                "a": each[0]["model"]["name"],
                "b": each[1]["model"]["name"],
                "differences": _differences(scores, inputs, options, each[0]["settings"]["positive_labels_from"]),
            },
            "models": {"a": each[0], "b": each[1]},
            "settings": each[0]["settings"],
            "versions": library_versions(),
        }
        write_results(folder, results)
    return results


def _check_levels(models: Sequence[str], levels: Sequence[int | None]) -> None:
    """Refuse models that do not agree on what a level, or a positive label, is."""
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
    }


def _differences(
    scores: Sequence[dict[str, dict[str, list]]], inputs: Inputs, options: Options, positive: int
) -> dict[str, dict[str, float | str | None]]:
    result: dict[str, Difference] = {}
    for dataset, data in inputs.datasets.items():
        for name, statistic in dataset_statistics(data, [s["datasets"][dataset] for s in scores], positive).items():
            result[f"{dataset} {name}"] = paired_bootstrap(statistic, data.users, options.bootstrap, options.seed)
        n_positive = int((data.labels >= positive).sum())
        if reason := too_few(positive=n_positive, negative=len(data.labels) - n_positive):
            result[f"{dataset} roc_auc"] = Difference(reason=reason)
    for title, (benchmark, items) in inputs.benchmarks.items():
        credits = [benchmark.credits(items, [[one.score for one in g] for g in s["benchmarks"][title]]) for s in scores]
        names = [
            name for name in benchmark.combine(credits[0], np.arange(len(items))) if not name.startswith("subset:")
        ]
        for name in names:

            def statistic(rows: Ints, which: int, name: str = name) -> float:
                return benchmark.combine(credits[which], rows)[name]  # noqa: B023 - called within this turn of the loop

            difference = paired_bootstrap(statistic, credits[0].cluster, options.bootstrap, options.seed)
            result[title if name == "score" else f"{title} {name}"] = difference
    return {name: difference.as_dict() for name, difference in result.items()}


def dataset_statistics(
    data: HeldOut, scored: Sequence[Sequence[Scored]], positive: int
) -> dict[str, Callable[[Ints, int], float]]:
    """Measures of two models on a held-out split, as functions of (rows, 0 or 1); labels from `positive` are positive."""
    values = [np.asarray([s.score for s in model]) for model in scored]
    labels = data.labels
    found: dict[str, Callable[[Ints, int], float]] = {
        "roc_auc": lambda rows, which: roc_auc(values[which][rows], labels[rows] >= positive),
        "spearman": lambda rows, which: spearman(values[which][rows], labels[rows]),
    }
    if all(s.level_probs is not None for model in scored for s in model):
        levels = len(scored[0][0].level_probs or ())
        for name in LEVEL_MEASURES:

            def measure(rows: Ints, which: int, name: str = name) -> float:
                return ordinal_metrics(values[which][rows], labels[rows], levels, positive)[name]

            found[name] = measure
    return found
