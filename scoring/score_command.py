"""`wildreward score`: a file of conversations in, one score a line out; a run that was stopped goes on where it was."""

import contextlib
import json
import logging
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from wildreward.common.chat import Message, read_conversation
from wildreward.common.errors import UserError, described
from wildreward.common.files import FolderLock, append_lines, complete_lines
from wildreward.common.hashing import file_sha256
from wildreward.common.progress import progress
from wildreward.common.settings import check_least, claim
from wildreward.scoring.load import MODEL_HELP, LoadingConfig, load_scorer
from wildreward.scoring.protocol import NotFinite, RewardSourceError, Scored, Scorer

logger = logging.getLogger(__name__)

CHUNK_BYTES = 16 << 20  # of input lines scored between two writes, whatever their number
NOT_FINITE = "the model gives no finite score"


@dataclass
class ScoreConfig(LoadingConfig):
    """What to score, with what, and where the scores go."""

    model: str = field(metadata={"help": MODEL_HELP})
    input: str = field(
        metadata={
            "help": "JSON Lines file; each line has `messages` that end with the assistant's answer, and may have `id`."
        }
    )
    output: str = field(
        metadata={
            "help": "JSON Lines file to write: for each line of the input, in its order, `line`, `id`, and either `score` "
            "and `level_probs` or `error`."
        }
    )
    chunk_size: int = field(default=256, metadata={"help": "Conversations scored between two writes to disk."})


CONFIGS = (ScoreConfig,)


@dataclass(frozen=True)
class Line:
    """A line of the input: what to score, or what is wrong with it.

    Attributes:
        number: in the file, from 1.
        id: the line's own, if it has one.
        messages: its conversation; None where it has none that can be scored.
        error: why there is none.
    """

    number: int
    id: Any = None
    messages: list[Message] | None = None
    error: str = ""

    def result(self, scored: Scored | str | None) -> dict[str, Any]:
        """The row of the output."""
        row: dict[str, Any] = {"line": self.number} | ({} if self.id is None else {"id": self.id})
        if not isinstance(scored, Scored) or not math.isfinite(scored.score):
            return row | {"error": scored if isinstance(scored, str) else NOT_FINITE}
        probs = {} if scored.level_probs is None else {"level_probs": list(scored.level_probs)}
        return row | {"score": scored.score} | probs


def score_file(
    model: str, source: str | os.PathLike, output: str | os.PathLike, *, chunk_size: int = 256, **loading: Any
) -> dict[str, int]:
    """Score every line of a file. Until all is done the scores are kept in `<output>.work/`.

    Args:
        model: folder, Hub id or URL.
        source: JSON Lines with `messages`.
        output: file to write, which must not exist yet.
        chunk_size: conversations between two writes.
        **loading: passed to `load_scorer`.

    Returns:
        How many lines were `scored`, and how many have an `error`.

    Raises:
        UserError: the model or the file cannot be opened, the output exists, another run is at it, an earlier one had
            other settings, or nothing can be scored.
    """
    source, output = Path(source), Path(output)
    numbers = {"chunk_size": chunk_size, **{name: loading.get(name) for name in ("token_budget", "max_length")}}
    check_least(*((name, number, 1) for name, number in numbers.items()))
    if not source.is_file():
        raise UserError(f"{source} is not a file; expected JSON Lines with `messages`")
    _check_new(output)
    work = output.with_name(output.name + ".work")
    with FolderLock(work):
        _check_new(output)  # a run that has just ended may have written it
        scorer = load_scorer(model, **loading)
        settings = {"model": scorer.name, "fingerprint": scorer.fingerprint, "input_sha256": file_sha256(source)}
        scores = work / "scores.jsonl"
        with claim(work, settings, begun=lambda: scores.exists() and scores.stat().st_size > 0):
            counts = _score(scorer, source, scores, chunk_size)
        os.replace(scores, output)
        for name in (".lock", "settings.json"):
            (work / name).unlink()
        with contextlib.suppress(OSError):  # there is something in it that is not ours
            work.rmdir()
    return counts


def _check_new(output: Path) -> None:
    if output.exists():
        raise UserError(f"{output} exists already; choose another --output, or remove it")


