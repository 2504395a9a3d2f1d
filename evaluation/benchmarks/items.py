"""Benchmark items and the files they come from: JSON, JSON Lines, parquet, or a Hub id; every row knows its place."""

import json
import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from wildreward.errors import UserError, described
from wildreward.evaluation.origin import Origin, file_origins, hub_split
from wildreward.evaluation.statistics import Floats, Ints
from wildreward.messages import Message, read_messages

SUFFIXES = (".json", ".jsonl", ".parquet")


@dataclass(frozen=True)
class Item:
    """One prompt with its candidates; the first `num_correct` of them are right."""

    id: str
    subset: str
    prompt: list[Message]
    candidates: list[str]
    num_correct: int = 1
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Source:
    """Where a benchmark, or one subset of it, lies on the Hub."""

    repo: str
    split: str
    subset: str = ""


@dataclass(frozen=True)
class Credits:
    """What each item earned, ready to be summed over any selection of items (for bootstrap resamples)."""

    subset: Ints
    """(N,) index into `names`."""
    names: list[str]
    values: Floats
    """(N, C) credits; their meaning is the benchmark's."""
    cluster: list[str]
    """(N,) items of one cluster are resampled together."""

    def sums(self, rows: Ints) -> tuple[Floats, Floats]:
        """Sums of the credits in each subset, (S, C), and numbers of items, (S,), over the selected rows."""
        codes = self.subset[rows]
        n = len(self.names)
        columns = [np.bincount(codes, self.values[rows, c], n) for c in range(self.values.shape[1])]
        return np.stack(columns, axis=1), np.bincount(codes, minlength=n).astype(np.float64)

    def means(self, rows: Ints) -> Floats:
        """Mean credits in each subset, (S, C); NaN for a subset without rows."""
        sums, counts = self.sums(rows)
        return np.divide(sums, counts[:, None], out=np.full_like(sums, np.nan), where=counts[:, None] > 0)


class Benchmark(ABC):
    """One benchmark: how its rows read, what an item earns, and how items make the published number."""

    name: str
    sources: tuple[Source, ...]
    rule: str
    """The published aggregation in a sentence, shown with the results."""
    read_from: Sequence[Origin] = ()
    """Where the items at hand were read from."""

    @abstractmethod
    def parse(self, row: Mapping[str, Any], subset: str) -> list[Item]:
        """Items of one row of the benchmark's file. Raises `ValueError` with the reason for a malformed row."""

    @abstractmethod
    def credit(self, item: Item, scores: Sequence[float]) -> Sequence[float]:
        """What the scores of its candidates earn an item."""

    @abstractmethod
    def combine(self, credits: Credits, rows: Ints) -> dict[str, float]:
        """Credits of the selected rows → `score`, other headline numbers, and `subset:<name>` for every subset."""

    def pairs(self, item: Item) -> list[tuple[int, int]]:
        """Candidate pairs (better, worse), for calibration and length bias; every right against every wrong one."""
        n = len(item.candidates)
        return [(i, j) for i in range(item.num_correct) for j in range(item.num_correct, n)]

    def cluster(self, item: Item) -> str:
        """Items with the same key are resampled together."""
        return item.id

    def credits(self, items: Sequence[Item], scores: Sequence[Sequence[float]]) -> Credits:
        """Credits of all items."""
        names = sorted({item.subset for item in items})
        index = {name: i for i, name in enumerate(names)}
        return Credits(
            np.asarray([index[item.subset] for item in items]),
            names,
            np.asarray([self.credit(i, s) for i, s in zip(items, scores, strict=True)], dtype=np.float64),
            [self.cluster(item) for item in items],
        )


def nan_mean(values: Sequence[float] | Floats) -> float:
    """Mean of the defined values; NaN without any."""
    array = np.asarray(values, dtype=np.float64)
    array = array[~np.isnan(array)]
    return float(array.mean()) if array.size else float("nan")


def text_field(row: Mapping[str, Any], key: str, empty: bool = False) -> str:
    """A text, not an empty one unless `empty`; `ValueError` names the field and what it holds."""
    value = row.get(key)
    if not isinstance(value, str) or not (value or empty):
        raise ValueError(f"{key} is {described(value)}; expected a text")
    return value


def text_list(row: Mapping[str, Any], key: str, length: int | None = None, empty: bool = False) -> list[str]:
    """A list of texts, of a given length where one is given; none of them is empty unless `empty`."""
    value = row.get(key)
    if not isinstance(value, list) or not value or not all(isinstance(v, str) for v in value):
        raise ValueError(f"{key} is {described(value)}; expected a list of texts")
    if not (empty or all(value)):
        raise ValueError(f"{key} holds an empty text; expected an answer in each")
    if length is not None and len(value) != length:
        raise ValueError(f"{key} has {len(value)} texts; expected {length}")
    return value


