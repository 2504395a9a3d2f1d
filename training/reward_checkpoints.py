"""Going on from a checkpoint: which one (a kill can leave a half-written folder behind), and no further than asked for."""

import json
import logging
import re
import shutil
from pathlib import Path
from typing import Any

from torch import nn
from transformers import EarlyStoppingCallback

from wildreward.errors import UserError
from wildreward.weights import shapes_in, weight_files

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


def check_weights(checkpoint: Path, model: nn.Module) -> None:
    """Refuse a checkpoint whose weights are not those that `model` would save; its trainer would only warn, and go on with
    the weights it has.

    Raises:
        UserError: weights are missing, left over or of another shape, or a file of them is damaged.
    """
    if hasattr(model, "peft_config"):
        from peft import get_peft_model_state_dict

        files, expected = [checkpoint / "adapter_model.safetensors"], get_peft_model_state_dict(model)
    else:
        files, expected = weight_files(checkpoint), model.state_dict()
    found = {name: shape for file in files for name, shape in shapes_in(file).items()}
    shapes = {name: tuple(weight.shape) for name, weight in expected.items()}
    tied = getattr(model, "all_tied_weights_keys", None) or {}  # saved under one of their names
    wrong = {name for name in found.keys() | shapes.keys() if found.get(name) != shapes.get(name)}
    if wrong := sorted(name for name in wrong if name in found or name not in tied):
        name = wrong[0]
        raise UserError(
            f"{checkpoint} does not fit the model in {len(wrong)} of its weights, such as {name}: there of shape "
            f"{found.get(name)}, in the model {shapes.get(name)}; delete it to go on from an earlier one"
        )


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
