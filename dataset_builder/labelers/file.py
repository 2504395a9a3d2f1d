"""Labels made elsewhere: a JSONL or parquet file with `id`, `level`, and optionally `confidence` and `refusal`."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wildreward.dataset_builder.labelers.base import (
    REFUSAL_VERDICTS,
    UNLABELLED_NOT_FOUND,
    Answer,
    Labeler,
    Request,
)
from wildreward.errors import UserError

_COLUMNS = ("id", "level", "confidence", "refusal")


class FileLabeler(Labeler):
    """Looks each turn up by its id; the whole file is held in memory (about 200 bytes a row)."""

    name = "file"
    judges_refusals = True

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise UserError(f"{path} does not exist; expected a JSONL or parquet file with the columns id and level")
        self.version = hashlib.blake2b(self.path.read_bytes(), digest_size=8).hexdigest()
        self._rows: dict[str, tuple[int | None, float | None, str | None]] = {}
        for number, row in enumerate(self._read()):
            self._add(number, row)

    def label(self, request: Request) -> Answer:
        level, confidence, verdict = self._rows.get(request.turn_id, (None, None, None))
        if request.task == "refusal":
            return Answer(request.key, None, confidence, "from_file" if verdict else UNLABELLED_NOT_FOUND, verdict, 0)
        return Answer(request.key, level, confidence, "from_file" if level else UNLABELLED_NOT_FOUND, attempts=0)

    def _read(self) -> Iterator[dict[str, Any]]:
        if self.path.suffix == ".parquet":
            import pyarrow as pa
            import pyarrow.parquet as pq

            try:
                with pq.ParquetFile(self.path) as file:
                    self._check_columns(file.schema_arrow.names)
                    columns = [name for name in _COLUMNS if name in file.schema_arrow.names]
                    for batch in file.iter_batches(columns=columns):
                        yield from batch.to_pylist()
            except pa.ArrowInvalid as error:
                raise UserError(f"{self.path} is not a complete parquet file ({error})") from error
            return
        with open(self.path, encoding="utf-8") as handle:
            for number, line in enumerate(handle, 1):
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise UserError(f"{self.path} line {number} is not JSON ({error})") from error
                if not isinstance(row, dict):
                    raise UserError(f"{self.path} line {number}: expected an object with id and level")
                self._check_columns(row)
                yield row

    def _check_columns(self, names: Any) -> None:
        missing = {"id", "level"} - set(names)
        if missing:
            raise UserError(
                f"{self.path} has the columns {', '.join(sorted(names))}; "
                f"expected id, level (1-5), optional confidence, refusal; missing {', '.join(sorted(missing))}"
            )

    def _add(self, number: int, row: dict[str, Any]) -> None:
        level, verdict = row["level"], row.get("refusal")
        if level is not None and (isinstance(level, bool) or level not in (1, 2, 3, 4, 5)):
            raise UserError(f"{self.path} row {number}: level must be 1, 2, 3, 4, 5 or null, got {level!r}")
        if verdict is not None and verdict not in REFUSAL_VERDICTS:
            raise UserError(f"{self.path} row {number}: refusal must be one of {REFUSAL_VERDICTS}, got {verdict!r}")
        if row["id"] in self._rows and self._rows[row["id"]][0] != level:
            raise UserError(f"{self.path} row {number}: {row['id']} has two different levels")
        self._rows[row["id"]] = (None if level is None else int(level), row.get("confidence"), verdict)
