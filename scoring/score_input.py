"""What `score` reads: rows of files, folders and Hub datasets, each with the conversations in it, and the types of their columns."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from wildreward.common.chat import Message, read_conversation
from wildreward.common.errors import UserError, described
from wildreward.common.hashing import text_sha256
from wildreward.common.lookup import load_error_message
from wildreward.common.names import public_name
from wildreward.common.prompts import read_answer, read_prompt
from wildreward.common.rows import (
    SUFFIXES,
    Place,
    dataset_files,
    file_origins,
    hub_rows,
    hub_split,
    read_leniently,
)
from wildreward.scoring.selecting import BEST, PAIRS, Rule

if TYPE_CHECKING:
    import pyarrow as pa

MESSAGES, COMPLETION, COMPLETIONS = "messages", "completion", "completions"
FIRST_ROWS = 100  # looked at before a model is loaded
TYPED_ROWS = 1000  # whose types are found out together


@dataclass(frozen=True)
class Row:
    """What to score of a row, or what is wrong with it.

    Attributes:
        where: `line` or `row`, from 1, in which `file` where there are several; and the row's `id`, if it has one.
        conversations: one for each answer; none where the row cannot be scored.
        error: why not.
    """

    where: dict[str, Any]
    conversations: list[list[Message]] = field(default_factory=list)
    error: str = ""


class ScoreInput:
    """A file, a folder, or a split of a Hub dataset, of which all rows hold their answers in the same columns.

    Args:
        place: path or Hub id.
        split: of a folder that has splits, and of a Hub dataset.
        revision: of a Hub dataset.

    Raises:
        UserError: there is nothing, it cannot be read, or none of the first rows can be scored, naming file and row.
    """

    def __init__(self, place: str, split: str = "train", revision: str | None = None) -> None:
        self.place, self.name, self.root = place, public_name(place), Path(place)
        self.files: list[Path] = []
        self.data: Any = None
        if self.root.exists() or place.endswith(SUFFIXES):
            if revision is not None:
                raise UserError(
                    f"--dataset_revision is {revision}, but {place} is on this machine and has no revisions"
                )
            self.files = dataset_files(self.root, split, "conversations")
        else:
            try:
                self.data, self.origin = hub_split(place, split, revision)
            except (OSError, ValueError) as error:
                raise UserError(
                    f"cannot load split {split!r} of dataset {place!r}: {load_error_message(place, error)}"
                ) from error
            self.origin |= {"split": split}
        self.form = self._form()

    def rows(self) -> Iterator[tuple[Place, dict[str, Any] | str]]:
        """All rows in their order; what is wrong with one that cannot be read stands in its place."""
        if self.data is not None:
            yield from hub_rows(self.data, self.name)
        for file in self.files:
            yield from read_leniently(file)

    def read(self, place: Place, row: dict[str, Any] | str) -> Row:
        """The conversations of a row."""
        file = {"file": str(Path(place.source).relative_to(self.root))} if len(self.files) > 1 else {}
        where = {**file, place.unit: place.number}
        if isinstance(row, str):
            return Row(where, error=row)
        if row.get("id") is not None:
            where["id"] = row["id"]
        try:
            return Row(where, _conversations(row, self.form))
        except ValueError as error:
            return Row(where, error=str(error))

    def digest(self) -> str:
        """Changes with the rows: of a single file that of its bytes, else of where all was read from."""
        if self.data is not None:
            return text_sha256(json.dumps(self.origin))
        origins = file_origins(self.files, self.root)
        return origins[0]["sha256"] if len(origins) == 1 else text_sha256(json.dumps(origins))

    def count(self) -> int:
        """Number of rows."""
        import pyarrow.parquet as pq

        if self.data is not None:
            return len(self.data)
        tables = [file for file in self.files if file.suffix == ".parquet"]
        texts = [file for file in self.files if file.suffix != ".parquet"]
        return sum(pq.read_metadata(file).num_rows for file in tables) + sum(
            1 for file in texts for _ in read_leniently(file)
        )

    def schema(self) -> "pa.Schema":
        """Types of the columns, of JSON those that hold all rows: what is of several types is `arrow.json`.

        Raises:
            UserError: a row cannot be read, naming file and line; or files of a folder do not fit together.
        """
        import pyarrow as pa
        import pyarrow.parquet as pq

        if self.data is not None:
            return self.data.features.arrow_schema
        if any(file.suffix not in (".parquet", ".arrow") for file in self.files):
            return pa.schema(column_types(self._readable_rows()))
        schemas = []
        for file in self.files:
            if file.suffix == ".parquet":
                schemas.append(pq.read_schema(file))
            else:
                with pa.memory_map(str(file)) as handle, pa.ipc.open_stream(handle) as stream:
                    schemas.append(stream.schema)
        try:
            return pa.unify_schemas(schemas, promote_options="permissive")
        except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
            raise UserError(
                f"the files of {self.place} hold different columns ({error}); score them one by one"
            ) from error

    def check(self, rule: Rule) -> None:
        """Refuse a rule that needs several answers to a prompt where there is one (`UserError`)."""
        if rule.kind in (BEST, PAIRS) and self.form != COMPLETIONS:
            raise UserError(
                f"--select {rule.kind} chooses among the answers to one prompt; expected rows with prompt and completions, "
                f"{self.place} holds {self.form}"
            )

    def _readable_rows(self) -> Iterator[dict[str, Any]]:
        for place, row in self.rows():
            if isinstance(row, str):
                raise UserError(f"{place}: {row}; put it right, or choose a .jsonl file as --output, which tells it")
            yield row

    def _form(self) -> str:
        """By which columns a row is read."""
        first = list(islice(self.rows(), FIRST_ROWS))
        if not first:
            raise UserError(f"{self.place} is empty; expected rows to score")
        readable = [row for _, row in first if isinstance(row, dict)]
        columns = dict.fromkeys(name for row in readable for name in row)
        forms = (MESSAGES, COMPLETIONS, COMPLETION)
        form = next((name for name in forms if name in columns and (name == MESSAGES or "prompt" in columns)), None)
        if readable and form is None:
            raise UserError(
                f"{first[0][0].source} has the columns {', '.join(columns) or '(none)'}; expected messages, or prompt with "
                "completion or completions"
            )
        self.form = form or MESSAGES
        rows = [self.read(*one) for one in first]
        if not any(row.conversations for row in rows):
            raise UserError(f"{first[0][0]}: {rows[0].error}; none of the first {len(first)} rows can be scored")
        return self.form


def _conversations(row: Mapping[str, Any], form: str) -> list[list[Message]]:
    """What to score of a row.

    Raises:
        ValueError: nothing, naming the column.
    """
    if form == MESSAGES:
        return [read_conversation(row.get(MESSAGES), MESSAGES, keep_reasoning=True)]
    prompt = read_prompt(row.get("prompt"))
    if form == COMPLETION:
        return [_answered(prompt, row.get(COMPLETION), COMPLETION)]
    answers = row.get(COMPLETIONS)
    if not isinstance(answers, list) or not answers:
        raise ValueError(f"{COMPLETIONS} is {described(answers)}; expected a list of answers, texts or messages")
    return [_answered(prompt, answer, f"completion {i}") for i, answer in enumerate(answers, start=1)]


def _answered(prompt: list[Message], answer: Any, name: str) -> list[Message]:
    messages = read_answer(prompt, answer, name)
    if messages[-1]["role"] != "assistant":
        raise ValueError(f"{name} does not end with the assistant's answer")
    return messages


# ---- types of what has none


def column_types(rows: Iterable[Mapping[str, Any]]) -> "dict[str, pa.DataType]":
    """Column → the Arrow type that takes all its values; `arrow.json` where there is no other.

    >>> {name: str(kind) for name, kind in column_types([{"a": 1}, {"a": 0.5, "b": [""]}, {"b": None}]).items()}
    {'a': 'double', 'b': 'list<item: string>'}
    """
    import pyarrow as pa

    types: dict[str, pa.DataType] = {}
    left = iter(rows)
    while chunk := list(islice(left, TYPED_ROWS)):
        for name in dict.fromkeys(name for row in chunk for name in row):
            found = _type_of([row.get(name) for row in chunk])
            types[name] = _joined(types.get(name, pa.null()), found)
    return types


def _type_of(values: list[Any]) -> "pa.DataType":
    import pyarrow as pa

    try:
        kind = pa.array(values).type
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        return pa.json_()
    return pa.json_() if _without_fields(kind) else kind


def _without_fields(kind: "pa.DataType") -> bool:
    """Whether there are objects in it that are all empty, which parquet does not take."""
    import pyarrow as pa

    parts = [kind.field(i).type for i in range(kind.num_fields)]
    return (pa.types.is_struct(kind) and not parts) or any(map(_without_fields, parts))


def _joined(one: "pa.DataType", other: "pa.DataType") -> "pa.DataType":
    import pyarrow as pa

    schemas = [pa.schema([("column", kind)]) for kind in (one, other)]
    try:
        return pa.unify_schemas(schemas, promote_options="permissive").field("column").type
    except (pa.ArrowTypeError, pa.ArrowInvalid):
        return pa.json_()
