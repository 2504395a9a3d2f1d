"""Reading records from files and from the Hub in bounded memory, in pieces that can be read side by side.

A *slice* is a part of a source that one process reads on its own: some row groups of a parquet file, a byte range of a
JSON or JSONL file, one file of a Hub dataset. Cut-off and corrupt input is an error that names the file, or
is counted in `Losses` when the user asked to skip it.
"""

import json
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from wildreward.dataset_builder.sources.json_array import read_array
from wildreward.errors import UserError

JSON_SLICE = 16 << 20
JSONL_SLICE = 64 << 20
PARQUET_SLICE_ROWS = 20_000
FORMATS = {".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json"}


@dataclass(frozen=True)
class Slice:
    """A piece of a source: `start` and `stop` are row groups (parquet), bytes (json, jsonl), or shard and shards (hub).

    `revision` is the commit of a Hub dataset.
    """

    kind: Literal["parquet", "jsonl", "json", "hub"]
    path: str
    start: int = 0
    stop: int = 0
    revision: str | None = None


@dataclass
class Losses:
    """Input that could not be read. With `skip` it is counted, otherwise it is an error."""

    skip: bool = False
    counts: Counter = field(default_factory=Counter)

    def add(self, reason: str, message: str, count: int = 1) -> None:
        if not self.skip:
            raise UserError(f"{message}; pass --on-bad-input skip to use what can be read and count the loss")
        self.counts[reason] += count


def find_slices(source: str, losses: Losses, revision: str | None = None) -> list[Slice]:
    """All slices of a local file or folder, in a fixed order; or of a Hub dataset at one commit.

    Args:
        source: a path or a Hub dataset id.
        losses: gets what cannot be opened.
        revision: commit, branch or tag of a Hub dataset; None: its main branch as it is now.
    """
    path = Path(source)
    if not path.exists():
        return _hub_slices(source, revision)
    if revision:
        raise UserError(f"--revision {revision} names a version of a Hub dataset, but {source} is on this machine")
    files = sorted(p for p in path.rglob("*") if p.suffix in FORMATS) if path.is_dir() else [path]
    files = [p for p in files if not any(part.startswith(".") for part in p.relative_to(path).parts)] or files
    if not files:
        raise UserError(f"{source} holds no parquet, JSON or JSONL file")
    slices: list[Slice] = []
    for file in files:
        kind = FORMATS.get(file.suffix)
        if kind is None:
            raise UserError(f"{file} is not a parquet, JSON or JSONL file; expected one of {', '.join(FORMATS)}")
        if file.stat().st_size == 0:
            losses.add("empty_file", f"{file} is empty")
        elif kind == "json" and not _is_array(file):
            slices += _ranges("jsonl", file, JSONL_SLICE)
        elif kind == "json":
            slices += _ranges("json", file, JSON_SLICE)
        elif kind == "jsonl":
            slices += _ranges("jsonl", file, JSONL_SLICE)
        else:
            slices += _parquet_slices(file, losses)
    return slices


def columns_of(piece: Slice) -> set[str]:
    """Top-level column names: a parquet schema, or the keys of the first record."""
    if piece.kind == "parquet":
        import pyarrow.parquet as pq

        return set(pq.read_schema(piece.path).names)
    first = next(iter(read_slice(piece, [], Losses(skip=True))), None)
    return set(first) if isinstance(first, dict) else set()


def read_slice(piece: Slice, wanted: list[str], losses: Losses) -> Iterator[Any]:
    """Records of one slice, as parsed; `wanted` columns are enough where the format can leave the others out."""
    if piece.kind == "parquet":
        return _read_parquet(piece, wanted, losses)
    if piece.kind == "jsonl":
        return _read_jsonl(piece, losses)
    if piece.kind == "json":
        key = wanted[0] if wanted else None
        return read_array(Path(piece.path), piece.start, piece.stop, key, losses.add)
    return _read_hub(piece, wanted)


def _is_array(file: Path) -> bool:
    with open(file, "rb") as handle:
        return handle.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"[")


def _ranges(kind: Literal["json", "jsonl"], file: Path, length: int) -> list[Slice]:
    size = file.stat().st_size
    edges = [*range(0, size, length), size]
    return [Slice(kind, str(file), start, stop) for start, stop in pairwise(edges)]


def _parquet_slices(file: Path, losses: Losses) -> list[Slice]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        metadata = pq.read_metadata(file)
    except (pa.ArrowInvalid, OSError) as error:
        losses.add("unreadable_file", f"{file} is not a complete parquet file ({_short(error)})")
        return []
    slices, start, rows = [], 0, 0
    for group in range(metadata.num_row_groups):
        rows += metadata.row_group(group).num_rows
        if rows >= PARQUET_SLICE_ROWS or group == metadata.num_row_groups - 1:
            slices.append(Slice("parquet", str(file), start, group + 1))
            start, rows = group + 1, 0
    return slices


def _read_parquet(piece: Slice, wanted: list[str], losses: Losses) -> Iterator[dict]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    with pq.ParquetFile(piece.path) as file:
        columns = [name for name in wanted if name in file.schema_arrow.names] or None
        try:
            groups = list(range(piece.start, piece.stop))
            for batch in file.iter_batches(batch_size=256, row_groups=groups, columns=columns):
                yield from batch.to_pylist()
        except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:
            losses.add("unreadable_rows", f"{piece.path} cannot be read to its end ({_short(error)})")


def _read_jsonl(piece: Slice, losses: Losses) -> Iterator[Any]:
    """Lines that begin inside the byte range."""
    with open(piece.path, "rb") as handle:
        handle.seek(max(0, piece.start - 1))
        if piece.start:
            handle.readline()
        while handle.tell() < piece.stop:
            offset = handle.tell()
            line = handle.readline()
            if line.isspace():
                continue
            try:
                yield json.loads(line)
            except ValueError as error:
                losses.add("bad_json_line", f"{piece.path}: the line at byte {offset} is not JSON ({_short(error)})")


def _hub_slices(source: str, revision: str | None) -> list[Slice]:
    """One slice for each file of a Hub dataset's train split, read by streaming.

    A branch may move between two runs, and while one reads: every slice holds the commit that it stood at.
    """
    if source.count("/") != 1 or source.startswith((".", "/")):
        raise UserError(f"{source} does not exist; expected a file, a folder or a Hub dataset id (owner/name)")
    from datasets import load_dataset
    from datasets.exceptions import DatasetNotFoundError
    from huggingface_hub import HfApi
    from huggingface_hub.errors import RevisionNotFoundError

    try:
        commit = HfApi().dataset_info(source, revision=revision).sha
        stream = load_dataset(source, split="train", streaming=True, revision=commit)
    except RevisionNotFoundError as error:
        raise UserError(
            f"the Hub dataset {source} has no revision {revision}; expected a commit, a branch or a tag"
        ) from error
    except (DatasetNotFoundError, ConnectionError, OSError, ValueError) as error:
        raise UserError(
            f"{source} is not a file here, and could not be opened as a Hub dataset ({_short(error)})"
        ) from error
    return [Slice("hub", source, index, stream.num_shards, commit) for index in range(stream.num_shards)]


def _read_hub(piece: Slice, wanted: Collection[str]) -> Iterator[dict]:
    from datasets import load_dataset

    stream = load_dataset(piece.path, split="train", streaming=True, revision=piece.revision)
    if wanted and stream.column_names:
        stream = stream.select_columns([name for name in wanted if name in stream.column_names])
    yield from stream.shard(num_shards=piece.stop, index=piece.start)


def _short(error: BaseException | None) -> str:
    return " ".join(str(error).split())[:200]
