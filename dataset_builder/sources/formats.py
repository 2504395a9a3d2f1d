"""The records of one file, format by format, in bounded memory."""

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from wildreward.dataset_builder.sources.files import InputErrors, opened

ROWS = 256  # of an Arrow table that are turned into Python objects at once
_DELIMITERS = ",;\t|"
csv.field_size_limit(1 << 30)  # a chat in one field is longer than 128 KiB


def read_parquet(path: str, start: int, stop: int, wanted: list[str], errors: InputErrors) -> Iterator[dict]:
    """The rows of some row groups."""
    left = 1
    try:
        with pq.ParquetFile(path) as file:
            columns = _columns(wanted, file.schema_arrow)
            groups = list(range(start, stop))
            left = sum(file.metadata.row_group(group).num_rows for group in groups)
            for batch in file.iter_batches(batch_size=ROWS, row_groups=groups, columns=columns):
                left -= len(batch)
                yield from _rows(batch, path, errors)
    except (pa.ArrowInvalid, OSError) as error:
        errors.add("unreadable_rows", f"{path} cannot be read to its end ({short(error)})", left)


def read_arrow(path: str, wanted: list[str], errors: InputErrors) -> Iterator[dict]:
    """The rows of an Arrow file, as a stream (which `save_to_disk` writes) or with an index."""
    try:
        with pa.memory_map(path) as file:
            indexed = file.read(6) == b"ARROW1"
            file.seek(0)
            reader = pa.ipc.open_file(file) if indexed else pa.ipc.open_stream(file)
            columns = _columns([name.partition(".")[0] for name in wanted], reader.schema)
            batches = map(reader.get_batch, range(reader.num_record_batches)) if indexed else reader
            for batch in batches:
                batch = batch.select(columns) if columns else batch
                for start in range(0, len(batch), ROWS):
                    yield from _rows(batch.slice(start, ROWS), path, errors)
    except (pa.ArrowInvalid, OSError) as error:
        errors.add("unreadable_rows", f"{path} cannot be read to its end ({short(error)})")


def _columns(wanted: list[str], schema: pa.Schema) -> list[str] | None:
    """Of the columns that are wanted, those that there are; None: all. `data.messages` may be a field of a struct, or lie in
    a text that is JSON, which is read whole.
    """
    found: dict[str, None] = {}
    for name in wanted:
        top = name.partition(".")[0]
        if name in schema.names:
            found[name] = None
        elif top in schema.names:
            found[name if pa.types.is_struct(schema.field(top).type) else top] = None
    return [*found] or None


def _rows(batch: pa.RecordBatch, path: str, errors: InputErrors) -> Iterator[dict]:
    """The rows of a batch; those that hold bytes which are no text are lost, not their neighbours."""
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
            errors.add("unreadable_rows", f"{path} has a row that is not UTF-8 ({short(error)})")
        else:
            yield row


def _without_times(kind: pa.DataType) -> pa.DataType:
    """The type with numbers in place of dates, times and durations."""
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


def read_csv(path: str, errors: InputErrors) -> Iterator[dict]:
    """The lines of a table under the names in its first line; empty fields are None. Commas, semicolons, tabs or bars."""
    with opened(path) as file, io.TextIOWrapper(file, "utf-8-sig", "surrogateescape", newline="") as handle:
        head = handle.readline()
        delimiter = max(_DELIMITERS, key=head.count)
        names = next(csv.reader([head], delimiter=delimiter), [])
        rows = csv.reader(handle, delimiter=delimiter)
        try:
            for fields in rows:
                if len(fields) > len(names):
                    message = f"{path}: line {rows.line_num + 1} has {len(fields)} fields, the first line {len(names)}"
                    errors.add("bad_csv_line", message)
                elif fields:
                    yield dict.fromkeys(names) | {name: text or None for name, text in zip(names, fields, strict=False)}
        except csv.Error as error:
            errors.add("cut_off_files", f"{path} cannot be read behind line {rows.line_num + 1} ({short(error)})")


def read_jsonl(path: str, start: int, stop: int | None, errors: InputErrors) -> Iterator[Any]:
    """Lines that begin inside the byte range; a `stop` of None is the end, which only a compressed file has."""
    with opened(path) as handle:
        offset = 0
        if start:
            handle.seek(start - 1)
            offset = start - 1 + len(handle.readline())
        while stop is None or offset < stop:
            line = handle.readline()
            if not line:
                if stop is not None:
                    message = f"{path} has become shorter since it was opened first: it ends at byte {offset}"
                    errors.add("cut_off_files", message)
                return
            begin, offset = offset, offset + len(line)
            if line.isspace():
                continue
            try:
                yield json.loads(line)
            except (ValueError, RecursionError) as error:
                errors.add("bad_json_line", f"{path}: the line at byte {begin} is {_fault(line, error)}")


def _fault(line: bytes, error: Exception) -> str:
    """What is wrong with a line that cannot be read."""
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 ({short(error)})"
    if b"\r" in line.rstrip():
        return "not JSON (lines seem to end in CR alone; expected LF)"
    return f"not JSON ({short(error)})"


def short(error: BaseException | None) -> str:
    """The words of an error in one line."""
    return " ".join(str(error).split())[:200]
