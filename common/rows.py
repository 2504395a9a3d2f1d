"""Rows as they lie in files, in saved datasets or on the Hub, each with its place; and where they were read from in publishable form."""

import gzip
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from wildreward.common.errors import UserError, described
from wildreward.common.files import read_json
from wildreward.common.hashing import file_sha256

if TYPE_CHECKING:
    import pyarrow as pa
    from datasets import Dataset

SUFFIXES = (".json", ".jsonl", ".parquet", ".json.gz", ".jsonl.gz", ".arrow")
BATCH_ROWS = 256  # of an Arrow table that are turned into Python objects at once

Origin = dict[str, str]


class Place(NamedTuple):
    """Where a row lies; as a text `chats.jsonl, line 3`."""

    source: str
    """Path of the file, or the Hub id."""
    unit: str
    """`line` of a text, `row` of a table."""
    number: int
    """From 1."""

    @property
    def within(self) -> str:
        """The place without the file."""
        return f"{self.unit} {self.number}"

    def __str__(self) -> str:
        return f"{self.source}, {self.within}"


Placed = tuple[Place, dict[str, Any]]


def hub_split(repo: str, split: str, revision: str | None = None) -> "tuple[Dataset, Origin]":
    """One split of a dataset on the Hub (or in the cache), with the commit it was read at.

    Raises:
        FileNotFoundError, ConnectionError, ValueError: as `datasets.load_dataset` does.
    """
    from datasets import load_dataset_builder

    builder = load_dataset_builder(repo, revision=revision)
    builder.download_and_prepare()
    data: Any = builder.as_dataset(split)
    return data, {"repo": repo, "revision": str(builder.hash)}


def hub_rows(data: "Dataset", repo: str) -> Iterator[Placed]:
    """Rows of what `hub_split` returned; images and sounds stay as they are stored."""
    return _table_rows(data.with_format("arrow").iter(BATCH_ROWS), repo)


def file_origins(files: Sequence[Path], root: Path) -> list[Origin]:
    """Names of the files below `root` (of `root` itself its own name) and the digests of their bytes."""
    names = {file: file.name if file == root else file.relative_to(root).as_posix() for file in files}
    return [{"file": name, "sha256": file_sha256(file)} for file, name in names.items()]


def data_files(path: Path, of: str = "benchmark") -> list[Path]:
    """The file itself, or all JSON, JSON Lines, parquet and Arrow files of a folder, in order; `of` is what they should hold.

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


def split_files(folder: Path, split: str) -> list[Path]:
    """Parquet files of one split of a dataset folder.

    Raises:
        UserError: there are none.
    """
    files = sorted(folder.glob(f"data/{split}-*.parquet"))
    if not files:
        raise UserError(
            f"{folder} has no data/{split}-*.parquet; expected a dataset folder as build-dataset writes it, with rows in "
            "that split (where users are few, build it with a larger --test_fraction)"
        )
    return files


def dataset_files(place: Path, split: str, of: str) -> list[Path]:
    """The files of a dataset, in order: a file; of a folder with `data/SPLIT-*.parquet` the split's, of one that `save_to_disk`
    wrote the split's or its only one's, of any other all that `data_files` finds.

    Raises:
        UserError: there are none.
    """
    if (place / "dataset_dict.json").is_file():
        splits = read_json(place / "dataset_dict.json").get("splits", [])
        if split not in splits:
            raise UserError(f"{place} has no split {split!r}; expected --split to be one of {', '.join(splits)}")
        place = place / split
    if (place / "state.json").is_file():
        return [place / file["filename"] for file in read_json(place / "state.json")["_data_files"]]
    return split_files(place, split) if any(place.glob("data/*.parquet")) else data_files(place, of)


def read_rows(path: Path, of: str = "benchmark") -> Iterator[Placed]:
    """Yield (place, row) from a file, or from all files of a folder, see `data_files`.

    Raises:
        UserError: nothing there, or what is there cannot be read, naming file and line.
    """
    for file in data_files(path, of):
        for place, row in read_leniently(file, _refuse_constant):
            if isinstance(row, str):
                raise UserError(f"{place}: {row}")
            yield place, row


def read_leniently(
    file: Path, constant: Callable[[str], Any] | None = None
) -> Iterator[tuple[Place, dict[str, Any] | str]]:
    """As `read_rows`, of one file; what is wrong with a row that alone cannot be read stands in its place.

    Args:
        file: with one of `SUFFIXES`.
        constant: what NaN and infinity in JSON are; None: numbers.

    Raises:
        UserError: the file as a whole cannot be read.
    """
    if file.suffix in (".parquet", ".arrow"):
        return _table_rows(_batches(file), str(file))
    return _json_rows(file, json.JSONDecoder(parse_constant=constant))


# ---- tables


def _batches(path: Path) -> "Iterator[pa.RecordBatch]":
    """Record batches of a file, not all of which is in memory at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        if path.suffix == ".parquet":
            with pq.ParquetFile(path, buffer_size=1 << 20) as table:
                yield from table.iter_batches(batch_size=BATCH_ROWS)
        else:
            with pa.memory_map(str(path)) as handle, pa.ipc.open_stream(handle) as stream:
                for batch in stream:
                    yield from (batch.slice(start, BATCH_ROWS) for start in range(0, len(batch), BATCH_ROWS))
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} is not a readable {path.suffix.removeprefix('.')} file ({reason})") from error


