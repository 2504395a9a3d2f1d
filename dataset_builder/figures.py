"""The two plots of a dataset folder: the funnel, and levels by label source."""

from pathlib import Path
from typing import Any

from wildreward.common.files import atomic_path
from wildreward.dataset_builder.report import funnel

LEVEL_NAMES = {1: "rejection", 2: "error\ncorrection", 4: "positive\nengagement", 5: "satisfaction"}
_COLOURS = {"explicit": "#3b6ea5", "rating": "#4c9f70", "mined": "#e0a83c", "refusal": "#8a5aa8"}


def draw(report: dict[str, Any], folder: Path) -> list[Path]:
    """Draw `funnel.png` and `levels.png`; without matplotlib (extra `plots`) nothing is drawn.

    Returns:
        the files written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return []
    return [_funnel(Figure, report, folder / "funnel.png"), _levels(Figure, report, folder / "levels.png")]


def _funnel(figure_class: type, report: dict[str, Any], path: Path) -> Path:
    steps = funnel(report)
    figure = figure_class(figsize=(7, 3.2), layout="constrained")
    axes = figure.subplots()
    names, values = [name for name, _ in steps], [value for _, value in steps]
    bars = axes.barh(names, values, color="#3b6ea5")
    axes.bar_label(bars, [f"{value:,}" for value in values], padding=3, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("count")
    axes.margins(x=0.15)
    axes.spines[["top", "right"]].set_visible(False)
    return _save(figure, path)


def _levels(figure_class: type, report: dict[str, Any], path: Path) -> Path:
    figure = figure_class(figsize=(6, 3.2), layout="constrained")
    axes = figure.subplots()
    base = [0] * len(LEVEL_NAMES)
    for source, colour in _COLOURS.items():
        counts = [report["label_sources"].get(source, {}).get(str(level), 0) for level in LEVEL_NAMES]
        if not any(counts):
            continue  # no legend for what is not there
        axes.bar(list(LEVEL_NAMES.values()), counts, bottom=base, label=source, color=colour)
        base = [below + count for below, count in zip(base, counts, strict=True)]
    axes.set_ylabel("instances")
    axes.legend(title="label source", frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return _save(figure, path)


def _save(figure: Any, path: Path) -> Path:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
    return path
