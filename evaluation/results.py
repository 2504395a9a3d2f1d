"""Results of an opened model on loaded inputs: computed, put beside earlier ones, written, and only then drawn."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from wildreward.evaluation import plots
from wildreward.evaluation.benchmarks.run import benchmark_results, draw_benchmark, score_benchmark
from wildreward.evaluation.bootstrap import row_weights
from wildreward.evaluation.command import Options
from wildreward.evaluation.inputs import Inputs, file_prefix
from wildreward.evaluation.pairs import pair_weights
from wildreward.evaluation.report import library_versions, markdown
from wildreward.evaluation.store import Scorer, ScoreStore, score_groups
from wildreward.evaluation.wildfb import LEVELS, Curves, HeldOut, check_labels, evaluate_split
from wildreward.files import atomic_path, read_json, write_json
from wildreward.modeling_wildreward.ordinal import positive_from

FORMAT = "wildreward-results/1"

DATASET_FIGURES = ("score_by_label", "reliability", "accuracy_by_margin")  # the last two show pairs
BENCHMARK_FIGURES = ("reliability", "accuracy_by_margin")

Drawing = Callable[[], None]


def evaluate_scorer(scorer: Scorer, folder: Path, inputs: Inputs, options: Options) -> dict[str, Any]:
    """Evaluate an opened model into `folder`: `results.json`, `results.md`, `figures/`; scores in `work/scores`.

    Earlier entries in `results.json` stay where model and settings are the same; otherwise they are dropped.

    Returns:
        What `results.json` holds.
    """
    num_levels = getattr(scorer, "num_levels", None)
    for name, data in inputs.datasets.items():
        if num_levels is not None:
            check_labels(data, num_levels, name)
    store = ScoreStore(folder / "work" / "scores", scorer)
    results = _empty_results(scorer, options)
    _keep_earlier(folder / "results.json", results)
    several = len(results["datasets"].keys() | inputs.datasets.keys()) > 1
    figures = folder / "figures"
    drawings: list[Drawing] = []
    for name, data in inputs.datasets.items():
        result, curves = _dataset_results(name, data, scorer, store, options)
        prefix = f"{file_prefix(name)}_" if several else ""
        kinds = DATASET_FIGURES if _shows_pairs(result) else DATASET_FIGURES[:1]
        result["figures"] = [f"{prefix}{kind}.png" for kind in kinds] if options.plots else []
        results["datasets"][name] = result
        title = f"{scorer.name} on {name} ({data.split})"
        drawings.append(partial(_draw_dataset, curves, result, figures, prefix, title, options))
    for name, (benchmark, items) in inputs.benchmarks.items():
        scored = score_benchmark(benchmark, items, scorer, store, options.chunk_size)
        result = benchmark_results(benchmark, items, scored, options)
        drawn = options.plots and _shows_pairs(result)
        result["figures"] = [f"{name}_{kind}.png" for kind in BENCHMARK_FIGURES] if drawn else []
        results["benchmarks"][name] = result
        if drawn:
            drawings.append(partial(draw_benchmark, benchmark, items, scored, figures, scorer.name, options))
    write_results(folder, results)
    if options.plots:
        for draw in drawings:
            draw()
    return results


def _shows_pairs(result: dict[str, Any]) -> bool:
    return "reason" not in result.get("pairs", {"reason": "there are none"})


def _empty_results(scorer: Scorer, options: Options) -> dict[str, Any]:
    """What `results.json` says before anything is measured: of which model, and what else the numbers depend on."""
    return {
        "format": FORMAT,
        "model": {
            "name": scorer.name,
            "kind": scorer.kind,
            "revision": scorer.revision,
            "fingerprint": scorer.fingerprint,
            "weights": getattr(scorer, "weights", None),
        },
        "settings": {
            "split": options.split,
            "limit": options.limit,
            "seed": options.seed,
            "bootstrap_resamples": options.bootstrap,
            "confidence": 0.95,
            "calibration_bins": options.bins,
            "positive_labels_from": positive_from(getattr(scorer, "num_levels", None) or LEVELS),
            **scorer.settings,
        },
        "versions": library_versions(),
        "datasets": {},
        "benchmarks": {},
    }


def _keep_earlier(path: Path, results: dict[str, Any]) -> None:
    """Take over what a file holds of the same model under the same settings."""
    earlier = read_json(path) if path.exists() else None
    parts = ("model", "datasets", "benchmarks")
    if not isinstance(earlier, dict) or not all(isinstance(earlier.get(part), dict) for part in parts):
        return  # of another command, of a comparison, or not ours
    same_model = earlier["model"].get("fingerprint") == results["model"]["fingerprint"]
    if earlier.get("format") == FORMAT and same_model and earlier.get("settings") == results["settings"]:
        for kind in ("datasets", "benchmarks"):
            results[kind] |= earlier[kind]


def write_results(folder: Path, results: dict[str, Any]) -> None:
    """Write `results.json` and the same as a table, `results.md`."""
    write_json(folder / "results.json", results)
    with atomic_path(folder / "results.md") as temporary:
        temporary.write_text(markdown(results), encoding="utf-8")


def _dataset_results(
    name: str, data: HeldOut, scorer: Scorer, store: ScoreStore, options: Options
) -> tuple[dict[str, Any], Curves]:
    scored = [s for (s,) in score_groups(data.groups, scorer, store, options.chunk_size, f"scoring {name}")]
    num_levels = getattr(scorer, "num_levels", None)
    result, curves = evaluate_split(data, scored, num_levels, options.bootstrap, options.seed, options.bins)
    return {"split": data.split, "read_from": list(data.read_from), **result}, curves


def _draw_dataset(
    curves: Curves, result: dict[str, Any], figures: Path, prefix: str, title: str, options: Options
) -> None:
    path = figures / f"{prefix}score_by_label.png"
    plots.score_by_label(curves.scores, curves.labels, path, title, result["roc_auc"], curves.num_levels)
    pairs = curves.pairs
    if not _shows_pairs(result):
        return
    weights = pair_weights(pairs, curves.users, 200, options.seed)
    panels = [plots.Reliability(pairs.confidence, pairs.correct, weights, "pairs")]
    if curves.stated is not None and "reason" not in result["calibration"]:
        rows = row_weights(curves.users, 200, options.seed)
        positive = (curves.labels >= positive_from(curves.num_levels)).astype(float)
        panels.insert(0, plots.Reliability(curves.stated, positive, rows, "answers"))
    plots.reliability(panels, figures / f"{prefix}reliability.png", title, options.bins)
    plots.accuracy_by_margin(
        pairs.better_scores,
        pairs.worse_scores,
        weights,
        figures / f"{prefix}accuracy_by_margin.png",
        f"{title}, {len(pairs)} pairs across prompts",
    )
