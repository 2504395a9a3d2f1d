"""Reading records from files and from the Hub in bounded memory, in pieces that can be read side by side.

A *slice* is a part of a source that one process reads on its own: some row groups of a parquet file, a byte range of a
JSONL file, any other file, one file of a Hub dataset; or several files whose records belong together. Cut-off and corrupt
input is an error that names the file, or is counted in `InputErrors` when the user asked to skip it.
"""

import json
import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from wildreward.common.errors import UserError
from wildreward.common.lookup import hub_httpx
from wildreward.dataset_builder.sources.files import (
    ARCHIVES,
    COMPRESSED,
    EXPECTED,
    FORMATS,
    InputErrors,
    files_in,
    format_of,
    opened,
    reading,
    size_of,
    unreadable,
)
from wildreward.dataset_builder.sources.formats import read_arrow, read_csv, read_jsonl, read_parquet, short
from wildreward.dataset_builder.sources.json_array import read_array
from wildreward.dataset_builder.sources.zipped import archive_of, is_archive

JSONL_SLICE = 64 << 20
PARQUET_SLICE_ROWS = 20_000
FIRST_RECORDS = 20  # of a file, in which its layout is looked for
HEAD = 4096  # bytes, in which the form of a text file is looked for
_WIDE = re.compile(rb"\xff\xfe|\xfe\xff|\0\0\xfe\xff|[^\0]\0[^\0]\0|\0[^\0]\0[^\0]|[^\0]\0\0\0|\0\0\0[^\0]")


class SourceLost(UserError):
    """The connection to the source broke; what was read before is there."""


@dataclass(frozen=True)
class Slice:
    """A piece of a source: `start` and `stop` are row groups (parquet), bytes (jsonl), or shard and shards (hub).

    `revision` is the commit of a Hub dataset. `parts` are slices of several files (kind "together", path of the first).
    """

    kind: Literal["parquet", "arrow", "jsonl", "json", "csv", "hub", "together"]
    path: str
    start: int = 0
    stop: int | None = 0
    revision: str | None = None
    parts: tuple["Slice", ...] = ()


def find_slices(source: str, errors: InputErrors, revision: str | None = None) -> list[Slice]:
    """All slices of a local file, folder or archive, in a fixed order; or of a Hub dataset at one commit.

    Args:
        source: a path or a Hub dataset id.
        errors: gets what cannot be opened.
        revision: commit, branch or tag of a Hub dataset; None: its main branch as it is now.
    """
    path = Path(source)
    if not os.path.lexists(path):
        return _hub_slices(source, revision)
    if revision:
        raise UserError(f"--revision {revision} names a version of a Hub dataset, but {source} is on this machine")
    files = files_in(path, errors) if path.is_dir() or is_archive(path) else [path]
    return [piece for file in files for piece in _slices_of(file, errors)]


def _slices_of(file: Path, errors: InputErrors) -> list[Slice]:
    if not archive_of(file) and (why := unreadable(file)):
        errors.add("unreadable_file", f"{file} {why}")
        return []
    kind = format_of(file)
    if kind is None:
        endings = ", ".join([*FORMATS, *(f"….jsonl{ending}" for ending in COMPRESSED)])
        unpack = "; unpack it and give the folder" if file.suffix.lower() in ARCHIVES else ""
        raise UserError(f"{file} is not a {EXPECTED} file; expected one of {endings}{unpack}")
    with reading(file, errors.add):
        return _slices_in(file, kind, errors)
    return []


