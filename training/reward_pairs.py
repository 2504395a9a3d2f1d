"""Preference pairs beside rows with levels: their features, and the loss on them.

A pair says which of two answers to one prompt is better. The score that it compares is the latent one: the mean of a row's
threshold logits, which for the `coral` head is its one linear unit up to a constant.
"""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset, Features, List, Value, concatenate_datasets
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase

from wildreward.common.errors import UserError
from wildreward.common.rows import SUFFIXES, dataset_files, read_rows
from wildreward.evaluation.benchmarks.preference import read_preference
from wildreward.modeling_wildreward.template import EncodedInput, shared_prefix_length, without_history
from wildreward.training.reward_arguments import TrainRewardArguments
from wildreward.training.reward_batching import rows_of
from wildreward.training.reward_config import OrdinalRewardConfig
from wildreward.training.reward_data import Row, encode_chats, fingerprint, hold_out_users, load_rows, row_id

logger = logging.getLogger(__name__)

USABLE, TIE, SAME, TOO_LONG = 0, 1, 2, 3
STATUS = {
    TIE: "tied",
    SAME: "chosen and rejected are the same to the model",
    TOO_LONG: "query or answer longer than max_length (raise --max-length, or set --keep-cut-responses True)",
}
SIDES = ("chosen", "rejected")
PAIR_FEATURES = Features(
    {
        "chosen_ids": List(Value("int32")),
        "rejected_ids": List(Value("int32")),
        "chosen_length": Value("int32"),
        "rejected_length": Value("int32"),
        "shared": Value("int32"),
        "margin": Value("float32"),
        "id": Value("string"),
        "group": Value("string"),
        "status": Value("int8"),
    }
)
_MESSAGES = List({"role": Value("string"), "content": Value("string")})
_READ = Features(
    {
        "chosen": _MESSAGES,
        "rejected": _MESSAGES,
        "margin": Value("float64"),
        "tie": Value("bool"),
        "id": Value("string"),
    }
)


# ---- loss


def latent_score(threshold_logits: torch.Tensor) -> torch.Tensor:
    """(B, K - 1) threshold logits → (B,) their mean, in which pairs are compared."""
    return threshold_logits.float().mean(dim=1)


def pair_losses(chosen: torch.Tensor, rejected: torch.Tensor, margins: torch.Tensor) -> torch.Tensor:
    """`-log sigmoid(chosen - rejected - margin)` of every pair, (P,) each.

    Source: the Bradley-Terry model as in InstructGPT (Ouyang et al. 2022, eq. 1); the margin as in Llama 2 (Touvron et al.
    2023, eq. 2).
    """
    return -F.logsigmoid(chosen - rejected - margins)


