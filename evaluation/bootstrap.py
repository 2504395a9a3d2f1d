"""Bootstrap intervals, resampling whole clusters (users, prompts), and the paired bootstrap of two models."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from wildreward.evaluation.statistics import Floats, Ints


@dataclass(frozen=True)
class Estimate:
    """A statistic with its bootstrap interval; None where it is undefined."""

    value: float | None
    low: float | None
    high: float | None

    def as_dict(self) -> dict[str, float | None]:
        """As `{"value", "low", "high"}`."""
        return asdict(self)


def resamples(clusters: Sequence[object], repeats: int, seed: int) -> Iterator[Ints]:
    """Yield row indices of `repeats` resamples: as many clusters as there are, drawn with replacement, all rows of each.

    Rows of one cluster are not independent, so resampling rows would give intervals that are too narrow.
    """
    _, codes = np.unique(np.asarray([str(c) for c in clusters]), return_inverse=True)
    order = np.argsort(codes, kind="stable")
    sizes = np.bincount(codes)
    starts = np.cumsum(sizes) - sizes
    rng = np.random.default_rng(seed)
    for _ in range(repeats):
        drawn = rng.integers(0, sizes.size, sizes.size)
        lengths = sizes[drawn]
        offsets = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        yield order[np.repeat(starts[drawn], lengths) + offsets]


def row_weights(clusters: Sequence[object], repeats: int, seed: int) -> Floats:
    """(repeats, rows): how often each row occurs when whole clusters are resampled."""
    _, codes = np.unique(np.asarray([str(c) for c in clusters]), return_inverse=True)
    n = int(codes.max()) + 1
    draws = np.random.default_rng(seed).multinomial(n, np.full(n, 1.0 / n), size=repeats)
    return draws[:, codes].astype(np.float64)


def interval(values: Sequence[float], confidence: float) -> tuple[float | None, float | None]:
    """Percentile interval of the defined values; (None, None) where fewer than half are defined."""
    array = np.asarray(values, dtype=np.float64)
    defined = array[np.isfinite(array)]
    if defined.size == 0 or defined.size < array.size / 2:
        return None, None
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def defined_or_none(value: float) -> float | None:
    """NaN as None, so that it can be written to JSON."""
    return float(value) if np.isfinite(value) else None


def bootstrap(
    statistics: dict[str, Callable[[Ints], float]],
    clusters: Sequence[object],
    repeats: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[str, Estimate]:
    """Estimate several statistics on the same resamples.

    Args:
        statistics: name → function of row indices.
        clusters: one cluster key a row.
        repeats: number of resamples; 0 gives no interval.
        seed: of the resampling.
        confidence: of the percentile interval.
    """
    samples: dict[str, list[float]] = {name: [] for name in statistics}
    for rows in resamples(clusters, repeats, seed):
        for name, statistic in statistics.items():
            samples[name].append(statistic(rows))
    everything = np.arange(len(clusters))
    return {
        name: Estimate(defined_or_none(statistic(everything)), *interval(samples[name], confidence))
        for name, statistic in statistics.items()
    }


@dataclass(frozen=True)
class Difference:
    """A minus B on the same items, its bootstrap interval, and the two-sided bootstrap p-value."""

    a: float | None
    b: float | None
    difference: float | None
    low: float | None
    high: float | None
    p_value: float | None

    def as_dict(self) -> dict[str, float | None]:
        """As a plain dict, for JSON."""
        return asdict(self)


def paired_bootstrap(
    statistic: Callable[[Ints, int], float],
    clusters: Sequence[object],
    repeats: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> Difference:
    """Compare two models on the same resamples.

    Args:
        statistic: (row indices, 0 for A or 1 for B) → value.
        clusters: one cluster key a row.
        repeats: number of resamples.
        seed: of the resampling.
        confidence: of the percentile interval.
    """
    gaps = np.asarray([statistic(rows, 0) - statistic(rows, 1) for rows in resamples(clusters, repeats, seed)])
    everything = np.arange(len(clusters))
    a, b = statistic(everything, 0), statistic(everything, 1)
    low, high = interval(gaps, confidence)
    defined = gaps[np.isfinite(gaps)]
    p_value = None
    if low is not None:
        tail = min((defined <= 0).sum(), (defined >= 0).sum()) + 1
        p_value = float(min(1.0, 2 * tail / (defined.size + 1)))
    return Difference(defined_or_none(a), defined_or_none(b), defined_or_none(a - b), low, high, p_value)
