"""`wildreward train-labeler`: a classifier of follow-ups from a user's own labels, for `build-dataset --labeler classifier`."""

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass
class TrainLabelerConfig:
    """Labels, the chats that they are of, and how to train."""

    labels: str = field(
        metadata={"help": "Labelled turns: JSONL or parquet with id and level 1-5, a row for each reader of a turn."}
    )
    source: str = field(metadata={"help": "The chats that the ids are of, as for build-dataset."})
    output: str = field(metadata={"help": "New folder for the model."})
    test_labels: str | None = field(
        default=None,
        metadata={"help": "Labels to report on; nothing of their users is trained on. Default: a tenth of the users."},
    )
    base_model: str = field(
        default="sentence-transformers/all-MiniLM-L6-v2",
        metadata={"help": "Encoder to start from: folder or Hub id."},
    )
    num_layers: int | None = field(default=None, metadata={"help": "Keep only the encoder's first layers, for speed."})
    learning_rate: float = field(default=1e-4, metadata={"help": "Largest learning rate."})
    epochs: float = field(default=2.0, metadata={"help": "Passes over the labels."})
    batch_size: int = field(default=32, metadata={"help": "Turns a step."})
    on_bad_input: Literal["error", "skip"] = field(
        default="error", metadata={"help": "Cut-off or corrupt files of the source: stop, or use what can be read."}
    )
    adapter_rank: int = field(
        default=0,
        metadata={"help": "Also write the change to the encoder in this rank, a small form (adapters/); 0: no."},
    )
    seed: int = field(default=0, metadata={"help": "Seed of training and split."})


CONFIGS = (TrainLabelerConfig,)


def main(config: TrainLabelerConfig) -> None:
    """Train, calibrate, measure and write the model."""
    from wildreward.common.files import make_folder, refuse_filled
    from wildreward.common.settings import check_least
    from wildreward.model_card import write_model_card
    from wildreward.training.labeler_data import read_examples, read_readings, split
    from wildreward.training.labeler_training import Recipe, train_labeler

    whole = {name: getattr(config, name) for name in ("num_layers", "batch_size")}
    check_least(
        *((name, n, 1) for name, n in whole.items()), ("adapter_rank", config.adapter_rank, 0), ("seed", config.seed, 0)
    )
    labels = read_readings(config.labels)
    test = read_readings(config.test_labels) if config.test_labels else {}
    refuse_filled(config.output)
    folder = make_folder(config.output)
    examples = read_examples(config.source, labels | test, folder / "work", config.on_bad_input, config.base_model)
    splits = split(examples, set(test), config.seed)
    recipe = Recipe(**{name: getattr(config, name) for name in Recipe.__dataclass_fields__})
    print(summary(train_labeler(splits, recipe, folder)))
    write_model_card(folder, log=False)
    print(
        f"model: {folder}\nnext: wildreward build-dataset --labeler classifier --model {folder} --source … --output …"
    )


def summary(results: dict[str, Any]) -> str:
    """What was measured, for the terminal."""
    turns, error = results["turns"], results["calibration_error"]
    lines = [
        f"{turns['train']:,} turns trained on, {turns['validation']:,} for thresholds, {turns['test']:,} measured on, of other users",
        f"{results['passed_over']:.0%} of them seen as neutral by the gate; calibration error "
        + ", ".join(f"P({side}) {value:.3f}" for side, value in error.items()),
        trade_off_table(results["trade_off"]),
    ]
    return "\n".join(lines)


def trade_off_table(rows: list[dict[str, Any]]) -> str:
    """Precision and recall by --min-confidence, in columns."""
    names = list(rows[0])
    cells = [[name.replace("_", " ") for name in names]]
    cells += [["–" if row[name] is None else str(row[name]) for name in names] for row in rows]
    return "\n".join("  ".join(f"{cell:>{18}}" for cell in line) for line in cells)
