"""What a run did: its log, how many prompts gave a pair, and reward and length on held-out prompts before and after, with intervals."""

import json
import logging
from collections import Counter, deque
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import TrainerCallback, TrainerState, TrainingArguments
from transformers.trainer_callback import ExportableState

from wildreward.common.errors import UserError
from wildreward.common.files import atomic_path
from wildreward.evaluation.bootstrap import bootstrap
from wildreward.training.dpo_weaknesses import WEAKNESSES
from wildreward.training.pairs import Masked

logger = logging.getLogger(__name__)

HELD_OUT = "held_out.jsonl"
RECENT = 3  # rollouts
REMEDIES = {
    Masked.UNSCORED: "check the reward source",
    Masked.CUT_OFF: "raise --max-completion-length (now {args.max_completion_length}), or set --choose-truncated True",
    Masked.GUARDED: "these completions are short, repeat themselves or refuse, and the reward likes them: use another",
    Masked.SAME_TEXT: "raise --temperature (now {args.temperature})",
    Masked.EQUAL: "use a reward that tells these completions apart",
    Masked.SMALL_MARGIN: "lower --min-margin (now {args.min_margin})",
}


class HeldOutCallback(TrainerCallback):
    """Samples completions for held-out prompts when training begins and when it ends, and keeps them in the output folder.

    A line of `held_out.jsonl` is a prompt: `prompt`, `before` and `after`, each as `sample_held_out` gives it or null. A resumed
    run compares with the policy that training began with, which is there from the beginning. Both use the same random
    seed, and leave the random state of training as it was.
    """

    def __init__(self, prompts: Dataset, seed: int) -> None:
        self.prompts = prompts
        self.seed = seed
        self.trainer: Any = None  # a BestOfNDPOTrainer, set before training begins
        self.before: dict[int, dict[str, Any]] = {}
        self.after: dict[int, dict[str, Any]] = {}

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: Any, **kwargs: Any) -> None:
        path = Path(args.output_dir) / HELD_OUT
        if state.global_step > 0 and path.exists():
            with open(path, encoding="utf-8") as lines:
                rows = [json.loads(line)["before"] for line in lines]
            self.before = {index: row for index, row in enumerate(rows) if row}
            return
        self.before = self._measure("before")
        self._write(path, state)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: Any, **kwargs: Any) -> None:
        self.after = self._measure("after")
        self._write(Path(args.output_dir) / HELD_OUT, state)

    def _measure(self, moment: str) -> dict[int, dict[str, Any]]:
        logger.info("held-out prompts: sampling %s training", moment)
        return {row.pop("prompt_index"): row for row in self.trainer.sample_held_out(self.prompts, self.seed)}

    def _write(self, path: Path, state: TrainerState) -> None:
        if not state.is_world_process_zero:
            return
        rows = [
            {"prompt": prompt, "before": self.before.get(index), "after": self.after.get(index)}
            for index, prompt in enumerate(self.prompts["prompt"])
        ]
        with atomic_path(path) as temporary:
            temporary.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")

    def report(self, seed: int) -> dict[str, Any]:
        """Mean reward, length, divergence from the reference and shares of `WEAKNESSES` before, after, and their paired
        difference, each with a 95% bootstrap interval."""
        pairs = [(self.before[index], row) for index, row in self.after.items() if index in self.before]
        result: dict[str, Any] = {"prompts": len(pairs)}
        for name in ("reward", "length", "kl", *WEAKNESSES):
            values = np.array([[b[name], a[name]] for b, a in pairs]).reshape(-1, 2)
            columns = {"before": values[:, 0], "after": values[:, 1], "difference": values[:, 1] - values[:, 0]}
            statistics = {key: (lambda rows, column=column: column[rows].mean()) for key, column in columns.items()}
            estimates = bootstrap(statistics, range(len(pairs)), seed=seed) if pairs else {}
            result[name] = {key: estimate.as_dict() for key, estimate in estimates.items()}
        return result


class PairCounts(TrainerCallback, ExportableState):
    """How many prompts gave a pair and why others gave none, over the whole run: checkpoints keep it.

    Args:
        kept: pairs trained on.
        masked: prompts without a pair, by reason.
        weak: pairs whose chosen completion has one of `WEAKNESSES`, by its name.
    """

    def __init__(self, kept: int = 0, masked: dict[str, int] | None = None, weak: dict[str, int] | None = None) -> None:
        self.kept = kept
        self.masked: Counter[str] = Counter(masked)
        self.weak: Counter[str] = Counter(weak)
        self._recent: deque[list[str | None]] = deque(maxlen=RECENT)
        self._warned = False

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps."""
        return {"args": {"kept": self.kept, "masked": dict(self.masked), "weak": dict(self.weak)}, "attributes": {}}

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: Any, **kwargs: Any) -> None:
        stored = state.stateful_callbacks.get(type(self).__name__, self.state())["args"]
        self.kept, self.masked, self.weak = stored["kept"], Counter(stored["masked"]), Counter(stored["weak"])

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


def run_report(trainer: Any, prompts: int) -> dict[str, Any]:
    """What a `BestOfNDPOTrainer` did on so many prompts, from its own log."""
    steps = [row for row in trainer.state.log_history if "pairs/masked" in row]
    names = ("step", "reward", "reward/margin", "kl", "completions/mean_length", "pairs/masked", "loss")
    names += tuple(f"chosen/{name}" for name in WEAKNESSES)
    timed = [row for row in steps if "time/training" in row]
    stages = [name for name in (timed[0] if timed else ()) if name.startswith("time/")]
    return {
        "steps": trainer.state.global_step,
        "prompts": prompts,
        "prompts_with_pair": trainer.pair_counts.kept,
        "prompts_without_pair": dict(trainer.pair_counts.masked),
        "chosen": {name: trainer.pair_counts.weak[name] / max(trainer.pair_counts.kept, 1) for name in WEAKNESSES},
        "log": {name: [row.get(name) for row in steps] for name in names},
        "seconds_per_step": {
            name.removeprefix("time/"): sum(row[name] for row in timed) / len(timed) for name in stages
        },
    }
