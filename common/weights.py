"""The files of a model folder: whether they can be read, and one digest of the weights, whatever else is written anew."""

import hashlib
import os
from functools import lru_cache
from pathlib import Path

from wildreward.common.errors import UserError, described
from wildreward.common.files import read_json

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
OBJECTS = ("config.json", "tokenizer_config.json", "tokenizer.json", INDEX)


def check_files(folder: str | os.PathLike) -> None:
    """Refuse a model folder with a file that cannot be read; what is no folder is passed over.

    Raises:
        UserError: a file is damaged, cut off or missing, naming it.
    """
    folder = Path(folder)
    for name in OBJECTS:
        if (folder / name).exists() and not isinstance(content := read_json(folder / name), dict):
            raise UserError(f"{folder / name} holds {described(content)}; expected a JSON object")
    for file in weight_files(folder):
        shapes_in(file)


def shapes_in(file: Path) -> dict[str, tuple[int, ...]]:
    """Name and shape of each weight in a safetensors file, of which only the header is read.

    Raises:
        UserError: it is damaged or cut off.
    """
    from safetensors import SafetensorError, safe_open

    if not file.is_file():
        raise UserError(f"there is no file {file}; expected the weights there")
    try:
        with safe_open(file, framework="np") as weights:
            return {name: tuple(weights.get_slice(name).get_shape()) for name in weights.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise UserError(f"{file} is damaged or cut off ({error}); get or write it anew") from error


def weight_files(folder: Path) -> list[Path]:
    """The files that the weights are in, by the rule of transformers: one, or those that an index lists.

    Raises:
        UserError: the index cannot be read, or names a file that is missing.
    """
    if (folder / WEIGHTS).exists():
        return [folder / WEIGHTS]
    if not (folder / INDEX).exists():
        return []
    index = read_json(folder / INDEX)
    shards = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(shards, dict) or not shards or any(Path(str(name)).name != name for name in shards.values()):
        raise UserError(f"{folder / INDEX} has no weight_map that gives each weight the name of a file beside it")
    for name in sorted(set(shards.values())):
        if not (folder / name).exists():
            raise UserError(f"{folder / name} is missing, which {INDEX} names")
    return [folder / name for name in sorted(set(shards.values()))]


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
