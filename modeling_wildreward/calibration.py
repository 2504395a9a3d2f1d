"""Temperature scaling of the thresholds on held-out data (Guo et al. 2017, one temperature a threshold)."""

import torch

from .ordinal import check_labels, level_probs

TEMPERATURE_RANGE = (0.05, 20.0)


def fit_temperatures(
    threshold_logits: torch.Tensor, labels: torch.Tensor, head: str, max_iter: int = 200
) -> list[float]:
    """Temperatures that minimise the negative log-likelihood of held-out labels.

    They are positive, so the order of samples by any one threshold does not change; for `coral`, whose thresholds all
    order the samples alike, the order by score does not change either.

    Args:
        threshold_logits: (N, K - 1) raw logits of held-out samples.
        labels: (N,) levels 1..K.
        head: `"coral"`, `"corn"` or `"independent"`.
        max_iter: most L-BFGS iterations.

    Returns:
        K - 1 floats within `TEMPERATURE_RANGE`.

    Raises:
        ValueError: no samples, labels outside 1..K, or logits that are not finite.
    """
    logits = threshold_logits.detach().double().cpu()
    labels = labels.detach().long().cpu()
    if len(logits) == 0:
        raise ValueError("no held-out samples to fit temperatures on; hold some out, or skip calibration")
    if not bool(logits.isfinite().all()):
        raise ValueError("threshold logits hold NaN or infinite values; temperatures cannot be fitted")
    check_labels(labels, logits.shape[1] + 1)
    log_temperatures = torch.zeros(logits.shape[1], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([log_temperatures], max_iter=max_iter, line_search_fn="strong_wolfe")
    low, high = TEMPERATURE_RANGE

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        temperatures = log_temperatures.exp().clamp(low, high)
        probabilities = level_probs(logits / temperatures, head)
        loss = -probabilities.gather(1, labels[:, None] - 1).clamp(min=1e-6).log().mean()
        # a weak pull towards 1 keeps thresholds that the held-out data barely touches where they were
        loss = loss + 1e-3 * log_temperatures.square().mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    return log_temperatures.detach().exp().clamp(low, high).tolist()
