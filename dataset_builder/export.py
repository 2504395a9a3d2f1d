"""The dataset's files, from the candidates of all shards, in bounded memory."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from wildreward.common.files import atomic_path
from wildreward.dataset_builder.schemas import INSTANCE, LEVELS, UNPAIRED, read_rows, unpaired_row

ROWS_PER_FILE = 100_000
SPLITS = ("train", "test")
# Folder → the schema of its rows, and what makes one of an instance.
CONFIGS: dict[str, tuple[pa.Schema, Callable[[dict[str, Any]], dict[str, Any]]]] = {
    "data": (INSTANCE, lambda row: row),
    "unpaired_preference": (UNPAIRED, unpaired_row),
}


def write_dataset(
    output: Path,
    candidates: Sequence[Path],
    duplicates: Sequence[Mapping[int, str]],
    publish: Callable[[dict[str, Any]], dict[str, Any]],
) -> Counter:
    """Write both configurations.

    Args:
        output: the dataset folder.
        candidates: a file for each shard, with the columns of `schemas.CANDIDATE`.
        duplicates: row → reason of those that are left out, for each of the files.
        publish: makes a row fit to be published.

    Returns:
        counts of the kept rows: `splits.<split>.<label>`, `source.<label_source>.<level>`, `language.<…>`, `model.<…>`,
        and `bytes.<folder>.<split>`.
    """
    counts: Counter = Counter()
    for split in SPLITS:
        total = sum(
            place not in out and side == split
            for path, out in zip(candidates, duplicates, strict=True)
            for place, side in enumerate(read_rows(path, ["split"])["split"].to_pylist())
        )
        rows = map(publish, _kept_rows(candidates, duplicates, split))
        number_of_files = math.ceil(total / ROWS_PER_FILE)  # a split without rows gets none: `datasets` cannot load one
        names = [f"{split}-{number:05d}-of-{number_of_files:05d}.parquet" for number in range(number_of_files)]
        for name in names:
            _write_file([output / folder / name for folder in CONFIGS], islice(rows, ROWS_PER_FILE), split, counts)
        for folder in CONFIGS:
            digits = "[0-9]" * 5
            for old in (output / folder).glob(f"{split}-{digits}-of-{digits}.parquet"):
                if old.name not in names:
                    old.unlink()
            counts[f"bytes.{folder}.{split}"] = sum((output / folder / name).stat().st_size for name in names)
    return counts


def _write_file(paths: Sequence[Path], rows: Iterator[dict[str, Any]], split: str, counts: Counter) -> None:
    """The same rows to a file of each configuration."""
    with ExitStack() as stack:
        writers = [
            stack.enter_context(pq.ParquetWriter(stack.enter_context(atomic_path(path)), schema, compression="zstd"))
            for path, (schema, _) in zip(paths, CONFIGS.values(), strict=True)
        ]
        while batch := list(islice(rows, 1_000)):
            for row in batch:
                counts[f"splits.{split}.{row['label']}"] += 1
                counts[f"source.{row['label_source']}.{row['level']}"] += 1
                counts[f"language.{row['language'] or 'unknown'}"] += 1
                counts[f"model.{row['model'] or 'unknown'}"] += 1
            for writer, (schema, form) in zip(writers, CONFIGS.values(), strict=True):
                writer.write_table(pa.Table.from_pylist(list(map(form, batch)), schema=schema))


def _kept_rows(
    candidates: Sequence[Path], duplicates: Sequence[Mapping[int, str]], split: str
) -> Iterator[dict[str, Any]]:
    """The rows of one split that stay, file by file."""
    for path, out in zip(candidates, duplicates, strict=True):
        number = 0
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=256, columns=[*INSTANCE.names, "split"]):
                for row in batch.to_pylist():
                    if row.pop("split") == split and number not in out:
                        yield row
                    number += 1


def write_levels(
    path: Path, levels: Sequence[Path], candidates: Sequence[Path], duplicates: Sequence[Mapping[int, str]]
) -> None:
    """`levels.parquet`: every turn with its level, label and what became of it.

    Args:
        path: to write.
        levels: a file for each shard with the columns of `schemas.LEVELS`, copies not marked yet.
        candidates, duplicates: see `write_dataset`.
    """
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, LEVELS, compression="zstd") as writer:
        for shard, chosen, out in zip(levels, candidates, duplicates, strict=True):
            table, ids = read_rows(shard), read_rows(chosen, ["id"])["id"].to_pylist()
            copies = {ids[row]: reason for row, reason in out.items()}
            both = zip(table["id"].to_pylist(), table["dropped"].to_pylist(), strict=True)
            reasons = pa.array([reason or copies.get(id_) for id_, reason in both], pa.string())
            writer.write_table(table.set_column(table.schema.get_field_index("dropped"), "dropped", reasons))
