"""Implicit feedback: a neutral turn takes the level of praise that comes soon after, on the same topic.

Only pairs that could lead to an upgrade are compared: a neutral turn and a turn at most `window` real turn numbers later
whose follow-up is positive. Each neutral turn takes the level of its nearest signal, once.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from wildreward.common.names import public_name
from wildreward.dataset_builder.filters import Filter
from wildreward.dataset_builder.records import Turn
from wildreward.dataset_builder.text import has_other_letters

if TYPE_CHECKING:
    from wildreward.dataset_builder.embedding import Embedder

MINED = "mined"
# To these, texts in other letters than Latin ones are mostly unknown tokens, and most pairs of them look alike.
ENGLISH_ENCODERS = ("all-MiniLM-", "all-mpnet-", "all-distilroberta-")
_READ = 2048  # characters in which other letters are looked for


def candidates(levels: Sequence[int | None], window: int) -> list[tuple[int, int]]:
    """Pairs (neutral turn, later positive turn) of one conversation, by turn number, nearest first for each turn.

    Args:
        levels: of all the conversation's turns in order; None where there is no level.
        window: how many turns ahead a signal may lie.
    """
    return [
        (number, later)
        for number, level in enumerate(levels)
        if level == 3
        for later in range(number + 1, min(number + window, len(levels) - 1) + 1)
        if levels[later] in (4, 5)
    ]


def comparable(encoder: str, *texts: str) -> bool:
    """Whether an encoder, by its name, can tell what these texts are about."""
    if not public_name(encoder.rstrip("/")).rpartition("/")[2].startswith(ENGLISH_ENCODERS):
        return True
    return not any(has_other_letters(text[:_READ]) for text in texts)


def candidate_pairs(turns: Iterable[Turn], window: int, filters: Sequence[Filter]) -> list[tuple[Turn, Turn]]:
    """The pairs of `candidates` among labelled turns of many conversations.

    A turn that was dropped before labelling has no level, so it neither gives nor takes a signal; nor does one that the user
    rated, for a rating is about one answer. Neutral turns that the
    filters will drop anyway are not worth embedding.
    """
    pairs = []
    for members in by_conversation(turns):
        found = candidates([turn.level if _read(turn) else None for turn in members], window)
        kept = {number for number in dict(found) if not any(each.rejects(members[number]) for each in filters)}
        pairs += [(members[number], members[later]) for number, later in found if number in kept]
    return pairs


def _read(turn: Turn) -> bool:
    """Whether the level was read from what the user said next."""
    return turn.dropped is None and turn.rating is None


def compare(pairs: Sequence[tuple[Turn, Turn]], encoder: str, load: Callable[[], "Embedder"]) -> list[dict[str, Any]]:
    """How similar the queries of each pair are, each embedded once: rows of `schemas.SIMILARITIES`.

    Args:
        pairs: of turns of one conversation each.
        encoder: its name; what it cannot read is not compared and gets no cosine.
        load: gives the encoder; not called when there is nothing to compare.
    """
    rows = [
        {
            "conversation_id": turn.conversation.conversation_id,
            "turn": turn.number,
            "later": later.number,
            "cosine": None,
        }
        for turn, later in pairs
    ]
    compared = [place for place, (turn, later) in enumerate(pairs) if comparable(encoder, turn.query, later.query)]
    if compared:
        texts = {
            text: row for row, text in enumerate(dict.fromkeys(t.query for place in compared for t in pairs[place]))
        }
        vectors = load().encode(list(texts))
        first, second = (vectors[[texts[pairs[place][side].query] for place in compared]] for side in (0, 1))
        for place, cosine in zip(compared, (first * second).sum(1).tolist(), strict=True):
            rows[place]["cosine"] = cosine
    return rows


def upgrade_neutral(
    turns: Iterable[Turn], counts: Counter, *, similarities: Iterable[Mapping[str, Any]], threshold: float
) -> Iterator[Turn]:
    """Give each neutral turn the level of its nearest positive signal that is similar enough.

    Args:
        turns: all turns of each conversation, in order.
        counts: gets `mined`.
        similarities: rows of `schemas.SIMILARITIES`.
        threshold: smallest cosine that counts as the same topic.
    """
    signals: dict[str, dict[int, int]] = {}
    for row in sorted(similarities, key=lambda row: row["later"]):
        if row["cosine"] is not None and row["cosine"] >= threshold:
            signals.setdefault(row["conversation_id"], {}).setdefault(row["turn"], row["later"])
    for members in by_conversation(turns):
        for number, later in signals.get(members[0].conversation.conversation_id, {}).items():
            turn, signal = members[number], members[later]
            turn.level, turn.confidence = signal.level, signal.confidence
            turn.label_source, turn.reason = MINED, f"mined_from_turn{later}"
            counts["mined"] += 1
        yield from members


def by_conversation(turns: Iterable[Turn]) -> Iterator[list[Turn]]:
    """The turns of each conversation in a list."""
    for _, group in groupby(turns, key=lambda turn: turn.conversation.conversation_id):
        yield list(group)
