"""Figures as PNG files: score by level, reliability, accuracy against coverage. Needs matplotlib."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from wildreward.common.errors import UserError
from wildreward.common.files import atomic_path
from wildreward.evaluation.calibration import Bins, accuracy_coverage, pairwise_outcome, reliability_bins
from wildreward.evaluation.pairs import weighted_interval
from wildreward.evaluation.statistics import Floats, Ints

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#2a6f97", "#c8553d", "#8d99ae"
LEVEL_COLOURS = ("#9b2226", "#e07a5f", "#7fb7be", "#1d6f8c")


def figure_class() -> "type[Figure]":
    """Matplotlib's figure.

    Raises:
        UserError: matplotlib is not installed, naming the extra.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError(
            "figures need matplotlib, which is not installed; pip install 'wildreward[plots]', or pass --plots false"
        ) from error
    return Figure


def new_figure(columns: int = 1, width: float = 6.4, height: float = 4.4) -> "tuple[Figure, list[Axes]]":
    """An empty figure with `columns` axes side by side."""
    figure = figure_class()(figsize=(width * columns, height), dpi=130, layout="constrained")
    axes = [figure.add_subplot(1, columns, i + 1) for i in range(columns)]
    for axis in axes:
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def save(figure: "Figure", path: str | os.PathLike) -> None:
    """Write a PNG, atomically and without a time stamp: the same numbers give the same bytes."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})


def score_by_label(
    scores: Floats, labels: Ints, path: str | os.PathLike, title: str, auc: dict[str, Any], num_levels: int = 4
) -> None:
    """Distribution of the score at each label, and of negatives against positives over one common axis."""
    from wildreward.modeling_wildreward.ordinal import positive_from

    figure, (boxes, hists) = new_figure(columns=2, width=5.2)
    levels = sorted(set(labels.tolist()))
    groups = [scores[labels == k] for k in levels]
    parts = boxes.boxplot(groups, positions=levels, widths=0.55, patch_artist=True, showfliers=False)
    for k, box in zip(levels, parts["boxes"], strict=True):
        box.set(facecolor=LEVEL_COLOURS[min(k, 4) - 1], alpha=0.75)
    for line in parts["medians"]:
        line.set_color("black")
    means = [g.mean() for g in groups]
    boxes.plot(levels, means, "D", color="white", markeredgecolor="black", markersize=5, label="mean")
    boxes.set_xticks(levels, [f"{k}\nn={len(g)}" for k, g in zip(levels, groups, strict=True)])
    boxes.set_xlabel(f"label of the user's feedback (1 to {num_levels})")
    boxes.set_ylabel("score (expected level)")
    boxes.legend(loc="lower right", frameon=False)
    edges = np.linspace(scores.min(), max(scores.max(), scores.min() + 1e-6), 31)
    positive = positive_from(num_levels)
    top = max(num_levels, labels.max())
    for name, rows, colour in (
        (f"1-{positive - 1} negative", labels < positive, LEVEL_COLOURS[0]),
        (f"{positive}-{top} positive", labels >= positive, BLUE),
    ):
        if rows.any():
            weights = np.full(rows.sum(), 100.0 / rows.sum())
            label = f"{name} (n={rows.sum()})"
            hists.hist(scores[rows], edges, weights=weights, color=colour, alpha=0.55, label=label)
    hists.set_xlabel("score (expected level)")
    hists.set_ylabel("share of the class (%)")
    hists.set_ylim(0, hists.get_ylim()[1] * 1.35)
    hists.legend(loc="upper left", frameon=False, fontsize=8, title=_auc_text(auc), title_fontsize=8)
    figure.suptitle(title, fontsize=10)
    save(figure, path)


def _auc_text(auc: dict[str, Any]) -> str:
    if auc["value"] is None:
        return f"ROC-AUC {'withheld: ' + auc['reason'] if 'reason' in auc else 'undefined'}"
    text = f"ROC-AUC {auc['value']:.3f}"
    return text if auc["low"] is None else f"{text}\n95% [{auc['low']:.3f}, {auc['high']:.3f}]"


@dataclass(frozen=True)
class Reliability:
    """One panel of a reliability diagram: stated probabilities, outcomes, and resampling weights (repeats, n)."""

    stated: Floats
    outcome: Floats
    weights: Floats
    what: str


def _bin_errors(panel: Reliability, n_bins: int) -> tuple[Bins, Floats]:
    """Bins and the distances of the 95% resampling interval below and above each bin's accuracy, (2, bins)."""
    bins = reliability_bins(panel.stated, panel.outcome, n_bins)
    edges = np.linspace(0.0, 1.0, n_bins + 1)
    index = np.clip(np.searchsorted(edges, panel.stated, side="left") - 1, 0, n_bins - 1)
    errors = []
    for accuracy, k in zip(bins.accuracy, np.unique(index), strict=True):
        low, high = weighted_interval(panel.outcome[index == k], panel.weights[:, index == k])
        errors.append([max(accuracy - (accuracy if low is None else low), 0), max((high or accuracy) - accuracy, 0)])
    return bins, np.asarray(errors).T