def _score(scorer: Scorer, source: Path, path: Path, chunk_size: int) -> dict[str, int]:
    counts = {"scored": 0, "error": 0}
    for _, line in complete_lines(path):  # what an earlier run has written
        try:
            counts["error" if "error" in json.loads(line) else "scored"] += 1
        except ValueError as error:
            raise UserError(f"{path} holds a line that is no score; delete {path.parent} to begin again") from error
    done = sum(counts.values())
    if done:
        logger.info("going on after %d lines", done)
    with (
        open(source, "rb") as handle,
        progress("score", source.stat().st_size, unit="byte", unit_scale=True) as bar,
    ):
        for chunk in _chunks(handle, done, chunk_size):
            rows = _score_chunk(scorer, chunk, first=not counts["scored"])
            append_lines(path, rows)
            for row in rows:
                counts["error" if "error" in row else "scored"] += 1
            bar.update(handle.tell() - bar.n)
    if not counts["scored"]:
        raise UserError(_nothing(path, source))
    return counts


def _nothing(path: Path, source: Path) -> str:
    first = path.read_text(encoding="utf-8").partition("\n")[0] if path.exists() else ""
    path.unlink(missing_ok=True)
    if not first:
        return f"{source} is empty; expected JSON Lines with `messages`"
    row = json.loads(first)
    return f"no line of {source} could be scored; the first, line {row['line']}: {row['error']}"


def _chunks(handle: BinaryIO, done: int, size: int) -> Iterator[list[Line]]:
    """The lines that are not blank, without the first `done`, a chunk at a time."""
    chunk, volume = [], 0
    for number, text in enumerate(iter(handle.readline, b""), start=1):
        if not text.strip():
            continue
        if done:
            done -= 1
            continue
        chunk.append(_read(number, text))
        volume += len(text)
        if len(chunk) == size or volume >= CHUNK_BYTES:
            yield chunk
            chunk, volume = [], 0
    if chunk:
        yield chunk


def _read(number: int, text: bytes) -> Line:
    try:
        row = json.loads(text.decode("utf-8-sig" if number == 1 else "utf-8"))
    except (ValueError, RecursionError) as error:
        reason = error.msg if isinstance(error, json.JSONDecodeError) else type(error).__name__
        return Line(number, error=f"not JSON: {reason}")
    if not isinstance(row, dict):
        return Line(number, error=f"{described(row)}; expected an object with messages")
    name = row.get("id")
    try:
        return Line(number, name, read_conversation(row.get("messages"), "messages", keep_reasoning=True))
    except ValueError as error:
        return Line(number, name, error=str(error))


def _score_chunk(scorer: Scorer, chunk: list[Line], first: bool) -> list[dict[str, Any]]:
    scored = iter(_scores(scorer, [line.messages for line in chunk if line.messages is not None], first))
    return [line.result(line.error if line.messages is None else next(scored)) for line in chunk]


def _scores(scorer: Scorer, conversations: list[list[Message]], first: bool) -> list[Scored | str | None]:
    """Scores; where the model refuses a chunk, each conversation alone, so that one cannot spoil the others.

    Raises:
        UserError: the server failed, or the `first` conversations, more than one, are all refused: it is the model.
    """
    try:
        return list(scorer.score(conversations))
    except RewardSourceError as error:
        raise UserError(f"{error}; what was scored before is kept, run the same command again") from error
    except ValueError as error:
        if len(conversations) == 1:
            return [NOT_FINITE if isinstance(error, NotFinite) else str(error).removeprefix("conversation 0: ")]
        refusal = error
    found = [one for messages in conversations for one in _scores(scorer, [messages], False)]
    if first and all(isinstance(one, str) for one in found):
        raise UserError(f"{scorer.name} cannot score the first {len(found)} conversations ({refusal})") from refusal
    return found


def main(config: ScoreConfig) -> None:
    """Run the command."""
    counts = score_file(config.model, config.input, config.output, chunk_size=config.chunk_size, **config.loading())
    told = f", {counts['error']:,} lines with an error" if counts["error"] else ""
    print(f"{counts['scored']:,} conversations scored{told}: {config.output}")
