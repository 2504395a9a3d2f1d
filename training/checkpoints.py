"""Checkpoints of both trainers: where a write fails it is named, and only one whose every file can be read is gone on from.

A kill leaves a checkpoint without its last file, the trainer's state; a failing disk or a copy that was cut off leaves files
that are too short. A checkpoint is passed over for either, in favour of the one before it.
"""

import contextlib
import json
import logging
import os
import re
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list
from safetensors import SafetensorError, safe_open
from transformers import EarlyStoppingCallback, TrainingArguments

from wildreward.errors import UserError
from wildreward.training.learning_checks import check_learning_rate
from wildreward.weights import INDEX, weight_files

logger = logging.getLogger(__name__)

STATE = "trainer_state.json"  # written last
UNFINISHED = "unfinished"  # an empty file that is there while a checkpoint is being written
NOT_READ = "training_args.bin"  # the only file of a checkpoint that resuming does not need
# What resuming needs, by engine: one process or DDP, FSDP, DeepSpeed. Without the optimizer's state transformers would
# begin with a fresh one and say nothing.
NEEDED = {
    "the model's weights": ("*.safetensors", "pytorch_model*", "global_step*"),
    "the optimizer's state": ("optimizer*", "global_step*"),
    "the learning rate's schedule": ("scheduler.pt", "global_step*"),
    "the random state": ("rng_state*.pth",),
}
_FOLDER = re.compile(r"checkpoint-(\d+)$")
TORCH_COULD_NOT_WRITE = ("inline_container.cc", "iostream error")
_SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")  # what libraries in Rust make of errno


# ---- reading


def choose_checkpoint(folder: str | Path, args: TrainingArguments) -> Path | None:
    """[`last_complete_checkpoint`] as the main process finds it; call it on every process.

    Raises:
        UserError: on every process; see there.
    """
    said: list[Any] = [None]
    if args.process_index == 0:
        try:
            said[0] = last_complete_checkpoint(folder, remove_partial=True)
        except UserError as error:
            said[0] = error
    broadcast_object_list(said)
    if isinstance(said[0], UserError):
        raise said[0]
    return said[0]


def last_complete_checkpoint(folder: str | Path, remove_partial: bool = False) -> Path | None:
    """The newest `checkpoint-<step>` in `folder` that can be gone on from, or None where a run has not left any.

    Args:
        folder: where the trainer writes checkpoints.
        remove_partial: delete newer ones that a kill left half-written, and rename damaged ones to
            `damaged-checkpoint-<step>`, so that nothing else picks them up.

    Raises:
        UserError: there are checkpoints, and all are damaged; each is named with a file and a reason.
    """
    killed, damaged, usable = [], {}, None
    for path in _newest_first(folder):
        reason = damage(path)
        if reason is None:
            usable = path
            break
        if _was_finished(path):
            damaged[path] = reason
        else:
            killed.append(path)
    if damaged and not usable:
        found = "; ".join(f"{path.name}: {reason}" for path, reason in damaged.items())
        raise UserError(
            f"no checkpoint in {folder} can be gone on from ({found}); restore the file from a copy, or delete these "
            "checkpoints to start from the beginning"
        )
    for path in killed:
        logger.warning("%s is incomplete and is not used", path.name)
        if remove_partial:
            shutil.rmtree(path)
    for path, reason in damaged.items():
        logger.warning("%s is damaged (%s): going on from %s instead", path.name, reason, usable.name)
        if remove_partial:
            aside = path.with_name(f"damaged-{path.name}")
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
    return usable


def has_checkpoint(folder: str | Path) -> bool:
    """Whether a run has written a checkpoint to its end, whatever became of it, or one that can be gone on from."""
    return any(_was_finished(path) or damage(path) is None for path in _newest_first(folder))


def check_checkpoint(checkpoint: str | Path) -> None:
    """Refuse a checkpoint that cannot be gone on from (`UserError` naming the file and the reason)."""
    reason = damage(Path(checkpoint))
    if reason:
        raise UserError(f"the checkpoint {checkpoint} cannot be gone on from: {reason}")


def damage(checkpoint: Path) -> str | None:
    """Why a checkpoint cannot be gone on from, such as "optimizer.pt is empty"; None for a sound one.

    Every file is opened and measured against what its header or directory says, and files of PyTorch against their
    checksums (half a second a GB); safetensors have none. Not covered: whether each shard of FSDP's sharded state dicts
    or of DeepSpeed is there.
    """
    state = checkpoint / STATE
    if not state.exists():
        return f"{STATE} is missing"
    reason = _unreadable(checkpoint)
    if reason:
        return reason
    best = json.loads(state.read_text(encoding="utf-8")).get("best_global_step")
    best = checkpoint.with_name(f"checkpoint-{best if isinstance(best, int) else None}")
    if best != checkpoint and best.is_dir() and (reason := _unreadable(best)):
        return f"its best checkpoint {best.name} is damaged: {reason}"
    return None


