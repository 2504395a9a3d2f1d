"""Losses on a pair of completions, as tensor functions.

sigmoid: Rafailov et al. 2023 (arXiv 2305.18290), eq. 7. ipo: Azar et al. 2023 (arXiv 2310.12036), eq. 17, on
log-probabilities summed over tokens. sigmoid_norm: the sigmoid loss on log-ratios averaged over tokens.
"""

import torch
import torch.nn.functional as F

LOSS_TYPES = ("sigmoid", "ipo", "sigmoid_norm")


def dpo_loss(
    chosen_logratios: torch.Tensor,
    rejected_logratios: torch.Tensor,
    beta: float,
    loss_type: str = "sigmoid",
    chosen_lengths: torch.Tensor | None = None,
    rejected_lengths: torch.Tensor | None = None,
) -> torch.Tensor:
    """Loss of every pair.

    Args:
        chosen_logratios: (P,), log pi(y|x) - log ref(y|x) summed over the tokens of the chosen completion.
        rejected_logratios: (P,), the same for the rejected completion.
        beta: strength of the pull towards the reference.
        loss_type: one of `LOSS_TYPES`.
        chosen_lengths: (P,), tokens in the chosen completion; needed by "sigmoid_norm".
        rejected_lengths: (P,), tokens in the rejected completion; needed by "sigmoid_norm".

    Returns:
        (P,) losses, not averaged.

    Raises:
        ValueError: unknown loss type, or lengths missing.
    """
    if loss_type == "sigmoid_norm":
        if chosen_lengths is None or rejected_lengths is None:
            raise ValueError("loss_type 'sigmoid_norm' needs the completion lengths")
        chosen_logratios = chosen_logratios / chosen_lengths.clamp(min=1)
        rejected_logratios = rejected_logratios / rejected_lengths.clamp(min=1)
    delta = chosen_logratios - rejected_logratios
    if loss_type in ("sigmoid", "sigmoid_norm"):
        return -F.logsigmoid(beta * delta)
    if loss_type == "ipo":
        return (delta - 1 / (2 * beta)) ** 2
    raise ValueError(f"loss_type is {loss_type!r}; expected one of {', '.join(LOSS_TYPES)}")
