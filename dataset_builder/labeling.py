"""Second step: the answers of the labeler for every turn, part by part.

Labelers that cost nothing answer inside the worker that holds the part. Answers of paid labelers stream: requests of the
next part are sent while the last of the previous one are still on their way, each answer goes to the part's ledger as it
comes, and a part is closed when its last answer is in. Equal questions are asked once, whichever parts they are in.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from wildreward.dataset_builder.answered import Answered, is_final
from wildreward.dataset_builder.labelers.base import (
    NO_ANSWER,
    WORTH_ASKING_AGAIN,
    Answer,
    Labeler,
    Request,
    Task,
)
from wildreward.dataset_builder.ledger import AttemptCount, Ledger, read_ledger
from wildreward.dataset_builder.parts import read_columns
from wildreward.dataset_builder.records import Turn
from wildreward.dataset_builder.turns import request_for
from wildreward.errors import UserError
from wildreward.files import atomic_path

logger = logging.getLogger(__name__)

TurnsOf = Callable[[Path], Iterable[Turn]]
NOT_ASKED = "not_asked"
_NOT_ASKED = Answer("", None, reason=NOT_ASKED, attempts=0)


def label_free(turns: Iterable[Turn], labeler: Labeler, task: Task) -> list[Answer]:
    """Ask a labeler that costs nothing about all turns of one part; an empty answer where nothing is asked."""
    asked = [(turn, _asked(turn, task, labeler)) for turn in turns]
    answers = labeler.label_many(request_for(turn, task, with_key=False) for turn, needed in asked if needed)
    return [next(answers) if needed else _NOT_ASKED for _, needed in asked]


def label_paid(
    parts: Iterable[Path],
    turns_of: TurnsOf,
    labeler: Labeler,
    task: Task,
    folder: Path,
    *,
    on_answer: Callable[[Answer], Any] = lambda answer: None,
) -> None:
    """Ask a paid labeler about all turns of all parts, in one stream.

    Args:
        parts: to label, in order; finished ones are passed over.
        turns_of: gives the turns of a part, the same at every call.
        task: what is asked; turns that it does not concern get an empty answer.
        folder: where `<part>` (answers in turn order), `ledger/<part>.jsonl` and `attempts/<part>` are written.
        on_answer: called for each new answer, for progress.
    """
    stream = _Stream([part for part in parts if not _done(folder, part)], turns_of, labeler, task, folder)
    try:
        for answer in labeler.label_many(stream.requests()):
            stream.take(answer)
            on_answer(answer)
        stream.finish()
    finally:
        stream.close()


def left_to_ask(parts: Iterable[Path], turns_of: TurnsOf, labeler: Labeler, folder: Path) -> int:
    """How many questions `label_paid` will ask about follow-ups: for turns that were not dropped, without the answers that
    the ledgers of unfinished parts hold. Copies of a question in several turns count each time, so it may be fewer.
    """
    left = 0
    for part in parts:
        if not _done(folder, part):
            asked = sum(turn.dropped is None for turn in turns_of(part))
            left += max(0, asked - len(_answered(_ledger_path(folder, part), _version(labeler))))
    return left


def reasons_of(folder: Path, part: Path) -> Counter:
    """How often each reason occurs among the answers of a part."""
    return Counter(read_columns(folder / part.name, ["reason"])["reason"].to_pylist())


def check_failures(parts: Iterable[Path], folder: Path, most: float) -> None:
    """Stop the build when the server failed on more than the share `most` of the questions.

    Raises:
        UserError: naming how many failed and for what reasons.
    """
    reasons = sum((reasons_of(folder, part) for part in parts), Counter())
    failures = {reason: reasons[reason] for reason in sorted(WORTH_ASKING_AGAIN) if reasons[reason]}
    failed, asked = sum(failures.values()), reasons.total() - reasons[NOT_ASKED]
    if failed > most * asked:
        listed = ", ".join(f"{reason} {count:,}" for reason, count in failures.items())
        raise UserError(
            f"{failed:,} of {asked:,} questions got no answer ({listed}), more than --max_failed {most:g} allows; "
            "check the server, then run the same command again: only these are asked again"
        )


def count_attempts(folder: Path, part: Path) -> int:
    """How often a labeler was asked about a finished part: by all runs, those that failed or were killed among them."""
    counted = _attempts_path(folder, part)
    # Labelers without a server, and folders that an older version began, have the attempts that led to answers only.
    answered = sum(read_columns(folder / part.name, ["attempts"])["attempts"].to_pylist())
    return max(answered, counted.stat().st_size if counted.exists() else 0)


def has_failures(folder: Path, part: Path) -> bool:
    """Whether a finished part has answers that are worth asking for again."""
    return _done(folder, part) and not WORTH_ASKING_AGAIN.isdisjoint(reasons_of(folder, part))


def read_answers(folder: Path, part: Path) -> list[Answer]:
    """The answers of a part in turn order, without their keys."""
    columns = read_columns(folder / part.name).to_pydict()
    return [Answer("", **dict(zip(columns, row, strict=True))) for row in zip(*columns.values(), strict=True)]


def write_answers(path: Path, answers: Iterable[Answer]) -> None:
    """Write the answers of a part in turn order."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    from wildreward.dataset_builder.schema import ANSWERS

    rows = [{name: getattr(answer, name) for name in ANSWERS.names} for answer in answers]
    with atomic_path(path) as temporary:
        pq.write_table(pa.Table.from_pylist(rows, schema=ANSWERS), temporary, compression="zstd")


