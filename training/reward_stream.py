"""Training steps from a dataset that is read as a stream: memory holds the shuffle buffer and one step, nothing more."""

import itertools
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import datasets
import torch
from transformers import PreTrainedTokenizerBase

from wildreward.errors import UserError
from wildreward.training.reward_data import NO_LABEL, RESPONSE_CUT, check_columns, feature_function
from wildreward.training.token_budget_sampler import TokenBudget, plan_step

if TYPE_CHECKING:
    from wildreward.training.ordinal_reward_config import OrdinalRewardConfig

logger = logging.getLogger(__name__)

READ = 64  # rows tokenized at once


def refuse_for_streams(args: "OrdinalRewardConfig") -> None:
    """Refuse settings that need to know the whole dataset.

    Raises:
        UserError: naming each of them.
    """
    found = [
        f"{name} (levels are counted)"
        for name in ("level_weighting", "threshold_weighting")
        if getattr(args, name) != "none"
    ]
    found += [
        f"{name} epoch (a stream has steps only)"
        for name in ("eval_strategy", "save_strategy", "logging_strategy")
        if getattr(args, name) == "epoch"
    ]
    found += ["max_steps -1 (expected how many steps to make)"] if args.max_steps <= 0 else []
    if found:
        raise UserError(f"not possible with a streamed dataset: {', '.join(found)}; change it, or store the dataset")


class StreamedSteps(torch.utils.data.IterableDataset):
    """Yields this process's micro-batches of features, step after step, in one pass over the rows.

    Every process reads and tokenizes the whole stream and takes its share of each step, so that the steps are the same
    for any number of processes and a resumed run can skip to where it was.

    Args:
        rows: a streaming dataset of rows.
        tokenizer: one with the reward model's template.
        max_length: longest input in tokens.
        num_levels: labels must be 1..num_levels.
        args: training settings.
        budget: see `TokenBudget`.
    """

    def __init__(
        self,
        rows: datasets.IterableDataset,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int,
        num_levels: int,
        args: "OrdinalRewardConfig",
        budget: TokenBudget,
    ) -> None:
        if rows.column_names is not None:
            check_columns(rows.column_names)
        seed = args.seed if args.data_seed is None else args.data_seed
        self.rows = rows.shuffle(seed=seed, buffer_size=args.shuffle_buffer)
        self.features = feature_function(tokenizer, max_length, num_levels)
        self.unusable = {NO_LABEL} if args.keep_cut_responses else {NO_LABEL, RESPONSE_CUT}
        self.use_confidence = args.use_confidence
        self.rows_per_step = args.rows_per_step
        self.rank, self.world_size = args.process_index, args.world_size
        self.budget = budget

    def set_epoch(self, epoch: int) -> None:
        """Reshuffle for this pass."""
        self.rows.set_epoch(epoch)

    def __iter__(self) -> Iterator[list[list[dict[str, Any]]]]:
        step: list[dict[str, Any]] = []
        for feature in self._usable():
            step.append(feature)
            if len(step) == self.rows_per_step:
                yield self._share(step)
                step = []
        if step:
            yield self._share(step)

    def _share(self, step: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
        plan = plan_step([feature["length"] for feature in step], self.budget, self.world_size)[self.rank]
        return [[step[position] for position in positions] for positions in plan]

    def _usable(self) -> Iterator[dict[str, Any]]:
        left_out = 0
        for start, batch in enumerate(self.rows.iter(batch_size=READ)):
            size = len(batch["label"])
            columns = self.features(batch, list(range(start * READ, start * READ + size)))
            for values in zip(*columns.values(), strict=True):
                feature = dict(zip(columns, values, strict=True))
                if feature["status"] in self.unusable:
                    left_out += 1
                    continue
                feature["weight"] = feature["confidence"] if self.use_confidence else 1.0
                yield feature
        if left_out:
            logger.warning("left out %d streamed rows without a label or with too long a response", left_out)


class RepeatedPasses(torch.utils.data.IterableDataset):
    """Pass after pass without end, each in an order of its own.

    Passes are counted here, not by the Trainer, which knows no length: so a run that is resumed after any number of steps
    skips exactly those, whatever pass they end in.
    """

    def __init__(self, steps: StreamedSteps) -> None:
        self.steps = steps

    def __iter__(self) -> Iterator[list[list[dict[str, Any]]]]:
        for number in itertools.count():
            self.steps.set_epoch(number)
            empty = True
            for step in self.steps:
                empty = False
                yield step
            if empty:
                raise UserError("the streamed dataset has no row that can be trained on; expected rows with a label")
