"""The metrics watched during training, from threshold logits; the metrics themselves are evaluation's."""

import torch

from wildreward.evaluation.calibration import expected_calibration_error
from wildreward.evaluation.metrics import ordinal_metrics
from wildreward.evaluation.statistics import too_few
from wildreward.modeling_wildreward import expected_level, level_probs, positive_from

REPORTED = ("mae", "qwk", "roc_auc", "accuracy", "spearman")
WATCHED = (*REPORTED, "ece", "loss")  # after each evaluation
OF_CLASSES = ("roc_auc", "ece")  # set positive against negative rows
LESS_IS_BETTER = ("mae", "ece", "loss")


def standard_error(
    metric: str, threshold_logits: torch.Tensor, labels: torch.Tensor, head: str, resamples: int = 100
) -> float:
    """By how much a metric varies with the rows that happened to be held out: its bootstrap standard error.

    Args:
        metric: one of `reward_metrics`.
        threshold_logits, labels, head: see there.
        resamples: of the rows, seeded.

    Returns:
        0 where the metric is undefined in most resamples.
    """
    generator, found = torch.Generator().manual_seed(0), []
    for _ in range(resamples):
        rows = torch.randint(len(labels), (len(labels),), generator=generator)
        value = _metrics(threshold_logits[rows], labels[rows], head)[metric]
        found += [value] if value == value else []
    return float(torch.tensor(found).std()) if 2 * len(found) > resamples else 0.0


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
        What is undefined (a single level) is left out, and so are `roc_auc` and `ece` of too few positive or negative rows.
    """
    values = _metrics(threshold_logits, labels, head, temperatures)
    positive = int((labels >= positive_from(threshold_logits.shape[1] + 1)).sum())
    withheld = OF_CLASSES if too_few(positive=positive, negative=len(labels) - positive) else ()
    return {name: value for name, value in values.items() if value == value and name not in withheld}


def _metrics(
    threshold_logits: torch.Tensor, labels: torch.Tensor, head: str, temperatures: list[float] | None = None
) -> dict[str, float]:
    levels = threshold_logits.shape[1] + 1
    positive = positive_from(levels)
    scores = expected_level(threshold_logits, head, temperatures)
    chance = level_probs(threshold_logits, head, temperatures)[:, positive - 1 :].sum(dim=1).clamp(0, 1)
    values = ordinal_metrics(scores.double().numpy(), labels.numpy(), levels, positive)
    ece = expected_calibration_error(chance.double().numpy(), (labels >= positive).double().numpy())
    return {name: float(values[name]) for name in REPORTED} | {"ece": ece}
