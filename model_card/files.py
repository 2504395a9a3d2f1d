"""Which files of a folder belong on the Hub. Only what is listed here goes; the rest is named, not pushed."""

import fnmatch
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from wildreward.common.errors import UserError

MODEL, DATASET = "model", "dataset"

_BOTH = (
    "README.md",
    "LICENSE*",
    "NOTICE*",
    "results.json",
    "figures/*.png",
    "images/*.png",
    "images/*.jpg",
    "images/*.svg",
)
# A tokenizer is many files, of which each kind of tokenizer has some.
_TOKENIZER = (
    "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json",
    "vocab.txt", "merges.txt", "*.model", "*.jinja", "additional_chat_templates/*.jinja",
)  # fmt: skip
_MODEL = (
    "*.safetensors", "*.safetensors.index.json", "config.json", "adapter_config.json", "generation_config.json",
    "training_summary.json", "dpo_results.json", "labeler_results.json", "*.py",
)  # fmt: skip
ALLOWED = {
    MODEL: (
        *_BOTH, *_MODEL, *_TOKENIZER, ".eval_results/*.yaml", "modules.json", "sentence_bert_config.json",
        "config_sentence_transformers.json", "1_Pooling/config.json",
    ),
    DATASET: (*_BOTH, "build_report.json", "data/*.parquet", "unpaired_preference/*.parquet"),
}  # fmt: skip
_REPLACED = {
    MODEL: (*_MODEL, "figures/*.png", "results.json", ".eval_results/wildreward.yaml"),
    DATASET: ("data/*.parquet", "unpaired_preference/*.parquet", "figures/*.png"),
}
PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl", "*.pickle", "*.joblib")
# What training leaves beside the model: never pushed and no reason to refuse.
TRAINING_STATE = ("training_args.bin", "optimizer.*", "scheduler.*", "rng_state*", "scaler.*", "optimizer_*")


@dataclass(frozen=True)
class Selection:
    """The files of a folder that go to the Hub, and those that stay, as paths relative to it."""

    kind: str
    files: tuple[str, ...]
    left_out: tuple[str, ...]


def detect_kind(folder: str | os.PathLike) -> str:
    """Tell from its contents whether a folder is a `"model"` or a `"dataset"`.

    Raises:
        UserError: it is neither, or both.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder; expected a model or a dataset folder")
    model = (folder / "config.json").exists() or (folder / "adapter_config.json").exists()
    dataset = any(folder.glob("data/*.parquet"))
    if model == dataset:
        raise UserError(
            f"{folder} holds {'both a model and a dataset' if model else 'neither a model nor a dataset'}; "
            "expected config.json and *.safetensors, or data/*.parquet"
        )
    return MODEL if model else DATASET


def select_files(folder: str | os.PathLike) -> Selection:
    """Choose what to push.

    Raises:
        UserError: not a model or dataset folder, or it holds weights as pickles, which run code when loaded.
    """
    folder = Path(folder)
    kind = detect_kind(folder)
    chosen, left_out = [], []
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if not path.is_file() or name == ".lock" or _inside(name, ("work", ".git", ".cache")):
            continue
        if matches(name, ALLOWED[kind]):
            chosen.append(name)
        elif kind == MODEL and "/" not in name and matches(name, PICKLED) and not matches(name, TRAINING_STATE):
            raise UserError(
                f"{path} is a pickle, which can run code when it is loaded; save the model with safetensors and delete it"
            )
        else:
            left_out.append(name)
    return Selection(kind, tuple(chosen), tuple(left_out))


def replaced(kind: str, files: Sequence[str]) -> tuple[str, ...]:
    """Patterns of the files that a push of `files` takes off the Hub where it does not bring them.

    A stale shard would be loaded with the rest, an adapter's configuration instead of the merged model. A tokenizer goes
    only where another comes.
    """
    tokenizer = kind == MODEL and any(matches(name, _TOKENIZER) for name in files)
    return (*_REPLACED[kind], *_TOKENIZER) if tokenizer else _REPLACED[kind]


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether a relative path fits one of the patterns, folder by folder (`*` does not cross a `/`)."""
    parts = name.split("/")
    return any(
        len(parts) == len(wanted := pattern.split("/")) and all(map(fnmatch.fnmatchcase, parts, wanted))
        for pattern in patterns
    )


def _inside(name: str, folders: tuple[str, ...]) -> bool:
    return name.split("/")[0] in folders
