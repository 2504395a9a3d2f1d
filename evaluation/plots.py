"""Figures as PNG files: score by level, reliability, accuracy against coverage, user diversity. Needs matplotlib."""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from wildreward.errors import UserError
from wildreward.evaluation.bootstrap import resamples
from wildreward.evaluation.calibration import Bins, accuracy_coverage, pairwise_outcome
from wildreward.evaluation.statistics import Floats, Ints
from wildreward.files import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, ORANGE, GREY = "#2a6f97", "#c8553d", "#8d99ae"
LEVEL_COLOURS = ("#9b2226", "#e07a5f", "#7fb7be", "#1d6f8c")


def new_figure(columns: int = 1, width: float = 6.4, height: float = 4.4) -> "tuple[Figure, list[Axes]]":
    """An empty figure with `columns` axes side by side.

    Raises:
        UserError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError(
            "figures need matplotlib, which is not installed; pip install 'wildreward[plots]', or pass --plots false"
        ) from error
    figure = Figure(figsize=(width * columns, height), dpi=130, layout="constrained")
    axes = [figure.add_subplot(1, columns, i + 1) for i in range(columns)]
    for axis in axes:
        axis.grid(alpha=0.25, linewidth=0.6)
        axis.spines[["top", "right"]].set_visible(False)
    return figure, axes


def save(figure: "Figure", path: str | os.PathLike) -> None:
    """Write a PNG, atomically and without a time stamp: the same numbers give the same bytes."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", metadata={"Software": None})


def score_by_label(scores: Floats, labels: Ints, path: str | os.PathLike, title: str, auc: dict[str, Any]) -> None:
    """Distribution of the score at each label, and of negatives against positives over one common axis."""
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
    boxes.set_xlabel("label (level of the user's feedback)")
    boxes.set_ylabel("score (expected level)")
    boxes.legend(loc="lower right", frameon=False)
    edges = np.linspace(scores.min(), max(scores.max(), scores.min() + 1e-6), 31)
    for name, rows, colour in (("1-2 negative", labels <= 2, LEVEL_COLOURS[0]), ("3-4 positive", labels >= 3, BLUE)):
        if rows.any():
            weights = np.full(rows.sum(), 100.0 / rows.sum())
            label = f"{name} (n={rows.sum()})"
            hists.hist(scores[rows], edges, weights=weights, color=colour, alpha=0.55, label=label)
    hists.set_xlabel("score (expected level)")
    hists.set_ylabel("share of the class (%)")
    hists.legend(loc="upper left", frameon=False, title=_auc_text(auc))
    figure.suptitle(title, fontsize=10)
    save(figure, path)


def _auc_text(auc: dict[str, Any]) -> str:
    if auc["value"] is None:
        return "ROC-AUC undefined"
    text = f"ROC-AUC {auc['value']:.3f}"
    return text if auc["low"] is None else f"{text}\n95% [{auc['low']:.3f}, {auc['high']:.3f}]"


def _wilson(share: Floats, count: Ints) -> tuple[Floats, Floats]:
    """95% Wilson interval of a share, as distances below and above it."""
    z = 1.96
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2))
    return np.maximum(share - centre + half, 0), np.maximum(centre + half - share, 0)


def _reliability_axis(axis: "Axes", bins: Bins, low: float, label: str, x_label: str, y_label: str) -> None:
    axis.plot([low, 1], [low, 1], "--", color=GREY, linewidth=1, label="perfectly calibrated")
    error = _wilson(bins.accuracy, bins.count)
    axis.errorbar(bins.confidence, bins.accuracy, yerr=error, fmt="o-", color=BLUE, capsize=3, label=label)
    for x, y, n in zip(bins.confidence, bins.accuracy, bins.count, strict=True):
        axis.annotate(str(n), (x, y), xytext=(5, -11), textcoords="offset points", fontsize=7, color="#444444")
    axis.set(xlabel=x_label, ylabel=y_label, xlim=(low - 0.02, 1.02), ylim=(-0.02, 1.02))
    axis.legend(loc="upper left", frameon=False, fontsize=8)


