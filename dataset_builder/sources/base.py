"""From a source's own records to conversations: what an adapter is, and the checks every conversation goes through."""

import hashlib
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from wildreward.dataset_builder import records
from wildreward.dataset_builder.labelers.base import ChatMessage
from wildreward.dataset_builder.languages import language_name
from wildreward.dataset_builder.records import Conversation, Rejected
from wildreward.roles import ROLES

MAX_CONVERSATION_CHARS = 4_000_000
# Of a chat that was cut up, as ShareGPT's are called; `conv_0`, `conv_1`, … are chats of their own.
_PART = re.compile(r"([A-Za-z0-9]{7})_\d+")


@dataclass(frozen=True)
class Columns:
    """Names of the columns (and of the keys of a message) that a source uses; None: the layout's own names."""

    messages: str | None = None
    id: str | None = None
    user: str | None = None
    language: str | None = None
    model: str | None = None
    role: str | None = None
    content: str | None = None


@dataclass(frozen=True)
class Layout:
    """Which columns a known kind of source has.

    Attributes:
        name: what the user calls it.
        required: columns that tell this layout from the others.
        columns: where each part of a conversation is found; a `user` of None means that there is none.
        other_names: of a column (by its field in `columns`), looked for in this order where it is missing.
        user_from_id: the user is the id without its part number (`<id>_<n>`, the id of seven letters and digits).
        message_language: key of a message's language, if messages carry one.
    """

    name: str
    required: tuple[str, ...]
    columns: Columns
    other_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    user_from_id: bool = False
    message_language: str | None = None

    def with_columns(self, given: Columns) -> "Layout":
        """This layout with the given names in place of its own."""
        merged = Columns(**{key: getattr(given, key) or value for key, value in vars(self.columns).items()})
        own = vars(self.columns)
        renamed = {own[key]: value for key, value in vars(merged).items() if own[key]}
        required = tuple(renamed.get(name, name) for name in self.required)
        return replace(self, required=required, columns=merged)

    def among(self, found: Collection[str]) -> "Layout":
        """This layout with another name for each of its columns that the source calls so."""
        missing = {key: names for key, names in self.other_names.items() if getattr(self.columns, key) not in found}
        named = {key: next((name for name in names if name in found), None) for key, names in missing.items()}
        return replace(self, columns=replace(self.columns, **{key: name for key, name in named.items() if name}))

    def wanted(self) -> list[str]:
        """Top-level columns worth reading."""
        columns = self.columns
        return [name for name in (columns.messages, columns.id, columns.user, columns.language, columns.model) if name]

    def to_conversation(self, row: Any) -> Conversation | Rejected:
        """Check one record and put it into the pipeline's form."""
        columns = self.columns
        raw = row.get(columns.messages) if isinstance(row, dict) else None
        if not isinstance(raw, list):
            return Rejected(records.NOT_A_RECORD)
        checked = check_messages(raw, columns.role, columns.content, self.message_language)
        if isinstance(checked, Rejected):
            return checked
        messages, languages, truncated = checked
        source_id = _text(row.get(columns.id)) if columns.id else None
        return Conversation(
            source_id=source_id,
            user_id=hashed_user(self._user(row, raw, source_id)),
            language=language_name(_text(row.get(columns.language))) if columns.language else None,
            model=_text(row.get(columns.model)) if columns.model else None,
            messages=messages,
            message_languages=languages,
            truncated=truncated,
        )

    def _user(self, row: dict, raw: list, source_id: str | None) -> str | None:
        if self.user_from_id and not (self.columns.user and row.get(self.columns.user)):
            part = _PART.fullmatch(source_id or "")
            return part[1] if part else source_id
        if not self.columns.user:
            return None
        user = row.get(self.columns.user)
        if user is None and raw and isinstance(raw[0], dict):
            user = raw[0].get(self.columns.user)
        return _text(user)


def hashed_user(user: str | None) -> str | None:
    """A name for a user that is the same in every log, so that the split does not move. It is not published: whoever guesses
    an address can compute it. See `privacy.published_name`.
    """
    return hashlib.blake2b(f"user:{user}".encode(errors="replace"), digest_size=8).hexdigest() if user else None


def check_messages(
    raw: Iterable[Any], role_key: str, content_key: str, language_key: str | None
) -> tuple[list[ChatMessage], list[str | None] | None, bool] | Rejected:
    """Normalise roles and check order and content. What the assistant says before the user (a greeting, or the
    answer to something unknown) goes.

    Returns:
        messages, their languages (None when no message has one), whether the tail was cut for its size; or `Rejected`.
    """
    messages: list[ChatMessage] = []
    languages: list[str | None] = []
    size, truncated, expected = 0, False, "user"
    for message in raw:
        if not isinstance(message, dict):
            return Rejected(records.NOT_A_RECORD)
        role = ROLES.get(str(message.get(role_key)).lower())
        if role is None:
            return Rejected(records.UNKNOWN_ROLE)
        content = message.get(content_key)
        if content is None:
            return Rejected(records.EMPTY_CONTENT)
        if not isinstance(content, str):
            return Rejected(records.NON_STRING_CONTENT)
        if role == "assistant" and not any(earlier.role == "user" for earlier in messages[:2]):
            continue
        if not content or content.isspace():
            return Rejected(records.EMPTY_CONTENT)
        if role == "system":
            if messages:
                return Rejected(records.BROKEN_ROLE_ORDER)
        elif role == expected:
            expected = "assistant" if role == "user" else "user"
        else:
            return Rejected(records.BROKEN_ROLE_ORDER)
        size += len(content)
        if size > MAX_CONVERSATION_CHARS:
            truncated = True
            break
        messages.append(ChatMessage(role, content))
        languages.append(language_name(_text(message.get(language_key))) if language_key else None)
    if not messages or messages[-1].role == "system":
        return Rejected(records.EMPTY_CONVERSATION)
    try:
        for message in messages:
            message.content.encode()
    except UnicodeEncodeError:
        return Rejected(records.INVALID_UNICODE)
    return messages, (languages if any(languages) else None), truncated


def _text(value: Any) -> str | None:
    """A short metadata value as valid text; None for nothing."""
    if value is None or value == "":
        return None
    return str(value).encode(errors="replace").decode()
