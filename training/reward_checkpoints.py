"""Going on from a checkpoint: which one (a kill can leave a half-written folder behind), and no further than asked for."""

import json
import logging
import re
import shutil
from pathlib import Path
from typing import Any

from transformers import EarlyStoppingCallback

logger = logging.getLogger(__name__)

_FOLDER = re.compile(r"checkpoint-(\d+)$")


def is_complete(checkpoint: Path) -> bool:
    """Whether everything was written: the trainer's state comes last."""
    try:
        state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return False
    return "global_step" in state


def last_complete_checkpoint(folder: str | Path, remove_partial: bool = False) -> Path | None:
    """The newest complete `checkpoint-<step>` in `folder`, or None.

    Args:
        folder: where the trainer writes checkpoints.
        remove_partial: delete half-written ones that are newer than it, so that nothing else picks them up.
    """
    found = [(int(m[1]), path) for path in Path(folder).glob("checkpoint-*") if (m := _FOLDER.search(path.name))]
    for _, path in sorted(found, reverse=True):
        if is_complete(path):
            return path
        logger.warning("%s is incomplete and is not used", path.name)
        if remove_partial:
            shutil.rmtree(path)
    return None


class StopsWhereItStopped:
    """For trainers: resumed from a checkpoint of the last step, train nothing more, only do what comes after training.

    `transformers.Trainer` asks whether to stop after each step only, so it would make one more; and where training had
    stopped early, it would forget that it had. It also knows the best checkpoint by its path alone, and forgets it when the
    folder was moved.
    """

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        best = Path(self.args.output_dir) / f"checkpoint-{self.state.best_global_step}"
        if self.state.best_global_step and is_complete(best):
            self.state.best_model_checkpoint = str(best)
        stopped_early = any(
            isinstance(callback, EarlyStoppingCallback)
            and callback.early_stopping_patience_counter >= callback.early_stopping_patience
            for callback in self.callback_handler.callbacks
        )
        if stopped_early or self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
            return
        super()._run_epoch(*args, **kwargs)
