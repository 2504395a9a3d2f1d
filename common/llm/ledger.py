"""Every answer that was paid for, kept in an SQLite file as it comes: no crash loses one, and none is bought twice.

    sqlite3 work/ledger.sqlite "SELECT reason, level, COUNT(*) FROM answers GROUP BY reason, level"

An answer is found by who gave it (name and version: the labeler) and the question's key (content and task). It is with the system
when `add` returns, so a killed process loses none; a power cut loses at most the newest few hundred. One process at a time
holds the file, from opening to closing, so no question is asked by two; nothing needs shared memory, so the file may lie on
a network's file system.
"""

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from wildreward.common.errors import UserError
from wildreward.common.llm.answers import Answer
from wildreward.common.settings import check_least

ANSWERS = """CREATE TABLE IF NOT EXISTS answers (
    labeler TEXT, key TEXT, level INTEGER, confidence REAL, reason TEXT, verdict TEXT,
    attempts INTEGER, prompt_tokens INTEGER, completion_tokens INTEGER, PRIMARY KEY (labeler, key)) WITHOUT ROWID"""
ATTEMPTS = "CREATE TABLE IF NOT EXISTS attempts (labeler TEXT PRIMARY KEY, count INTEGER) WITHOUT ROWID"
# A second answer replaces one that said nothing; what was paid for both is added up.
ADD = (
    "INSERT INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET level = excluded.level, "
    "confidence = excluded.confidence, reason = excluded.reason, verdict = excluded.verdict, "
    + ", ".join(f"{name} = {name} + excluded.{name}" for name in ("attempts", "prompt_tokens", "completion_tokens"))
)
COLUMNS = "key, level, confidence, reason, verdict, attempts, prompt_tokens, completion_tokens"


@dataclass(frozen=True)
class Prices:
    """Prices of a million tokens, in whatever currency; 0 where nothing is paid."""

    prompt: float = 0.0
    completion: float = 0.0

    def __post_init__(self) -> None:
        check_least(("price_prompt", self.prompt, 0), ("price_completion", self.completion, 0))

    def cost(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Of so many tokens."""
        return (prompt_tokens * self.prompt + completion_tokens * self.completion) / 1e6

    def spent(self, prompt_tokens: int, completion_tokens: int, still: float | None) -> str:
        """Tokens and cost so far, and the cost when `still` times as much has been asked."""
        text = f"{prompt_tokens:,} + {completion_tokens:,} tokens"
        cost = self.cost(prompt_tokens, completion_tokens)
        return f"{text}, cost {cost:,.2f} of about {cost * still:,.2f}" if cost and still else text


class Ledger:
    """The answers of one labeler. Use as a context manager, from any thread.

    Args:
        path: the file; made when missing.
        labeler: name and version; answers of others are kept but not returned.

    Raises:
        UserError: it cannot be written, or another process has it open.
    """

    def __init__(self, path: Path, labeler: str) -> None:
        self.path, self.labeler = path, labeler
        self._lock = threading.Lock()  # attempts are counted in the thread that asks
        with _named_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
            for setting in ("locking_mode = EXCLUSIVE", "journal_mode = WAL", "synchronous = NORMAL"):
                self._db.execute(f"PRAGMA {setting}")
            self._db.execute(ANSWERS)
            self._db.execute(ATTEMPTS)

    def find(self, key: str) -> Answer | None:
        """The last answer to the request with this key."""
        rows = self._run(f"SELECT {COLUMNS} FROM answers WHERE labeler = ? AND key = ?", self.labeler, key)
        if not rows:
            return None
        key, level, confidence, reason, verdict, *cost = rows[0]
        return Answer(key, level, confidence, reason, verdict, *cost)

    def add(self, answer: Answer) -> None:
        """Keep an answer."""
        cost = (answer.attempts, answer.prompt_tokens, answer.completion_tokens)
        said = (answer.level, answer.confidence, answer.reason, answer.verdict)
        self._run(ADD, self.labeler, answer.key, *said, *cost)

    def count_attempt(self) -> None:
        """To be called before each attempt: so a killed process loses no count of what it had under way."""
        self._run("INSERT INTO attempts VALUES (?, 1) ON CONFLICT DO UPDATE SET count = count + 1", self.labeler)

    def close(self) -> None:
        with _named_errors(self.path):
            self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _run(self, statement: str, *values: Any) -> list[tuple]:
        with self._lock, _named_errors(self.path):
            return self._db.execute(statement, values).fetchall()


def totals(path: Path) -> dict[str, int]:
    """What a ledger holds, of all labelers: `answers`, `requests` (attempts, of all runs), `prompt_tokens`,
    `completion_tokens`; all 0 where there is none.
    """
    numbers = (0, 0, 0, 0)
    if path.exists():
        with Ledger(path, "") as ledger:
            # Labelers without a server count no attempts before them: they have those that led to answers.
            (numbers,) = ledger._run(
                "SELECT COUNT(*), MAX(TOTAL(attempts), (SELECT TOTAL(count) FROM attempts)), "
                "TOTAL(prompt_tokens), TOTAL(completion_tokens) FROM answers"
            )
    return dict(zip(("answers", "requests", "prompt_tokens", "completion_tokens"), map(int, numbers), strict=True))


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        if getattr(error, "sqlite_errorname", "") == "SQLITE_BUSY":
            raise UserError(
                f"another run is writing to {path}; wait for it to end, or choose another output folder"
            ) from error
        raise UserError(
            f"cannot write the ledger {path}: {error}; answers so far are kept, mend that (free some space, perhaps) and run "
            "the same command again"
        ) from error
