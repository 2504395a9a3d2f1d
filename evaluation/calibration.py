"""How far stated probabilities can be trusted: calibration error, Brier score, log-likelihood, accuracy by margin."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from wildreward.evaluation.statistics import Floats, Ints, checked, checked_pair

Binning = Literal["width", "mass"]


@dataclass(frozen=True)
class Bins:
    """A reliability diagram's non-empty bins: mean confidence, share correct and number of items in each."""

    confidence: Floats
    accuracy: Floats
    count: Ints

    def calibration_error(self) -> float:
        """Mean gap between confidence and accuracy, weighted by the items in the bin."""
        return float((self.count * np.abs(self.confidence - self.accuracy)).sum() / self.count.sum())


def _probabilities(confidence: ArrayLike, correct: ArrayLike) -> tuple[Floats, Floats]:
    p, y = checked_pair(confidence, correct, ("confidence", "correct"))
    if p.min() < 0 or p.max() > 1:
        raise ValueError(f"confidence spans {p.min():g} to {p.max():g}; expected probabilities from 0 to 1")
    if y.min() < 0 or y.max() > 1:
        raise ValueError(f"correct spans {y.min():g} to {y.max():g}; expected 0 or 1 (0.5 for a tie)")
    return p, y


def reliability_bins(confidence: ArrayLike, correct: ArrayLike, n_bins: int = 10, binning: Binning = "width") -> Bins:
    """Group items by confidence.

    Args:
        confidence: probabilities.
        correct: 1 where the event happened, 0 where not, 0.5 for a tie.
        n_bins: number of bins; empty ones are left out.
        binning: "width" cuts [0, 1] into equal intervals, open on the left as usual (0 belongs to the first); "mass"
            gives every bin as many items as can be, without separating equal confidences.
    """
    p, y = _probabilities(confidence, correct)
    if n_bins < 1:
        raise ValueError(f"n_bins is {n_bins}; expected at least 1")
    if binning == "width":
        edges = np.linspace(0.0, 1.0, n_bins + 1)
        index = np.clip(np.searchsorted(edges, p, side="left") - 1, 0, n_bins - 1)
    elif binning == "mass":
        _, inverse, counts = np.unique(p, return_inverse=True, return_counts=True)
        middle = np.cumsum(counts) - counts / 2.0
        index = np.minimum((middle * n_bins / p.size).astype(int), n_bins - 1)[inverse]
    else:
        raise ValueError(f"binning is {binning!r}; expected 'width' or 'mass'")
    count = np.bincount(index, minlength=n_bins)
    used = count > 0
    sums = (np.bincount(index, weights=v, minlength=n_bins)[used] / count[used] for v in (p, y))
    mean_confidence, mean_correct = sums
    return Bins(mean_confidence, mean_correct, count[used])


def expected_calibration_error(
    confidence: ArrayLike, correct: ArrayLike, n_bins: int = 10, binning: Binning = "width"
) -> float:
    """Mean gap between confidence and accuracy over the bins of `reliability_bins` (Naeini et al. 2015)."""
    return reliability_bins(confidence, correct, n_bins, binning).calibration_error()


def brier_score(confidence: ArrayLike, correct: ArrayLike) -> float:
    """Mean squared difference between probability and outcome."""
    p, y = _probabilities(confidence, correct)
    return float(((p - y) ** 2).mean())


def negative_log_likelihood(confidence: ArrayLike, correct: ArrayLike) -> float:
    """Mean -log of the probability given to what happened, in nats; probabilities are kept off 0 and 1 by 1e-15."""
    p, y = _probabilities(confidence, correct)
    p = np.clip(p, 1e-15, 1 - 1e-15)
    return float(-(y * np.log(p) + (1 - y) * np.log1p(-p)).mean())


def pairwise_outcome(better: ArrayLike, worse: ArrayLike) -> Floats:
    """1 where the better one scores higher, 0 where lower, 0.5 on a tie; one value a pair."""
    b, w = checked_pair(better, worse, ("better", "worse"))
    return (1.0 + np.sign(b - w)) / 2.0


@dataclass(frozen=True)
class CoverageCurve:
    """Pairs whose score margin is at least `margin`: their share of all pairs, their number, their accuracy."""

    margin: Floats
    coverage: Floats
    accuracy: Floats
    count: Ints


def accuracy_coverage(better: ArrayLike, worse: ArrayLike, margins: ArrayLike | None = None) -> CoverageCurve:
    """Accuracy of the pairs that are kept when pairs with a small score margin are set aside.

    Args:
        better: scores of the better items.
        worse: scores of the worse ones.
        margins: thresholds on |better - worse|; by default 0, 0.1, 0.2 … up to the largest margin met; a
            thirtieth of that as the step where it is below 1 or above 3.

    Returns:
        The curve at the thresholds that keep at least one pair.
    """
    outcome = pairwise_outcome(better, worse)
    gap = np.abs(np.asarray(better, dtype=np.float64) - np.asarray(worse, dtype=np.float64))
    if margins is None:
        largest = float(gap.max())
        step = 0.1 if largest == 0 or 1 <= largest <= 3 else largest / 30
        thresholds = np.arange(0, 31) * step
    else:
        thresholds = np.sort(checked(margins, "margins"))
    order = np.argsort(gap)
    kept_from = np.searchsorted(gap[order], thresholds, side="left")
    right_above = np.r_[0.0, np.cumsum(outcome[order][::-1])]
    count = gap.size - kept_from
    used = count > 0
    return CoverageCurve(
        thresholds[used], count[used] / gap.size, right_above[count[used]] / count[used], count[used].astype(np.int64)
    )
