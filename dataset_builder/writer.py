"""Last step: the dataset's files, from the candidates of all parts, in bounded memory."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from wildreward.dataset_builder.dedup import PERMUTATIONS, TEXTS, find_duplicates
from wildreward.dataset_builder.parts import read_columns
from wildreward.errors import UserError
from wildreward.files import atomic_path

ROWS_PER_FILE = 100_000
SPLITS = ("train", "test")


def duplicates_among(folder: Path, parts: Sequence[Path], near: float) -> dict[str, dict[int, str]]:
    """Which candidates to leave out: part name → row → reason. Memory: about 1.5 kB a candidate.

    Args:
        folder: of the candidates.
        parts: all parts.
        near: similarity of near-duplicates, 0 for exact ones only.
    """
    tables = [read_columns(folder / part.name, ["id", "level", "exact_key", "signature"]) for part in parts]
    ids = [id_ for table in tables for id_ in table["id"].to_pylist()]
    exact = [key for table in tables for key in table["exact_key"].to_pylist()]
    packed = b"".join(value for table in tables for value in table["signature"].to_pylist())
    signatures = np.frombuffer(packed, np.uint32).reshape(len(ids), TEXTS, PERMUTATIONS) if near else None
    positive = [level >= 4 for table in tables for level in table["level"].to_pylist()]
    where = [(part.name, row) for part, table in zip(parts, tables, strict=True) for row in range(len(table))]
    dropped: dict[str, dict[int, str]] = {}
    for index, reason in find_duplicates(ids, exact, positive, signatures, near).items():
        name, row = where[index]
        dropped.setdefault(name, {})[row] = reason
    return dropped


def write_dataset(
    output: Path,
    folder: Path,
    parts: Sequence[Path],
    dropped: dict[str, dict[int, str]],
    publish: Callable[[dict[str, Any]], dict[str, Any]],
) -> Counter:
    """Write both configurations, each row as `publish` returns it. Returns counts of the kept rows: `splits.<split>.<label>`, `source.<label_source>.<level>`."""
    counts: Counter = Counter()
    for split in SPLITS:
        with disk_errors_named(output):
            rows = (list(map(publish, batch)) for batch in kept_rows(folder, parts, dropped, split))
            _write_split(output, rows, split, counts)
    return counts


@contextmanager
def disk_errors_named(folder: Path) -> Iterator[None]:
    """Turn the system's refusal to write into an error that names the folder."""
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write to {folder}: {error.strerror or error}; finished work is kept, free some space and run the "
            "same command again"
        ) from error


def _write_split(output: Path, batches: Iterable[list[dict[str, Any]]], split: str, counts: Counter) -> None:
    writers = [_Files(output / "data", split), _Files(output / "unpaired_preference", split)]
    for rows in batches:
        for row in rows:
            counts[f"splits.{split}.{row['label']}"] += 1
            counts[f"source.{row['label_source']}.{row['level']}"] += 1
            counts[f"language.{row['language'] or 'unknown'}"] += 1
            counts[f"model.{row['model'] or 'unknown'}"] += 1
        _write_both(writers, rows)
    for writer in writers:
        counts[f"bytes.{writer.folder.name}.{split}"] = writer.close()


def kept_rows(
    folder: Path, parts: Sequence[Path], dropped: dict[str, dict[int, str]], split: str
) -> Iterator[list[dict[str, Any]]]:
    """The rows of one split that stay, part by part in batches."""
    import pyarrow.parquet as pq

    from wildreward.dataset_builder.schema import INSTANCE

    for part in parts:
        out, number = dropped.get(part.name, {}), 0
        with pq.ParquetFile(folder / part.name) as file:
            for batch in file.iter_batches(batch_size=256, columns=[*INSTANCE.names, "split"]):
                rows = batch.to_pylist()
                yield [row for i, row in enumerate(rows, number) if i not in out and row.pop("split") == split]
                number += len(rows)


def write_levels(path: Path, folder: Path, parts: Sequence[Path], dropped_ids: dict[str, str]) -> None:
    """`levels.parquet`: every turn with its level, label and what became of it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from wildreward.dataset_builder.schema import LEVELS

    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, LEVELS, compression="zstd") as writer:
        for part in parts:
            table = read_columns(folder / part.name)
            reasons = [
                reason or dropped_ids.get(id_)
                for id_, reason in zip(table["id"].to_pylist(), table["dropped"].to_pylist(), strict=True)
            ]
            column = table.schema.get_field_index("dropped")
            writer.write_table(table.set_column(column, "dropped", pa.array(reasons, pa.string())))


def duplicate_ids(folder: Path, dropped: dict[str, dict[int, str]]) -> dict[str, str]:
    """Id → reason of the candidates that are left out."""
    reasons: dict[str, str] = {}
    for name, rows in dropped.items():
        ids = read_columns(folder / name, ["id"])["id"].to_pylist()
        reasons.update({ids[row]: reason for row, reason in rows.items()})
    return reasons


def _write_both(writers: list["_Files"], rows: list[dict[str, Any]]) -> None:
    import pyarrow as pa

    from wildreward.dataset_builder.schema import INSTANCE, UNPAIRED, unpaired_row

    writers[0].write(pa.Table.from_pylist(rows, schema=INSTANCE))
    writers[1].write(pa.Table.from_pylist([unpaired_row(row) for row in rows], schema=UNPAIRED))


class _Files:
    """The parquet files of one split; the names tell how many there are, so they get them at the end."""

    def __init__(self, folder: Path, split: str) -> None:
        self.folder, self.split = folder, split
        self.waiting: list[Any] = []
        self.rows = 0
        self.open: tuple[Any, Any] | None = None
        self.temporary: list[Path] = []

    def write(self, table: Any) -> None:
        import pyarrow.parquet as pq

        if not len(table):  # a split without rows gets no file: `datasets` cannot load one
            return
        if self.open is None:
            path = self.folder / f".{self.split}-{len(self.temporary):05d}.tmp"
            path.parent.mkdir(parents=True, exist_ok=True)
            self.temporary.append(path)
            self.open = (pq.ParquetWriter(path, table.schema, compression="zstd"), path)
            self.rows = 0
        self.waiting.append(table)
        self.rows += len(table)
        if sum(map(len, self.waiting)) >= 1_000:
            self._flush()
        if self.rows >= ROWS_PER_FILE:
            self._end_file()

    def close(self) -> int:
        """Finish, name the files; returns their size in bytes."""
        self._end_file()
        digits = "[0-9]" * 5
        for old in self.folder.glob(f"{self.split}-{digits}-of-{digits}.parquet"):
            old.unlink()
        total = 0
        for number, path in enumerate(self.temporary):
            final = self.folder / f"{self.split}-{number:05d}-of-{len(self.temporary):05d}.parquet"
            with atomic_path(final) as temporary:
                path.rename(temporary)
            total += final.stat().st_size
        return total

    def _flush(self) -> None:
        import pyarrow as pa

        if self.waiting and self.open:
            self.open[0].write_table(pa.concat_tables(self.waiting))
        self.waiting = []

    def _end_file(self) -> None:
        if self.open:
            self._flush()
            self.open[0].close()
            self.open = None