def pairs_won(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
    """(P,) 1 where the chosen answer scores higher, 0.5 where the two score alike."""
    return (1.0 + (chosen - rejected).sign()) / 2.0


# ---- features


def load_pairs(place: str) -> Dataset:
    """Pairs of a file, of a folder of files, or of the train split of a dataset folder or of one on the Hub.

    Raises:
        UserError: there is nothing; a row of a file is none of a pair, naming file and line.
    """
    path = Path(place)
    if not place.endswith(SUFFIXES) and not (path.is_dir() and not any(path.glob("data/*.parquet"))):
        return load_rows(place, "train")
    rows = list(_rows_of_files(path))
    if not rows:
        raise UserError(f"{place} holds no pairs")
    return Dataset.from_list(rows, features=_READ)


@dataclass(frozen=True)
class PairSplits:
    """Pairs to train on, those of other prompts, and how many were left out for each reason; None where there are none."""

    train: Dataset | None = None
    validation: Dataset | None = None
    left_out: dict[str, int] = field(default_factory=dict)

    def counts(self) -> dict[str, Any] | None:
        """As in `training_summary.json`."""
        if self.train is None:
            return None
        held_out = 0 if self.validation is None else len(self.validation)
        return {"train": len(self.train), "validation": held_out, "left_out": self.left_out}


def load_pair_splits(
    arguments: TrainRewardArguments, config: OrdinalRewardConfig, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> PairSplits:
    """Features of the pairs that the command is given, a share of the prompts held out."""
    if arguments.pairs is None:
        return PairSplits()
    with config.main_process_first(desc="dataset preparation"):
        pairs = load_pairs(arguments.pairs)
        features, left_out = prepare_pairs(pairs, tokenizer, max_length, *config.pair_preparation)
    most = arguments.max_validation_rows
    train, validation = hold_out_users(features, arguments.validation_share, config.seed, most, left_out)
    return PairSplits(train, validation, left_out)


def with_contrast(
    pairs: PairSplits,
    contrast: Sequence[Dataset],
    config: OrdinalRewardConfig,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
) -> PairSplits:
    """The pairs with contrast pairs beside them: of train users, and of held-out ones.

    Raises:
        UserError: there are none to train on.
    """
    if not len(contrast[0]):
        raise UserError(
            "the train rows give no contrast pair; expected answers with a label in the upper half, and a larger "
            "--contrast-share where they are few"
        )
    sides = [[given] if given is not None else [] for given in (pairs.train, pairs.validation)]
    counts = Counter(pairs.left_out)
    with config.main_process_first(desc="contrast pairs"):
        for side, rows in zip(sides, contrast, strict=True):
            if len(rows):
                features, left_out = prepare_pairs(rows, tokenizer, max_length, *config.pair_preparation)
                side.append(features)
                counts.update(left_out)
    return PairSplits(*(concatenate_datasets(side) if side else None for side in sides), dict(counts))


def _rows_of_files(path: Path) -> Iterator[dict[str, Any]]:
    for where, row in chain.from_iterable(map(read_rows, dataset_files(path, "train", "pairs"))):
        try:
            sides, extra = _conversations(row)
        except ValueError as error:
            raise UserError(f"{where}: not a preference row: {error}") from error
        yield (
            dict(zip(SIDES, sides, strict=True))
            | extra
            | {"id": str(row.get("id") or f"{Path(where.source).name}, {where.within}")}
        )


def _conversations(row: Row) -> tuple[list[list], dict[str, Any]]:
    """Both sides of a pair from the first message to the answer, and what else is said of it."""
    prompt, leads, answers, extra = read_preference(row)
    said = [{"role": "assistant", "content": answer} for answer in answers]
    return [[*prompt, *lead, answer] for lead, answer in zip(leads or ([], []), said, strict=True)], extra


def prepare_pairs(
    pairs: Dataset,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    keep_reasoning: bool = False,
    num_proc: int | None = None,
    keep_cut: bool = False,
) -> tuple[Dataset, dict[str, int]]:
    """Tokenize pairs and leave out those that say nothing; prepared ones come back as they are.

    Args:
        pairs: rows in TRL's preference formats; `margin`, `tie` and `id` are used where they exist.
        tokenizer: one with the reward model's template.
        max_length: longest input in tokens. Old history that does not fit on one side goes on both.
        keep_reasoning, num_proc: see `reward_data.prepare_rows`.
        keep_cut: also keep pairs whose query or answer lost its middle.

    Returns:
        The columns of `PAIR_FEATURES`, `group` by prompt, and the number of pairs left out for each reason.

    Raises:
        UserError: columns are missing; a pair cannot be read (naming it); none is left.
    """
    if set(PAIR_FEATURES) <= set(pairs.column_names):
        return pairs, {}
    if not set(SIDES) <= set(pairs.column_names):
        raise UserError(
            f"the pairs have the columns {', '.join(sorted(pairs.column_names)) or 'none'}; expected `chosen` and `rejected`, "
            "and `prompt` unless these are whole conversations"
        )

    def features(batch: dict[str, list], indices: Sequence[int]) -> dict[str, list]:
        rows = rows_of(batch)
        ids = [row_id(row, index) for row, index in zip(rows, indices, strict=True)]
        read = [_read(row, name) for row, name in zip(rows, ids, strict=True)]
        encoded = _encode([sides for sides, _ in read], ids, keep_reasoning, tokenizer, max_length)
        return {
            **{f"{name}_ids": [pair[side].input_ids for pair in encoded] for side, name in enumerate(SIDES)},
            **{f"{name}_length": [len(pair[side].input_ids) for pair in encoded] for side, name in enumerate(SIDES)},
            "shared": [shared_prefix_length([side.input_ids for side in pair]) for pair in encoded],
            "margin": [extra["margin"] or 0.0 for _, extra in read],
            "id": ids,
            "group": [_prompt_key(sides) for sides, _ in read],
            "status": [TIE if extra["tie"] else _status(*pair) for (_, extra), pair in zip(read, encoded, strict=True)],
        }

    prepared = pairs.map(
        features,
        batched=True,
        batch_size=256,
        with_indices=True,
        remove_columns=pairs.column_names,
        features=PAIR_FEATURES,
        num_proc=num_proc,
        new_fingerprint=fingerprint(pairs, tokenizer, max_length, keep_reasoning, "pairs"),
        desc="Tokenizing pairs",
    )
    status = prepared.with_format("numpy")["status"][:]
    bad = [code for code in STATUS if not (keep_cut and code == TOO_LONG)]
    left_out = {STATUS[code]: int((status == code).sum()) for code in bad if (status == code).any()}
    for reason, count in left_out.items():
        logger.warning("left out %d pairs: %s", count, reason)
    if np.isin(status, bad).all():
        raise UserError(
            "no pairs are left to use: "
            + ("; ".join(f"{count}: {reason}" for reason, count in left_out.items()) or "there are none")
        )
    return prepared.select(np.flatnonzero(~np.isin(status, bad))) if left_out else prepared, left_out


def _read(row: Row, name: str) -> tuple[list[list], dict[str, Any]]:
    try:
        return _conversations(row)
    except ValueError as error:
        raise UserError(f"pair {name} cannot be used: {error}") from error


def _encode(
    pairs: list[list[list]], ids: list[str], keep_reasoning: bool, tokenizer: PreTrainedTokenizerBase, max_length: int
) -> list[list[EncodedInput]]:
    """Both inputs of each pair. History that one side has no room for goes on the other, too: answers are to be told apart by
    what they say."""
    more = (tokenizer, max_length)
    columns = [
        encode_chats(keep_reasoning, [{"messages": pair[side]} for pair in pairs], ids, *more) for side in (0, 1)
    ]
    encoded = [list(pair) for pair in zip(*columns, strict=True)]
    for pair, inputs, name in zip(pairs, encoded, ids, strict=True):
        dropped = [one.dropped_messages for one in inputs]
        if dropped[0] != dropped[1]:
            side = dropped.index(min(dropped))
            left = {"messages": without_history(pair[side], max(dropped))}
            (inputs[side],) = encode_chats(keep_reasoning, [left], [name], *more)
    return encoded


def _prompt_key(sides: list[list]) -> str:
    """Of what both sides begin with."""
    shared = next((n for n, (one, other) in enumerate(zip(*sides, strict=False)) if one != other), len(sides[0]))
    return f"prompt:{hashlib.sha256(json.dumps(sides[0][:shared]).encode()).hexdigest()[:32]}"


def _status(chosen: EncodedInput, rejected: EncodedInput) -> int:
    if any(side.cut_query or side.cut_response for side in (chosen, rejected)):
        return TOO_LONG
    return SAME if chosen.input_ids == rejected.input_ids else USABLE


def pair_lengths(pairs: Dataset) -> np.ndarray:
    """(P, 2) tokens of both sides; those that are `shared`, where that column is there, count once."""
    columns = pairs.with_format("numpy")
    lengths = np.stack([columns[f"{side}_length"][:] for side in SIDES], axis=1)
    if "shared" in pairs.column_names:
        lengths[:, 1] -= columns["shared"][:]
    return lengths
