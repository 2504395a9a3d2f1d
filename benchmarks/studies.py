"""Which rows of a feedback dataset make the better reward model: data strategy, user diversity, size.

    python benchmarks/studies.py --study size --output-dir runs/size --dataset runs/my-feedback --base-model NAME [--seeds 0 1 2]

All other options are those of `train-reward`. A study is a list of variants (rows to train on), the same training and the same
held-out users for each, and one untouched test split to measure on. The folder gets `results.json`, `<study>.png` and one file
for each finished run in `runs/`; an interrupted study goes on there.
"""

import argparse
import copy
import hashlib
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from accelerate.utils import release_memory
from datasets import Dataset
from matplotlib.figure import Figure

from wildreward.commands import parse
from wildreward.common.errors import UserError
from wildreward.common.files import atomic_path, make_folder, read_json, write_json
from wildreward.common.settings import check_settings
from wildreward.training.model_setup import build_model, lora
from wildreward.training.reward_arguments import TrainRewardArguments
from wildreward.training.reward_batching import level_frequencies
from wildreward.training.reward_command import CONFIGS, run_settings
from wildreward.training.reward_config import OrdinalRewardConfig
from wildreward.training.reward_data import hold_out_users, load_rows, owners, prepare_rows
from wildreward.training.reward_trainer import OrdinalRewardTrainer

COMPLAINT = 2  # label of a negative level
SHARES = (0.125, 0.25, 0.5, 1.0)
METRICS = ("loss", "mae", "qwk", "roc_auc", "accuracy", "spearman", "ece")


class Variant(NamedTuple):
    """One arm of a study: its id in files and results, its name, its place on the plot's axis, the rows to train on."""

    key: str
    name: str
    x: float
    rows: Dataset


def strategy_variants(rows: Dataset, seed: int) -> list[Variant]:
    """All rows; without the mined ones; with refusals labelled as the user felt about them, not as the judge decided.

    The judge's level has taken the place of the user's, which was 1 or 2: the commoner 2 is put back.
    """
    source = np.asarray(rows["label_source"][:], dtype=object)
    labels = [
        COMPLAINT if origin == "refusal" else label for label, origin in zip(rows["label"][:], source, strict=True)
    ]
    unvalidated = rows.remove_columns("label").add_column("label", labels)
    return [
        Variant("full", "full", 0, rows),
        Variant("without-mining", "without mining", 1, rows.select(np.flatnonzero(source != "mined"))),
        Variant("without-refusal-validation", "without refusal validation", 2, unvalidated),
    ]


def diversity_variants(rows: Dataset, seed: int) -> list[Variant]:
    """Equally many rows from ever more users: from the users with most rows only, up to one row a user where possible."""
    users = np.asarray(owners(rows))
    order = np.random.default_rng(seed).permutation(len(rows))
    turn = _turn_of_user(users, order)
    counts = {user: int(count) for user, count in zip(*np.unique(users, return_counts=True), strict=True)}
    heavy_first = sorted(range(len(rows)), key=lambda row: (-counts[users[row]], users[row], turn[row]))
    size = len(rows) // 4
    variants = []
    # share of rows chosen for spread instead of concentration
    for key, share in (("concentrated", 0.0), ("mixed", 0.5), ("spread", 1.0)):
        spread = sorted(range(len(rows)), key=lambda row: (turn[row], order[row]))[: int(size * share)]
        chosen = list(dict.fromkeys([*spread, *heavy_first]))[:size]
        number = len(set(users[chosen]))
        variants.append(Variant(key, f"{number} users", number, rows.select(sorted(chosen))))
    return variants


def size_variants(rows: Dataset, seed: int) -> list[Variant]:
    """An eighth, a quarter, half and all of the users; each smaller set is part of the larger ones.

    The users are placed by another hash than the one that holds users out, or most of a small variant were held out.
    """
    users = np.asarray(owners(rows))
    places = {user: _place(f"size:{seed}:{user}") for user in set(users)}
    place = np.asarray([places[user] for user in users])
    variants = []
    for share in SHARES:
        kept = rows.select(np.flatnonzero(place < share))
        variants.append(Variant(f"share-{share:g}", f"{len(kept)} rows", len(kept), kept))
    return variants


STUDIES: dict[str, tuple[Callable[[Dataset, int], list[Variant]], str]] = {
    "strategy": (strategy_variants, "data strategy"),
    "diversity": (diversity_variants, "users in equally many rows"),
    "size": (size_variants, "training rows"),
}


def _turn_of_user(users: np.ndarray, order: np.ndarray) -> np.ndarray:
    """For each row: how many rows of the same user come before it in `order`."""
    seen: dict[str, int] = {}
    turn = np.zeros(len(users), dtype=int)
    for row in order:
        turn[row] = seen.get(users[row], 0)
        seen[users[row]] = turn[row] + 1
    return turn


def _place(text: str) -> float:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64


def check_apart(variants: list[Variant]) -> None:
    """Refuse variants with the same rows and labels, or the same place on the axis (`UserError` naming two of them)."""
    for one, other in combinations(variants, 2):
        if one.x == other.x or _same_rows(one.rows, other.rows):
            raise UserError(
                f"the variants {one.key} ({one.name}) and {other.key} ({other.name}) do not differ, with {len(one.rows)} "
                "rows to train on; the study needs a dataset in which they do: more rows, users with different numbers "
                "of rows, or (strategy) mined rows and refusals"
            )


def _same_rows(one: Dataset, other: Dataset) -> bool:
    columns = [name for name in ("label", "id", "messages", "text") if name in one.column_names]
    return len(one) == len(other) and all(one[name][:] == other[name][:] for name in columns)


