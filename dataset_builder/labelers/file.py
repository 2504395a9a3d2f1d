"""Labels made elsewhere: a JSONL or parquet file with `id`, `level`, and optionally `confidence` and `refusal`."""

import hashlib
import json
import math
import reprlib
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from wildreward.dataset_builder.labelers.base import (
    REFUSAL_VERDICTS,
    UNLABELLED_NOT_FOUND,
    Answer,
    Labeler,
    Request,
)
from wildreward.dataset_builder.parts import hash64
from wildreward.dataset_builder.sources.opening import unreadable
from wildreward.errors import UserError

_SHORT = reprlib.Repr()  # does not go deep
_VERDICTS = (None, *REFUSAL_VERDICTS)
_COLUMNS = ("id", "level", "confidence", "refusal")


class FileLabeler(Labeler):
    """Looks each turn up by the hash of its id in sorted arrays: 14 bytes a row, however long the ids."""

    name = "file"
    judges_refusals = knows_refusals = True

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if why := unreadable(path):
            raise UserError(
                f"the labels file {path} {why}; expected a JSONL or parquet file with the columns id and level"
            )
        self.version = _digest(self.path)
        keys, levels, confidences, verdicts = array("q"), array("b"), array("f"), array("b")
        for number, row in enumerate(self._read(), 1):
            level, confidence, verdict = self._checked(number, row)
            keys.append(hash64(row["id"]))
            levels.append(level or 0)
            confidences.append(math.nan if confidence is None else confidence)
            verdicts.append(_VERDICTS.index(verdict))
        self._sort(np.array(keys), np.array(levels), np.array(confidences), np.array(verdicts))

    def label(self, request: Request) -> Answer:
        key = hash64(request.turn_id)
        row = int(np.searchsorted(self._keys, key))
        if row == len(self._keys) or self._keys[row] != key:
            return Answer(request.key, None, None, UNLABELLED_NOT_FOUND, attempts=0)
        level, confidence = int(self._levels[row]) or None, float(self._confidences[row])
        confidence = None if math.isnan(confidence) else confidence
        if request.task == "refusal":
            verdict = _VERDICTS[self._verdicts[row]]
            return Answer(request.key, None, None, "from_file" if verdict else UNLABELLED_NOT_FOUND, verdict, 0)
        return Answer(request.key, level, confidence, "from_file" if level else "no_level_in_labels_file", attempts=0)

    def _sort(self, keys: np.ndarray, levels: np.ndarray, confidences: np.ndarray, verdicts: np.ndarray) -> None:
        order = np.argsort(keys, kind="stable")
        keys, levels, verdicts = keys[order], levels[order], verdicts[order]
        for name, values in (("levels", levels), ("refusal verdicts", verdicts)):
            clash = np.flatnonzero((keys[1:] == keys[:-1]) & (values[1:] != values[:-1]))
            if len(clash):
                first, second = order[clash[0] : clash[0] + 2] + 1
                raise UserError(
                    f"{self.path} gives two different {name} to one id (rows {first} and {second}); "
                    "keep one row for each id"
                )
        self._keys, self._levels = keys, levels
        self._confidences, self._verdicts = confidences[order], verdicts

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

    def _checked(self, number: int, row: dict[str, Any]) -> tuple[int | None, float | None, str | None]:
        level, confidence, verdict = row["level"], row.get("confidence"), row.get("refusal")
        if level is not None and (isinstance(level, bool) or level not in (1, 2, 3, 4, 5)):
            raise UserError(f"{self.path} row {number}: level must be 1, 2, 3, 4, 5 or null, got {_shown(level)}")
        if confidence is not None and not _is_share(confidence):
            raise UserError(
                f"{self.path} row {number}: confidence must be a number from 0 to 1 or null, got {_shown(confidence)}"
            )
        if verdict not in _VERDICTS:
            raise UserError(
                f"{self.path} row {number}: refusal must be one of {REFUSAL_VERDICTS}, got {_shown(verdict)}"
            )
        if not isinstance(row["id"], str):
            raise UserError(f"{self.path} row {number}: id must be text, got {_shown(row['id'])}")
        return None if level is None else int(level), confidence, verdict


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


def _digest(path: Path) -> str:
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()[:16]
