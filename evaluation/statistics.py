"""Agreement of scores with labels, as pure numpy functions: ordinal errors, rank correlations, ROC-AUC, kappa.

Undefined results (constant scores, one class) are NaN, as in scikit-learn and SciPy. NaN or infinite *input* is an error.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

MIN_CLASS_ROWS = 10
"""Rows that each class must have for a number that sets two classes against each other. With 10 rows of
one class and many of the other, a scorer that knows nothing has a ROC-AUC of 0.5 with a standard error of 1 / sqrt(12 · 10)
= 0.09: 95% of the time between 0.32 and 0.68. With fewer it is hard to tell from one that has learned something."""


def too_few(**counts: int) -> str | None:
    """Why a number is withheld that needs `MIN_CLASS_ROWS` rows of each class; None where there are enough.

    >>> too_few(positive=1, negative=29)
    '1 positive and 29 negative; needs 10 of each'
    """
    if min(counts.values()) >= MIN_CLASS_ROWS:
        return None
    return f"{' and '.join(f'{n} {name}' for name, n in counts.items())}; needs {MIN_CLASS_ROWS} of each"


def checked(values: ArrayLike, name: str) -> Floats:
    """Return `values` as a non-empty, finite, one-dimensional float64 array.

    Raises:
        ValueError: naming the argument and the first bad position.
    """
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or array.size == 0:
        raise ValueError(f"{name} has shape {array.shape}; expected a non-empty list of numbers")
    bad = np.flatnonzero(~np.isfinite(array))
    if bad.size:
        raise ValueError(f"{name} holds {array[bad[0]]} at position {bad[0]}; expected finite numbers only")
    return array


def checked_pair(first: ArrayLike, second: ArrayLike, names: tuple[str, str]) -> tuple[Floats, Floats]:
    """Check two arrays and that they are of equal length."""
    a, b = checked(first, names[0]), checked(second, names[1])
    if a.size != b.size:
        raise ValueError(f"{names[0]} has {a.size} values and {names[1]} {b.size}; expected as many")
    return a, b


def mean_absolute_error(scores: ArrayLike, labels: ArrayLike) -> float:
    """Mean distance between score and label, in levels."""
    s, y = checked_pair(scores, labels, ("scores", "labels"))
    return float(np.abs(s - y).mean())


def root_mean_squared_error(scores: ArrayLike, labels: ArrayLike) -> float:
    """Root of the mean squared distance between score and label, in levels."""
    s, y = checked_pair(scores, labels, ("scores", "labels"))
    return float(np.sqrt(((s - y) ** 2).mean()))


def to_levels(scores: ArrayLike, num_levels: int) -> Ints:
    """Round expected levels to whole ones: halves go up, results stay within 1..`num_levels`."""
    return np.clip(np.floor(checked(scores, "scores") + 0.5), 1, num_levels).astype(np.int64)


def accuracy(predicted: ArrayLike, labels: ArrayLike, within: int = 0) -> float:
    """Share of predicted levels at most `within` levels away from the label."""
    p, y = checked_pair(predicted, labels, ("predicted", "labels"))
    return float((np.abs(p - y) <= within).mean())


def quadratic_weighted_kappa(first: ArrayLike, second: ArrayLike, num_levels: int) -> float:
    """Cohen's kappa with weights (i - j)^2 of two ratings in 1..`num_levels`; NaN if both are one and the same constant."""
    return cohen_kappa(first, second, num_levels, quadratic=True)


def cohen_kappa(first: ArrayLike, second: ArrayLike, num_levels: int, quadratic: bool = False) -> float:
    """Cohen's kappa of two ratings in 1..`num_levels`, every disagreement alike or weighted by the squared distance."""
    a, b = checked_pair(first, second, ("first", "second"))
    for name, rating in (("first", a), ("second", b)):
        outside = rating[(rating < 1) | (rating > num_levels) | (rating != np.floor(rating))]
        if outside.size:
            raise ValueError(f"{name} holds {outside[0]}; expected whole levels 1 to {num_levels}")
    table = np.bincount((a.astype(int) - 1) * num_levels + b.astype(int) - 1, minlength=num_levels**2)
    table = table.reshape(num_levels, num_levels) / a.size
    levels = np.arange(num_levels)
    distance = np.subtract.outer(levels, levels)
    weights = distance**2 if quadratic else (distance != 0)
    expected = float((weights * np.outer(table.sum(1), table.sum(0))).sum())
    return 1.0 - float((weights * table).sum()) / expected if expected > 0 else float("nan")


def spearman(first: ArrayLike, second: ArrayLike) -> float:
    """Spearman's rank correlation, ties by mean rank; NaN where one side is constant."""
    from scipy.stats import rankdata  # a second to import: nothing that only reads data waits for it

    a, b = (rankdata(side) for side in checked_pair(first, second, ("first", "second")))
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return float("nan")
    return float(np.clip(np.corrcoef(a, b)[0, 1], -1.0, 1.0))


def kendall_tau_b(first: ArrayLike, second: ArrayLike) -> float:
    """Kendall's tau-b; NaN where one side is constant."""
    from scipy.stats import kendalltau

    return float(kendalltau(*checked_pair(first, second, ("first", "second"))).statistic)


def roc_auc(scores: ArrayLike, positive: ArrayLike) -> float:
    """Chance that a positive outscores a negative, ties counted half; NaN where one class is missing.

    Args:
        scores: any real scores.
        positive: 1 or True for a positive, 0 or False for a negative.
    """
    from scipy.stats import rankdata

    s, y = checked_pair(scores, positive, ("scores", "positive"))
    if not np.isin(y, (0.0, 1.0)).all():
        raise ValueError("positive holds other values than 0 and 1; expected one truth value an item")
    positives = float(y.sum())
    negatives = y.size - positives
    if positives == 0 or negatives == 0:
        return float("nan")
    rank_sum = float(rankdata(s)[y == 1].sum())
    return (rank_sum - positives * (positives + 1) / 2) / (positives * negatives)