def train_and_measure(
    arguments: TrainRewardArguments,
    config: OrdinalRewardConfig,
    rows: Dataset,
    held_out: Dataset,
    test: Dataset,
    folder: Path,
    seed: int,
) -> dict[str, float]:
    """Train on `rows` with one seed, calibrate on `held_out`, and return the metrics on `test`."""
    settings = copy.copy(config)
    settings.seed = seed
    settings.output_dir = str(folder)
    settings.eval_strategy = settings.save_strategy = "no"
    settings.load_best_model_at_end = False
    model, tokenizer, _ = build_model(arguments, config.max_length, seed)
    length, levels = model.config.max_length, model.config.num_levels
    train, validation, measured = (
        prepare_rows(part, tokenizer, length, levels, keep, config.dataset_num_proc)[0]
        # every variant answers for all of the test split
        for part, keep in ((rows, config.keep_cut_responses), (held_out, config.keep_cut_responses), (test, True))
    )
    model.score.set_prior(level_frequencies(train["label"][:], levels))
    adapters = lora(arguments.lora_rank, arguments.lora_alpha, arguments.lora_dropout, exclude_modules=["score"])
    trainer = OrdinalRewardTrainer(model, settings, train, validation, processing_class=tokenizer, peft_config=adapters)
    trainer.train()
    if arguments.calibrate:
        trainer.calibrate()
    metrics = trainer.evaluate(measured)
    return {name: metrics[f"eval_{name}"] for name in METRICS if f"eval_{name}" in metrics} | {"rows": len(train)}


def run_study(
    study: str,
    rows: Dataset,
    test: Dataset,
    arguments: TrainRewardArguments,
    config: OrdinalRewardConfig,
    seeds: list[int],
    folder: Path,
) -> dict[str, Any]:
    """Train and measure every variant with every seed.

    Returns:
        What goes into results.json: for each variant its rows, its runs, and mean and standard deviation of each metric.

    Raises:
        UserError: two variants are the same, so that there is nothing to compare.
    """
    variants_of, axis = STUDIES[study]
    rows, held_out = hold_out_users(rows, arguments.validation_share, seeds[0], arguments.max_validation_rows)
    variants = variants_of(rows, seeds[0])
    check_apart(variants)
    results: dict[str, Any] = {"study": study, "axis": axis, "seeds": seeds, "test_rows": len(test), "variants": {}}
    for variant in variants:
        runs = []
        for seed in seeds:
            kept = folder / "runs" / f"{variant.key}-{seed}.json"
            if not kept.exists():
                print(f"{variant.name}, seed {seed}: {len(variant.rows)} rows", flush=True)
                work = folder / "work"
                write_json(kept, train_and_measure(arguments, config, variant.rows, held_out, test, work, seed))
                release_memory()  # a Trainer is part of a circle, and holds the weights
            runs.append(read_json(kept))
        results["variants"][variant.key] = {"name": variant.name, "x": variant.x, "runs": runs, **dict(_spread(runs))}
    return results


def _spread(runs: list[dict[str, float]]) -> Iterator[tuple[str, dict[str, float]]]:
    """Mean and standard deviation over the seeds, of the metrics that every run has."""
    for name in runs[0]:
        values = [run[name] for run in runs if name in run]
        if len(values) == len(runs):
            yield name, {"mean": float(np.mean(values)), "sd": float(np.std(values))}


def table(results: dict[str, Any]) -> str:
    """Variants with mean and standard deviation of the main metrics, as text."""
    metrics = [name for name in ("roc_auc", "mae", "qwk", "ece") if name in next(iter(results["variants"].values()))]
    lines = [f"{results['axis']:30s}" + "".join(f"{name:>18s}" for name in metrics)]
    for variant in results["variants"].values():
        cells = (f"{variant[metric]['mean']:.3f} ± {variant[metric]['sd']:.3f}" for metric in metrics)
        lines.append(f"{variant['name']:30s}" + "".join(f"{cell:>18s}" for cell in cells))
    return "\n".join(lines)


def plot(results: dict[str, Any], metric: str, path: Path) -> None:
    """Mean of one metric for each variant, with bars of one standard deviation."""
    variants = results["variants"]
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axes = figure.subplots()
    places = [variant["x"] for variant in variants.values()]
    means = [variant[metric]["mean"] for variant in variants.values()]
    deviations = [variant[metric]["sd"] for variant in variants.values()]
    categorical = results["study"] == "strategy"
    axes.errorbar(places, means, yerr=deviations, marker="o", linestyle="none" if categorical else "-", capsize=3)
    if categorical:
        axes.set_xticks(places, [variant["name"].replace(" ", "\n", 1) for variant in variants.values()])
        axes.margins(x=0.2)
    axes.set_xlabel(results["axis"])
    axes.set_ylabel(f"{metric} on {results['test_rows']} test rows")
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=150, format="png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", choices=STUDIES, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--plot-metric", choices=METRICS, default="roc_auc")
    options, flags = parser.parse_known_args()
    arguments, config = parse("train-reward", CONFIGS, flags)
    folder = make_folder(config.output_dir)
    check_settings(folder, run_settings(arguments, config) | {"study": options.study, "seeds": options.seeds})
    names = (arguments.dataset_config, arguments.dataset_revision)
    rows, test = (load_rows(arguments.dataset, split, *names) for split in (arguments.train_split, "test"))
    results = run_study(options.study, rows, test, arguments, config, options.seeds, folder)
    write_json(folder / "results.json", results)
    print(table(results))
    plot(results, options.plot_metric, folder / f"{options.study}.png")


if __name__ == "__main__":
    main()
