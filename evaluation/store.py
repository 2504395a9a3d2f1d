"""Scores kept in an append-only file, so that a rerun, a new metric or a restart after a crash scores nothing twice."""

import json
import logging
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from wildreward.common.chat import Message
from wildreward.common.errors import UserError
from wildreward.common.files import append_lines, complete_lines, make_folder
from wildreward.common.hashing import text_sha256
from wildreward.common.progress import progress
from wildreward.scoring.protocol import Conversation, RewardSourceError, Scored, Scorer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Group:
    """One prompt (messages up to the last user turn) and the answers to be scored under it."""

    id: str
    prompt: Sequence[Message]
    completions: Sequence[str]

    @property
    def conversations(self) -> list[Conversation]:
        """Each answer with the prompt before it."""
        return [[*self.prompt, {"role": "assistant", "content": completion}] for completion in self.completions]


def score_all(scorer: Scorer, groups: Sequence[Group]) -> Iterator[Scored]:
    """Scores of all answers of all groups, one after the other; NaN for what the source says it cannot score.

    Raises:
        UserError: the model cannot score an answer, naming the first groups; the source gave no scores.
    """
    try:
        scored = scorer.score([conversation for group in groups for conversation in group.conversations])
    except RewardSourceError as error:
        raise UserError(f"{error}; what was scored before is kept, run the same command again") from error
    except ValueError as error:
        names = ", ".join(repr(group.id) for group in groups[:3]) + ("…" if len(groups) > 3 else "")
        raise UserError(f"{scorer.name} cannot score items {names} ({error})") from error
    return (Scored(math.nan) if one is None else one for one in scored)


def candidate_key(prompt: Sequence[Message], completion: str) -> str:
    """Content hash of one candidate: roles and contents only, so that extra fields do not matter."""
    messages = [[m["role"], m["content"]] for m in prompt]
    text = json.dumps([messages, completion], ensure_ascii=True, separators=(",", ":"))
    return text_sha256(text, 32)


class ScoreStore:
    """All scores of one model, one JSON object a line: key, score, level_probs. A half-written last line is dropped."""

    def __init__(self, folder: str | os.PathLike, scorer: Scorer) -> None:
        self.path = make_folder(folder) / f"{scorer.fingerprint}.jsonl"
        self.scores: dict[str, Scored] = dict(self._read())

    def _read(self) -> Iterator[tuple[str, Scored]]:
        for number, line in complete_lines(self.path):
            try:
                row = json.loads(line)
                probs = row["level_probs"]
                yield row["key"], Scored(float(row["score"]), tuple(probs) if probs else None)
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(
                    f"{self.path}, line {number}: not a stored score ({error}); delete the file to score everything again"
                ) from error

    def add(self, scored: Sequence[tuple[str, Scored]]) -> None:
        """Append and flush to disk, see `append_lines`."""
        append_lines(self.path, ({"key": key, "score": s.score, "level_probs": s.level_probs} for key, s in scored))
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

    Each chunk of `chunk_size` candidates is on disk before the next begins.

    Raises:
        UserError: a score is not a finite number, naming the item.
    """
    pending = _pending(groups, store.scores)
    total = sum(len(group.completions) for group in pending)
    with progress(title, total, unit="candidate") as bar:
        for chunk in _chunks(pending, chunk_size):
            scored, rows = score_all(scorer, chunk), []
            for group in chunk:
                for position, completion in enumerate(group.completions):
                    _check_finite(one := next(scored), scorer, group, position)
                    rows.append((candidate_key(group.prompt, completion), one))
            store.add(rows)
            bar.update(len(rows))
    return [[store.scores[candidate_key(g.prompt, c)] for c in g.completions] for g in groups]
