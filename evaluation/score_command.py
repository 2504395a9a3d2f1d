"""`wildreward score`: a file of conversations in, one score a line out; a run that was stopped goes on where it was."""

import contextlib
import hashlib
import json
import logging
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from wildreward.errors import UserError, described
from wildreward.evaluation.loading import MODEL_HELP, LoadingConfig
from wildreward.evaluation.store import Group, Scored, Scorer
from wildreward.files import FolderLock
from wildreward.messages import read_messages
from wildreward.settings import check_least, claim

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
        group: its conversation; None where it has none that can be scored.
        error: why there is none.
    """

    number: int
    id: Any = None
    group: Group | None = None
    error: str = ""

    def result(self, scored: Scored | str) -> dict[str, Any]:
        """The row of the output."""
        row: dict[str, Any] = {"line": self.number} | ({} if self.id is None else {"id": self.id})
        if isinstance(scored, Scored) and math.isfinite(scored.score):
            row["score"] = scored.score
            if scored.level_probs is not None:
                row["level_probs"] = list(scored.level_probs)
        else:
            row["error"] = scored if isinstance(scored, str) else NOT_FINITE
        return row


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
    from wildreward.evaluation.scorers import load_scorer

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
        with open(source, "rb") as handle:
            digest = hashlib.file_digest(handle, "sha256").hexdigest()
        settings = {"model": scorer.name, "fingerprint": scorer.fingerprint, "input_sha256": digest}
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
    from tqdm.auto import tqdm

    counts = _begun(path)
    done = sum(counts.values())
    if done:
        logger.info("going on after %d lines", done)
    try:
        with open(source, "rb") as handle, open(path, "ab") as results:
            with tqdm(total=source.stat().st_size, unit="B", unit_scale=True, desc="score") as bar:
                for chunk in _chunks(handle, done, chunk_size):
                    rows = _score_chunk(scorer, chunk, first=not counts["scored"])
                    results.write("".join(json.dumps(row) + "\n" for row in rows).encode())
                    results.flush()
                    os.fsync(results.fileno())
                    for row in rows:
                        counts["error" if "error" in row else "scored"] += 1
                    bar.update(handle.tell() - bar.n)
    except OSError as error:
        raise UserError(f"cannot go on with {path}: {error.strerror or error}; what was scored is kept") from error
    if not counts["scored"]:
        raise UserError(_nothing(path, source))
    return counts


def _begun(path: Path) -> dict[str, int]:
    """What an earlier run has written; a half-written last line is cut off."""
    counts, complete = {"scored": 0, "error": 0}, 0
    if not path.exists():
        return counts
    with open(path, "rb") as handle:
        for line in handle:
            if not line.endswith(b"\n"):
                break
            try:
                counts["error" if "error" in json.loads(line) else "scored"] += 1
            except ValueError as error:
                raise UserError(f"{path} holds a line that is no score; delete {path.parent} to begin again") from error
            complete += len(line)
    os.truncate(path, complete)
    return counts


def _nothing(path: Path, source: Path) -> str:
    with open(path, encoding="utf-8") as handle:
        first = handle.readline()
    path.unlink()
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
        messages = read_messages(row.get("messages"), "messages")
    except ValueError as error:
        return Line(number, name, error=str(error))
    if not messages or messages[-1]["role"] != "assistant":
        return Line(number, name, error="messages do not end with the assistant's answer")
    return Line(number, name, Group(str(number), messages[:-1], [messages[-1]["content"]]))


def _score_chunk(scorer: Scorer, chunk: list[Line], first: bool) -> list[dict[str, Any]]:
    groups = [line.group for line in chunk if line.group is not None]
    scored = iter(_score_groups(scorer, groups, first))
    return [line.result(line.error if line.group is None else next(scored)) for line in chunk]


def _score_groups(scorer: Scorer, groups: list[Group], first: bool) -> list[Scored | str]:
    """Scores; where the model refuses a chunk, each conversation alone, so that one cannot spoil the others.

    Raises:
        UserError: the server failed, or the `first` conversations, more than one, are all refused: it is the model.
    """
    try:
        return [scored for (scored,) in scorer.score_groups(groups)]
    except UserError as error:
        if not isinstance(error.__cause__, ValueError):
            raise
        refusal = error
    found: list[Scored | str] = []
    for group in groups:
        try:
            found += scorer.score_groups([group])[0]
        except UserError as error:
            if not isinstance(error.__cause__, ValueError):
                raise
            found.append(_told(error.__cause__))
    if first and len(found) > 1 and all(isinstance(one, str) for one in found):
        raise refusal
    return found


def _told(error: ValueError) -> str:
    """What a scorer said about a single conversation."""
    from wildreward.scorer import NotFinite

    if isinstance(error, NotFinite):
        return NOT_FINITE
    return str(error).removeprefix("conversation 0: ")


def main(config: ScoreConfig) -> None:
    """Run the command."""
    counts = score_file(config.model, config.input, config.output, chunk_size=config.chunk_size, **config.loading())
    told = f", {counts['error']:,} lines with an error" if counts["error"] else ""
    print(f"{counts['scored']:,} conversations scored{told}: {config.output}")
