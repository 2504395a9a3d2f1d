"""How much a row and a threshold count in the loss, for levels that are far from equally frequent."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from wildreward.errors import UserError

LevelWeighting = Literal["none", "sqrt", "balanced"]
ThresholdWeighting = Literal["none", "importance"]

EXPONENT = {"none": 0.0, "sqrt": 0.5, "balanced": 1.0}


def sample_weights(
    labels: Sequence[int] | np.ndarray,
    confidences: Sequence[float] | np.ndarray,
    num_levels: int,
    level_weighting: LevelWeighting = "none",
    use_confidence: bool = False,
) -> np.ndarray:
    """Weight of each row, with a mean of one over all rows, so that the learning rate keeps its meaning.

    Args:
        labels: (N,) levels 1..K.
        confidences: (N,) trust in each label, non-negative.
        num_levels: K.
        level_weighting: `"balanced"` weighs a level by its inverse frequency, `"sqrt"` by the root of that.
        use_confidence: multiply with the confidences.

    Returns:
        (N,) float32.
    """
    levels = np.asarray(labels, dtype=np.int64)
    counts = np.maximum(np.bincount(levels, minlength=num_levels + 1), 1)
    weights = (1.0 / counts[levels]) ** EXPONENT[level_weighting]
    if use_confidence:
        trust = np.asarray(confidences, dtype=np.float64)
        if trust.min(initial=0.0) < 0 or not np.isfinite(trust).all():
            raise ValueError("label_confidence holds negative or non-finite values; expected numbers from 0 to 1")
        weights = weights * trust
    total = weights.sum()
    if total <= 0:
        raise UserError("every row has weight 0; check label_confidence, or train without use_confidence")
    return (weights * len(weights) / total).astype(np.float32)


def threshold_weights(
    labels: Sequence[int] | np.ndarray, num_levels: int, weighting: ThresholdWeighting
) -> list[float] | None:
    """Weight of each of the K - 1 thresholds, or None for equal ones.

    `"importance"`: the root of the larger side of the threshold, relative to the largest (Cao et al. 2020, sec. 3.4),
    scaled to a mean of one.
    """
    if weighting == "none":
        return None
    levels = np.asarray(labels)
    above = np.asarray([(levels > k).sum() for k in range(1, num_levels)], dtype=np.float64)
    larger = np.sqrt(np.maximum(above, len(levels) - above))
    return (larger * len(larger) / larger.sum()).tolist()
