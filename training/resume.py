"""Runs that were cut off go on as if they had not been: checkpoints, settings, digests of data and weights.

A kill leaves a checkpoint without its last file, the trainer's state; a failing disk or a copy that was cut off leaves files
that are too short. A checkpoint is passed over for either, in favour of the one before it; where a write fails it is named.
"""

import contextlib
import hashlib
import json
import logging
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list
from torch import nn
from transformers import EarlyStoppingCallback, TrainingArguments

from wildreward.common.errors import UserError
from wildreward.common.files import FolderLock, read_json
from wildreward.common.settings import check_settings, claim
from wildreward.common.weights import INDEX, shapes_in, weight_files
from wildreward.model_card import write_model_card
from wildreward.training.model_setup import engine_of

logger = logging.getLogger(__name__)

# Options of TrainingArguments that decide the resulting weights; all others may change between a killed run and the one
# that goes on.
RESUME_KEYS = (
    "learning_rate", "num_train_epochs", "max_steps", "weight_decay", "warmup_steps", "lr_scheduler_type",
    "lr_scheduler_kwargs", "max_grad_norm", "optim", "optim_args", "optim_target_modules", "adam_beta1", "adam_beta2",
    "adam_epsilon", "neftune_noise_alpha", "seed", "data_seed", "bf16", "fp16", "torch_compile", "disable_dropout",
)  # fmt: skip
ROWS = ("*.parquet", "*.arrow", "*.csv", "*.json", "*.jsonl", "*.gz", "*.zst")
WEIGHTS = (
    "*.safetensors", "pytorch_model*.bin", "config.json", "adapter_config.json", "tokenizer.json", "tokenizer.model",
    "vocab.txt", "*.jinja",
)  # fmt: skip
NOT_ROWS = {"build_report.json"}  # times differ between builds of the same rows

STATE = "trainer_state.json"  # written last
UNFINISHED = "unfinished"  # an empty file that is there while a checkpoint is being written
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


class NonFiniteLoss(UserError):
    """Training met a NaN or an infinity. The last checkpoint on disk is intact."""


# ---- settings


def run_or_resume(
    config: TrainingArguments,
    work: Path,
    result: Path,
    settings: Callable[[], dict[str, Any]],
    train: Callable[[dict[str, Any]], dict[str, Any]],
) -> dict[str, Any]:
    """Train, unless the folder is finished: made with the same settings it is left as it is.

    Args:
        config: the training settings.
        work: the folder of the checkpoints, held by one run at a time; its `settings.json` is bound to these settings as soon
            as there is something to go on from.
        result: the file that is written last; it holds the settings under `settings` or `arguments`.
        settings: makes what the result depends on; called on the main process.
        train: from the settings (empty on other processes) to what is in `result`.

    Raises:
        UserError: another run holds the folder, or it was made with other settings.
    """
    finished = result.exists()  # every process looks for itself, before any waits for another
    if config.process_index > 0:  # the main process holds the lock and the settings for all
        return read_json(result) if finished else train({})
    with FolderLock(work):
        chosen = settings()
        if finished and not (work / "settings.json").exists():  # work/ may be deleted
            kept = read_json(result)
            check_settings(work, kept["arguments"] if "arguments" in kept else kept["settings"])
        with claim(work, chosen, begun=lambda: finished or has_checkpoint(work) or any(work.glob("data/*.parquet"))):
            if not finished:
                return train(chosen)
        logger.info("%s is complete already", result.parent)
        if not (result.parent / "README.md").exists():
            write_model_card(result.parent, config.hub_model_id)
        return read_json(result)


def resume_settings(given: dict[str, Any], config: TrainingArguments, more: Sequence[str]) -> dict[str, Any]:
    """What a run's result depends on, as JSON values: what is given, the options `RESUME_KEYS` and those called `more`, and
    the engine that reads its checkpoints."""
    options = {name: getattr(config, name) for name in (*RESUME_KEYS, *more)}
    return json.loads(json.dumps(given | options | {"engine": engine_of(config)}, default=str))


def dataset_digest(name: str) -> str | None:
    """Of the files with rows in a dataset folder (`work/` and hidden ones aside), or of one file; None for a Hub id."""
    path = Path(name)
    if path.is_file():
        return _digest(path.parent, [path])
    found = {file for pattern in ROWS for file in path.rglob(pattern) if file.is_file()} if path.is_dir() else set()
    return _digest(path, (file for file in found if _holds_rows(file.relative_to(path))))


def model_digest(name: str) -> str | None:
    """Of the weights, configuration and tokenizer in a model folder; None for a Hub id or a URL."""
    folder = Path(name)
    return _digest(folder, {file for pattern in WEIGHTS for file in folder.glob(pattern)} if folder.is_dir() else ())


def _holds_rows(relative: Path) -> bool:
    hidden = any(part.startswith(".") for part in relative.parts)
    return not hidden and relative.parts[0] != "work" and relative.name not in NOT_ROWS


def _digest(folder: Path, files: Iterable[Path]) -> str | None:
    digest = hashlib.sha256()
    ordered = sorted(files)
    for file in ordered:
        with open(file, "rb") as handle:
            content = hashlib.file_digest(handle, "sha256").hexdigest()
        digest.update(f"{file.relative_to(folder).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()[:16] if ordered else None


# ---- reading checkpoints


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
        if reader is None:
            continue
        name = path.relative_to(checkpoint)
        try:
            if path.stat().st_size == 0:
                return f"{name} is empty"
            reader(path)
        except (OSError, ValueError, RuntimeError, zipfile.BadZipFile, UserError) as error:
            return f"{name} cannot be read: {error}"
    missing = [what for what, names in NEEDED.items() if not any(next(checkpoint.rglob(n), None) for n in names)]
    return f"there is no file with {missing[0]}" if missing else None


def _read_json(path: Path) -> None:
    value = json.loads(path.read_text(encoding="utf-8"))
    if path.name == STATE and not (isinstance(value, dict) and isinstance(value.get("global_step"), int)):
        raise ValueError("it names no global_step")
    if path.name == INDEX:
        weight_files(path.parent)  # every shard that it names is there


def _read_zip(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        entry = archive.testzip()  # torch.load does not look at checksums
    if entry:
        raise zipfile.BadZipFile(f"the checksum of {entry} is wrong")


READERS = {
    ".json": _read_json,
    ".safetensors": shapes_in,
    ".pt": _read_zip,
    ".pth": _read_zip,
    ".bin": _read_zip,
}


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


# ---- writing checkpoints


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


class ExactResumeMixin:
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
        # DeepSpeed's learning rate is known after the first step only
        if self.state.max_steps == 1 and not self.is_deepspeed_enabled and self._get_learning_rate() == 0:
            raise UserError(
                "the only step would be made with learning rate 0, as the first of the warm-up, so nothing would be learned; set "
                "--warmup-steps 0, or make more steps (more rows, or fewer of them a step)"
            )
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