def _ledger_path(folder: Path, part: Path) -> Path:
    return folder / "ledger" / f"{part.stem}.jsonl"


def _attempts_path(folder: Path, part: Path) -> Path:
    return folder / "attempts" / part.stem


def _version(labeler: Labeler) -> str:
    return f"{labeler.name}:{labeler.version}"


def _answered(ledger: Path, version: str) -> set[str]:
    """Keys of the final answers in a ledger."""
    if not ledger.exists():
        return set()
    return {answer.key for answer, _ in read_ledger(ledger, version) if is_final(answer)}


def _done(folder: Path, part: Path) -> bool:
    return (folder / part.name).exists()


def _asked(turn: Turn, task: Task, labeler: Labeler) -> bool:
    """Dropped turns are never asked about."""
    from wildreward.dataset_builder.refusals import needs_judge

    return turn.dropped is None and (task == "feedback" or needs_judge(turn, labeler.knows_refusals))


@dataclass
class _OpenPart:
    """A part whose answers are not all in.

    Attributes:
        keys: of each turn, "" where nothing is asked.
        asked, awaited: keys that this run has asked for the part, and those among them without an answer yet.
        sent: all turns have been looked at.
    """

    part: Path
    ledger: Ledger
    attempts: AttemptCount
    keys: list[str] = field(default_factory=list)
    asked: set[str] = field(default_factory=set)
    awaited: set[str] = field(default_factory=set)
    sent: bool = False

    def answers(self) -> Iterator[Answer]:
        """One for each turn, in their order; equal turns share the cost of one question."""
        seen: set[str] = set()
        for key in self.keys:
            if not key:
                yield _NOT_ASKED
                continue
            answer = self.ledger.answers[key]
            yield _copy(answer) if key in seen else answer
            seen.add(key)

    def close(self) -> None:
        self.attempts.close()
        self.ledger.close()


class _Stream:
    """Feeds a labeler with requests from part after part, and hands its answers to the parts that wait for them."""

    def __init__(self, parts: list[Path], turns_of: TurnsOf, labeler: Labeler, task: Task, folder: Path) -> None:
        self.parts, self.turns_of, self.labeler, self.task, self.folder = parts, turns_of, labeler, task, folder
        self.version = _version(labeler)
        self.waiting: dict[str, list[_OpenPart]] = {}
        self.open: list[_OpenPart] = []
        self.answered = Answered(folder / "ledger", self.version)

    def requests(self) -> Iterator[Request]:
        for part in self.parts:
            ledger = Ledger(_ledger_path(self.folder, part), self.version)
            current = _OpenPart(part, ledger, AttemptCount(_attempts_path(self.folder, part)))
            self.open.append(current)
            for turn in self.turns_of(part):
                if not _asked(turn, self.task, self.labeler):
                    current.keys.append("")
                    continue
                request = request_for(turn, self.task)
                current.keys.append(request.key)
                if self._must_be_asked(request.key, current):
                    yield replace(request, on_ask=current.attempts.add)
            current.sent = True
            self._close_finished()

    def take(self, answer: Answer) -> None:
        """Hand an answer to the part that asked, and without its cost to the others that wait for it."""
        for number, owner in enumerate(self.waiting.pop(answer.key)):
            owner.ledger.add(_copy(answer) if number else answer)
            owner.awaited.discard(answer.key)
        self._close_finished()

    def finish(self) -> None:
        """After the last answer: a request that got none is unlabelled with a reason."""
        for key in list(self.waiting):
            logger.warning("the labeler gave no answer to one request")
            self.take(Answer(key, None, reason=NO_ANSWER))
        self._close_finished()

    def close(self) -> None:
        for current in self.open:
            current.close()
        self.open = []

    def _must_be_asked(self, key: str, current: _OpenPart) -> bool:
        """Whether nobody has asked this yet; a part that needs not ask gets the answer when it is there."""
        own = current.ledger.answers.get(key)
        if key in current.awaited or (own and (is_final(own) or key in current.asked)):
            return False
        if (known := self._known(key)) is not None:
            current.ledger.add(_copy(known))
            return False
        current.awaited.add(key)
        current.asked.add(key)
        owners = self.waiting.setdefault(key, [])
        owners.append(current)
        return len(owners) == 1

    def _known(self, key: str) -> Answer | None:
        """A final answer that another part has."""
        for other in self.open:
            answer = other.ledger.answers.get(key)
            if answer and is_final(answer):
                return answer
        return self.answered.find(key)

    def _close_finished(self) -> None:
        for current in [item for item in self.open if item.sent and not item.awaited]:
            ledger = current.ledger
            ledger.flush()
            write_answers(self.folder / current.part.name, current.answers())
            current.close()
            self.answered.add(ledger.path, ((ledger.answers[key], at) for key, at in ledger.offsets.items()))
            self.open.remove(current)


def _copy(answer: Answer) -> Answer:
    """An answer used a second time; it was paid for once."""
    return replace(answer, attempts=0, prompt_tokens=0, completion_tokens=0)