def _slices_in(file: Path, kind: str, errors: InputErrors) -> list[Slice]:
    if (size := size_of(file)) == 0:
        errors.add("empty_file", f"{file} is empty")
        return []
    if kind == "parquet":
        return _parquet_slices(file, errors)
    if kind == "arrow":
        return [Slice("arrow", str(file))]
    with opened(file) as handle:
        head = handle.read(HEAD)
    if _WIDE.match(head):
        errors.add("not_utf8", f"{file} is {json.detect_encoding(head).upper()}, expected UTF-8; convert it with iconv")
        return []
    begin = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if kind == "csv":
        return [Slice("csv", str(file))]
    # A line that is an array is no record: in a file of lines, too, an array of objects is what the file consists of. A
    # brace that stands alone in its line begins a document that takes many of them.
    if re.match(rb"\[" if kind == "json" else rb"\[\s*\{", begin) or re.match(rb"\{[ \t]*\r?\n", begin):
        return [Slice("json", str(file), 0, size)]
    if file.suffix.lower() in COMPRESSED or archive_of(file):
        return [Slice("jsonl", str(file), 0, None)]
    edges = [*range(0, size, JSONL_SLICE), size]
    return [Slice("jsonl", str(file), start, stop) for start, stop in pairwise(edges)]


def first_records(piece: Slice, errors: InputErrors) -> list[Any]:
    """The first records of a slice, whole."""
    return list(islice(read_slice(piece, [], errors), FIRST_RECORDS))


def read_slice(piece: Slice, wanted: list[str], errors: InputErrors) -> Iterator[Any]:
    """Records of one slice, as parsed; `wanted` columns are enough where the format can leave the others out.

    `wanted[0]` is one that every record has.
    """
    if piece.kind == "together":
        yield from chain.from_iterable(read_slice(part, wanted, errors) for part in piece.parts)
        return
    if piece.kind == "hub":
        yield from _read_hub(piece, wanted, errors)
        return
    with reading(piece.path, errors.add):
        if piece.kind == "parquet":
            yield from read_parquet(piece.path, piece.start, piece.stop or 0, wanted, errors)
        elif piece.kind == "arrow":
            yield from read_arrow(piece.path, wanted, errors)
        elif piece.kind == "jsonl":
            yield from read_jsonl(piece.path, piece.start, piece.stop, errors)
        elif piece.kind == "csv":
            yield from read_csv(piece.path, errors)
        else:
            key = wanted[0].partition(".")[0] if wanted else None
            yield from read_array(Path(piece.path), key, errors.add)


def _parquet_slices(file: Path, errors: InputErrors) -> list[Slice]:
    try:
        metadata = pq.read_metadata(file)
    except (pa.ArrowInvalid, OSError) as error:
        errors.add("unreadable_file", f"{file} is not a complete parquet file ({short(error)})")
        return []
    slices, start, rows = [], 0, 0
    for group in range(metadata.num_row_groups):
        rows += metadata.row_group(group).num_rows
        if rows >= PARQUET_SLICE_ROWS or group == metadata.num_row_groups - 1:
            slices.append(Slice("parquet", str(file), start, group + 1))
            start, rows = group + 1, 0
    return slices


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
            f"{source} is not a file here, and could not be opened as a Hub dataset ({short(error)})"
        ) from error
    return [Slice("hub", source, index, stream.num_shards, commit) for index in range(stream.num_shards)]


def _read_hub(piece: Slice, wanted: Collection[str], errors: InputErrors) -> Iterator[dict]:
    from datasets import load_dataset

    where = f"shard {piece.start} of the Hub dataset {piece.path}"
    try:
        stream = load_dataset(piece.path, split="train", streaming=True, revision=piece.revision)
        if wanted and stream.column_names:
            tops = [name if name in stream.column_names else name.partition(".")[0] for name in wanted]
            stream = stream.select_columns([name for name in dict.fromkeys(tops) if name in stream.column_names])
        yield from stream.shard(num_shards=piece.stop, index=piece.start)
    except (hub_httpx().HTTPError, pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:
        told = f"{where} cannot be read to its end ({short(error)})"
        # pyarrow's own complaints have no number; those of the network and of this machine do, or a class of their own
        if isinstance(error, pa.ArrowInvalid | UnicodeDecodeError) or (type(error) is OSError and error.errno is None):
            errors.add("unreadable_rows", told)
            return
        raise SourceLost(f"{told}; run the same command again: what was read is kept") from error
