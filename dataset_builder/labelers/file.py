"""Labels made elsewhere: a JSONL or parquet file with `id`, `level`, and optionally `confidence` and `refusal`."""

import hashlib
import json
import math
import reprlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from wildreward.common.errors import UserError
from wildreward.common.llm.answers import Answer
from wildreward.dataset_builder.labelers.base import REFUSAL_VERDICTS, UNLABELLED_NOT_FOUND, Labeler, Request
from wildreward.dataset_builder.sources.files import unreadable
from wildreward.dataset_builder.text import hash64

_SHORT = reprlib.Repr()  # does not go deep
_VERDICTS = (None, *REFUSAL_VERDICTS)
_COLUMNS = ("id", "level", "confidence", "refusal")
# Level 0 and NaN stand for none; the verdict is its place in `_VERDICTS`.
_ROW = np.dtype([("key", "i8"), ("level", "i1"), ("confidence", "f4"), ("verdict", "i1")])


class FileLabeler(Labeler):
    """Looks each turn up by the hash of its id in a sorted array: 22 bytes a row, however long the ids."""

    name = "file"
    judges_refusals = knows_refusals = True

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if why := unreadable(path):
            raise UserError(
                f"the labels file {path} {why}; expected a JSONL or parquet file with the columns id and level"
            )
        with open(path, "rb") as handle:
            self.version = hashlib.file_digest(handle, "sha256").hexdigest()[:16]
        rows = np.fromiter((self._checked(number, row) for number, row in enumerate(self._read(), 1)), _ROW)
        order = np.argsort(rows["key"], kind="stable")
        self._rows = rows[order]
        self._keys = self._rows["key"].copy()  # searching wants them side by side
        same = self._keys[1:] == self._keys[:-1]
        for name, title in (("level", "levels"), ("verdict", "refusal verdicts")):
            clash = np.flatnonzero(same & (self._rows[name][1:] != self._rows[name][:-1]))
            if len(clash):
                first, second = order[clash[0] : clash[0] + 2] + 1
                raise UserError(
                    f"{self.path} gives two different {title} to one id (rows {first} and {second}); "
                    "keep one row for each id"
                )

    def label(self, request: Request) -> Answer:
        key = hash64(request.turn_id)
        place = int(self._keys.searchsorted(key))
        if place == len(self._keys) or self._keys[place] != key:
            return Answer(request.key, None, None, UNLABELLED_NOT_FOUND, attempts=0)
        _, level, confidence, number = self._rows[place].item()
        if request.task == "refusal":
            verdict = _VERDICTS[number]
            return Answer(request.key, None, None, "from_file" if verdict else UNLABELLED_NOT_FOUND, verdict, 0)
        confidence = None if math.isnan(confidence) else confidence
        return Answer(
            request.key, level or None, confidence, "from_file" if level else "no_level_in_labels_file", attempts=0
        )

    def _read(self) -> Iterator[dict[str, Any]]:
        if self.path.suffix.lower() == ".parquet":
            import pyarrow as pa
            import pyarrow.parquet as pq

            try:
                with pq.ParquetFile(self.path) as file:
                    self._check_columns(file.schema_arrow.names)
                    columns = [name for name in _COLUMNS if name in file.schema_arrow.names]
                    for batch in file.iter_batches(columns=columns):
                        yield from batch.to_pylist()
            except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as error:
                told = " ".join(str(error).split())
                raise UserError(f"{self.path} is not a complete parquet file ({told})") from error
            return
        with open(self.path, "rb") as handle:
            for number, line in enumerate(handle, 1):
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise UserError(f"{self.path} row {number} is not JSON in UTF-8 ({error})") from error
                except RecursionError as error:
                    raise UserError(f"{self.path} row {number} is nested too deeply to be read") from error
                if not isinstance(row, dict):
                    raise UserError(f"{self.path} row {number}: expected an object with id and level")
                self._check_columns(row)
                yield row

    def _check_columns(self, names: Any) -> None:
        missing = {"id", "level"} - set(names)
        if missing:
            raise UserError(
                f"{self.path} has the columns {', '.join(sorted(names))}; "
                f"expected id, level (1-5), optional confidence, refusal; missing {', '.join(sorted(missing))}"
            )

    def _checked(self, number: int, row: dict[str, Any]) -> tuple[int, int, float, int]:
        """The values of a `_ROW`."""
        level, confidence, verdict = row["level"], row.get("confidence"), row.get("refusal")
        for name, right, expected in (
            ("level", level is None or (level in (1, 2, 3, 4, 5) and level is not True), "1, 2, 3, 4, 5 or null"),
            ("confidence", confidence is None or _is_share(confidence), "a number from 0 to 1 or null"),
            ("refusal", verdict in _VERDICTS, f"one of {REFUSAL_VERDICTS}"),
            ("id", isinstance(row["id"], str), "text"),
        ):
            if not right:
                raise UserError(f"{self.path} row {number}: {name} must be {expected}, got {_shown(row[name])}")
        return (
            hash64(row["id"]),
            level or 0,
            math.nan if confidence is None else confidence,
            _VERDICTS.index(verdict),
        )


def _is_share(value: Any) -> bool:
    """Whether a value is a number from 0 to 1, or the NaN that parquet files have for null."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return 0 <= value <= 1 or value != value


def _shown(value: Any) -> str:
    """A value for an error message: it may be text of a chat, so only a short one is shown as it is."""
    text = _SHORT.repr(value)
    if len(text) <= 12:
        return text
    if isinstance(value, str):
        return f"a text of {len(value)} characters"
    return f"a value of type {type(value).__name__}"
