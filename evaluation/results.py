"""`evaluate_model`: an opened model on loaded inputs; results are computed, put beside earlier ones, written, and only then drawn."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from wildreward.common.errors import UserError
from wildreward.common.files import FolderLock, atomic_path, read_json, write_json
from wildreward.common.names import public_name
from wildreward.evaluation import item_scores, plots, sanity, wrong
from wildreward.evaluation.benchmarks.items import Benchmark, Item
from wildreward.evaluation.benchmarks.preference import Preference
from wildreward.evaluation.benchmarks.run import (
    benchmark_results,
    draw_benchmark,
    preference_results,
    score_benchmark,
)
from wildreward.evaluation.bootstrap import row_weights
from wildreward.evaluation.inputs import Inputs, file_prefix, load_inputs
from wildreward.evaluation.page import write_page
from wildreward.evaluation.pairs import pair_weights
from wildreward.evaluation.report import library_versions, markdown
from wildreward.evaluation.settings import EvaluateConfig
from wildreward.evaluation.store import ScoreStore, score_groups
from wildreward.evaluation.wildfb import LEVELS, Curves, check_labels, evaluate_split
from wildreward.scoring.load import load_scorer
from wildreward.scoring.protocol import Scored, Scorer

FORMAT = "wildreward-results/1"

DATASET_FIGURES = ("score_by_label", "reliability", "accuracy_by_margin")  # the last two show pairs
BENCHMARK_FIGURES = ("reliability", "accuracy_by_margin")

Drawing = Callable[[], None]


def evaluate_model(config: EvaluateConfig) -> dict[str, Any]:
    """Evaluate one reward model and write `results.json`, `results.md` and `figures/`.

    Returns:
        What `results.json` holds.
    """
    config.check()
    folder = output_folder(config)
    with FolderLock(folder / "work"):
        inputs = load_inputs(config)
        return evaluate_scorer(load_scorer(config.model, **config.loading()), folder, inputs, config)


def output_folder(config: EvaluateConfig) -> Path:
    """Where the results go: by default into the model's folder.

    Raises:
        UserError: the model is no folder.
    """
    if config.output is not None:
        return Path(config.output)
    if config.model and Path(config.model).is_dir():
        return Path(config.model)
    raise UserError(
        f"{public_name(config.model or '')} is not a folder, so results cannot be written into it; give --output DIR"
    )


def evaluate_scorer(scorer: Scorer, folder: Path, inputs: Inputs, config: EvaluateConfig) -> dict[str, Any]:
    """Evaluate an opened model into `folder`: `results.json`, `results.md`, `report.html`, `figures/`, `scores/` (a dataset
    folder with the scores of every item); what was scored is kept in `work/scores`.

    Earlier entries in `results.json` stay where model and settings are the same; otherwise they are dropped.

    Returns:
        What `results.json` holds.
    """
    num_levels = scorer.num_levels
    for name, data in inputs.datasets.items():
        if num_levels is not None:
            check_labels(data, num_levels, name)
    sane = _sanity_sets(inputs, num_levels, config) if config.sanity else {}
    store = ScoreStore(folder / "work" / "scores", scorer)
    results = empty_results(scorer, config)
    keep_earlier(folder / "results.json", results)
    several = len(results["datasets"].keys() | inputs.datasets.keys()) > 1
    figures = folder / "figures"
    drawings: list[Drawing] = []
    for name, data in inputs.datasets.items():
        scored = [s for (s,) in score_groups(data.groups, scorer, store, config.chunk_size, f"scoring {name}")]
        found, curves = evaluate_split(data, scored, num_levels, config)
        result = {"split": data.split, "read_from": list(data.read_from), **found}
        prefix = f"{file_prefix(name)}_" if several else ""
        kinds = DATASET_FIGURES if _shows_pairs(result) else DATASET_FIGURES[:1]
        result["figures"] = [f"{prefix}{kind}.png" for kind in kinds] if config.plots else []
        results["datasets"][name] = result
        title = f"{scorer.name} on {name} ({data.split})"
        item_scores.write_dataset(folder, file_prefix(name), data, scored)
        wrong.write(folder, file_prefix(name), wrong.of_dataset(data, curves.pairs))
        drawings.append(partial(_draw_dataset, curves, result, figures, prefix, title, config))
    for kind, sets in (("benchmarks", inputs.benchmarks), ("pairs", inputs.pairs)):
        for name, (benchmark, items) in sets.items():
            scored = score_benchmark(benchmark, items, scorer, store, config.chunk_size)
            results[kind][name], drawing = _evaluate_items(benchmark, items, scored, scorer.name, folder, config)
            drawings += drawing
    for name, (check, items) in sane.items():
        scored = score_benchmark(check, items, scorer, store, config.chunk_size)
        results["sanity"][name] = sanity.sanity_results(check, items, scored, config)
        item_scores.write_benchmark(folder, check.name, check, items, scored)
        wrong.write(folder, check.name, wrong.of_benchmark(check, items, scored))
    item_scores.write_card(folder, results)
    write_results(folder, results)
    if config.plots:
        for draw in drawings:
            draw()
    write_page(folder, results)
    return results


def _sanity_sets(
    inputs: Inputs, num_levels: int | None, config: EvaluateConfig
) -> dict[str, tuple[sanity.Sanity, list[Item]]]:
    """Real answers of the datasets and of the pairs against broken ones, under the names that results.json gives them."""
    found = {name: sanity.of_split(data, num_levels, config.seed, name) for name, data in inputs.datasets.items()}
    found |= {f"{name} (pairs)": sanity.of_pairs(items, config.seed) for name, (_, items) in inputs.pairs.items()}
    return {name: (sanity.Sanity(item_scores.sanity_prefix(name)), items) for name, items in found.items()}


def _evaluate_items(
    benchmark: Benchmark,
    items: list[Item],
    scored: list[list[Scored]],
    model: str,
    folder: Path,
    config: EvaluateConfig,
) -> tuple[dict[str, Any], list[Drawing]]:
    """Results of a benchmark or a set of pairs, and its figures to be drawn; writes the scores of its items."""
    if isinstance(benchmark, Preference):
        result, prefix = preference_results(benchmark, items, scored, config), "pairs_"
        shown = "reason" not in result.get("calibration", {"reason": "there are none"})
        kept = [position for position, item in enumerate(items) if not item.extra["tie"]]
    else:
        result, prefix = benchmark_results(benchmark, items, scored, config), ""
        shown, kept = _shows_pairs(result), list(range(len(items)))
    name = f"{prefix}{benchmark.name}"
    item_scores.write_benchmark(folder, name, benchmark, items, scored)
    wrong.write(folder, name, wrong.of_benchmark(benchmark, items, scored))
    drawn = config.plots and shown
    result["figures"] = [f"{name}_{kind}.png" for kind in BENCHMARK_FIGURES] if drawn else []
    compared = [items[k] for k in kept], [scored[k] for k in kept]
    drawing = partial(draw_benchmark, benchmark, *compared, folder / "figures", model, config, prefix)
    return result, [drawing] if drawn else []


def _shows_pairs(result: dict[str, Any]) -> bool:
    return "reason" not in result.get("pairs", {"reason": "there are none"})


def empty_results(scorer: Scorer, config: EvaluateConfig) -> dict[str, Any]:
    """What `results.json` says before anything is measured: of which model, and what else the numbers depend on."""
    from wildreward.modeling_wildreward.ordinal import positive_from  # brings torch, which reading does without

    return {
        "format": FORMAT,
        "model": {
            "name": scorer.name,
            "kind": scorer.kind,
            "revision": scorer.revision,
            "fingerprint": scorer.fingerprint,
            "weights": scorer.weights,
        },
        "settings": {
            "split": config.split,
            "limit": config.limit,
            "seed": config.seed,
            "bootstrap_resamples": config.bootstrap,
            "confidence": 0.95,
            "calibration_bins": config.bins,
            "positive_labels_from": positive_from(scorer.num_levels or LEVELS),
            **scorer.settings,
        },
        "versions": library_versions(),
        "datasets": {},
        "benchmarks": {},
        "pairs": {},
        "sanity": {},
    }


def keep_earlier(path: Path, results: dict[str, Any]) -> None:
    """Take over what a file holds of the same model under the same settings."""
    earlier = read_json(path) if path.exists() else None
    parts = ("model", "datasets", "benchmarks")
    if not isinstance(earlier, dict) or not all(isinstance(earlier.get(part), dict) for part in parts):
        return  # of another command, of a comparison, or not ours
    same_model = earlier["model"].get("fingerprint") == results["model"]["fingerprint"]
    if earlier.get("format") == FORMAT and same_model and earlier.get("settings") == results["settings"]:
        for kind in ("datasets", "benchmarks", "pairs", "sanity"):
            results[kind] |= earlier.get(kind, {})


def write_results(folder: Path, results: dict[str, Any]) -> None:
    """Write `results.json` and the same as a table, `results.md`."""
    write_json(folder / "results.json", results)
    with atomic_path(folder / "results.md") as temporary:
        temporary.write_text(markdown(results), encoding="utf-8")


def _draw_dataset(
    curves: Curves, result: dict[str, Any], figures: Path, prefix: str, title: str, config: EvaluateConfig
) -> None:
    from wildreward.modeling_wildreward.ordinal import positive_from

    path = figures / f"{prefix}score_by_label.png"
    plots.score_by_label(curves.scores, curves.labels, path, title, result["roc_auc"], curves.num_levels)
    pairs = curves.pairs
    if not _shows_pairs(result):
        return
    weights = pair_weights(pairs, curves.users, 200, config.seed)
    panels = [plots.Reliability(pairs.confidence, pairs.correct, weights, "pairs")]
    if curves.stated is not None and "reason" not in result["calibration"]:
        rows = row_weights(curves.users, 200, config.seed)
        positive = (curves.labels >= positive_from(curves.num_levels)).astype(float)
        panels.insert(0, plots.Reliability(curves.stated, positive, rows, "answers"))
    plots.reliability(panels, figures / f"{prefix}reliability.png", title, config.bins)
    plots.accuracy_by_margin(
        pairs.better_scores,
        pairs.worse_scores,
        weights,
        figures / f"{prefix}accuracy_by_margin.png",
        f"{title}, {len(pairs)} pairs across prompts",
    )
