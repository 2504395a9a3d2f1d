"""What a run is made from: the settings that decide its weights, and digests that tell data and weights with equal names
apart."""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainingArguments

from wildreward.training.launch_checks import engine_of

# of TrainingArguments; everything else may change between a killed run and the one that goes on
DECISIVE = (
    "learning_rate",
    "num_train_epochs",
    "max_steps",
    "weight_decay",
    "warmup_steps",
    "lr_scheduler_type",
    "lr_scheduler_kwargs",
    "max_grad_norm",
    "optim",
    "optim_args",
    "optim_target_modules",
    "adam_beta1",
    "adam_beta2",
    "adam_epsilon",
    "neftune_noise_alpha",
    "seed",
    "data_seed",
    "bf16",
    "fp16",
    "torch_compile",
    "disable_dropout",
)

ROWS = ("*.parquet", "*.arrow", "*.csv", "*.json", "*.jsonl", "*.gz", "*.zst")
WEIGHTS = (
    "*.safetensors", "pytorch_model*.bin", "config.json", "adapter_config.json", "tokenizer.json", "tokenizer.model",
    "vocab.txt", "*.jinja",
)  # fmt: skip
NOT_ROWS = {"build_report.json"}  # times differ between builds of the same rows


def decisive_settings(config: TrainingArguments, more: Sequence[str]) -> dict[str, Any]:
    """The options that decide a run's weights, those called `more` among them, and the engine that reads its checkpoints."""
    return {name: getattr(config, name) for name in (*DECISIVE, *more)} | {"engine": engine_of(config)}


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
