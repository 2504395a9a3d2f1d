"""The offline twin of online DPO: the same selection, written once as a preference dataset for TRL's DPOTrainer."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wildreward.errors import UserError
from wildreward.files import atomic_path

if TYPE_CHECKING:
    import torch
    from datasets import Dataset

    from wildreward.training.best_of_n_dpo_trainer import BestOfNDPOTrainer

PROMPTS_PER_PART = 256


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
    from wildreward.training.pairs import select_pairs, text_ids

    ids = text_ids([c for group in completions for c in group], rewards.size(1)).to(rewards.device)
    selected = select_pairs(rewards, min_margin, choosable=choosable, text_ids=ids)
    rows = []
    for p, (best, worst, keep) in enumerate(zip(*(column.tolist() for column in selected), strict=True)):
        if keep:
            scores = {"score_chosen": rewards[p, best].item(), "score_rejected": rewards[p, worst].item()}
            rows.append(
                {"prompt": prompts[p], "chosen": completions[p][best], "rejected": completions[p][worst]} | scores
            )
    return rows


def write_pairs(trainer: BestOfNDPOTrainer, prompts: Dataset, folder: str | Path, seed: int) -> int:
    """Sample, score and select for every prompt, without training; `load_dataset(folder)` reads the result.

    Work is written in parts of 256 prompts. A rerun keeps the parts that are there, and each part is sampled from its
    own seed, so a run that was cut off ends with the same rows.

    Returns:
        How many pairs the folder holds.

    Raises:
        UserError: the folder has parts of a run over another number of prompts, which a reader would mix with these; no
            prompt gave a pair.
    """
    import pyarrow.parquet as pq

    folder = Path(folder) / "data"
    parts = math.ceil(len(prompts) / PROMPTS_PER_PART)
    others = sorted(
        {path.name for path in folder.glob("*.parquet")} - {_part_name(part, parts) for part in range(parts)}
    )
    if others:
        raise UserError(
            f"{folder} holds {others[0]}, which is not one of the {parts} parts of this run; choose another output "
            "folder, or delete it"
        )
    total = 0
    for part in range(parts):
        path = folder / _part_name(part, parts)
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


def _part_name(part: int, parts: int) -> str:
    return f"train-{part:05d}-of-{parts:05d}.parquet"


def _as_dataset(pairs: list[dict[str, Any]], prompt: Any) -> Dataset:
    """With the same columns and types however many pairs there are, none included."""
    from datasets import Dataset

    text = prompt if isinstance(prompt, str) else prompt[:1]
    typical = {"prompt": prompt, "chosen": text, "rejected": text, "score_chosen": 0.0, "score_rejected": 0.0}
    return Dataset.from_list([*pairs, typical]).select(range(len(pairs)))
