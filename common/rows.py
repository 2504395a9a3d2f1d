"""Rows as they lie in files or on the Hub, each with its place, and where they were read from in publishable form."""

import gzip
import json
import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from wildreward.common.errors import UserError, described
from wildreward.common.hashing import file_sha256

if TYPE_CHECKING:
    from datasets import Dataset

SUFFIXES = (".json", ".jsonl", ".parquet", ".json.gz", ".jsonl.gz")

Origin = dict[str, str]


def hub_split(repo: str, split: str) -> "tuple[Dataset, Origin]":
    """One split of a dataset on the Hub (or in the cache), with the commit it was read at.

    Raises:
        FileNotFoundError, ConnectionError, ValueError: as `datasets.load_dataset` does.
    """
    from datasets import load_dataset_builder

    builder = load_dataset_builder(repo)
    builder.download_and_prepare()
    return cast("Dataset", builder.as_dataset(split)), {"repo": repo, "revision": builder.hash or ""}


def file_origins(files: Sequence[Path], root: Path) -> list[Origin]:
    """Names of the files below `root` (of `root` itself its own name) and the digests of their bytes."""
    names = {file: file.name if file == root else file.relative_to(root).as_posix() for file in files}
    return [{"file": name, "sha256": file_sha256(file)} for file, name in names.items()]


def data_files(path: Path, of: str = "benchmark") -> list[Path]:
    """The file itself, or all JSON, JSON Lines and parquet files of a folder, in order; `of` is what they should hold.

    Raises:
        UserError: there are none, or the file is of another kind.
    """
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.name.endswith(SUFFIXES) and p.is_file())
        if not files:
            raise UserError(f"{path} holds no {', '.join(SUFFIXES)} file")
        return files
    if not path.is_file():
        raise UserError(f"{path} does not exist; expected a {of} file or folder ({', '.join(SUFFIXES)})")
    if not path.name.endswith(SUFFIXES):
        raise UserError(f"{path} is a {path.suffix or 'nameless'} file; expected one of {', '.join(SUFFIXES)}")
    return [path]


def read_rows(path: Path, of: str = "benchmark") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (place, row) from a file, or from all files of a folder, see `data_files`.

    Raises:
        UserError: nothing there, or what is there cannot be read, naming file and line.
    """
    for file in data_files(path, of):
        yield from _parquet_rows(file) if file.suffix == ".parquet" else _json_rows(file)


def _parquet_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path)
        number = 0
        for batch in table.iter_batches(batch_size=256):
            for row in batch.to_pylist():
                number += 1
                yield f"{path}, row {number}", row
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{path} is not a readable parquet file ({str(error).splitlines()[0]})") from error


def _json_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Objects of a JSON list, or one after the other; each with the line it begins on."""
    try:
        text = (gzip.open if path.suffix == ".gz" else open)(path, "rb").read().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UserError(f"{path}, line {line}: not UTF-8 text") from error
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read: {error}; it is damaged or cut off: get or write it anew") from error
    decoder = json.JSONDecoder(parse_constant=_refuse_constant)
    listed = text.lstrip().startswith("[")
    between = re.compile(r"[\s,]*" if listed else r"\s*")
    end, line = (text.index("[") + 1 if listed else 0), 1
    line += text.count("\n", 0, end)
    while True:
        start = between.match(text, end).end()  # type: ignore[union-attr]
        line += text.count("\n", end, start)
        if start == len(text):
            if listed:
                raise UserError(f"{path}, line {line}: the list is cut off (no closing bracket)")
            return
        if listed and text[start] == "]" and not text[start + 1 :].strip():
            return
        try:
            row, end = decoder.raw_decode(text, start)
        except (ValueError, RecursionError) as error:
            found, reason = getattr(error, "lineno", line), getattr(error, "msg", error)
            raise UserError(f"{path}, line {found}: not valid JSON ({reason})") from error
        if not isinstance(row, dict):
            raise UserError(f"{path}, line {line}: found {described(row)}; expected an object")
        yield f"{path}, line {line}", row
        line += text.count("\n", start, end)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
