"""From rewards to preference pairs: pure tensor functions, used by the online trainer and by the offline twin."""

from enum import StrEnum

import torch


class Masked(StrEnum):
    """Why a prompt gives no pair to train on."""

    UNSCORED = "fewer than two completions with a reward"
    CUT_OFF = "all completions, or all but the worst, were cut off at the greatest length"
    SAME_TEXT = "all completions with a reward have the same text"
    EQUAL = "equal rewards"
    SMALL_MARGIN = "rewards that differ by less than the margin asked for"


def combine_rewards(rewards: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Weighted sum over reward functions, comparable within each prompt.

    A function that has no value (NaN) for *every* completion of a prompt does not apply to that prompt and is left out
    of its sums. Where it has values for some completions only, the others cannot be compared and become NaN.

    Args:
        rewards: (P, N, F), NaN where a function could not score.
        weights: (F,).

    Returns:
        (P, N), NaN where a completion cannot be scored.
    """
    missing = rewards.isnan()
    not_applicable = missing.all(dim=1, keepdim=True)
    total = (rewards * weights).masked_fill(missing, 0.0).sum(dim=-1)
    unscorable = (missing & ~not_applicable).any(dim=-1) | not_applicable.all(dim=-1)
    return total.masked_fill(unscorable, torch.nan)


def select_pairs(
    rewards: torch.Tensor,
    min_margin: float = 0.0,
    *,
    choosable: torch.Tensor | None = None,
    text_ids: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Take the best and the worst completion of every prompt. Each row is one prompt, so no pair can mix prompts.

    Ties go to the first completion. NaN rewards are never selected. A pair is not kept when its rewards are equal, when
    they differ by less than `min_margin`, or when fewer than two different completions can be scored.

    Args:
        rewards: (P, N), NaN for completions that could not be scored.
        min_margin: smallest difference between the rewards of chosen and rejected, in units of the reward.
        choosable: (P, N) bool; False for completions that may be rejected but never chosen (truncated ones).
        text_ids: (P, N) int; completions of one prompt with equal ids have the same text and are never paired.

    Returns:
        chosen (P,) and rejected (P,), indices into N, valid for every row, and keep (P,) bool.

    Raises:
        ValueError: rewards are not (P, N), or contain infinite values.
    """
    if rewards.dim() != 2:
        raise ValueError(f"rewards have shape {tuple(rewards.shape)}; expected (prompts, completions per prompt)")
    if rewards.isinf().any():
        raise ValueError(f"infinite rewards at prompts {rewards.isinf().any(dim=1).nonzero().flatten().tolist()}")
    scorable = ~rewards.isnan()
    candidates = scorable if choosable is None else scorable & choosable
    chosen = rewards.masked_fill(~candidates, -torch.inf).argmax(dim=1)
    others = scorable.scatter(1, chosen.unsqueeze(1), False)
    if text_ids is not None:
        others = others & (text_ids != text_ids.gather(1, chosen.unsqueeze(1)))
    rejected = rewards.masked_fill(~others, torch.inf).argmin(dim=1)
    rows = torch.arange(len(rewards), device=rewards.device)
    margin = rewards[rows, chosen] - rewards[rows, rejected]
    keep = candidates[rows, chosen] & others[rows, rejected] & (margin > 0) & (margin >= min_margin)
    return chosen, rejected, keep


def masked_because(
    rewards: torch.Tensor,
    selected: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    *,
    choosable: torch.Tensor | None = None,
    text_ids: torch.Tensor | None = None,
) -> list[Masked | None]:
    """Why each of P prompts gives no pair; None for one that does.

    Args:
        rewards, choosable, text_ids: (P, N), as `select_pairs` got them.
        selected: what it returned.
    """

    def reason(row: int, chosen: int, rejected: int, keep: bool) -> Masked | None:
        scorable = ~rewards[row].isnan()
        if keep:
            return None
        if scorable.sum() < 2:
            return Masked.UNSCORED
        if choosable is not None and not (scorable & choosable[row]).any():
            return Masked.CUT_OFF
        if text_ids is not None and len(text_ids[row][scorable].unique()) < 2:
            return Masked.SAME_TEXT
        margin = rewards[row, chosen] - rewards[row, rejected]
        if margin == 0:
            return Masked.EQUAL
        return Masked.CUT_OFF if margin < 0 else Masked.SMALL_MARGIN

    columns = (column.tolist() for column in selected)
    return [reason(row, *values) for row, values in enumerate(zip(*columns, strict=True))]


def text_ids(completions: list, per_prompt: int) -> torch.Tensor:
    """(P, per_prompt) int: within a prompt, equal for equal texts. Completions are texts or lists of messages."""
    texts = [c if isinstance(c, str) else str(c[-1]["content"]) for c in completions]
    ids = []
    for start in range(0, len(texts), per_prompt):
        seen: dict[str, int] = {}
        ids.append([seen.setdefault(text, len(seen)) for text in texts[start : start + per_prompt]])
    return torch.tensor(ids)
