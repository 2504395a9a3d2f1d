"""From rewards to preference pairs, the loss on them, and pairs that are written once instead of trained on."""

import math
from enum import StrEnum
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch
import torch.nn.functional as F
from datasets import Dataset

from wildreward.common.errors import UserError
from wildreward.common.files import atomic_path

LOSS_TYPES = ("sigmoid", "ipo", "sigmoid_norm")
PROMPTS_PER_PART = 256


# ---- selection


class Masked(StrEnum):
    """Why a prompt gives no pair to train on."""

    UNSCORED = "fewer than two completions with a reward"
    CUT_OFF = "all completions, or all but the worst, were cut off at the greatest length"
    GUARDED = "all completions that the guard lets be chosen have the lowest reward"
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


# ---- loss


def dpo_loss(
    chosen_logratios: torch.Tensor,
    rejected_logratios: torch.Tensor,
    beta: float,
    loss_type: str = "sigmoid",
    chosen_lengths: torch.Tensor | None = None,
    rejected_lengths: torch.Tensor | None = None,
) -> torch.Tensor:
    """Loss of every pair.

    sigmoid: Rafailov et al. 2023 (arXiv 2305.18290), eq. 7. ipo: Azar et al. 2023 (arXiv 2310.12036), eq. 17, on
    log-probabilities summed over tokens. sigmoid_norm: the sigmoid loss on log-ratios averaged over tokens.

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


# ---- pairs that are written


def preference_rows(
    prompts: list,
    completions: list[list],
    rewards: torch.Tensor,
    min_margin: float = 0.0,
    choosable: torch.Tensor | None = None,
) -> list[dict[str, Any]]:
    """Best and worst completion of each prompt, as rows of TRL's preference format; prompts without a pair are left out.

    Args:
        prompts: P prompts, texts or lists of messages.
        completions: P lists of N completions, texts or lists of messages like the prompts.
        rewards: (P, N), NaN for what cannot be scored.
        min_margin: see `select_pairs`.
        choosable: see `select_pairs`.

    Returns:
        Rows with prompt, chosen, rejected, score_chosen, score_rejected.
    """
    ids = text_ids([c for group in completions for c in group], rewards.size(1)).to(rewards.device)
    selected = select_pairs(rewards, min_margin, choosable=choosable, text_ids=ids)
    return [row for row in rows_of_pairs(prompts, completions, rewards, selected) if row]


def rows_of_pairs(
    prompts: list, completions: list[list], rewards: torch.Tensor, selected: tuple[torch.Tensor, ...]
) -> list[dict[str, Any] | None]:
    """[`preference_rows`] from what `select_pairs` returned; None for a prompt without a pair."""
    rows: list[dict[str, Any] | None] = []
    for p, (best, worst, keep) in enumerate(zip(*(column.tolist() for column in selected), strict=True)):
        scores = {"score_chosen": rewards[p, best].item(), "score_rejected": rewards[p, worst].item()}
        row = {"prompt": prompts[p], "chosen": completions[p][best], "rejected": completions[p][worst]} | scores
        rows.append(row if keep else None)
    return rows


def write_pairs(trainer: Any, prompts: Dataset, folder: str | Path, seed: int) -> int:
    """Sample, score and select for every prompt, without training; `load_dataset(folder)` reads the result.

    Work is written in parts of 256 prompts. A rerun keeps the parts that are there, and each part is sampled from its
    own seed, so a run that was cut off ends with the same rows.

    Args:
        trainer: a `BestOfNDPOTrainer`.
        prompts: rows with `prompt`.
        folder: the parts are in its `data/`.
        seed: of the sampling.

    Returns:
        How many pairs the folder holds.

    Raises:
        UserError: the folder has parts of a run over another number of prompts, which a reader would mix with these; no
            prompt gave a pair.
    """
    folder = Path(folder) / "data"
    parts = math.ceil(len(prompts) / PROMPTS_PER_PART)
    paths = [folder / f"train-{part:05d}-of-{parts:05d}.parquet" for part in range(parts)]
    if others := sorted({*folder.glob("*.parquet")} - {*paths}):
        raise UserError(
            f"{folder} holds {others[0].name}, which is not one of the {parts} parts of this run; choose another output "
            "folder, or delete it"
        )
    total = 0
    for part, path in enumerate(paths):
        done = path.exists()
        trainer.accelerator.wait_for_everyone()  # all have looked before one writes
        if not done:
            rows = range(part * PROMPTS_PER_PART, min(len(prompts), (part + 1) * PROMPTS_PER_PART))
            pairs = trainer.sample_pairs(prompts.select(rows), seed + part)
            if trainer.accelerator.is_main_process:
                with atomic_path(path) as temporary:
                    _as_dataset(pairs, prompts[0]["prompt"]).to_parquet(str(temporary))
            trainer.accelerator.wait_for_everyone()
        total += pq.read_metadata(path).num_rows
    if total == 0:
        trainer.pair_counts.check(trainer.args, "no pairs were written")
    return total


def _as_dataset(pairs: list[dict[str, Any]], prompt: Any) -> Dataset:
    """With the same columns and types however many pairs there are, none included."""
    text = prompt if isinstance(prompt, str) else prompt[:1]
    typical = {"prompt": prompt, "chosen": text, "rejected": text, "score_chosen": 0.0, "score_rejected": 0.0}
    return Dataset.from_list([*pairs, typical]).select(range(len(pairs)))
