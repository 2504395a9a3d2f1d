"""A dataset that is read as a stream: how it is split, and training steps from it."""

import itertools
import json
import logging
from collections.abc import Iterator

import torch
from datasets import Dataset, IterableDataset
from transformers import PreTrainedTokenizerBase

from wildreward.common.errors import UserError
from wildreward.training.reward_arguments import TrainRewardArguments
from wildreward.training.reward_batching import (
    Feature,
    TokenBudget,
    pair_order,
    plan_step,
    rows_of,
    share_of_step,
    sides_of,
)
from wildreward.training.reward_config import OrdinalRewardConfig
from wildreward.training.reward_data import (
    Row,
    check_columns,
    feature_function,
    load_rows,
    owner_of,
    place_of,
    unusable_statuses,
)

logger = logging.getLogger(__name__)

READ = 64  # rows tokenized at once


def check_streaming(config: OrdinalRewardConfig) -> None:
    """Refuse settings that need to know the whole dataset (`UserError` naming each)."""
    weightings = [name for name in ("level_weighting", "threshold_weighting") if getattr(config, name) != "none"]
    kinds = ("eval_strategy", "save_strategy", "logging_strategy")
    found = [f"{name} (levels are counted)" for name in weightings]
    found += [f"{name} epoch (a stream has steps only)" for name in kinds if getattr(config, name) == "epoch"]
    found += ["max_steps -1 (expected how many steps to make)"] if config.max_steps <= 0 else []
    if found:
        raise UserError(f"not possible with a streamed dataset: {', '.join(found)}; change it, or store the dataset")


def split_stream(
    arguments: TrainRewardArguments, config: OrdinalRewardConfig
) -> tuple[IterableDataset, Dataset, dict[str, int]]:
    """The same split by user as `load_splits` makes, of rows as they are, decided row by row; and what is left out of the
    validation rows."""
    names = (arguments.dataset, arguments.train_split, arguments.dataset_config, arguments.dataset_revision)
    rows = load_rows(*names, streaming=True)
    check_columns(list(next(iter(rows.take(1)), {})))
    share, seed = arguments.validation_share, config.seed

    def owner(row: Row) -> str:
        # places in the stream change when it is shuffled: where nothing names a row, its text does
        name = row.get("id") or json.dumps([row.get("history"), row.get("messages"), row.get("text")], default=str)
        return owner_of(row, str(name))

    chosen = rows.filter(lambda row: place_of(owner(row), seed) < share).take(arguments.max_validation_rows)
    read = list(chosen)
    held_out = {owner(row) for row in read}  # users beyond max_validation_rows are trained on
    validation = [row for row in read if row.get("label") is not None]
    if not validation:
        raise UserError(f"holding out {share:.0%} of the streamed users leaves no row with a label to validate on")
    left_out = {"no label, held out": len(read) - len(validation)} if len(read) > len(validation) else {}
    return rows.filter(lambda row: owner(row) not in held_out), Dataset.from_list(validation), left_out


class StreamedSteps(torch.utils.data.IterableDataset):
    """Yields this process's micro-batches of features, step after step, pass after pass without end, each in an order of
    its own; memory holds the shuffle buffer and one step.

    Every process reads and tokenizes the whole stream and takes its share of each step, so that the steps are the same
    for any number of processes. Passes are counted here, not by the Trainer, which knows no length: so a run that is resumed
    after any number of steps skips exactly those, whatever pass they end in.

    Args:
        rows: a streaming dataset of rows.
        tokenizer: one with the reward model's template.
        max_length: longest input in tokens.
        num_levels: labels must be 1..num_levels.
        args: training settings.
        budget: see `TokenBudget`.
        pairs: features of pairs, see `reward_pairs`; the steps take all of them once in `max_steps`.
    """

    def __init__(
        self,
        rows: IterableDataset,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int,
        num_levels: int,
        args: OrdinalRewardConfig,
        budget: TokenBudget,
        pairs: Dataset | None = None,
    ) -> None:
        check_streaming(args)
        if rows.column_names is not None:
            check_columns(rows.column_names)
        self.rows = rows.shuffle(seed=args.order_seed, buffer_size=args.shuffle_buffer)
        self.features = feature_function(tokenizer, max_length, num_levels, args.keep_reasoning)
        self.args, self.budget = args, budget
        self.pairs = None if pairs is None else pairs.with_format(None)

    def __iter__(self) -> Iterator[list[list[Feature]]]:
        made = 0
        for number in itertools.count():
            before = made
            for rows in self.one_pass(number):
                yield self._planned([[row] for row in rows] + self._pairs(made))
                made += 1
            if made == before:
                raise UserError("the streamed dataset has no row that can be trained on; expected rows with a label")

    def one_pass(self, number: int) -> Iterator[list[Feature]]:
        """The rows of each step in one pass over the stream."""
        self.rows.set_epoch(number)
        features = self._usable()
        while step := list(itertools.islice(features, self.args.rows_per_step)):
            yield step

    def _pairs(self, step: int) -> list[list[Feature]]:
        """Both rows of each pair that comes with a step."""
        if self.pairs is None:
            return []
        steps = self.args.max_steps
        share = pair_order(len(self.pairs), self.args.order_seed)[share_of_step(len(self.pairs), step % steps, steps)]
        return [sides_of(pair) for pair in rows_of(self.pairs[share])] if len(share) else []

    def _planned(self, units: list[list[Feature]]) -> list[list[Feature]]:
        """This process's micro-batches of a step's units."""
        lengths = [
            [len(row["input_ids"]) - row.get("shared", 0) for row in unit] + [0] * (2 - len(unit)) for unit in units
        ]
        plan = plan_step(lengths, self.budget, self.args.world_size)[self.args.process_index]
        return [[row for position in positions for row in units[position]] for positions in plan]

    def _usable(self) -> Iterator[Feature]:
        unusable, left_out = unusable_statuses(self.args.keep_cut_responses), 0
        rows = iter(self.rows)
        for start in itertools.count(step=READ):
            # not `rows.iter(batch_size)`: datasets 4 guesses a filtered stream's types chunk by chunk, and they may differ
            if not (read := list(itertools.islice(rows, READ))):
                break
            batch = {
                name: [row.get(name) for row in read] for name in dict.fromkeys(key for row in read for key in row)
            }
            for feature in rows_of(self.features(batch, range(start, start + len(read)))):
                if feature["status"] in unusable:
                    left_out += 1
                    continue
                yield feature | {"weight": feature["confidence"] if self.args.use_confidence else 1.0}
        if left_out:
            logger.warning("left out %d streamed rows without a label or with too long a response", left_out)