def reliability(positive: Bins | None, pairs: Bins, path: str | os.PathLike, title: str) -> None:
    """Stated probability against what happened, for single answers and for pairs; numbers are items in the bin."""
    figure, axes = new_figure(columns=2 if positive else 1, width=5.2)
    if positive:
        label = f"answers, n={positive.count.sum()}, ECE {100 * positive.calibration_error():.1f}%"
        _reliability_axis(axes[0], positive, 0.0, label, "stated P(positive)", "share positive (95% interval)")
    label = f"pairs, n={pairs.count.sum()}, ECE {100 * pairs.calibration_error():.1f}%"
    _reliability_axis(axes[-1], pairs, 0.5, label, "stated P(winner is better)", "share right (95% interval)")
    figure.suptitle(title, fontsize=10)
    save(figure, path)


def accuracy_by_margin(
    better: Floats, worse: Floats, clusters: Sequence[str], path: str | os.PathLike, title: str, repeats: int = 200
) -> None:
    """Accuracy and coverage of the pairs whose score margin is at least x, with a band that resamples clusters."""
    curve = accuracy_coverage(better, worse)
    curve = accuracy_coverage(better, worse, curve.margin[curve.count >= min(30, better.size)])
    outcome, gap = pairwise_outcome(better, worse), np.abs(better - worse)
    samples = []
    for rows in resamples(clusters or [str(i) for i in range(better.size)], repeats, 0):
        kept = gap[rows][:, None] >= curve.margin[None, :]
        number = kept.sum(axis=0)
        right = (outcome[rows][:, None] * kept).sum(axis=0)
        samples.append(np.where(number > 0, right / np.maximum(number, 1), np.nan))
    low, high = np.nanquantile(np.asarray(samples), [0.025, 0.975], axis=0)
    figure, (by_margin, by_coverage) = new_figure(columns=2, width=5.2)
    for axis, x in ((by_margin, curve.margin), (by_coverage, 100 * curve.coverage)):
        axis.fill_between(x, 100 * low, 100 * high, color=BLUE, alpha=0.18, linewidth=0, label="95% interval")
        axis.plot(x, 100 * curve.accuracy, "o-", color=BLUE, markersize=3.5, label="accuracy")
        axis.set_ylabel("accuracy of the pairs kept (%)")
    by_margin.plot(curve.margin, 100 * curve.coverage, "s--", color=ORANGE, markersize=3, label="pairs kept (%)")
    by_margin.set(xlabel="smallest score margin kept (levels)", ylabel="%")
    by_margin.legend(frameon=False, fontsize=8)
    by_coverage.set_xlabel(f"pairs kept (% of {better.size})")
    by_coverage.invert_xaxis()
    by_coverage.legend(loc="upper left", frameon=False, fontsize=8)
    figure.suptitle(title, fontsize=10)
    save(figure, path)


def user_diversity(points: Sequence[dict[str, Any]], path: str | os.PathLike, title: str) -> None:
    """A metric against the number of users the training data comes from, at equal size.

    Args:
        points: dicts with `users`, `value`, `low`, `high`, and `instances` (training instances, equal for all).
        path: PNG to write.
        title: shown above.
    """
    figure, (axis,) = new_figure()
    ordered = sorted(points, key=lambda p: p["users"])
    x = np.asarray([p["users"] for p in ordered])
    y = np.asarray([p["value"] for p in ordered])
    error = np.abs(np.asarray([[p["value"] - p["low"], p["high"] - p["value"]] for p in ordered]).T)
    axis.errorbar(x, y, yerr=error, fmt="o-", color=BLUE, capsize=3, label="held-out ROC-AUC, 95% interval")
    axis.set_xscale("log")
    axis.set_xticks(x, [str(v) for v in x])
    axis.minorticks_off()
    sizes = sorted({p["instances"] for p in ordered})
    axis.set_xlabel(f"users in the training data ({' or '.join(map(str, sizes))} instances each time, log scale)")
    axis.set_ylabel("held-out ROC-AUC")
    axis.legend(frameon=False, loc="lower right")
    axis.set_title(title, fontsize=10)
    save(figure, path)
