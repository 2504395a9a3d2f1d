"""Which weights a model folder holds: one digest, whatever else in the folder is written anew."""

import hashlib
import os
from functools import lru_cache
from pathlib import Path

from wildreward.files import read_json


def weights_digest(folder: str | os.PathLike) -> str | None:
    """Of the `*.safetensors` in a folder and the temperatures in its config.json, which scores depend on as much.

    Returns:
        16 hex digits; None where there are no weights.

    Raises:
        UserError: config.json cannot be read.
    """
    files = sorted(Path(folder).glob("*.safetensors"))
    if not files:
        return None
    config = Path(folder) / "config.json"
    digest = hashlib.sha256(repr(read_json(config).get("temperatures") if config.exists() else None).encode())
    for file in files:
        stat = file.stat()
        digest.update(file.name.encode() + _digest_of(file, stat.st_size, stat.st_mtime_ns))
    return digest.hexdigest()[:16]


@lru_cache(maxsize=256)
def _digest_of(file: Path, size: int, changed: int) -> bytes:
    """Read once as long as size and time of change stay: a card is rendered several times in one push."""
    with open(file, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").digest()
