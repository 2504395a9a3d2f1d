"""Reading records from files and from the Hub in bounded memory, in pieces that can be read side by side.

A *slice* is a part of a source that one process reads on its own: some row groups of a parquet file, a byte range of a
JSON or JSONL file, one file of a Hub dataset. Cut-off and corrupt input is an error that names the file, or
is counted in `Losses` when the user asked to skip it.
"""

import json
import logging
import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from wildreward.dataset_builder.sources.json_array import read_array, record_starts
from wildreward.dataset_builder.sources.opening import reading, reason, unreadable
from wildreward.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

JSON_SLICE = 16 << 20
JSONL_SLICE = 64 << 20
PARQUET_SLICE_ROWS = 20_000
FIRST_RECORDS = 20  # of a JSON file, in which its columns are looked for
FORMATS = {".parquet": "parquet", ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "json"}
# Files of a folder that may hold chats in a form that is not read here; they are not passed over in silence.
OTHER_DATA = re.compile(
    r"\.(7z|arrow|avro|bz2|csv|feather|gz|lz4|orc|pickle|pkl|rar|sqlite|tar|tgz|tsv|txt|xlsx?|xz|zip|zst)"
)
_PROSE = ("changelog", "citation", "copying", "licen", "notice", "readme", "requirements")  # as .txt
_METADATA = ("dataset_info.json", "dataset_infos.json")
_WIDE = re.compile(rb"\xff\xfe|\xfe\xff|\0\0\xfe\xff|[^\0]\0[^\0]\0|\0[^\0]\0[^\0]|[^\0]\0\0\0|\0\0\0[^\0]")

logger = logging.getLogger(__name__)


class SourceLost(UserError):
    """The connection to the source broke; what was read before is there."""


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
    """Input that could not be read. With `skip` it is counted, otherwise it is an error. `first` says what came first."""

    skip: bool = False
    counts: Counter = field(default_factory=Counter)
    first: str = ""

    def add(self, reason: str, message: str, count: int = 1) -> None:
        if not self.skip:
            raise UserError(f"{message}; pass --on-bad-input skip to use what can be read and count the loss")
        self.counts[reason] += count
        self.first = self.first or message


def find_slices(source: str, losses: Losses, revision: str | None = None) -> list[Slice]:
    """All slices of a local file or folder, in a fixed order; or of a Hub dataset at one commit.

    Args:
        source: a path or a Hub dataset id.
        losses: gets what cannot be opened.
        revision: commit, branch or tag of a Hub dataset; None: its main branch as it is now.
    """
    path = Path(source)
    if not os.path.lexists(path):
        return _hub_slices(source, revision)
    if revision:
        raise UserError(f"--revision {revision} names a version of a Hub dataset, but {source} is on this machine")
    files = _files_in(path, losses) if path.is_dir() else [path]
    return [piece for file in files for piece in _slices_of(file, losses)]


def _files_in(folder: Path, losses: Losses) -> list[Path]:
    """The files of a folder that are read; others that may hold chats are a loss. Hidden ones count if there are no others."""
    known, other = [], []
    for path in _walk(folder, losses):
        suffix = path.suffix.lower()
        if suffix in FORMATS and path.name not in _METADATA:
            known.append(path)
        elif OTHER_DATA.fullmatch(suffix):
            other.append(path)
    other = [p for p in _visible(other, folder) if p.suffix.lower() != ".txt" or not p.stem.lower().startswith(_PROSE)]
    names = ", ".join(str(path.relative_to(folder)) for path in other[:3]) + (" …" if len(other) > 3 else "")
    if not known:
        raise UserError(f"{folder} holds no parquet, JSON or JSONL file" + (f", only {names}" if other else ""))
    if other:
        message = f"{folder} holds files that are not parquet, JSON or JSONL ({len(other)}: {names})"
        losses.add("files_not_read", f"{message}; unpack or convert them, or move them elsewhere", len(other))
        logger.warning("%s; they are not read", message)
    return _visible(known, folder) or known


