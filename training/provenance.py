"""What a run is made from: digests that tell data and weights with equal names apart."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

ROWS = ("*.parquet", "*.arrow", "*.csv", "*.json", "*.jsonl", "*.gz", "*.zst")
WEIGHTS = (
    "*.safetensors", "pytorch_model*.bin", "config.json", "adapter_config.json", "tokenizer.json", "tokenizer.model",
    "vocab.txt", "*.jinja",
)  # fmt: skip
NOT_ROWS = {"build_report.json"}  # times differ between builds of the same rows


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
