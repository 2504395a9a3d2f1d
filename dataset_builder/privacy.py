"""Personal data and credentials in the messages of a turn, and in the names under which it is published.

`find` is used to drop a turn, `redact` to keep it with placeholders. What is looked for stands in `personal.py`, in
`wildreward.common.credentials` and, where it is asked for, in `people.py`.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

from wildreward.common import credentials
from wildreward.common.disguise import undisguised
from wildreward.common.llm.quoting import ChatMessage
from wildreward.dataset_builder import people, personal
from wildreward.dataset_builder.records import Turn


class Sought(NamedTuple):
    """What is looked for: keys and passwords, personal data, and with it people's names by the spaCy model `names`."""

    secrets: bool = True
    personal_data: bool = True
    names: str = ""


ALL = Sought()


def has_findings(turn: Turn, sought: Sought) -> bool:
    """Whether any message up to the follow-up holds what is looked for."""
    return any(_found_in(message.content, sought) for message in _messages(turn))


def mask(turns: Iterable[Turn], counts: Counter, *, sought: Sought) -> Iterator[Turn]:
    """Put placeholders for what is looked for into the turns that are still there.

    Args:
        turns: see `filters.leave_out`.
        counts: gets `redacted_turns` and `redacted.<kind>`.
        sought: what to mask.
    """
    for turn in turns:
        found = Counter()
        for message in _messages(turn) if turn.dropped is None else ():
            found.update(_found_in(message.content, sought))
        if found:
            cleaned = [ChatMessage(m.role, redact(m.content, sought=sought)) for m in _messages(turn)]
            turn.conversation = replace(turn.conversation, messages=cleaned)
            counts["redacted_turns"] += 1
            counts.update({f"redacted.{kind}": number for kind, number in found.items()})
        yield turn


def _messages(turn: Turn) -> list[ChatMessage]:
    return turn.conversation.messages[: turn.following + 1]


@lru_cache(maxsize=1024)
def _found_in(text: str, sought: Sought) -> dict[str, int]:
    """Turns of one conversation share their history: each message is searched once."""
    return dict(find(text, sought))


def published_name(user_id: str | None, key: str) -> str | None:
    """What a user is called in the dataset (and what holds an address, see `public_row`): without the key, no list of addresses tells who it is."""
    if user_id is None:
        return None
    return hashlib.blake2b(user_id.encode(), key=bytes.fromhex(key), digest_size=8).hexdigest()


def public_row(row: dict[str, Any], key: str, sought: Sought = ALL) -> dict[str, Any]:
    """An instance whose ids, model or language are renamed, each to the same name in all rows, where `find` finds something
    in them."""
    conversation, sought = row["conversation_id"], sought._replace(names="")  # that of a model may be a person's, too
    for column in ("conversation_id", "model", "language"):
        if row[column] and find(row[column], sought):
            row[column] = published_name(row[column], key)
    row["id"] = row["conversation_id"] + row["id"].removeprefix(conversation)
    return row


def find(text: str, sought: Sought = ALL) -> Counter:
    """How often each kind of credential and of personal data occurs."""
    return Counter(span.kind for span in credentials.apart(_spans(undisguised(text), sought)))


def redact(text: str, found: Counter | None = None, sought: Sought = ALL) -> str:
    """`text` with placeholders such as [EMAIL] for what `find` finds; occurrences are added to `found`."""
    while spans := credentials.apart(_spans(undisguised(text), sought)):  # a placeholder may uncover another finding
        if found is not None:
            found.update(span.kind for span in spans)
        text = credentials.replaced(text, spans)
        sought = sought._replace(names="")  # a model may take a placeholder for a name
    return text


def _spans(plain: str, sought: Sought) -> Iterator[credentials.Span]:
    if sought.secrets:
        yield from credentials.spans(plain)
    if sought.personal_data:
        yield from personal.spans(plain)
        if sought.names:
            yield from people.spans(plain, sought.names)
