"""Personal data and credentials in the messages of a turn, and in the names under which it is published.

`find` is used to drop a turn, `redact` to keep it with placeholders. What is looked for stands in `personal.py` and in
`wildreward.credentials`.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

from wildreward import credentials
from wildreward.dataset_builder import personal
from wildreward.disguise import undisguised

PERSONAL_DATA = "personal_data"


def published_name(user_id: str | None, key: str) -> str | None:
    """What a user is called in the dataset (and what holds an address, see `public_row`): without the key, no list of addresses tells who it is."""
    if user_id is None:
        return None
    return hashlib.blake2b(user_id.encode(), key=bytes.fromhex(key), digest_size=8).hexdigest()


def public_row(row: dict[str, Any], key: str, *, personal_data: bool = True) -> dict[str, Any]:
    """An instance whose ids, model or language are renamed, each to the same name in all rows, where `find` finds something
    in them."""
    conversation = row["conversation_id"]
    for column in ("conversation_id", "model", "language"):
        if row[column] and find(row[column], personal_data=personal_data):
            row[column] = published_name(row[column], key)
    row["id"] = row["conversation_id"] + row["id"].removeprefix(conversation)
    return row


def find(text: str, *, personal_data: bool = True) -> Counter:
    """How often each kind of credential and, unless told otherwise, of personal data occurs."""
    return Counter(span.kind for span in credentials.apart(_spans(undisguised(text), personal_data)))


def redact(text: str, found: Counter | None = None, *, personal_data: bool = True) -> str:
    """`text` with placeholders such as [EMAIL] for what `find` finds; occurrences are added to `found`."""
    while spans := credentials.apart(
        _spans(undisguised(text), personal_data)
    ):  # a placeholder may uncover another finding
        if found is not None:
            found.update(span.kind for span in spans)
        text = credentials.replaced(text, spans)
    return text


def _spans(plain: str, personal_data: bool) -> Iterator[credentials.Span]:
    yield from credentials.spans(plain)
    if personal_data:
        yield from personal.spans(plain)
