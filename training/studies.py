"""The paper's analyses of data: which rows of a feedback dataset make the better reward model.

A study is a list of variants (rows to train on), the same training and the same held-out users for each, and one untouched
test split to measure on. Every finished run is kept as a file, so that an interrupted study goes on where it was.
"""

import copy
import hashlib
import logging
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from accelerate.utils import release_memory
from datasets import Dataset

from wildreward.errors import UserError
from wildreward.files import read_json, write_json
from wildreward.training.ordinal_reward_config import OrdinalRewardConfig
from wildreward.training.ordinal_reward_trainer import OrdinalRewardTrainer
from wildreward.training.reward_command import TrainRewardArguments
from wildreward.training.reward_data import hold_out_users, level_frequencies, owners, prepare_features, usable_rows
from wildreward.training.reward_model import adapters, build_model, load_tokenizer, naming_the_backbone

logger = logging.getLogger(__name__)

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
    model = build_model(arguments, settings)
    with naming_the_backbone(arguments.base_model):
        tokenizer = load_tokenizer(arguments)
    length, levels = model.config.max_length, arguments.num_levels
    train, validation, measured = (
        usable_rows(prepare_features(part, tokenizer, length, levels, config.dataset_num_proc), keep)[0]
        # every variant answers for all of the test split
        for part, keep in ((rows, config.keep_cut_responses), (held_out, config.keep_cut_responses), (test, True))
    )
    model.score.set_prior(level_frequencies(train["label"][:], levels))
    trainer = OrdinalRewardTrainer(
        model, settings, train, validation, processing_class=tokenizer, peft_config=adapters(arguments)
    )
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
                logger.info("%s, seed %d: %d rows", variant.name, seed, len(variant.rows))
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
