"""Whether anything can be learned, and was: a run that leaves the weights as they were is an error, not a success."""

import logging
from collections import Counter, deque
from collections.abc import Sequence
from typing import Any

import numpy as np
from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from wildreward.errors import UserError
from wildreward.training.pairs import Masked

logger = logging.getLogger(__name__)

RECENT = 3  # rollouts
REMEDIES = {
    Masked.UNSCORED: "check the reward source",
    Masked.CUT_OFF: "raise --max-completion-length (now {args.max_completion_length}), or set --choose-truncated True",
    Masked.SAME_TEXT: "raise --temperature (now {args.temperature})",
    Masked.EQUAL: "use a reward that tells these completions apart",
    Masked.SMALL_MARGIN: "lower --min-margin (now {args.min_margin})",
}


class NonFiniteLoss(UserError):
    """Training met a NaN or an infinity. The last checkpoint on disk is intact."""


def check_levels(labels: Sequence[int] | np.ndarray, num_levels: int) -> None:
    """Refuse training rows that all have one label (`UserError`): the model would learn to give every answer that one."""
    found = np.unique(np.asarray(labels))
    if len(found) == 1:
        raise UserError(
            f"all {len(labels)} rows to train on have label {found[0]}, so there is no difference to learn; expected rows "
            f"with at least two of the labels 1 to {num_levels}"
        )


def check_learning_rate(trainer: Trainer) -> None:
    """Refuse a run of one step whose learning rate is still 0, because the step is warm-up (`UserError`)."""
    # DeepSpeed's is known after the first step only
    if trainer.state.max_steps == 1 and not trainer.is_deepspeed_enabled and trainer._get_learning_rate() == 0:
        raise UserError(
            "the only step would be made with learning rate 0, as the first of the warm-up, so nothing would be learned; set "
            "--warmup-steps 0, or make more steps (more rows, or fewer of them a step)"
        )


class PairCounts(TrainerCallback, ExportableState):
    """How many prompts gave a pair and why others gave none, over the whole run: checkpoints keep it.

    Args:
        kept: pairs trained on.
        masked: prompts without a pair, by reason.
    """

    def __init__(self, kept: int = 0, masked: dict[str, int] | None = None) -> None:
        self.kept = kept
        self.masked: Counter[str] = Counter(masked)
        self._recent: deque[list[str | None]] = deque(maxlen=RECENT)
        self._warned = False

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"args": {"kept": self.kept, "masked": dict(self.masked)}, "attributes": {}}

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        stored = state.stateful_callbacks.get(type(self).__name__, self.state())["args"]
        self.kept, self.masked = stored["kept"], Counter(stored["masked"])

    def add(self, reasons: list[str | None], args: TrainingArguments) -> None:
        """Count the prompts of a rollout, on all processes; warn once, as soon as most are masked.

        Args:
            reasons: of each prompt, why it gave no pair, or None for one that did; see `masked_because`.
            args: the settings, for what to do about it.
        """
        self._recent.append(reasons)
        self.kept += reasons.count(None)
        self.masked.update(reason for reason in reasons if reason)
        recent = [reason for rollout in self._recent for reason in rollout]
        most = 2 * recent.count(None) < len(recent)
        if most and not self._warned and (self.kept == 0 or len(self._recent) == RECENT):
            self._warned = True
            logger.warning("%s", explained(recent.count(None), Counter(filter(None, recent)), args))

    def check(self, args: TrainingArguments, outcome: str = "nothing was learned") -> None:
        """Refuse to call it a success when no prompt has given a pair.

        Raises:
            UserError: with the outcome, why, and what to do.
        """
        if self.kept == 0:
            raise UserError(f"{outcome}: {explained(0, self.masked, args)}; then start again in another --output-dir")


def explained(kept: int, masked: Counter[str], args: TrainingArguments) -> str:
    """Why prompts gave no pair, in numbers, and what to do about the most frequent reason."""
    if not masked:
        return (
            "no prompt gave a pair to train on; see --max-completion-length and --min-margin, and what the rewards are"
        )
    reasons = ", ".join(f"{count}: {reason}" for reason, count in masked.most_common())
    remedy = REMEDIES[Masked(masked.most_common(1)[0][0])].format(args=args)
    total = masked.total()
    return f"{total} of {kept + total} prompts gave no pair to train on ({reasons}); {remedy}"
