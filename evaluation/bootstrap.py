"""Bootstrap intervals, resampling whole clusters (users, prompts), and the paired bootstrap of two models."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np

from wildreward.evaluation.statistics import Floats, Ints


@dataclass(frozen=True)
class Estimate:
    """A statistic with its interval; None where it is undefined, or withheld for a reason."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    reason: str | None = None

    def as_dict(self) -> dict[str, float | str | None]:
        """As `{"value", "low", "high"}`, with the `reason` where there is one."""
        return _without_no_reason(asdict(self))


def _without_no_reason(fields: dict[str, float | str | None]) -> dict[str, float | str | None]:
    return {name: value for name, value in fields.items() if name != "reason" or value is not None}


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


def wilson_interval(share: float, n: int, confidence: float) -> tuple[float, float]:
    """Wilson's score interval of a share seen in n independent trials; 5 of 5 gives 0.57 to 1."""
    z2 = NormalDist().inv_cdf((1 + confidence) / 2) ** 2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = (z2 * (share * (1 - share) / n + z2 / (4 * n * n))) ** 0.5 / (1 + z2 / n)
    return max(0.0, middle - half), min(1.0, middle + half)


def interval(
    values: Sequence[float], confidence: float, share_of: int | None = None
) -> tuple[float | None, float | None]:
    """Percentile interval of the defined values; (None, None) where fewer than half are defined.

    Values that do not vary (all pairs right, a single user) say nothing of the uncertainty. Then a share has Wilson's
    interval, and any other statistic none.

    Args:
        values: of the statistic on each resample.
        confidence: of the interval.
        share_of: where the statistic is a share: how many independent trials (clusters) it is of.
    """
    array = np.asarray(values, dtype=np.float64)
    defined = array[np.isfinite(array)]
    if defined.size == 0 or defined.size < array.size / 2:
        return None, None
    low, high = np.quantile(defined, [(1 - confidence) / 2, (1 + confidence) / 2])
    if high - low > 1e-12:
        return float(low), float(high)
    return wilson_interval(float(low), share_of, confidence) if share_of else (None, None)


def defined_or_none(value: float) -> float | None:
    """NaN as None, so that it can be written to JSON."""
    return float(value) if np.isfinite(value) else None


def bootstrap_all(
    measure: Callable[[Ints], dict[str, float]],
    clusters: Sequence[object],
    repeats: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
    share_of: Mapping[str, int] | None = None,
) -> dict[str, Estimate]:
    """Estimates of all that `measure` gives for row indices, on the same resamples.

    Args:
        measure: row indices → name → value; what it leaves out of a resample is undefined there.
        clusters: one cluster key a row.
        repeats: number of resamples; 0 gives no interval.
        seed: of the resampling.
        confidence: of the percentile interval.
        share_of: number of clusters behind each value that is a share, see `interval`.
    """
    share_of = share_of or {}
    full = measure(np.arange(len(clusters)))
    drawn = [measure(rows) for rows in resamples(clusters, repeats, seed)]
    return {
        name: Estimate(
            defined_or_none(value), *interval([one.get(name, np.nan) for one in drawn], confidence, share_of.get(name))
        )
        for name, value in full.items()
    }


def bootstrap(
    statistics: Mapping[str, Callable[[Ints], float]], clusters: Sequence[object], *args: Any, **options: Any
) -> dict[str, Estimate]:
    """`bootstrap_all` for a function a name."""
    return bootstrap_all(lambda rows: {name: f(rows) for name, f in statistics.items()}, clusters, *args, **options)


@dataclass(frozen=True)
class Difference:
    """A minus B on the same items, its bootstrap interval, and the two-sided bootstrap p-value; or why there are none."""

    a: float | None = None
    b: float | None = None
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    reason: str | None = None

    def as_dict(self) -> dict[str, float | str | None]:
        """As a plain dict, for JSON."""
        return _without_no_reason(asdict(self))


def paired_bootstrap_all(
    measure: Callable[[Ints, int], dict[str, float]],
    clusters: Sequence[object],
    repeats: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> dict[str, Difference]:
    """Compare two models on the same resamples. Where neither of them varies, there is no interval, see `interval`.

    Args are those of `bootstrap_all`; `measure` takes row indices and 0 for A or 1 for B.
    """
    everything = np.arange(len(clusters))
    a, b = measure(everything, 0), measure(everything, 1)
    drawn = [(measure(rows, 0), measure(rows, 1)) for rows in resamples(clusters, repeats, seed)]
    found = {}
    for name in a:
        values = [[one.get(name, np.nan) for one in pair] for pair in drawn]
        of_a, of_b = np.asarray(values, dtype=np.float64).reshape(-1, 2).T
        found[name] = _difference(a[name], b[name], of_a, of_b, confidence)
    return found


def paired_bootstrap(
    statistic: Callable[[Ints, int], float], clusters: Sequence[object], *args: Any, **options: Any
) -> Difference:
    """`paired_bootstrap_all` for a single value."""
    return paired_bootstrap_all(lambda rows, which: {"": statistic(rows, which)}, clusters, *args, **options)[""]


def _difference(a: float, b: float, of_a: Floats, of_b: Floats, confidence: float) -> Difference:
    gaps = of_a - of_b
    low, high = interval(gaps, confidence)
    defined = gaps[np.isfinite(gaps)]
    if low is None and interval(of_a, confidence)[0] is not None and defined.size and not defined.any():
        low = high = 0.0  # two models that say the same, of something that varies
    p_value = None
    if low is not None:
        tail = min((defined <= 0).sum(), (defined >= 0).sum()) + 1
        p_value = float(min(1.0, 2 * tail / (defined.size + 1)))
    return Difference(defined_or_none(a), defined_or_none(b), defined_or_none(a - b), low, high, p_value)
