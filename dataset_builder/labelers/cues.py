"""The embedded labeler: the level of a follow-up read from explicit cues in its text, with no model and no network.

The follow-up is cut into clauses; each is held against the tables in `cue_approvals` and `cue_complaints`. What is quoted,
pasted, code or spoken in a role does not count, and without strong evidence the level is neutral: precision comes
before recall. Only the beginning and the end of a long follow-up are looked at, so the time a call takes is bounded.
What counts as feedback, and how well the cues find it: `docs/labeling-guidelines.md`.
"""

import re
from dataclasses import dataclass

from wildreward.dataset_builder.labelers.cue_approvals import APPROVAL, APPROVAL_HINTS
from wildreward.dataset_builder.labelers.cue_complaints import COMPLAINT_HINTS, COMPLAINTS
from wildreward.dataset_builder.labelers.cue_needs import APOLOGY, GATES, NEEDS
from wildreward.dataset_builder.labelers.cue_tables import Cue
from wildreward.dataset_builder.labelers.cue_turns import HEAD, MAX_CLAUSES, PUNCTUATION, Clause, Turn

CUES_VERSION = "5"

CONTRASTS = frozenset({"but", "however", "although", "except", "though", "yet"})
_LETTER = re.compile(
    r"(?:(?:[\w']+ ){0,3}(?:reply|response|email)? ?[\"“]?)?(?:dear |subject: |to whom )|(?:[a-z]|user|client|customer|system|interviewer): "
)
_SPEAKER = re.compile(r"(?!\w*(?:error|exception|warning))[a-z]{2,15}: ")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Level 1–5 of a follow-up, how sure the cue is (share of such cues that were right), and the cue's code."""

    level: int
    confidence: float
    reason: str


class _Table:
    """Cues with their conditions sorted: those that leave a cue out of a whole turn, and those looked at on a match."""

    def __init__(self, cues: tuple[Cue, ...]) -> None:
        self._rows = tuple(
            (
                sum(1 << GATES.index(need) for need in cue.needs if need in GATES),
                (
                    cue,
                    cue.pattern.match,
                    tuple(NEEDS[need] for need in cue.needs if need not in GATES),
                    0
                    if "opening" in cue.needs
                    else 1
                    if cue.first
                    else MAX_CLAUSES * 2,  # the last clause it may be in
                ),
            )
            for cue in cues
        )
        self._usable: dict[int, list[tuple]] = {}

    def first_hit(self, turn: Turn, hints: frozenset[str]) -> tuple[Cue, Clause] | None:
        usable: list[tuple] | None = None
        for clause in turn.clauses:
            if (
                clause.text.isascii()
                and not clause.after_but
                and hints.isdisjoint(clause.text.translate(PUNCTUATION).split())
            ):
                continue
            if usable is None:
                usable = self._for(turn)
            for cue, match, needs, reach in usable:
                if clause.index <= reach and match(clause.text) and all(holds(turn, clause) for holds in needs):
                    return cue, clause
        return None

    def _for(self, turn: Turn) -> list[tuple]:
        """The cues whose conditions on the turn as a whole hold."""
        open_gates = sum(1 << place for place, need in enumerate(GATES) if NEEDS[need](turn, None))
        if open_gates not in self._usable:
            self._usable[open_gates] = [row for gates, row in self._rows if gates & ~open_gates == 0]
        return self._usable[open_gates]


_COMPLAINTS, _APPROVAL = _Table(COMPLAINTS), _Table(APPROVAL)
_ANGER = _Table(tuple(cue for cue in COMPLAINTS if cue.reason in ("frustration", "zh_anger")))


def _complaint(turn: Turn) -> tuple[Cue, Clause] | None:
    """The first complaint, unless it stands deep inside a long message: there it is about something else."""
    if APOLOGY.match(turn.raw):
        return None
    hit = _COMPLAINTS.first_hit(turn, COMPLAINT_HINTS)
    if hit is None or turn.length < 250:
        return hit
    position, last = hit[1].index, hit[1].last
    if turn.length < 600:
        return hit if position < 6 or last else None
    return hit if position < 3 or (last and turn.tryable) else None