def prompt_field(row: Mapping[str, Any], key: str = "prompt") -> list[Message]:
    """A prompt as messages: a text is one user message; a list of messages stays, and must be waiting for an answer."""
    if not isinstance(row.get(key), list):
        return [{"role": "user", "content": text_field(row, key)}]
    messages = read_messages(row[key], key)
    roles = [m["role"] for m in messages]
    if "user" not in roles or roles[-1] not in ("user", "tool"):
        raise ValueError(
            f"{key} has messages of {', '.join(roles) or 'nobody'}; expected the user's last, to be answered"
        )
    return messages


def data_files(path: Path, of: str = "benchmark") -> list[Path]:
    """The file itself, or all JSON, JSON Lines and parquet files of a folder, in order.

    Args:
        path: of the file or folder.
        of: what it should hold, for errors.

    Raises:
        UserError: there are none, or the file is of another kind.
    """
    if path.is_dir():
        files = sorted(p for p in path.rglob("*") if p.suffix in SUFFIXES)
        if not files:
            raise UserError(f"{path} holds no {', '.join(SUFFIXES)} file")
        return files
    if not path.is_file():
        raise UserError(f"{path} does not exist; expected a {of} file or folder ({', '.join(SUFFIXES)})")
    if path.suffix not in SUFFIXES:
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
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UserError(f"{path}, line {line}: not UTF-8 text") from error
    decoder = json.JSONDecoder(parse_constant=_refuse_constant)
    position, line = 0, 1
    in_list, after_value = False, False
    while True:
        stop = position
        while stop < len(text) and (text[stop].isspace() or (in_list and after_value and text[stop] == ",")):
            after_value = after_value and text[stop] != ","
            stop += 1
        line += text.count("\n", position, stop)
        position = stop
        if position == len(text):
            if in_list:
                raise UserError(f"{path}, line {line}: the list is cut off (no closing bracket)")
            return
        if text[position] == "[" and not in_list and not after_value:
            in_list, position = True, position + 1
            continue
        if text[position] == "]" and in_list:
            in_list, after_value, position = False, True, position + 1
            continue
        try:
            row, end = decoder.raw_decode(text, position)
        except (ValueError, RecursionError) as error:
            found = line + (error.lineno - text.count("\n", 0, position) - 1 if hasattr(error, "lineno") else 0)
            raise UserError(f"{path}, line {found}: not valid JSON ({getattr(error, 'msg', error)})") from error
        if not isinstance(row, dict):
            raise UserError(f"{path}, line {line}: found {described(row)}; expected an object")
        yield f"{path}, line {line}", row
        line += text.count("\n", position, end)
        position, after_value = end, True


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")


def hub_rows(source: Source) -> tuple[Iterator[tuple[str, dict[str, Any]]], Origin]:
    """(place, row) of each row of a dataset on the Hub, and the commit they are of."""
    try:
        data, origin = hub_split(source.repo, source.split)
    except (FileNotFoundError, ConnectionError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"cannot load {source.repo} ({reason}); give a local copy as NAME=PATH, or check the connection"
        ) from error
    return ((f"{source.repo}, row {number}", dict(row)) for number, row in enumerate(data, start=1)), origin


def load_items(benchmark: Benchmark, path: str | None = None) -> tuple[list[Item], list[Origin]]:
    """All items of a benchmark, from the Hub or from a local copy, and where they were read from.

    Raises:
        UserError: a malformed row, naming file, line and reason.
    """
    if path is None:
        opened = [(source.subset, *hub_rows(source)) for source in benchmark.sources]
        origins = [origin for _, _, origin in opened]
        placed = ((subset, where, row) for subset, rows, _ in opened for where, row in rows)
    else:
        origins = file_origins(data_files(Path(path)), Path(path))
        placed = ((_subset_of(where, benchmark), where, row) for where, row in read_rows(Path(path)))
    items: list[Item] = []
    seen: Counter[tuple[str, str]] = Counter()
    for subset, where, row in placed:
        try:
            parsed = benchmark.parse(row, subset)
        except ValueError as error:
            raise UserError(f"{where}: not a {benchmark.name} row: {error}") from error
        for item in parsed:
            seen[item.subset, item.id] += 1
            count = seen[item.subset, item.id]
            # Published files repeat some ids (one question answered by several models): keep all, tell them apart.
            items.append(item if count == 1 else replace(item, id=f"{item.id}#{count}"))
    if not items:
        raise UserError(f"{path or benchmark.sources[0].repo} holds no {benchmark.name} items")
    return items, origins


def _subset_of(where: str, benchmark: Benchmark) -> str:
    """The subset a local file belongs to, told by its name (PPE has one file a subset)."""
    name = where.rsplit(", ", 1)[0].rsplit("/", 1)[-1].lower().replace("-", "_")
    return next((s.subset for s in benchmark.sources if s.subset and s.subset in name), "")


def finite(value: Any, what: str) -> float:
    """A finite number, or `ValueError`."""
    if isinstance(value, bool | int | float) and math.isfinite(value):
        return float(value)
    raise ValueError(f"{what} is {described(value)}; expected a number")
