"""The metrics watched during training, from threshold logits; the metrics themselves are evaluation's."""

import torch

from wildreward.evaluation.metrics import expected_calibration_error, ordinal_metrics
from wildreward.modeling_wildreward import expected_level, level_probs, positive_from

REPORTED = ("mae", "qwk", "roc_auc", "accuracy", "spearman")
WATCHED = (*REPORTED, "ece", "loss")  # after each evaluation
LESS_IS_BETTER = ("mae", "ece", "loss")


def reward_metrics(
    threshold_logits: torch.Tensor, labels: torch.Tensor, head: str, temperatures: list[float] | None = None
) -> dict[str, float]:
    """Metrics of one evaluation.

    Args:
        threshold_logits: (N, K - 1).
        labels: (N,) levels 1..K; see `positive_from` for those that count as positive.
        head: `"coral"`, `"corn"` or `"independent"`.
        temperatures: see `WildRewardConfig`.

    Returns:
        `mae`, `qwk`, `roc_auc`, `accuracy`, `spearman`, and `ece` of the stated chance that the label is positive.
        What is undefined (a single level) is left out.
    """
    levels = threshold_logits.shape[1] + 1
    positive = positive_from(levels)
    scores = expected_level(threshold_logits, head, temperatures)
    chance = level_probs(threshold_logits, head, temperatures)[:, positive - 1 :].sum(dim=1).clamp(0, 1)
    values = ordinal_metrics(scores.double().numpy(), labels.numpy(), levels, positive)
    metrics = {name: values[name] for name in REPORTED}
    metrics["ece"] = expected_calibration_error(chance.double().numpy(), (labels >= positive).double().numpy())
    return {name: float(value) for name, value in metrics.items() if value == value}
