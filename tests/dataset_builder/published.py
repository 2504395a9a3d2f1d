"""The published pipeline's rules as they are described, defects included, to compare ours with.

Written from the description of what its scripts do: one pass that keeps the turns whose label is not neutral or could be
mined, mining over the *surviving* turns of a conversation, keyword filters that look for substrings, personal data looked
for in the last query only, word counts by blanks, conversations merged by their hash. Labels and similarities are given.
"""

import re
from dataclasses import dataclass

IMAGE_WORDS = ("draw", "image", "picture", "photo", "midjourney", "painting", "sketch")
BROWSE_WORDS = ("http", "www.", "search the web", "browse", "google it", "this link", "this url")
IDENTITY_WORDS = ("who are you", "are you chatgpt", "are you an ai", "who made you", "what model are you")
FILE_WORDS = ("attached", "uploaded", "this file", "this pdf", "this video", ".pdf", ".docx")
EMAIL = re.compile(r"[\w.+-]+@[\w-]+\.[\w.]+")
PHONE = re.compile(r"\+?\d[\d\s().-]{8,}\d")
WINDOW, MAX_HISTORY, MIN_RESPONSE, MIN_QUERY, MAX_WORDS = 2, 20, 10, 5, 4096


@dataclass
class Row:
    """One turn as the published scripts see it: whole texts, and the conversation's hash."""

    id: str
    hash: str
    number: int
    history: list[str]
    query: str
    response: str
    feedback: str
    level: int


def published_ids(rows: list[Row], similar) -> dict[str, int]:
    """Id → level of what the published pipeline keeps.

    Args:
        rows: all labelled turns.
        similar: (earlier row, later row) → whether their user messages are about the same topic.
    """
    # Turns that are filtered out are gone before mining, so "two ahead" counts what is left.
    rows = [row for row in rows if not filtered(row)]
    merged: dict[str, list[Row]] = {}
    for row in rows:
        merged.setdefault(row.hash, []).append(row)
    kept: dict[str, int] = {}
    for conversation in merged.values():
        for place, row in enumerate(conversation):
            if row.level != 3:
                kept[row.id] = row.level
                continue
            # Every positive follow-up in the window mines the turn anew; the last one wins.
            for later in conversation[place + 1 : place + 1 + WINDOW]:
                if later.level in (4, 5) and similar(row, later):
                    kept[row.id] = later.level
    return kept


def filtered(row: Row) -> bool:
    text = row.query.lower()
    return (
        any(word in text for words in (IMAGE_WORDS, BROWSE_WORDS, IDENTITY_WORDS, FILE_WORDS) for word in words)
        or bool(EMAIL.search(row.query) or PHONE.search(row.query))
        or len(row.history) > MAX_HISTORY
        or len(row.response.split()) < MIN_RESPONSE
        or len(row.query.split()) < MIN_QUERY
        or len(" ".join([*row.history, row.query, row.response]).split()) > MAX_WORDS
    )
