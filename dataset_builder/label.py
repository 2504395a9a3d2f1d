"""Runs a labeler over the turns of all parts, and keeps its answers part by part, one for each turn in their order.

Labelers that cost nothing answer inside the worker that holds the part. Requests to paid labelers are one stream over all
parts: those of the next part are sent while the last of the previous one are still on their way. Each answer goes to the
ledger as it comes, and a part's file is written when its last answer is in. Equal questions are asked once, whichever parts
they are in.
"""

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

from tqdm.auto import tqdm

from wildreward.common.llm.answers import NO_ANSWER, WORTH_ASKING_AGAIN, Answer, check_share_failed
from wildreward.common.llm.ledger import Ledger, Prices
from wildreward.common.progress import progress
from wildreward.dataset_builder.labelers.base import Labeler, Request, Task
from wildreward.dataset_builder.records import Turn, request_for
from wildreward.dataset_builder.refusals import needs_judge
from wildreward.dataset_builder.schemas import ANSWERS, read_rows, write_rows

logger = logging.getLogger(__name__)

TurnsOf = Callable[[Path], Iterable[Turn]]
NOT_ASKED = Answer("", None, reason="not_asked")
SHOW_EVERY = 20  # answers between two looks at what they cost


def label_free(turns: Iterable[Turn], labeler: Labeler, task: Task) -> list[Answer]:
    """Ask a labeler that costs nothing about all turns of one part; an empty answer where nothing is asked."""
    asked = [(turn, _is_asked(turn, task, labeler)) for turn in turns]
    answers = labeler.label_many(request_for(turn, task, with_key=False) for turn, needed in asked if needed)
    return [next(answers) if needed else NOT_ASKED for _, needed in asked]


def label_paid(
    parts: Iterable[Path],
    turns_of: TurnsOf,
    labeler: Labeler,
    task: Task,
    folder: Path,
    ledger: Path,
    *,
    prices: Prices,
) -> None:
    """Ask a paid labeler about all turns of all parts, in one stream, behind a progress bar with what it has cost so far.

    Args:
        parts: to label, in order; those whose answers are in `folder` are passed over.
        turns_of: gives the turns of a part, the same at every call.
        task: what is asked; turns that it does not concern get an empty answer.
        folder: where a parquet file for each part is written: answers in turn order.
        ledger: the SQLite file with everything that was ever answered.
        prices: of tokens.

    Raises:
        UserError: going on is pointless, or another process labels with this ledger.
    """
    parts = [part for part in parts if not (folder / part.name).exists()]
    with (
        progress(task, unit="turn", smoothing=0.05) as bar,
        Ledger(ledger, f"{labeler.name}:{labeler.version}") as kept,
    ):
        stream = _Stream(parts, turns_of, labeler, task, folder, kept, bar)
        tokens = [0, 0]
        with closing(labeler.label_many(stream.requests())) as answers:  # an error here ends the asking at once
            for answer in answers:
                stream.take(answer)
                tokens[0] += answer.prompt_tokens
                tokens[1] += answer.completion_tokens
                bar.update()
                if bar.n % SHOW_EVERY == 0:
                    bar.set_postfix_str(prices.spent(*tokens, bar.total and bar.total / bar.n), refresh=False)
        stream.finish()


def check_failures(parts: Iterable[Path], folder: Path, most: float) -> None:
    """Stop the build when the server failed on more than the share `most` of the questions.

    Raises:
        UserError: naming how many failed and for what reasons.
    """
    reasons = sum((reasons_of(folder, part) for part in parts), Counter())
    check_share_failed(reasons, reasons.total() - reasons[NOT_ASKED.reason], most)


def reasons_of(folder: Path, part: Path) -> Counter:
    """How often each reason occurs among the answers of a part; none where it has no answers yet."""
    path = folder / part.name
    return Counter(read_rows(path, ["reason"])["reason"].to_pylist() if path.exists() else ())


def has_failures(folder: Path, part: Path) -> bool:
    """Whether a finished part has answers that are worth asking for again."""
    return not WORTH_ASKING_AGAIN.isdisjoint(reasons_of(folder, part))


def read_answers(folder: Path, part: Path) -> list[Answer]:
    """The answers of a part in turn order, without their keys and costs."""
    columns = (column.to_pylist() for column in read_rows(folder / part.name, ANSWERS.names).columns)
    return [Answer("", *row) for row in zip(*columns, strict=True)]


def write_answers(path: Path, answers: Iterable[Answer]) -> None:
    """Write the answers of a part in turn order."""
    write_rows(path, ({name: getattr(answer, name) for name in ANSWERS.names} for answer in answers), ANSWERS)


def _is_asked(turn: Turn, task: Task, labeler: Labeler) -> bool:
    """Dropped turns are never asked about, nor what was said next where that is nothing."""
    asked = turn.has_follow_up if task == "feedback" else needs_judge(turn, labeler.knows_refusals)
    return turn.dropped is None and asked


@dataclass
class _Stream:
    """Feeds a labeler with requests from part after part, and writes the parts whose answers are all there.

    Attributes:
        waiting: keys that are asked just now.
        failed: keys that another run may ask again, but not this one.
        open: parts with the keys of their turns, "" where none is asked.
    """

    parts: Sequence[Path]
    turns_of: TurnsOf
    labeler: Labeler
    task: Task
    folder: Path
    ledger: Ledger
    bar: tqdm
    waiting: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    open: list[tuple[Path, list[str], set[str]]] = field(default_factory=list)

    def requests(self) -> Iterator[Request]:
        asked = 0
        for number, part in enumerate(self.parts, 1):
            keys = []
            for turn in self.turns_of(part):
                if not _is_asked(turn, self.task, self.labeler):
                    keys.append("")
                    continue
                request = request_for(turn, self.task)
                keys.append(request.key)
                if self._must_be_asked(request.key):
                    self.waiting.add(request.key)
                    asked += 1
                    yield replace(request, on_ask=self.ledger.count_attempt)
            self.open.append((part, keys, set(keys)))
            self.bar.total = asked * len(self.parts) // number  # the others will be like these
            self.bar.refresh()
            self._write_finished()

    def take(self, answer: Answer) -> None:
        self.ledger.add(answer)
        self.waiting.discard(answer.key)
        if not answer.is_final:
            self.failed.add(answer.key)
        self._write_finished()

    def finish(self) -> None:
        """After the last answer: a request that got none is unlabelled with a reason."""
        for key in [*self.waiting]:
            logger.warning("the labeler gave no answer to one request")
            self.take(Answer(key, None, reason=NO_ANSWER))

    def _must_be_asked(self, key: str) -> bool:
        if key in self.waiting or key in self.failed:
            return False
        known = self.ledger.find(key)
        return known is None or not known.is_final

    def _write_finished(self) -> None:
        while self.open and self.waiting.isdisjoint(self.open[0][2]):
            part, keys, _ = self.open.pop(0)
            answers = (self.ledger.find(key) if key else NOT_ASKED for key in keys)
            write_answers(self.folder / part.name, answers)
