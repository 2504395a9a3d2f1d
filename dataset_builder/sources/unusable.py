"""Why no record of a source can be used: by the keys and types of its messages, never by what they say."""

from collections import Counter
from collections.abc import Sequence
from itertools import chain, islice
from typing import Any

from wildreward.dataset_builder.records import EMPTY_CONTENT, NOT_A_RECORD, UNKNOWN_ROLE
from wildreward.dataset_builder.sources.base import Layout
from wildreward.dataset_builder.sources.layouts import shown_names
from wildreward.dataset_builder.sources.readers import FIRST_RECORDS, Losses, Slice, read_slice
from wildreward.errors import described
from wildreward.roles import ROLES


def why_unusable(layout: Layout, pieces: Sequence[Slice], counts: Counter) -> str:
    """What the first records hold where messages were looked for, and what was expected; "" where that is no reason.

    Args:
        layout: of the source.
        pieces: all of the source.
        counts: reasons of `ingest.usable`, of which the most frequent is explained.
    """
    rejected = {key.removeprefix("rejected."): count for key, count in counts.items() if key.startswith("rejected.")}
    reason = max(rejected, key=rejected.__getitem__, default="")
    rows = chain.from_iterable(read_slice(piece, layout.wanted(), Losses(skip=True)) for piece in pieces)
    columns = layout.columns
    found = [row.get(columns.messages) if isinstance(row, dict) else row for row in islice(rows, FIRST_RECORDS)]
    if reason == NOT_A_RECORD:
        return _no_messages(found, layout)
    messages = [message for value in found if isinstance(value, list) for message in value if isinstance(message, dict)]
    keys = {str(key) for message in messages for key in message}
    absent = [f"{columns.role} (--role_key)"] if columns.role not in keys else []
    absent += [f"{columns.content} (--content_key)"] if columns.content not in keys else []
    if reason in (UNKNOWN_ROLE, EMPTY_CONTENT) and absent:
        return f"its messages have the keys {shown_names(keys)}, but not {' and '.join(absent)}"
    if reason == UNKNOWN_ROLE:
        return f"roles are looked for under the key {columns.role} (--role_key); expected one of {', '.join(ROLES)}"
    return ""


def _no_messages(found: list[Any], layout: Layout) -> str:
    columns = layout.columns
    expected = f"expected a list of objects with {columns.role} and {columns.content}"
    for value in found:
        if not isinstance(value, list):
            hint = " (JSON in a text is not read: write the list itself)" if isinstance(value, str) else ""
            return f"{columns.messages} is {described(value)}; {expected}{hint}"
        for message in value:
            if not isinstance(message, dict):
                return f"{columns.messages} holds {described(message)}; {expected}"
    return ""
