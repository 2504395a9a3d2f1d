"""Ordinal regression as pure tensor functions: loss, level probabilities and expected level, and the head itself.

With K ordered levels a head gives K - 1 threshold logits z. For the `coral` and `independent` heads
`P(y > k) = sigmoid(z_k)`; for `corn` `sigmoid(z_k)` is the conditional `P(y > k | y > k - 1)`, so that
`P(y > k)` is the product of the first k (Shi et al. 2021, eq. 4). Everything is computed in float32.

This file is copied to the Hub with every model, so it imports nothing but torch.
"""

from collections.abc import Sequence

import torch
from torch import nn
from torch.nn import functional as F


def check_labels(labels: torch.Tensor, num_levels: int) -> None:
    """Refuse labels outside 1..K (`ValueError`, naming them)."""
    outside = (labels < 1) | (labels > num_levels) | (labels != labels.round())
    if outside.any():
        found = sorted(set(labels[outside].tolist()))
        raise ValueError(f"labels {found[:10]} are outside 1..{num_levels}; a label is a whole level, counted from 1")


def positive_from(num_levels: int) -> int:
    """The first level that counts as positive where levels are told apart in two: the upper half of them."""
    return num_levels // 2 + 1


def ordinal_loss(
    threshold_logits: torch.Tensor,
    labels: torch.Tensor,
    head: str,
    *,
    threshold_weights: torch.Tensor | Sequence[float] | None = None,
    sample_weights: torch.Tensor | None = None,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> torch.Tensor:
    """Binary cross-entropy of every threshold against `[y > 1, …, y > K - 1]`, averaged over the K - 1 thresholds.

    For `corn` a threshold counts only for the samples that passed the one before (y >= k), and still divides by K - 1:
    every sample weighs the same whatever else is in its batch, so losses add up over batches of any size.

    Args:
        threshold_logits: (B, K - 1), any float dtype.
        labels: (B,), whole numbers 1..K.
        head: `"coral"`, `"corn"` or `"independent"`.
        threshold_weights: (K - 1,) multiplies each threshold's term.
        sample_weights: (B,) multiplies each sample's loss.
        label_smoothing: moves the targets from 0/1 to s/2 and 1 - s/2.
        reduction: `"mean"` divides by B, `"sum"`, or `"none"` for shape (B,).

    Returns:
        float32 scalar, or (B,) without reduction.

    Raises:
        ValueError: labels outside 1..K, naming them; an unknown reduction.

    Source: Cao et al. 2020 (CORAL, eq. 4); Shi et al. 2021 (CORN, eq. 5).
    """
    logits = threshold_logits.float()
    thresholds = torch.arange(1, logits.shape[1] + 1, device=logits.device)  # (K-1,)
    check_labels(labels, logits.shape[1] + 1)
    levels = labels.unsqueeze(1)  # (B, 1)
    targets = (levels > thresholds).float()  # (B, K-1)
    targets = targets * (1.0 - label_smoothing) + 0.5 * label_smoothing
    terms = F.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    if head == "corn":
        terms = terms * (levels >= thresholds)
    if threshold_weights is not None:
        terms = terms * torch.as_tensor(threshold_weights, dtype=torch.float32, device=terms.device)
    losses = terms.mean(dim=1)  # (B,)
    if sample_weights is not None:
        losses = losses * sample_weights.float()
    if reduction == "none":
        return losses
    if reduction == "sum":
        return losses.sum()
    if reduction == "mean":
        return losses.mean()
    raise ValueError(f"reduction is {reduction!r}; expected mean, sum or none")


def exceedance(
    threshold_logits: torch.Tensor, head: str, temperatures: torch.Tensor | Sequence[float] | None = None
) -> torch.Tensor:
    """`P(y > k)` for every threshold: (B, K - 1) logits → (B, K - 1) float32 probabilities.

    Each logit is divided by its temperature first. For `coral` different temperatures could make two thresholds cross
    far from the data, so the running minimum keeps `P(y > k)` non-increasing in k; it also keeps the order of samples.
    """
    logits = threshold_logits.float()
    if temperatures is not None:
        logits = logits / torch.as_tensor(temperatures, dtype=torch.float32, device=logits.device)
    probabilities = logits.sigmoid()
    if head == "corn":
        return probabilities.cumprod(dim=1)
    if head == "coral":
        return probabilities.cummin(dim=1).values
    return probabilities


def level_probs(
    threshold_logits: torch.Tensor, head: str, temperatures: torch.Tensor | Sequence[float] | None = None
) -> torch.Tensor:
    """Distribution over the K levels: (B, K - 1) logits → (B, K), non-negative, rows sum to one.

    Independent thresholds may contradict each other (`P(y > 2) > P(y > 1)`); the running minimum over the thresholds
    resolves that here, so for this head the mean of the distribution can be below [`expected_level`].
    """
    above = exceedance(threshold_logits, head, temperatures).cummin(dim=1).values
    one = above.new_ones(len(above), 1)
    return torch.cat([one, above], dim=1) - torch.cat([above, 0 * one], dim=1)


def expected_level(
    threshold_logits: torch.Tensor, head: str, temperatures: torch.Tensor | Sequence[float] | None = None
) -> torch.Tensor:
    """The score: `1 + Σ_k P(y > k)`, (B, K - 1) logits → (B,) float32 in [1, K]."""
    return 1.0 + exceedance(threshold_logits, head, temperatures).sum(dim=1)


def preference_probability(probs_a: torch.Tensor, probs_b: torch.Tensor) -> torch.Tensor:
    """`P(A better than B)` when both levels are drawn independently; a tie counts half. (…, K), (…, K) → (…)."""
    below = probs_b.cumsum(dim=-1) - probs_b  # P(B < level)
    return (probs_a * (below + 0.5 * probs_b)).sum(dim=-1)


class OrdinalHead(nn.Module):
    """Pooled hidden state → K - 1 threshold logits.

    `coral` shares one weight vector; its biases are built from a first one and positive gaps, so they fall with k for
    any parameters and the thresholds can never cross. `corn` and `independent` have a weight vector for each threshold;
    `independent` has no biases, so it is the `score` layer of an ordinary `…ForSequenceClassification` decoder.
    """

    def __init__(self, hidden_size: int, num_levels: int, head: str) -> None:
        super().__init__()
        self.head = head
        self.num_thresholds = num_levels - 1
        self.weight = nn.Parameter(torch.zeros(1 if head == "coral" else self.num_thresholds, hidden_size))
        # coral: [first bias, raw gaps…]; corn: the biases themselves
        self.bias = None if head == "independent" else nn.Parameter(torch.zeros(self.num_thresholds))

    def biases(self) -> torch.Tensor:
        """(K - 1,) float32 threshold biases."""
        if self.bias is None:
            return self.weight.new_zeros(self.num_thresholds, dtype=torch.float32)
        bias = self.bias.float()
        if self.head != "coral":
            return bias
        return torch.cat([bias[:1], bias[:1] - F.softplus(bias[1:]).cumsum(0)])

    def forward(self, pooled: torch.Tensor) -> torch.Tensor:
        """(B, H) → (B, K - 1), in float32 whatever the dtype of the parameters or of autocast."""
        with torch.autocast(pooled.device.type, enabled=False):
            return F.linear(pooled.float(), self.weight.float()) + self.biases()

    @torch.no_grad()
    def set_prior(self, level_frequencies: Sequence[float]) -> None:
        """Set the biases so that a zero hidden state gives these level frequencies (K positive numbers, any scale).

        Nothing happens for `independent`, which has none.
        """
        share = torch.tensor(level_frequencies, dtype=torch.float64)
        if len(share) != self.num_thresholds + 1 or not bool((share > 0).all()):
            raise ValueError(f"level frequencies are {list(level_frequencies)}; expected K positive numbers")
        above = share.flip(0).cumsum(0).flip(0) / share.sum()  # P(y >= level)
        self.set_biases(torch.logit(above[1:] / above[:-1] if self.head == "corn" else above[1:]))

    @torch.no_grad()
    def set_biases(self, biases: torch.Tensor) -> None:
        """Make [`biases`] give these, (K - 1,) float64, falling for `coral`; nothing happens for `independent`."""
        if self.head == "coral":
            gaps = biases[:-1] - biases[1:]
            biases = torch.cat([biases[:1], gaps + torch.log(-torch.expm1(-gaps))])  # inverse softplus
        if self.bias is not None:
            self.bias.copy_(biases)