def reliability(panels: Sequence[Reliability], path: str | os.PathLike, title: str, n_bins: int = 10) -> None:
    """Stated probability against what happened; the small numbers are the items in the bin, the bars resample users."""
    figure, axes = new_figure(columns=len(panels), width=5.2)
    for axis, panel in zip(axes, panels, strict=True):
        bins, errors = _bin_errors(panel, n_bins)
        low = 0.5 if panel.stated.min() >= 0.5 else 0.0
        axis.plot([low, 1], [low, 1], "--", color=GREY, linewidth=1, label="perfectly calibrated")
        label = f"{panel.what}, n={bins.count.sum()}, ECE {100 * bins.calibration_error():.1f}%"
        axis.errorbar(bins.confidence, bins.accuracy, yerr=errors, fmt="o-", color=BLUE, capsize=3, label=label)
        for x, y, n in zip(bins.confidence, bins.accuracy, bins.count, strict=True):
            axis.annotate(str(n), (x, y), xytext=(5, -11), textcoords="offset points", fontsize=7, color="#444444")
        axis.set(xlim=(low - 0.02, 1.02), ylim=(-0.02, 1.12))
        axis.set_xlabel("stated P(winner is better)" if low else "stated P(positive)")
        axis.set_ylabel(f"share {'right' if low else 'positive'} (bars: 95% interval)")
        axis.legend(loc="upper left", frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=10)
    save(figure, path)


def accuracy_by_margin(
    better: Floats, worse: Floats, weights: Floats, path: str | os.PathLike, title: str, unit: str = "levels"
) -> None:
    """Accuracy and coverage of the pairs whose score margin is at least x; (repeats, pairs) `weights` give the band."""
    curve = accuracy_coverage(better, worse)
    curve = accuracy_coverage(better, worse, curve.margin[curve.count >= min(30, better.size)])
    gap = np.abs(better - worse)
    order = np.argsort(-gap, kind="stable")
    outcome = pairwise_outcome(better, worse)
    kept = np.cumsum(weights[:, order], axis=1)[:, curve.count - 1]
    right = np.cumsum((weights * outcome)[:, order], axis=1)[:, curve.count - 1]
    share = np.where(kept > 0, right / np.maximum(kept, 1), np.nan)
    low, high = np.nanquantile(share, [0.025, 0.975], axis=0)
    figure, (by_margin, by_coverage) = new_figure(columns=2, width=5.2)
    for axis, x in ((by_margin, curve.margin), (by_coverage, 100 * curve.coverage)):
        axis.fill_between(x, 100 * low, 100 * high, color=BLUE, alpha=0.18, linewidth=0, label="95% interval")
        axis.plot(x, 100 * curve.accuracy, "o-", color=BLUE, markersize=3.5, label="accuracy")
    by_margin.plot(curve.margin, 100 * curve.coverage, "s--", color=ORANGE, markersize=3, label="pairs kept")
    by_margin.set(xlabel=f"smallest score margin kept ({unit})", ylabel="% of pairs", ylim=(-3, 103))
    by_margin.legend(loc="best", frameon=False, fontsize=8)
    by_coverage.set(xlabel=f"pairs kept (% of {better.size})", ylabel="accuracy of the pairs kept (%)")
    by_coverage.invert_xaxis()
    by_coverage.legend(loc="best", frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=10)
    save(figure, path)


def confusion_matrix(counts: Sequence[Sequence[int]], path: str | os.PathLike, title: str) -> None:
    """Turns by gold level (rows) and by what the labeler said (columns: unlabelled, 1 to 5)."""
    table = np.asarray(counts)
    figure, (axis,) = new_figure(width=5.6, height=4.6)
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    image = axis.imshow(100 * share, cmap="Blues", vmin=0, vmax=100)
    for i, j in np.ndindex(table.shape):
        axis.text(j, i, str(table[i, j]), ha="center", va="center", color="white" if share[i, j] > 0.6 else "black")
    axis.set_xticks(range(table.shape[1]), ["none", *map(str, range(1, table.shape[1]))])
    axis.set_yticks(range(len(table)), [f"{k + 1} (n={n})" for k, n in enumerate(table.sum(axis=1))])
    axis.set(xlabel="level by the labeler", ylabel="gold level")
    axis.grid(False)
    figure.colorbar(image, ax=axis, label="share of the gold level (%)")
    axis.set_title(f"{title}, n={table.sum()}", fontsize=10)
    save(figure, path)
