"""What a benchmark is, its items, and how they are loaded from files or the Hub."""

import json
import logging
import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from wildreward.common.chat import Message
from wildreward.common.errors import UserError, described
from wildreward.common.hashing import text_sha256
from wildreward.common.prompts import read_prompt
from wildreward.common.rows import (
    Origin,
    Place,
    Placed,
    data_files,
    dataset_files,
    file_origins,
    hub_rows,
    hub_split,
    read_rows,
)
from wildreward.evaluation.statistics import Floats, Ints
from wildreward.evaluation.store import Group

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Item:
    """One prompt with its candidates; the first `num_correct` of them are right."""

    id: str
    subset: str
    prompt: list[Message]
    candidates: list[str]
    num_correct: int = 1
    extra: Mapping[str, Any] = field(default_factory=dict)
    leads: Sequence[list[Message]] = ()
    """What lies between the prompt and each candidate, where that differs: of conversations that part before their end."""

    @property
    def groups(self) -> list[Group]:
        """The candidates with what is before them, all together, or one by one where that differs."""
        if not self.leads:
            return [Group(self.id, self.prompt, self.candidates)]
        return [
            Group(self.id, [*self.prompt, *lead], [candidate])
            for lead, candidate in zip(self.leads, self.candidates, strict=True)
        ]

    @property
    def prompt_key(self) -> str:
        """Digest of the prompt: items that share it are not independent."""
        return text_sha256(json.dumps([[m["role"], m["content"]] for m in self.prompt]), 16)


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
    sources: tuple[Source, ...] = ()
    rule: str
    """The published aggregation in a sentence, shown with the results."""
    expected: tuple[str, ...] = ()
    """Beginnings of the subsets that the published score is made of."""
    pairwise: bool = True
    """Its rule can be followed with nothing but preferences between two answers."""
    read_from: Sequence[Origin] = ()
    """Where the items at hand were read from."""

    @property
    def row_name(self) -> str:
        """What a malformed row is said not to be."""
        return self.name

    @abstractmethod
    def parse(self, row: Mapping[str, Any], subset: str) -> list[Item]:
        """Items of one row of the benchmark's file. Raises `ValueError` with the reason for a malformed row."""

    @abstractmethod
    def credit(self, item: Item, scores: Sequence[float]) -> Sequence[float]:
        """What the scores of its candidates earn an item."""

    def judged_credit(self, item: Item, won: Sequence[float]) -> Sequence[float]:
        """What a judge's preferences on its `pairs` earn an item (1 for the better answer, one half for neither): as
        `credit` does for an answer that must be above all others."""
        return [min(won)]

    @abstractmethod
    def combine(self, credits: Credits, rows: Ints) -> dict[str, float]:
        """Credits of the selected rows → `score`, other headline numbers, and `subset:<name>` for every subset."""

    def pairs(self, item: Item) -> list[tuple[int, int]]:
        """Candidate pairs (better, worse), for calibration and length bias; every right against every wrong one."""
        n = len(item.candidates)
        return [(i, j) for i in range(item.num_correct) for j in range(item.num_correct, n)]

    def subset_of(self, path: Path) -> str:
        """The subset a local file belongs to, as far as its name tells: that of a `Source` (PPE has one file a subset)."""
        name = path.name.lower().replace("-", "_")
        return next((s.subset for s in self.sources if s.subset and s.subset in name), "")

    def missing(self, subsets: Collection[str]) -> list[str]:
        """What the published score is made of and these subsets do not hold."""
        return [name for name in self.expected if not any(subset.startswith(name) for subset in subsets)]

    def cluster(self, item: Item) -> str:
        """Items with the same key are resampled together."""
        return item.id

    def credits(self, items: Sequence[Item], scores: Sequence[Sequence[float]]) -> Credits:
        """Credits of all items, from the scores of their candidates."""
        return self.collect(items, [self.credit(item, s) for item, s in zip(items, scores, strict=True)])

    def collect(self, items: Sequence[Item], values: Sequence[Sequence[float]]) -> Credits:
        """What each item earned, by subset and cluster."""
        names = sorted({item.subset for item in items})
        index = {name: i for i, name in enumerate(names)}
        return Credits(
            np.asarray([index[item.subset] for item in items]),
            names,
            np.asarray(values, dtype=np.float64),
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
    """A prompt as messages, see `read_prompt`."""
    return read_prompt(row.get(key), key)


def _open(source: Source) -> tuple[Iterator[Placed], Origin]:
    """The rows of a dataset on the Hub, and the commit they are of."""
    try:
        data, origin = hub_split(source.repo, source.split)
    except (FileNotFoundError, ConnectionError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(
            f"cannot load {source.repo} ({reason}); give a local copy as NAME=PATH, or check the connection"
        ) from error
    return hub_rows(data, source.repo), origin


def load_items(
    benchmark: Benchmark, path: Path | None = None, split: str | None = None
) -> tuple[list[Item], list[Origin]]:
    """All items of a benchmark, from the Hub or from a local copy (of its split, where it may have some), and where they were
    read from.

    An item that lies in two files (in the one of its domain and in a total one) is counted once.

    Raises:
        UserError: a malformed row, naming file, line and reason; there are no items.
    """
    if path is None and not benchmark.sources:
        raise UserError(f"{benchmark.name} is not read from the Hub; give a local copy as {benchmark.name}=PATH")
    if path is None:
        opened = [(source.subset, *_open(source)) for source in benchmark.sources]
        origins = [origin for _, _, origin in opened]
        placed = ((subset, where, row) for subset, rows, _ in opened for where, row in rows)
    else:
        of = benchmark.row_name
        files = data_files(path, of) if split is None else dataset_files(path, split, of)
        origins = file_origins(files, path)
        placed = ((benchmark.subset_of(file), where, row) for file in files for where, row in read_rows(file))
    items = list(parse_rows(benchmark, placed))
    if not items:
        raise UserError(f"{path or benchmark.sources[0].repo} holds no {benchmark.row_name} items")
    return items, origins


def parse_rows(benchmark: Benchmark, placed: Iterable[tuple[str, Place, Mapping[str, Any]]]) -> Iterator[Item]:
    """Items of rows, each given with its subset and its place.

    Raises:
        UserError: a malformed row, naming place and reason.
    """
    seen: Counter[tuple[str, str]] = Counter()
    first: dict[str, str] = {}
    twice: Counter[tuple[str, str]] = Counter()
    for subset, where, row in placed:
        try:
            parsed = benchmark.parse(row, subset)
        except ValueError as error:
            raise UserError(f"{where}: not a {benchmark.row_name} row: {error}") from error
        for item in parsed:
            content = text_sha256(json.dumps([item.prompt_key, list(item.candidates)]), 32)
            if (home := first.setdefault(content, where.source)) != where.source:
                twice[home, where.source] += 1
                continue
            item = item if item.id else replace(item, id=where.within)
            seen[item.subset, item.id] += 1
            count = seen[item.subset, item.id]
            # Published files repeat some ids (one question answered by several models): keep all, tell them apart.
            yield item if count == 1 else replace(item, id=f"{item.id}#{count}")
    for (home, other), count in twice.items():
        logger.warning("%d items are in %s and in %s, and are counted once", count, home, other)


def finite(value: Any, what: str) -> float:
    """A finite number, or `ValueError`."""
    if isinstance(value, bool | int | float) and math.isfinite(value):
        return float(value)
    raise ValueError(f"{what} is {described(value)}; expected a number")
