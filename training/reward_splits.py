"""The rows that a reward model is trained on, and those of other users that choose its checkpoint and calibrate it."""

import json
from typing import TYPE_CHECKING, Any

from datasets import Dataset, IterableDataset
from transformers import PreTrainedTokenizerBase

from wildreward.bundled import resolve
from wildreward.errors import UserError
from wildreward.training.ordinal_reward_config import OrdinalRewardConfig
from wildreward.training.reward_data import (
    OWNER_COLUMNS,
    check_columns,
    groups_of,
    hold_out_users,
    load_rows,
    prepare_features,
    usable_rows,
    validation_share_of,
)

if TYPE_CHECKING:
    from wildreward.training.reward_command import TrainRewardArguments


def load_splits(
    arguments: "TrainRewardArguments",
    config: OrdinalRewardConfig,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
) -> tuple[Dataset | IterableDataset, Dataset, dict[str, int]]:
    """Training and validation rows, and what was left out.

    The validation users are carved out of the train split; the test split is never touched.
    """
    rows = load_rows(
        resolve(arguments.dataset),
        arguments.train_split,
        config=arguments.dataset_config,
        revision=arguments.dataset_revision,
        streaming=arguments.streaming,
    )
    if arguments.streaming:
        return _streamed_splits(rows, arguments, config.seed)
    with config.main_process_first(desc="dataset preparation"):
        features = prepare_features(rows, tokenizer, max_length, arguments.num_levels, config.dataset_num_proc)
    features, left_out = usable_rows(features, config.keep_cut_responses)
    train, validation = hold_out_users(
        features, arguments.validation_share, config.seed, arguments.max_validation_rows, left_out
    )
    return train, validation, left_out


def _streamed_splits(
    rows: IterableDataset, arguments: "TrainRewardArguments", seed: int
) -> tuple[IterableDataset, Dataset, dict[str, int]]:
    """The same split by group as for stored rows, decided row by row; what is left out of the validation rows."""

    check_columns(list(next(iter(rows.take(1)), {})))

    def owner(row: dict[str, Any]) -> str:
        # places in the stream change when it is shuffled: where nothing names a row, its text does
        name = row.get("id") or json.dumps([row.get("history"), row.get("messages"), row.get("text")], default=str)
        return groups_of({column: [row.get(column)] for column in OWNER_COLUMNS}, [str(name)])[0]

    def chosen(row: dict[str, Any]) -> bool:
        return validation_share_of(owner(row), seed) < arguments.validation_share

    read = list(rows.filter(chosen).take(arguments.max_validation_rows))
    held_out = {owner(row) for row in read}  # users beyond max_validation_rows are trained on
    validation = [row for row in read if row.get("label") is not None]
    if not validation:
        raise UserError(
            f"holding out {arguments.validation_share:.0%} of the streamed users leaves no row with a label to validate on"
        )
    left_out = {"no label, held out": len(read) - len(validation)} if len(read) > len(validation) else {}
    return rows.filter(lambda row: owner(row) not in held_out), Dataset.from_list(validation), left_out
