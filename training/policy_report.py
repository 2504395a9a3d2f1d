"""How a policy does on held-out prompts before and after training: reward and length, with intervals."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from wildreward.evaluation.bootstrap import bootstrap
from wildreward.files import read_json, write_json
from wildreward.training.best_of_n_dpo_trainer import BestOfNDPOTrainer

logger = logging.getLogger(__name__)

BEFORE = "held_out_before.json"


class HeldOutCallback(TrainerCallback):
    """Samples completions for held-out prompts when training begins and when it ends.

    The first measurement is kept in the output folder, so that a resumed run compares with the policy that training
    began with. Both use the same random seed, and leave the random state of training as it was.
    """

    def __init__(self, prompts: Dataset, seed: int) -> None:
        self.prompts = prompts
        self.seed = seed
        self.trainer: BestOfNDPOTrainer | None = None
        self.before: list[dict[str, float]] = []
        self.after: list[dict[str, float]] = []

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        path = Path(args.output_dir) / BEFORE
        if state.global_step > 0 and path.exists():
            self.before = read_json(path)
            return
        self.before = self._measure("before")
        if state.is_world_process_zero:
            write_json(path, self.before)

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.after = self._measure("after")

    def _measure(self, moment: str) -> list[dict[str, float]]:
        assert self.trainer is not None, "set `trainer` before training begins"
        logger.info("held-out prompts: sampling %s training", moment)
        return self.trainer.sample_held_out(self.prompts, self.seed)

    def report(self, seed: int) -> dict[str, Any]:
        """Mean reward and length before, after, and their paired difference, each with a 95% bootstrap interval."""
        before = {row["prompt_index"]: row for row in self.before}
        pairs = [(before[row["prompt_index"]], row) for row in self.after if row["prompt_index"] in before]
        result: dict[str, Any] = {"prompts": len(pairs)}
        for name in ("reward", "length"):
            values = np.array([[b[name], a[name]] for b, a in pairs]).reshape(-1, 2)
            columns = {"before": values[:, 0], "after": values[:, 1], "difference": values[:, 1] - values[:, 0]}
            statistics = {key: (lambda rows, column=column: column[rows].mean()) for key, column in columns.items()}
            estimates = bootstrap(statistics, range(len(pairs)), seed=seed) if pairs else {}
            result[name] = {key: estimate.as_dict() for key, estimate in estimates.items()}
        return result