def classify(feedback: str, *, query: str = "", response: str = "", language: str | None = None) -> Verdict:
    """Level of `feedback`, the user's message after `response` to `query`. Pure, bounded in time."""
    turn = Turn(feedback, response, query)
    if _others_words(turn):
        return NOT_OWN_WORDS
    may_complain = turn.foreign or not COMPLAINT_HINTS.isdisjoint(turn.words)
    may_approve = turn.foreign or not APPROVAL_HINTS.isdisjoint(turn.words)
    may_complain = may_complain or (may_approve and not CONTRASTS.isdisjoint(turn.words))
    if not (may_complain or may_approve or turn.shows_error):
        return NEUTRAL
    if turn.shows_error and turn.tryable:
        return _verdict(2, "pasted_error")
    complaint = _complaint(turn) if may_complain else None
    approval = _APPROVAL.first_hit(turn, APPROVAL_HINTS) if may_approve else None
    if complaint and not (approval and _outweighs(approval, complaint)):
        anger = _ANGER.first_hit(turn, COMPLAINT_HINTS)
        return _verdict(1, anger[0].reason) if anger else _verdict(complaint[0].level, complaint[0].reason)
    if approval:
        return _verdict(5 if turn.closes(approval[0]) else 4, approval[0].reason)
    return NEUTRAL


def _others_words(turn: Turn) -> bool:
    """A line of a part that is played, a letter, or the next lines of a transcript."""
    if turn.roleplay or _LETTER.match(turn.raw):
        return True
    speaker = _SPEAKER.match(turn.raw)
    return speaker is not None and turn.query[:HEAD].lower().startswith(speaker.group())


def _outweighs(approval: tuple[Cue, Clause], complaint: tuple[Cue, Clause]) -> bool:
    if approval[1].index >= complaint[1].index:
        return False
    return complaint[1].index > 4 or complaint[0].reason in WEAK


def _verdict(level: int, reason: str) -> Verdict:
    return Verdict(level, CONFIDENCE.get(reason, UNMEASURED), reason)


NEUTRAL = Verdict(3, 0.97, "neutral")
NOT_OWN_WORDS = Verdict(3, 0.97, "not_own_words")
# How often each cue was right on the labelled follow-ups, smoothed: `python benchmarks/cues_labeler.py --reasons`.
UNMEASURED = 0.65
CONFIDENCE: dict[str, float] = {
    "admiration": 0.89,
    "almost": 0.67,
    "already_tried": 0.67,
    "challenge": 0.91,
    "confirmed": 0.90,
    "contradiction": 0.90,
    "contradicts": 0.75,
    "corrects": 0.60,
    "disagrees": 0.86,
    "dislike": 0.90,
    "error_report": 0.87,
    "flawed": 0.85,
    "frustration": 0.92,
    "i_meant": 0.93,
    "i_said": 0.88,
    "i_thought": 0.71,
    "insists": 0.86,
    "liking": 0.93,
    "missing": 0.88,
    "no": 0.94,
    "nonexistent": 0.90,
    "not_asked": 0.90,
    "not_delivered": 0.75,
    "not_enough": 0.67,
    "not_working": 0.87,
    "objects": 0.86,
    "objects_again": 0.80,
    "other_approval": 0.80,
    "other_complaint": 0.75,
    "pasted_error": 0.92,
    "praise": 0.99,
    "praise_statement": 0.92,
    "redo": 0.88,
    "refuses": 0.75,
    "says_not": 0.90,
    "says_wrong": 0.91,
    "should_be": 0.67,
    "still_wrong": 0.93,
    "stop_that": 0.80,
    "thanks": 0.95,
    "too_much": 0.84,
    "works": 0.91,
    "you_failed": 0.92,
    "zh_approval": 0.75,
    "zh_failed": 0.75,
    "zh_wrong": 0.67,
}
WEAK = frozenset({"redo", "should_be", "nonexistent"})