def _walk(folder: Path, losses: Losses) -> list[Path]:
    """All files below a folder, sorted, also behind links; a folder that is reached twice counts once.

    A folder that is called like a file, with files of which none is read, comes as that file would, to be refused.
    """

    def not_listed(error: OSError) -> None:
        losses.add("unreadable_folder", f"{error.filename} cannot be read ({reason(error)})")

    found, seen = [], set()
    for parent, folders, names in os.walk(folder, onerror=not_listed, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders.sort()
        found += [Path(parent, name) for name in names]
        like_a_file = Path(parent) != folder and Path(parent).suffix.lower() in FORMATS
        if like_a_file and names and not any(Path(name).suffix.lower() in FORMATS for name in names):
            found.append(Path(parent))
    return sorted(found)


def _visible(paths: list[Path], folder: Path) -> list[Path]:
    return [p for p in paths if not any(part.startswith(".") for part in p.relative_to(folder).parts)]


def _slices_of(file: Path, losses: Losses) -> list[Slice]:
    if why := unreadable(file):
        losses.add("unreadable_file", f"{file} {why}")
        return []
    kind = FORMATS.get(file.suffix.lower())
    if kind is None:
        raise UserError(f"{file} is not a parquet, JSON or JSONL file; expected one of {', '.join(FORMATS)}")
    with reading(file, losses.add):
        return _pieces(file, kind, losses)
    return []


def _pieces(file: Path, kind: str, losses: Losses) -> list[Slice]:
    if file.stat().st_size == 0:
        losses.add("empty_file", f"{file} is empty")
        return []
    if kind == "parquet":
        return _parquet_slices(file, losses)
    with open(file, "rb") as handle:
        head = handle.read(4096)
    if _WIDE.match(head):
        losses.add("not_utf8", f"{file} is {json.detect_encoding(head).upper()}, expected UTF-8; convert it with iconv")
        return []
    # A line that is an array is no record: in a file of lines, too, an array of objects is what the file consists of.
    if re.match(rb"\[" if kind == "json" else rb"\[\s*\{", head.lstrip(b"\xef\xbb\xbf \t\r\n")):
        return _ranges("json", file, record_starts(file, JSON_SLICE))
    return _ranges("jsonl", file, range(0, file.stat().st_size, JSONL_SLICE))


def columns_of(piece: Slice, losses: Losses) -> set[str]:
    """Top-level column names: a parquet schema, or the keys of the first records; none if the first is not an object."""
    if piece.kind == "parquet":
        import pyarrow.parquet as pq

        with reading(piece.path, losses.add):
            return set(pq.read_schema(piece.path).names)
        return set()
    records = read_slice(piece, [], losses)
    first = next(records, None)
    if first is not None and not isinstance(first, dict):
        losses.add("not_a_record", f"{piece.path} begins with a {type(first).__name__}")
    if not isinstance(first, dict):
        return set()
    others = islice(records, FIRST_RECORDS - 1)
    return {*first, *(key for record in others if isinstance(record, dict) for key in record)}


def lacking(pieces: Iterable[Slice], required: Collection[str], named: Collection[str] = ()) -> list[str]:
    """Files without these columns, by their schema or their first records. Files of the Hub are taken on trust.

    Args:
        pieces: of the files.
        required: columns that one record has together.
        named: columns that some record has.
    """
    files = {piece.path: piece for piece in reversed(list(pieces)) if piece.kind != "hub"}
    return [path for path, piece in sorted(files.items()) if not _has(piece, set(required), set(named))]


def _has(piece: Slice, required: set[str], named: set[str]) -> bool:
    losses = Losses(skip=True)
    if piece.kind == "parquet":
        return required | named <= columns_of(piece, losses)
    first = list(islice(read_slice(piece, [], losses), FIRST_RECORDS))
    keys = [row.keys() for row in first if isinstance(row, dict)]
    return not first or (any(required <= found for found in keys) and named <= set().union(*keys))


def read_slice(piece: Slice, wanted: list[str], losses: Losses) -> Iterator[Any]:
    """Records of one slice, as parsed; `wanted` columns are enough where the format can leave the others out."""
    if piece.kind == "hub":
        yield from _read_hub(piece, wanted, losses)
        return
    with reading(piece.path, losses.add):
        if piece.kind == "parquet":
            yield from _read_parquet(piece, wanted, losses)
        elif piece.kind == "jsonl":
            yield from _read_jsonl(piece, losses)
        else:
            key = wanted[0] if wanted else None
            yield from read_array(Path(piece.path), piece.start, piece.stop, key, losses.add, at_record=True)


def _ranges(kind: Literal["json", "jsonl"], file: Path, starts: Iterable[int]) -> list[Slice]:
    edges = [*starts, file.stat().st_size]
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

    left = 1
    try:
        with pq.ParquetFile(piece.path) as file:
            columns = [name for name in wanted if name in file.schema_arrow.names] or None
            groups = list(range(piece.start, piece.stop))
            left = sum(file.metadata.row_group(group).num_rows for group in groups)
            for batch in file.iter_batches(batch_size=256, row_groups=groups, columns=columns):
                left -= len(batch)
                yield from _rows(batch, piece.path, losses)
    except (pa.ArrowInvalid, OSError) as error:
        losses.add("unreadable_rows", f"{piece.path} cannot be read to its end ({_short(error)})", left)


def _rows(batch: "pa.RecordBatch", path: str, losses: Losses) -> Iterator[dict]:
    """The rows of a batch; those that hold bytes which are no text are lost, not their neighbours."""
    import pyarrow as pa

    # points in time, which Python's own types cannot all hold, are not needed: they come as numbers
    schema = pa.schema([(column.name, _without_times(column.type)) for column in batch.schema])
    if schema != batch.schema.remove_metadata():
        batch = batch.cast(schema)
    try:
        yield from batch.to_pylist()
        return
    except UnicodeDecodeError:
        pass
    for place in range(len(batch)):
        try:
            row = batch.slice(place, 1).to_pylist()[0]
        except UnicodeDecodeError as error:
            losses.add("unreadable_rows", f"{path} has a row that is not UTF-8 ({_short(error)})")
        else:
            yield row


def _without_times(kind: "pa.DataType") -> "pa.DataType":
    """The type with numbers in place of dates, times and durations."""
    import pyarrow as pa

    if pa.types.is_temporal(kind):
        return pa.int64() if kind.bit_width == 64 else pa.int32()
    if pa.types.is_struct(kind):
        return pa.struct([(part.name, _without_times(part.type)) for part in kind])
    if pa.types.is_list(kind):
        return pa.list_(pa.field(kind.value_field.name, _without_times(kind.value_type)))
    if pa.types.is_large_list(kind):
        return pa.large_list(pa.field(kind.value_field.name, _without_times(kind.value_type)))
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(pa.field(kind.value_field.name, _without_times(kind.value_type)), kind.list_size)
    if pa.types.is_map(kind):
        return pa.map_(_without_times(kind.key_type), _without_times(kind.item_type))
    return kind  # dictionaries come decoded, but for those of texts


def _read_jsonl(piece: Slice, losses: Losses) -> Iterator[Any]:
    """Lines that begin inside the byte range."""
    with open(piece.path, "rb") as handle:
        handle.seek(max(0, piece.start - 1))
        if piece.start:
            handle.readline()
        while handle.tell() < piece.stop:
            offset = handle.tell()
            line = handle.readline()
            if not line:
                losses.add(
                    "cut_off_files",
                    f"{piece.path} has become shorter since it was opened first: it ends at byte {offset}",
                )
                return
            if line.isspace():
                continue
            try:
                yield json.loads(line)
            except (ValueError, RecursionError) as error:
                losses.add("bad_json_line", f"{piece.path}: the line at byte {offset} is {_fault(line, error)}")


def _fault(line: bytes, error: Exception) -> str:
    """What is wrong with a line that cannot be read."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 ({_short(error)})"
    if b"\r" in line.rstrip():
        return "not JSON (lines seem to end in CR alone; expected LF)"
    return f"not JSON ({_short(error)})"


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


def _read_hub(piece: Slice, wanted: Collection[str], losses: Losses) -> Iterator[dict]:
    import httpx2
    import pyarrow as pa
    from datasets import load_dataset

    where = f"shard {piece.start} of the Hub dataset {piece.path}"
    try:
        stream = load_dataset(piece.path, split="train", streaming=True, revision=piece.revision)
        if wanted and stream.column_names:
            stream = stream.select_columns([name for name in wanted if name in stream.column_names])
        yield from stream.shard(num_shards=piece.stop, index=piece.start)
    except (httpx2.HTTPError, pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:
        told = f"{where} cannot be read to its end ({_short(error)})"
        # pyarrow's own complaints have no number; those of the network and of this machine do, or a class of their own
        if isinstance(error, pa.ArrowInvalid | UnicodeDecodeError) or (type(error) is OSError and error.errno is None):
            losses.add("unreadable_rows", told)
            return
        raise SourceLost(f"{told}; run the same command again: what was read is kept") from error


def _short(error: BaseException | None) -> str:
    return " ".join(str(error).split())[:200]
