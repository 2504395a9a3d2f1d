"""`wildreward analyze`: the paper's analyses on your data: data strategy, user diversity, size.

Every study trains the same model on variants of the train split and measures all of them on the test split. The folder
gets `results.json`, `<study>.png` and one file for each finished run in `runs/`; an interrupted study goes on there.
"""

import copy
import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from wildreward.bundled import resolve
from wildreward.errors import UserError
from wildreward.files import FolderLock, atomic_path, make_folder, write_json
from wildreward.settings import claim
from wildreward.training.ordinal_reward_config import OrdinalRewardConfig
from wildreward.training.reward_command import (
    TrainRewardArguments,
    check_output_folder,
    refuse_what_is_done_otherwise,
    run_settings,
)
from wildreward.training.reward_data import load_rows

if TYPE_CHECKING:
    from datasets import Dataset
    from matplotlib.figure import Figure


@dataclass
class AnalyzeArguments(TrainRewardArguments):
    """Which study; what is trained and how as for `train-reward`."""

    study: Literal["strategy", "diversity", "size"] = field(
        default="size",
        metadata={
            "help": "strategy: without mining, without refusal validation; diversity: equal size, fewer users; "
            "size: an eighth to all of the users."
        },
    )
    seeds: list[int] = field(
        default_factory=lambda: [0, 1, 2], metadata={"help": "Every variant is trained with each."}
    )
    test_split: str = field(default="test", metadata={"help": "Split that every variant is measured on."})
    plot_metric: str = field(default="roc_auc", metadata={"help": "Metric on the plot."})


# a variant is measured at its end, on the test split, with each of `seeds`
NOT_IN_STUDIES = ("seed", "eval_strategy", "save_strategy", "early_stopping_patience")
CONFIGS = (AnalyzeArguments, OrdinalRewardConfig)


def main(arguments: AnalyzeArguments, config: OrdinalRewardConfig) -> None:
    """Run the study and print its table."""
    results = analyze(arguments, config)
    print(table(results))


def analyze(arguments: AnalyzeArguments, config: OrdinalRewardConfig) -> dict[str, Any]:
    """Run one study into `config.output_dir`; returns what is in results.json.

    Raises:
        UserError: the dataset lacks the rows or columns that the study needs, or the folder is another run's; there is
            no such metric, or nothing to draw with; there are several processes.
    """
    from wildreward.training.studies import METRICS, run_study

    if config.world_size > 1:
        raise UserError(
            f"analyze runs in one process, and was started in {config.world_size}; start it without a launcher"
        )
    check_output_folder(config)
    refuse_what_is_done_otherwise(config)
    given = [name for name in ("estimate", "streaming") if getattr(arguments, name)]
    usual = OrdinalRewardConfig(config.output_dir)
    given += [name for name in NOT_IN_STUDIES if getattr(config, name) != getattr(usual, name)]
    if given:
        raise UserError(f"without effect on a study, remove: {', '.join(given)}")
    if arguments.plot_metric not in METRICS:
        raise UserError(f"plot_metric is {arguments.plot_metric!r}; expected one of {', '.join(METRICS)}")
    _figure_class()  # refuses before hours of training, not after them
    folder = make_folder(config.output_dir)
    config = copy.copy(config)
    config.eval_strategy = config.save_strategy = "no"
    config.load_best_model_at_end = False
    with FolderLock(folder / "work"):
        settings = run_settings(arguments, config)
        del settings["plot_metric"]  # another plot of the same runs
        with claim(folder / "work", settings, begun=lambda: any(folder.glob("runs/*.json"))):
            rows, test = _splits(arguments)
            _check_classes(arguments, test)
            plain = TrainRewardArguments(
                **{item.name: getattr(arguments, item.name) for item in dataclasses.fields(TrainRewardArguments)}
            )
            results = run_study(arguments.study, rows, test, plain, config, arguments.seeds, folder)
            write_json(folder / "results.json", results)
            plot(results, arguments.plot_metric, folder / f"{arguments.study}.png")
    return results


def _splits(arguments: AnalyzeArguments) -> "tuple[Dataset, Dataset]":
    source, options = resolve(arguments.dataset), (arguments.dataset_config, arguments.dataset_revision)
    rows = load_rows(source, arguments.train_split, *options)
    missing = {"label_source"} - set(rows.column_names) if arguments.study == "strategy" else set()
    if missing:
        raise UserError(
            f"the dataset has no column {', '.join(sorted(missing))}; the strategy study needs a dataset "
            "written by build-dataset"
        )
    return rows, load_rows(source, arguments.test_split, *options)


def _check_classes(arguments: AnalyzeArguments, test: "Dataset") -> None:
    """Refuse, before hours of training, a plot of what too few test rows of a class cannot show."""
    from wildreward.evaluation.statistics import too_few
    from wildreward.modeling_wildreward import positive_from
    from wildreward.training.reward_metrics import OF_CLASSES

    labels = [label for label in test["label"] if label is not None]
    positive = sum(label >= positive_from(arguments.num_levels) for label in labels)
    reason = too_few(positive=positive, negative=len(labels) - positive)
    if reason and arguments.plot_metric in OF_CLASSES:
        raise UserError(f"{arguments.plot_metric} of the test rows: {reason}; choose another plot_metric, such as mae")


def table(results: dict[str, Any]) -> str:
    """Variants with mean and standard deviation of the main metrics, as text."""
    metrics = [name for name in ("roc_auc", "mae", "qwk", "ece") if name in next(iter(results["variants"].values()))]
    lines = [f"{results['axis']:30s}" + "".join(f"{name:>18s}" for name in metrics)]
    for variant in results["variants"].values():
        cells = (f"{variant[metric]['mean']:.3f} ± {variant[metric]['sd']:.3f}" for metric in metrics)
        lines.append(f"{variant['name']:30s}" + "".join(f"{cell:>18s}" for cell in cells))
    return "\n".join(lines)


def plot(results: dict[str, Any], metric: str, path: Path) -> None:
    """Mean of one metric for each variant, with bars of one standard deviation.

    Raises:
        UserError: the runs have no such metric.
    """
    variants = results["variants"]
    if any(metric not in variant for variant in variants.values()):
        raise UserError(f"{metric} is undefined in some of the runs; choose another plot_metric, the runs are kept")
    figure = _figure_class()(figsize=(5, 3.2), layout="constrained")
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


def _figure_class() -> "type[Figure]":
    """Matplotlib's figure (`UserError` naming the extra where it is not installed)."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError(
            "analyze draws a figure with matplotlib, which is not installed; pip install 'wildreward[plots]'"
        ) from error
    return Figure
