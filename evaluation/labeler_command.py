"""`wildreward evaluate-labeler`: how far a labeler's levels agree with gold ones."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from wildreward.common.files import make_folder, write_json


@dataclass
class EvaluateLabelerConfig:
    """Two label files and where the result goes."""

    gold: str = field(metadata={"help": "Gold labels: JSON Lines or parquet with id, level 1-5."})
    labels: str = field(
        metadata={"help": "The labeler's: id, level 1-5 or null, optional confidence; work/levels.parquet is one."}
    )
    output: str | None = field(
        default=None, metadata={"help": "Folder for labeler_results.json and confusion.png; default: print only."}
    )
    bootstrap: int = field(default=1000, metadata={"help": "Bootstrap resamples (of conversations); 0 for none."})
    seed: int = field(default=0, metadata={"help": "Seed of the resampling."})
    plots: bool = field(default=True, metadata={"help": "Draw the confusion matrix (needs the extra `plots`)."})


CONFIGS = (EvaluateLabelerConfig,)


def main(config: EvaluateLabelerConfig) -> None:
    """Run the command."""
    from wildreward.common.settings import check_least
    from wildreward.evaluation.labelers import agreement, read_labels
    from wildreward.evaluation.report import library_versions

    check_least(("bootstrap", config.bootstrap, 0), ("seed", config.seed, 0))
    result = agreement(read_labels(config.gold), read_labels(config.labels), config.bootstrap, config.seed)
    if config.output is not None:
        folder = make_folder(config.output)
        settings = {"gold": Path(config.gold).name, "labels": Path(config.labels).name}
        settings |= {"bootstrap_resamples": config.bootstrap, "seed": config.seed}
        write_json(folder / "labeler_results.json", {**result, "settings": settings, "versions": library_versions()})
        if config.plots:
            from wildreward.evaluation.plots import confusion_matrix

            confusion_matrix(result["confusion"]["counts"], folder / "confusion.png", "Labeler against gold levels")
    print(labeler_table(result))


def labeler_table(result: dict[str, Any]) -> str:
    """Markdown of an agreement result."""
    from wildreward.common.tables import estimate_text, markdown_table
    from wildreward.evaluation.labelers import LEVEL_NAMES

    rows = []
    for key, part in result["levels"].items():
        rows.append([f"{key} {LEVEL_NAMES[int(key) - 1]}", part])
    rows += [[f"**{name}**", part] for name, part in result["polarity"].items()]
    lines = [
        [name, str(p["gold"]), str(p["predicted"]), *(estimate_text(p[m]) for m in ("precision", "recall", "f1"))]
        for name, p in rows
    ]
    head = f"{result['n']} gold turns, {result['labelled']} labelled\n\n"
    measures = ("accuracy", "kappa", "quadratic_kappa", "polarity_accuracy", "polarity_kappa")
    summary = "\n".join(f"- {m.replace('_', ' ')}: {estimate_text(result[m])}" for m in measures)
    return head + markdown_table(["level", "gold", "predicted", "precision", "recall", "F1"], lines) + "\n\n" + summary
