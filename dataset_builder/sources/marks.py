"""What a record says about its messages beside their text: ratings by users, and flags such as `toxic`.

A rating is read from the answer's message, else from the row (then it is about the last answer, or, as a list, about the
answers in their order). It is kept as a short text, `thumbs_up` → `thumbsup`, `4` → `4`, `{"value": 1, "comment": "…"}` → `1`:
what else the user wrote there goes no further. `wildreward.dataset_builder.labelers.rating` says what it is worth.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

# Where ratings are found, in the order in which they are looked for.
RATING_KEYS = (
    "rating",
    "user_rating",
    "userRating",
    "feedback",
    "thumbs",
    "thumb",
    "vote",
    "stars",
    "reaction",
    "annotation",
    "score",
)
# Keys that say it themselves when they are true.
TRUE_KEYS = (
    "thumbs_up",
    "thumbs_down",
    "liked",
    "disliked",
    "upvoted",
    "downvoted",
    "regenerated",
    "edited",
)
_KEYS = frozenset((*RATING_KEYS, *TRUE_KEYS))
_IN_OBJECT = ("rating", "value", "score", "thumbs", "vote", "type", "feedback")  # of {"rating": 1, "comment": "…"}
NONE = "none"
LONGEST_RATING = 24  # characters; a longer text is a comment
_OF = re.compile(r"(\d+(?:\.\d+)?) ?(?:/|of|out of) ?(5|10)|([0-5](?:\.\d+)?) ?stars?")


@dataclass(frozen=True)
class Marks:
    """Where ratings and flags are.

    Attributes:
        rating_key: key or dotted path of the rating, "none" for nowhere; None: looked for under `RATING_KEYS` and `TRUE_KEYS`.
        flags: keys or dotted paths of flags that leave turns out.
    """

    rating_key: str | None = None
    flags: tuple[str, ...] = ()

    def columns(self) -> list[str]:
        """Top-level columns that may hold ratings or flags."""
        given = [] if self.rating_key == NONE else [self.rating_key] if self.rating_key else [*RATING_KEYS, *TRUE_KEYS]
        return [name for path in (*given, *self.flags) for name in dict.fromkeys((path, path.partition(".")[0]))]

    def in_messages(self, messages: Sequence[Any]) -> bool:
        """A short cut: whether messages of a record may hold ratings or flags."""
        if self.rating_key or self.flags:
            return True
        return any(isinstance(message, dict) and not _KEYS.isdisjoint(message) for message in messages)

    def ratings(self, row: dict, roles: Sequence[str], origins: Sequence[Sequence[dict]]) -> list[str | None] | None:
        """The rating of each message, None where there is none at all.

        Args:
            row: the record.
            roles: of the messages that were read from it.
            origins: the record's own messages of which each of these was made.
        """
        if self.rating_key == NONE:
            return None
        found = [next(filter(None, map(self.rating, reversed(group))), None) for group in origins]
        answers = [place for place, role in enumerate(roles) if role == "assistant"]
        if answers and not any(found):
            whole = value_at(row, self.rating_key) if self.rating_key else None
            if isinstance(whole, list) and len(whole) == len(answers) and not any(isinstance(v, dict) for v in whole):
                for place, value in zip(answers, whole, strict=True):
                    found[place] = rating_text(value)
            else:
                found[answers[-1]] = self.rating(row)
        return found if any(found) else None

    def rating(self, where: dict) -> str | None:
        """Of a message or a row."""
        if self.rating_key:
            return rating_text(value_at(where, self.rating_key), self.rating_key)
        if _KEYS.isdisjoint(where):
            return None
        return next(filter(None, (rating_text(where.get(key), key) for key in (*RATING_KEYS, *TRUE_KEYS))), None)

    def flagged(self, row: dict, origins: Sequence[Sequence[dict]]) -> dict[str, int]:
        """Flag → the first message on which it is set; the row's own flag counts where no message has one."""
        first: dict[str, int] = {}
        for flag in self.flags:
            values = [[value_at(message, flag) for message in group] for group in origins]
            if any(value is not None for group in values for value in group):
                place = next((place for place, group in enumerate(values) if any(map(_is_set, group))), None)
            else:
                place = 0 if _is_set(value_at(row, flag)) else None
            if place is not None:
                first[flag] = place
        return first


def value_at(where: Any, path: str) -> Any:
    """What a record holds under a key or a dotted path; of lists of objects, what each of them holds.

    >>> value_at({"moderation": [{"flagged": False}, {"flagged": True}]}, "moderation.flagged")
    [False, True]
    """
    if isinstance(where, list):
        return [value_at(each, path) for each in where] or None
    if not isinstance(where, dict):
        return None
    if path in where:
        return where[path]
    key, _, rest = path.partition(".")
    return value_at(where[key], rest) if rest and key in where else None


def rating_text(value: Any, key: str = "") -> str | None:
    """A rating as a short text; None where there is none.

    >>> rating_text({"rating": "thumbs_up", "comment": "my key is …"}), rating_text("4 stars"), rating_text(3.0)
    ('thumbsup', '4/5', '3')
    """
    if isinstance(value, list):  # of scores, the last: users change their minds
        return next(filter(None, (rating_text(each) for each in reversed(value))), None)
    if isinstance(value, dict):
        inner = (rating_text(value.get(name)) for name in _IN_OBJECT)
        named = (name for name in TRUE_KEYS if value.get(name) is True)
        return next(filter(None, inner), None) or next(map(rating_text, named), None)
    if key in TRUE_KEYS and isinstance(value, bool | int):
        return rating_text(key) if value else None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return f"{value:.6g}" if value == value else None
    return _normal(value) if isinstance(value, str) else None


def _normal(text: str) -> str | None:
    text = text.strip().lower()
    if len(text) > LONGEST_RATING:
        return "text"
    if text and set(text) <= {"★", "☆", "⭐"}:
        return f"{len(text) - text.count('☆')}/5"
    if of := _OF.fullmatch(text):
        return f"{float(of[1]):g}/{of[2]}" if of[1] else f"{float(of[3]):g}/5"
    try:
        return rating_text(float(text))
    except ValueError:
        return re.sub(r"[\W_]+", "", text) or text or None


def _is_set(value: Any) -> bool:
    if isinstance(value, list):
        return any(map(_is_set, value))
    return value is True or value == 1 or (isinstance(value, str) and value.lower() in ("true", "yes", "1"))
