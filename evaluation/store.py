"""Scores kept in an append-only file, so that a rerun, a new metric or a restart after a crash scores nothing twice."""

import hashlib
import json
import logging
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from wildreward.errors import UserError
from wildreward.files import make_folder
from wildreward.messages import Message

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Group:
    """One prompt (messages up to the last user turn) and the answers to be scored under it."""

    id: str
    prompt: Sequence[Message]
    completions: Sequence[str]


@dataclass(frozen=True)
class Scored:
    """What a model says of one candidate; the level distribution where it has one."""

    score: float
    level_probs: tuple[float, ...] | None = None


class Scorer(Protocol):
    """Any reward model: ours, a Bradley-Terry classifier, a remote server."""

    name: str
    kind: str
    fingerprint: str
    """Changes whenever the scores may change; names the file the scores are kept in."""
    revision: str | None
    """Commit of a model from the Hub."""
    weights: str | None
    """`wildreward.weights.weights_digest` of a model folder: by it a card knows whether results are the folder's own."""
    settings: dict[str, Any]
    """What else the scores depend on, in a form that can be published: number format, longest input."""

    def score_groups(self, groups: Sequence[Group]) -> list[list[Scored]]:
        """Score every completion of every group."""
        ...


def candidate_key(prompt: Sequence[Message], completion: str) -> str:
    """Content hash of one candidate: roles and contents only, so that extra fields do not matter."""
    messages = [[m["role"], m["content"]] for m in prompt]
    text = json.dumps([messages, completion], ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


class ScoreStore:
    """All scores of one model, one JSON object a line: key, score, level_probs. A half-written last line is dropped."""

    def __init__(self, folder: str | os.PathLike, scorer: Scorer) -> None:
        self.path = make_folder(folder) / f"{scorer.fingerprint}.jsonl"
        self.scores: dict[str, Scored] = dict(self._read())

    def _read(self) -> Iterator[tuple[str, Scored]]:
        if not self.path.exists():
            return
        complete = 0
        with open(self.path, "rb") as handle:
            for number, line in enumerate(handle, start=1):
                if not line.endswith(b"\n"):
                    logger.warning("dropping the half-written last line of %s", self.path)
                    break
                try:
                    row = json.loads(line)
                    probs = row["level_probs"]
                    yield row["key"], Scored(float(row["score"]), tuple(probs) if probs else None)
                except (ValueError, KeyError, TypeError) as error:
                    raise UserError(
                        f"{self.path}, line {number}: not a stored score ({error}); "
                        "delete the file to score everything again"
                    ) from error
                complete += len(line)
        if complete < self.path.stat().st_size:
            os.truncate(self.path, complete)

    def add(self, scored: Sequence[tuple[str, Scored]]) -> None:
        """Append and flush to disk.

        Raises:
            UserError: the system refused (disk full, no permission), naming the file.
        """
        lines = "".join(
            json.dumps({"key": key, "score": s.score, "level_probs": s.level_probs}) + "\n" for key, s in scored
        )
        try:
            with open(self.path, "a", encoding="utf-8") as handle:
                handle.write(lines)
                handle.flush()
                os.fsync(handle.fileno())
        except OSError as error:
            raise UserError(
                f"cannot write {self.path}: {error.strerror or error}; what was scored before is kept"
            ) from error
        self.scores.update(scored)


def _check_finite(scored: Scored, scorer: Scorer, group: Group, position: int) -> None:
    values = (scored.score, *(scored.level_probs or ()))
    if not all(math.isfinite(v) for v in values):
        raise UserError(
            f"{scorer.name} scored candidate {position + 1} of item {group.id!r} as {scored.score}; expected a finite "
            "number. Nothing was stored for it: check the model (NaN weights, half-precision overflow) and run again"
        )


def _pending(groups: Sequence[Group], known: dict[str, Scored]) -> list[Group]:
    """Groups reduced to candidates without a score; a candidate that occurs twice is scored once."""
    seen = set(known)
    pending = []
    for group in groups:
        fresh = []
        for completion in group.completions:
            key = candidate_key(group.prompt, completion)
            if key not in seen:
                seen.add(key)
                fresh.append(completion)
        if fresh:
            pending.append(Group(group.id, group.prompt, fresh))
    return pending


def _length(group: Group) -> int:
    """Characters of the longest sequence of the group."""
    prompt = sum(len(str(m["content"])) for m in group.prompt)
    return prompt + max(len(c) for c in group.completions)


def _chunks(groups: Sequence[Group], size: int) -> Iterator[list[Group]]:
    """Neighbours in length together (less padding), the longest first (memory trouble shows at once)."""
    chunk: list[Group] = []
    for group in sorted(groups, key=_length, reverse=True):
        chunk.append(group)
        if sum(len(g.completions) for g in chunk) >= size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def score_groups(
    groups: Sequence[Group], scorer: Scorer, store: ScoreStore, chunk_size: int = 256, title: str = "scoring"
) -> list[list[Scored]]:
    """Score every candidate that the store does not know yet, and return the scores of all.

    Args:
        groups: prompts with their candidates.
        scorer: the model.
        store: its scores so far; each finished chunk is on disk before the next begins.
        chunk_size: candidates between two writes.
        title: of the progress bar.

    Raises:
        UserError: a score is not a finite number, naming the item.
    """
    from tqdm.auto import tqdm

    pending = _pending(groups, store.scores)
    total = sum(len(group.completions) for group in pending)
    with tqdm(total=total, desc=title, unit="candidate", disable=None if total else True) as bar:
        for chunk in _chunks(pending, chunk_size):
            results = scorer.score_groups(chunk)
            rows = []
            for group, scored in zip(chunk, results, strict=True):
                for position, (completion, one) in enumerate(zip(group.completions, scored, strict=True)):
                    _check_finite(one, scorer, group, position)
                    rows.append((candidate_key(group.prompt, completion), one))
            store.add(rows)
            bar.update(len(rows))
    return [[store.scores[candidate_key(g.prompt, c)] for c in g.completions] for g in groups]
