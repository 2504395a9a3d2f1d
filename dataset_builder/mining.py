"""Implicit feedback: a neutral turn takes the level of praise that comes soon after, on the same topic.

Only pairs that could lead to an upgrade are compared: a neutral turn and a turn at most `window` real turn numbers later
whose follow-up is positive. Each neutral turn takes the level of its nearest signal, once.
"""

from collections.abc import Sequence

from wildreward.dataset_builder.records import Turn
from wildreward.dataset_builder.words import has_other_letters

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
    if not encoder.rstrip("/").rpartition("/")[2].startswith(ENGLISH_ENCODERS):
        return True
    return not any(has_other_letters(text[:_READ]) for text in texts)


def upgrade(turns: Sequence[Turn], similarities: dict[tuple[int, int], float], threshold: float) -> None:
    """Give each neutral turn the level of its nearest positive signal that is similar enough. Changes the turns.

    Args:
        turns: all turns of one conversation in order.
        similarities: cosine of the two user messages for each candidate pair.
        threshold: smallest cosine that counts as the same topic.
    """
    upgraded: set[int] = set()
    for (number, later), similarity in sorted(similarities.items()):
        if number in upgraded or similarity < threshold:
            continue
        turn, signal = turns[number], turns[later]
        turn.level, turn.confidence = signal.level, signal.confidence
        turn.label_source, turn.reason = MINED, f"mined_from_turn{later}"
        upgraded.add(number)
