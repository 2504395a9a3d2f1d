"""The metrics of reward models: numpy functions, and the same as `evaluate.Metric` classes that need no Hub.

    >>> from wildreward.evaluation.metrics import OrdinalMetric
    >>> OrdinalMetric().compute(predictions=[1.2, 3.9], references=[1, 4])["mae"]

The classes (extra `metrics`) are imported on first use: importing `evaluate` takes seconds, the functions need numpy and SciPy only.
"""

import numpy as np
from numpy.typing import ArrayLike

from wildreward.common.lazy import lazy_names
from wildreward.evaluation.calibration import pairwise_outcome
from wildreward.evaluation.pairs import Pairs, bradley_terry, core_results
from wildreward.evaluation.statistics import (
    accuracy,
    checked_pair,
    kendall_tau_b,
    mean_absolute_error,
    quadratic_weighted_kappa,
    roc_auc,
    root_mean_squared_error,
    spearman,
    to_levels,
)

_CLASSES = "wildreward.evaluation.evaluate_metrics"
__getattr__, _ = lazy_names(__name__, {"OrdinalMetric": _CLASSES, "PairwiseMetric": _CLASSES})


def ordinal_metrics(
    scores: ArrayLike, labels: ArrayLike, num_levels: int = 4, positive_from: int = 3
) -> dict[str, float]:
    """All ordinal metrics of expected levels against labels.

    Args:
        scores: expected levels, real numbers from 1 to `num_levels`.
        labels: true levels, 1..`num_levels`.
        num_levels: K.
        positive_from: the lowest label that counts as positive for `roc_auc`.

    Returns:
        `mae` and `rmse` (of the score itself, in levels), `accuracy`, `within_one_accuracy` and `qwk` (of the rounded
        score), `spearman`, `kendall_tau_b`, `roc_auc` (one threshold for all prompts); NaN where undefined.
    """
    s, y = checked_pair(scores, labels, ("scores", "labels"))
    predicted = to_levels(s, num_levels)
    return {
        "mae": mean_absolute_error(s, y),
        "rmse": root_mean_squared_error(s, y),
        "accuracy": accuracy(predicted, y),
        "within_one_accuracy": accuracy(predicted, y, within=1),
        "qwk": quadratic_weighted_kappa(predicted, y, num_levels),
        "spearman": spearman(s, y),
        "kendall_tau_b": kendall_tau_b(s, y),
        "roc_auc": roc_auc(s, y >= positive_from),
    }


def pairwise_metrics(
    better: ArrayLike,
    worse: ArrayLike,
    probability: ArrayLike | None = None,
    better_length: ArrayLike | None = None,
    worse_length: ArrayLike | None = None,
    n_bins: int = 10,
) -> dict[str, float]:
    """All pairwise metrics.

    Args:
        better: scores of the answers that should win.
        worse: scores of the others.
        probability: P(better beats worse) as the model states it; by default the Bradley-Terry one.
        better_length: lengths of the better answers, in any unit; with `worse_length` adds the length bias.
        worse_length: lengths of the worse answers.
        n_bins: for the calibration error.

    Returns:
        `accuracy` (ties count half), `ece` and `ece_equal_mass` of the winner's probability, `brier`, `nll`.
    """
    b, w = checked_pair(better, worse, ("better", "worse"))
    stated = bradley_terry(b, w) if probability is None else np.asarray(probability, dtype=np.float64)
    rows = np.arange(b.size)
    core = core_results(Pairs(rows, rows + b.size, b, w, stated), n_bins)
    result = {name: core[name] for name in ("accuracy", "ece", "ece_equal_mass", "brier", "nll")}
    if better_length is not None and worse_length is not None:
        result |= length_bias(better, worse, better_length, worse_length)
    return result


def length_bias(
    better: ArrayLike, worse: ArrayLike, better_length: ArrayLike, worse_length: ArrayLike
) -> dict[str, float]:
    """What length does to pairwise decisions.

    Returns:
        `length_correlation` (Spearman, of score difference with length difference), `accuracy_better_shorter` and
        `accuracy_better_longer` (accuracy where the better answer is the shorter or longer one) with the numbers of
        pairs, `n_better_shorter` and `n_better_longer`; NaN where there are none.
    """
    b, w = checked_pair(better, worse, ("better", "worse"))
    longer, shorter = checked_pair(better_length, worse_length, ("better_length", "worse_length"))
    if longer.size != b.size:
        raise ValueError(f"there are {b.size} pairs and {longer.size} lengths; expected as many")
    gap = longer - shorter
    outcome = pairwise_outcome(b, w)
    # Each pair is taken both ways round: otherwise "better" itself would correlate with length.
    return {
        "length_correlation": spearman(np.r_[b - w, w - b], np.r_[gap, -gap]),
        "accuracy_better_shorter": float(outcome[gap < 0].mean()) if (gap < 0).any() else float("nan"),
        "accuracy_better_longer": float(outcome[gap > 0].mean()) if (gap > 0).any() else float("nan"),
        "n_better_shorter": float((gap < 0).sum()),
        "n_better_longer": float((gap > 0).sum()),
    }