def _newest_first(folder: str | Path) -> list[Path]:
    found = [(int(m[1]), path) for path in Path(folder).glob("checkpoint-*") if (m := _FOLDER.search(path.name))]
    return [path for _, path in sorted(found, reverse=True) if path.is_dir()]


def _was_finished(checkpoint: Path) -> bool:
    return (checkpoint / STATE).exists() and not (checkpoint / UNFINISHED).exists()


def _unreadable(checkpoint: Path) -> str | None:
    for path in sorted(checkpoint.rglob("*")):
        reader = READERS.get(path.suffix)
        if reader is None or path.name == NOT_READ:
            continue
        name = path.relative_to(checkpoint)
        try:
            if path.stat().st_size == 0:
                return f"{name} is empty"
            reader(path)
        except (OSError, ValueError, RuntimeError, zipfile.BadZipFile, SafetensorError, UserError) as error:
            return f"{name} cannot be read: {error}"
    missing = [what for what, names in NEEDED.items() if not any(next(checkpoint.rglob(n), None) for n in names)]
    return f"there is no file with {missing[0]}" if missing else None


def _read_json(path: Path) -> None:
    value = json.loads(path.read_text(encoding="utf-8"))
    if path.name == STATE and not (isinstance(value, dict) and isinstance(value.get("global_step"), int)):
        raise ValueError("it names no global_step")
    if path.name == INDEX:
        weight_files(path.parent)  # every shard that it names is there


def _read_safetensors(path: Path) -> None:
    with safe_open(path, framework="pt"):  # compares the length of the file with its header
        pass


def _read_zip(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        entry = archive.testzip()  # torch.load does not look at checksums
    if entry:
        raise zipfile.BadZipFile(f"the checksum of {entry} is wrong")


READERS = {
    ".json": _read_json,
    ".safetensors": _read_safetensors,
    ".pt": _read_zip,
    ".pth": _read_zip,
    ".bin": _read_zip,
}


# ---- writing


@contextlib.contextmanager
def writing(folder: str | Path) -> Iterator[None]:
    """Around what saves a model or a checkpoint into `folder`.

    Raises:
        UserError: the system refused to write, naming the folder and the reason. Each library says so in its own way:
            Python by an OSError, torch by a RuntimeError of its zip writer, those in Rust by `(os error N)` in the text
            (safetensors by its own class, tokenizers by a plain Exception).
    """
    try:
        yield
    except Exception as error:  # all but what the system refused goes on its way
        reason = _refused_by_system(error)
        if reason is None:
            raise
        raise UserError(
            f"cannot write {folder}: {reason}; checkpoints written before are intact: make room, and run the same command "
            "again"
        ) from error


def _refused_by_system(error: Exception) -> str | None:
    """What the system said, where it is the system that refused to write."""
    if isinstance(error, OSError) and error.strerror and not isinstance(error, ConnectionError):
        return error.strerror
    if found := _SYSTEM_ERROR.search(str(error)):
        return os.strerror(int(found[1]))
    if isinstance(error, RuntimeError) and any(words in str(error) for words in TORCH_COULD_NOT_WRITE):
        return "PyTorch could not write a file to its end (is the disk full?)"
    return None


class ResumableTrainer:
    """For trainers: checkpoints that are sound or known not to be, and a resumed run that ends where it would have.

    Resumed from a checkpoint of the last step, it trains nothing more and only does what comes after training:
    `transformers.Trainer` asks whether to stop after each step only, so it would make one more; and where training had
    stopped early, it would forget that it had. It also knows the best checkpoint by its path alone, and forgets it when the
    folder was moved.
    """

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        best = Path(self.args.output_dir) / f"checkpoint-{self.state.best_global_step}"
        if self.state.best_global_step and (best / STATE).exists():
            self.state.best_model_checkpoint = str(best)
        stopped_early = any(
            isinstance(callback, EarlyStoppingCallback)
            and callback.early_stopping_patience_counter >= callback.early_stopping_patience
            for callback in self.callback_handler.callbacks
        )
        if stopped_early or self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
            return
        check_learning_rate(self)
        super()._run_epoch(*args, **kwargs)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = Path(self._get_output_dir(trial)) / f"checkpoint-{self.state.global_step}"
        with writing(folder):
            if self.args.should_save:
                folder.mkdir(parents=True, exist_ok=True)
                (folder / UNFINISHED).touch()
            super()._save_checkpoint(model, trial)
            if self.args.should_save:
                (folder / UNFINISHED).unlink(missing_ok=True)

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        self.accelerator.wait_for_everyone()  # the state, which comes next, says that all processes have written theirs

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As in Trainer.

        Raises:
            UserError: the system refused to write; see `writing`.
        """
        with writing(output_dir or self.args.output_dir):
            super().save_model(output_dir, _internal_call=_internal_call)
