"""Fourth step: turns with their answers become the candidates of the dataset, part by part.

The order matters: implicit feedback first (it needs the neutral turns), then refusal verdicts, and only then are
neutral turns dropped and the filters applied.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import groupby, repeat

from wildreward.dataset_builder import records
from wildreward.dataset_builder.filters import Limits, first_reason
from wildreward.dataset_builder.labelers.base import Answer
from wildreward.dataset_builder.mining import upgrade
from wildreward.dataset_builder.privacy import PERSONAL_DATA, find, redact
from wildreward.dataset_builder.records import LEVEL_TO_LABEL, ChatMessage, Turn
from wildreward.dataset_builder.refusals import NO_JUDGE, NOT_JUDGED, apply_verdict, needs_judge


@dataclass(frozen=True)
class Rules:
    """The settings that decide what becomes of a labelled turn."""

    mining_threshold: float = 0.5
    personal_data: str = "drop"
    limits: Limits = field(default_factory=Limits)


def apply_answers(turns: Iterable[Turn], answers: Iterable[Answer], labeler: str) -> Iterator[Turn]:
    """Put the answers, one a turn in the same order, on the turns."""
    for turn, answer in zip(turns, answers, strict=True):
        turn.level, turn.confidence = answer.level, answer.confidence
        turn.labeler, turn.reason = labeler, answer.reason
        turn.said = (answer.level, answer.confidence, answer.reason)
        yield turn


def finish_turns(
    turns: Iterable[Turn],
    verdicts: Iterable[str | None],
    similarities: dict[tuple[str, int, int], float],
    rules: Rules,
    counts: Counter,
    unjudged: Iterable[str] | None = None,
) -> Iterator[Turn]:
    """Decide about every turn of a part; `counts` is added to. Yields all turns, dropped ones with their reason.

    Args:
        turns: labelled, grouped by conversation.
        verdicts: of the refusal judge, one a turn.
        similarities: (conversation id, neutral turn, later turn) → cosine.
        rules: settings.
        counts: `levels.<n>`, `unlabelled.<reason>`, `mined`, `refusals.<verdict>`, `dropped.<reason>`.
        unjudged: why there is no verdict, one reason a turn, "" where nobody was there to judge.
    """
    by_conversation: dict[str, dict[tuple[int, int], float]] = {}
    for (conversation, number, later), cosine in similarities.items():
        by_conversation.setdefault(conversation, {})[number, later] = cosine
    judged = zip(verdicts, repeat("") if unjudged is None else unjudged, strict=False)
    together = ((turn, *pair) for turn, pair in zip(turns, judged, strict=True))
    for _, group in groupby(together, key=lambda item: item[0].conversation.conversation_id):
        chunk = list(group)
        members = [turn for turn, _, _ in chunk]
        for turn, verdict, reason in chunk:
            _count_answer(turn, verdict, reason, counts)
            turn.verdict = verdict
        upgrade(members, by_conversation.get(members[0].conversation.conversation_id, {}), rules.mining_threshold)
        for turn in members:
            counts["mined"] += turn.label_source == "mined"
            apply_verdict(turn)
            decide(turn, rules, counts)
            if turn.dropped:
                counts[f"dropped.{turn.dropped}"] += 1
        yield from members


def decide(turn: Turn, rules: Rules, counts: Counter) -> None:
    """Set `turn.dropped` where something speaks against it; redact personal data where that is asked for, and credentials
    wherever the turn stays.
    """
    if turn.dropped is not None:
        return
    if turn.level is None:
        turn.dropped = records.UNLABELLED
    elif turn.level not in LEVEL_TO_LABEL:
        turn.dropped = records.NEUTRAL
    else:
        turn.dropped = first_reason(turn, rules.limits)
        if turn.dropped is None:
            _personal_data(turn, rules.personal_data, counts)


def _personal_data(turn: Turn, action: str, counts: Counter) -> None:
    messages = turn.conversation.messages[: turn.position + 3]
    personal = action != "keep"
    found = Counter()
    for message in messages:
        found.update(_found_in(message.content, personal))
    if not found:
        return
    if action == "drop":
        turn.dropped = PERSONAL_DATA
        return
    cleaned = [ChatMessage(message.role, redact(message.content, personal_data=personal)) for message in messages]
    turn.conversation = replace(turn.conversation, messages=cleaned)
    counts["redacted_turns"] += 1
    for kind, number in found.items():
        counts[f"redacted.{kind}"] += number


@lru_cache(maxsize=1024)
def _found_in(text: str, personal_data: bool) -> dict[str, int]:
    """Turns of one conversation share their history: each message is searched once."""
    return dict(find(text, personal_data=personal_data))


def _count_answer(turn: Turn, verdict: str | None, reason: str, counts: Counter) -> None:
    counts["turns"] += 1
    if turn.dropped is not None:
        counts["not_asked"] += 1
    elif turn.level is None:
        counts[f"unlabelled.{turn.reason or 'unknown'}"] += 1
    else:
        counts[f"levels.{turn.level}"] += 1
        if verdict or needs_judge(turn):
            counts[f"refusals.{verdict or NOT_JUDGED}"] += 1
            if not verdict:
                counts[f"unjudged.{reason or NO_JUDGE}"] += 1