def _table_rows(batches: "Iterable[pa.RecordBatch | pa.Table]", source: str) -> Iterator[Any]:
    number = 0
    for batch in batches:
        for row in _row_list(batch):
            number += 1
            yield Place(source, "row", number), row


def _row_list(batch: "pa.RecordBatch | pa.Table") -> list[dict[str, Any] | str]:
    """Rows of a batch; of one that holds bytes which are no text, that it does."""
    try:
        rows = batch.to_pylist()
    except UnicodeDecodeError:
        if len(batch) == 1:
            return ["not UTF-8 text"]
        return [row for start in range(len(batch)) for row in _row_list(batch.slice(start, 1))]
    packed = [field for field in batch.schema if holds_json(field.type)]
    for row in rows if packed else ():
        row.update({field.name: _unpacked(row[field.name], field.type) for field in packed})
    return rows


def holds_json(kind: "pa.DataType") -> bool:
    """Whether a type has texts in it that are JSON, as `datasets` writes what is of many types."""
    import pyarrow as pa

    return isinstance(kind, pa.JsonType) or any(holds_json(kind.field(i).type) for i in range(kind.num_fields))


def _unpacked(value: Any, kind: "pa.DataType") -> Any:
    import pyarrow as pa

    if value is None or not holds_json(kind):
        return value
    if isinstance(kind, pa.JsonType):
        return json.loads(value)
    if isinstance(value, dict):
        return {field.name: _unpacked(value[field.name], field.type) for field in kind}
    return [_unpacked(item, kind.field(0).type) for item in value]


# ---- JSON


def _json_rows(path: Path, decoder: json.JSONDecoder) -> Iterator[tuple[Place, dict[str, Any] | str]]:
    """An object a line, each read by itself; where the first line begins a list, or is a lone brace, a document."""
    opened: Callable[..., Any] = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rb") as handle:
            first = next((text for _, text in _lines(handle)), b"")
        with opened(path, "rb") as handle:
            if first.startswith(b"[") or first == b"{":
                yield from _document_rows(path, handle.read(), decoder)
            else:
                for number, text in _lines(handle):
                    yield Place(str(path), "line", number), _json_row(text, decoder)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read: {error}; it is damaged or cut off: get or write it anew") from error


def _lines(handle: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, with their numbers."""
    for number, line in enumerate(handle, start=1):
        if text := (line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line).strip():
            yield number, text


def _json_row(text: bytes, decoder: json.JSONDecoder) -> dict[str, Any] | str:
    try:
        row = decoder.decode(text.decode())
    except UnicodeDecodeError:
        return "not UTF-8 text"
    except (ValueError, RecursionError) as error:
        return f"not valid JSON ({getattr(error, 'msg', error)})"
    return row if isinstance(row, dict) else f"found {described(row)}; expected an object"


def _document_rows(path: Path, content: bytes, decoder: json.JSONDecoder) -> Iterator[Placed]:
    """Objects of a JSON list, or one after the other; each with the line it begins on."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise UserError(f"{path}, line {line}: not UTF-8 text") from error
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
        yield Place(str(path), "line", line), row
        line += text.count("\n", start, end)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
