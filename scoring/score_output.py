"""What `score` writes: a dataset folder with its card, or JSON Lines."""

import io
import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wildreward.common.cards import Card
from wildreward.common.errors import UserError
from wildreward.common.files import atomic_path
from wildreward.common.rows import BATCH_ROWS, holds_json
from wildreward.common.tables import markdown_table
from wildreward.scoring.score_input import COMPLETIONS
from wildreward.scoring.selecting import ABOVE, ALL, PAIRS, Rule

if TYPE_CHECKING:
    import pyarrow as pa

SHARD_BYTES = 256 << 20  # of a shard in memory's form; the file is smaller


def output_schema(schema: "pa.Schema", form: str, rule: Rule) -> "pa.Schema":
    """Columns of what a rule keeps.

    Args:
        schema: of the input.
        form: `messages`, `completion` or `completions`.
        rule: what is kept.

    Raises:
        UserError: the input has a column of a name that is needed.
    """
    import pyarrow as pa

    number = pa.float64()
    if form == COMPLETIONS and rule.kind != ALL:
        kept = [schema.field(name) for name in ("id", "prompt") if name in schema.names]
        listed = schema.field(COMPLETIONS).type
        answer = pa.json_() if isinstance(listed, pa.JsonType) else listed.value_type
        answers, scores = ("chosen", "rejected"), ("score_chosen", "score_rejected")
        if rule.kind != PAIRS:
            answers, scores = ("completion",), ("score",)
        fields = [*kept, *(pa.field(name, answer) for name in answers), *(pa.field(name, number) for name in scores)]
    else:
        probs, score = pa.list_(number), number
        if form == COMPLETIONS:
            probs, score = pa.list_(probs), pa.list_(score)
        added = {"score": score, "level_probs": probs, "error": pa.string()}
        if taken := [name for name in added if name in schema.names]:
            raise UserError(f"the input has a column {taken[0]} already; rename it, or score data without it")
        fields = [*schema, *(pa.field(name, kind) for name, kind in added.items())]
    # Arrow makes no JSON inside of a list or an object: such a column is JSON as a whole, and reads the same.
    fields = [pa.field(field.name, pa.json_() if holds_json(field.type) else field.type) for field in fields]
    features = (schema.metadata or {}).get(b"huggingface")
    return pa.schema(fields, metadata={b"huggingface": features} if features else None)


def check_writable(rows: Sequence[Mapping[str, Any]], schema: "pa.Schema") -> None:
    """Write rows to nowhere, so that types which parquet or `datasets` does not take are told before the work (`UserError`)."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    from datasets import Features

    try:
        pq.write_table(_table(rows, schema), io.BytesIO())
        Features.from_arrow_schema(schema)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise UserError(
            f"the input's columns cannot be a dataset ({error}); choose a .jsonl file as --output"
        ) from error


def write_dataset(folder: Path, split: str, rows: Iterable[Mapping[str, Any]], schema: "pa.Schema") -> int:
    """Write rows as `data/SPLIT-*.parquet`, some at a time; how many they were.

    Where a shard ends depends on its rows alone.

    Raises:
        UserError: the system refused to write.
    """
    import pyarrow.parquet as pq

    left, count, shards = iter(rows), 0, []
    group = list(islice(left, BATCH_ROWS))
    while group:
        shards.append(folder / "data" / f"{len(shards):05d}")
        with atomic_path(shards[-1]) as temporary, pq.ParquetWriter(temporary, schema) as writer:
            size = 0
            while group and size < SHARD_BYTES:
                table = _table(group, schema)
                writer.write_table(table)
                count, size = count + len(group), size + table.nbytes
                group = list(islice(left, BATCH_ROWS))
    for number, shard in enumerate(shards):
        shard.rename(shard.with_name(f"{split}-{number:05d}-of-{len(shards):05d}.parquet"))
    return count


def _table(rows: Sequence[Mapping[str, Any]], schema: "pa.Schema") -> "pa.Table":
    import pyarrow as pa

    packed = [field.name for field in schema if isinstance(field.type, pa.JsonType)]
    if packed:
        rows = [
            {**row, **{name: json.dumps(row[name]) for name in packed if row.get(name) is not None}} for row in rows
        ]
    return pa.Table.from_pylist(rows, schema)


def write_lines(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    """Write rows as JSON Lines; how many they were.

    Raises:
        UserError: the system refused to write, or a value is none of JSON's.
    """
    count = 0
    with atomic_path(path) as temporary, open(temporary, "w", encoding="utf-8") as handle:
        for row in rows:
            handle.write(json.dumps(row, default=_refuse) + "\n")
            count += 1
    return count


def _refuse(value: Any) -> str:
    raise UserError(f"a column holds a {type(value).__name__}, which JSON does not have; choose a folder as --output")


def write_card(folder: Path, split: str, schema: "pa.Schema", rule: Rule, title: str, facts: Mapping[str, Any]) -> None:
    """README.md: what the rows are, which model scored them, and how many there are."""
    from datasets import Features

    name = {ALL: "Scored rows", PAIRS: "Preference pairs", ABOVE: "Answers that score enough"}.get(
        rule.kind, "Best answers"
    )
    table = markdown_table(["", ""], [[key, str(value)] for key, value in facts.items() if value is not None])
    files = [{"split": split, "path": f"data/{split}-*.parquet"}]
    metadata = {
        "license": "unknown",
        "pretty_name": f"{name} of {title}",
        "tags": ["wildreward", "reward-model"],
        "configs": [{"config_name": "default", "data_files": files}],
        "dataset_info": {"config_name": "default", "features": Features.from_arrow_schema(schema)._to_yaml_list()},
    }
    text = f"# {name} of {title}\n\nMade by `wildreward score`: {rule}.\n\n{table}"
    with atomic_path(folder / "README.md") as temporary:
        temporary.write_text(str(Card(metadata, section=text)), encoding="utf-8")
