"""From a source's own records to conversations: what a layout is, and those of rows with one conversation each. `finding.py`
lists all layouts and finds the one that fits; messages are read by `common.chat`.
"""

import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from wildreward.common.chat import GAP, NOTHING_SAID, Chat, read_chat
from wildreward.common.llm.quoting import ChatMessage
from wildreward.dataset_builder import records
from wildreward.dataset_builder.records import ROLE_LETTERS, Conversation, Rejected, turn_places
from wildreward.dataset_builder.sources.marks import Marks
from wildreward.dataset_builder.text import language_name

MAX_CONVERSATION_CHARS = 4_000_000
# Of a chat that was cut up, as ShareGPT's are called; `conv_0`, `conv_1`, … are chats of their own.
_PART = re.compile(r"([A-Za-z0-9]{7})_\d+")


@dataclass(frozen=True)
class Columns:
    """Names of the columns (and of the keys of a message) that a source uses; None: the layout's own names.

    A column inside an object has a dotted name, `data.messages`.
    """

    messages: str | None = None
    id: str | None = None
    user: str | None = None
    language: str | None = None
    model: str | None = None
    role: str | None = None
    content: str | None = None


ROW = Columns("messages", "id", "user", "language", "model", "role", "content")


@dataclass(frozen=True)
class Layout:
    """Which columns a known kind of source has.

    Attributes:
        name: what the user calls it.
        required: columns that tell this layout from the others; `a|b` where it is the one or the other, `a.b` inside an
            object, or inside the objects of a list.
        columns: where each part of a conversation is found; a `user` of None means that there is none.
        other_names: of a column (by its field in `columns`), looked for in this order where it is missing.
        user_from_id: the user is the id without its part number (`<id>_<n>`, the id of seven letters and digits).
        message_language: key of a message's language, if messages carry one.
        convert: makes of the source's records, which may be anything, rows with the columns `ROW`, and `branch_of` where
            several were one chat. A message in them may have a `rating`; None: each record is such a row under the layout's
            own names.
        more: further columns that `convert` reads.
        together: records of one conversation may lie anywhere, also in other files of this layout.
        inside: column of a list in which the records lie, None: they are not wrapped.
        ratings_file: name of a file beside, whose records, with ratings, are read before those of each file.
        beside: names (patterns) of files of the same export that hold no conversations, from the folder of one that does.
        marks: where ratings and flags are.
    """

    name: str
    required: tuple[str, ...]
    columns: Columns = ROW
    other_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    user_from_id: bool = False
    message_language: str | None = None
    convert: Callable[[Iterable[Any], Columns], Iterator[Any]] | None = None
    more: tuple[str, ...] = ()
    together: bool = False
    inside: str | None = None
    ratings_file: str | None = None
    beside: tuple[str, ...] = ()
    marks: Marks = field(default_factory=Marks)

    def with_columns(self, given: Columns) -> "Layout":
        """This layout with the given names in place of its own."""
        merged = Columns(**{key: getattr(given, key) or value for key, value in vars(self.columns).items()})
        own = vars(self.columns)
        renamed = {own[key]: value for key, value in vars(merged).items() if own[key] != value}
        required = tuple(renamed.get(name.partition("|")[0], name) for name in self.required)
        return replace(self, required=required, columns=merged)

    def fits(self, found: Collection[str]) -> bool:
        """Whether what tells this layout from others is among these names."""
        return all(any(name in found for name in names.split("|")) for names in self.required)

    def among(self, found: Collection[str]) -> "Layout":
        """This layout with the names by which the source calls its columns."""
        required = [next((name for name in names.split("|") if name in found), names) for names in self.required]
        missing = {key: names for key, names in self.other_names.items() if getattr(self.columns, key) not in found}
        named = {key: next((name for name in names if name in found), None) for key, names in missing.items()}
        columns = replace(self.columns, **{key: name for key, name in named.items() if name})
        return replace(self, required=tuple(required), columns=columns)

    def wanted(self) -> list[str]:
        """Columns worth reading, none for all; every record has the first."""
        columns = self.columns
        if self.inside or self.together:
            return [self.inside] if self.inside else []
        own = [columns.messages, columns.id, columns.user, columns.language, columns.model, *self.marks.columns()]
        if self.convert:
            own = [*self.required, *self.more, *own[1:], columns.role, columns.content]
        return [name for name in dict.fromkeys(own) if name]

    def rows(self, records: Iterable[Any]) -> Iterator[Any]:
        """Of the source's records, rows of one conversation each, for `to_conversation`."""
        if self.inside:
            records = (inner for record in records for inner in at(record, self.inside) or [record])
        return self.convert(records, self.columns) if self.convert else iter(records)

    def to_conversation(self, row: Any, keep_reasoning: bool = False) -> Conversation | Rejected:
        """Read one record into the pipeline's form; what cannot be used is `Rejected` with the reason of its first message
        that cannot be read.
        """
        columns = ROW if self.convert else self.columns
        if isinstance(row, list) and columns.messages:  # nothing but messages
            row = {columns.messages: row}
        raw = parsed(at(row, columns.messages)) if isinstance(row, dict) else None
        if not isinstance(raw, list):
            return Rejected(records.NOT_A_RECORD)
        chat = read_chat(
            raw,
            role_key=columns.role or "role",
            content_key=columns.content or "content",
            keep_reasoning=keep_reasoning,
            max_characters=MAX_CONVERSATION_CHARS,
        )
        source_id = self.source_id(row)
        spoken = _from_first_question(chat)
        messages = [ChatMessage(chat.messages[index]["role"], chat.messages[index]["content"]) for index in spoken]
        fault, roles = _first_fault(chat), "".join(ROLE_LETTERS[message.role] for message in messages)
        origins = _origins(raw, chat, spoken) if self.marks.in_messages(raw) else [()] * len(spoken)
        ratings = self.marks.ratings(row, [message.role for message in messages], origins)
        if not spoken or (fault and not turn_places(roles, bool(ratings and ratings[-1]))):
            return Rejected(fault or records.EMPTY_CONVERSATION, source_id)
        return Conversation(
            source_id=source_id,
            user_id=hashed_user(self._user(row, raw, source_id, columns.user)),
            language=language_name(_text(at(row, columns.language))) if columns.language else None,
            model=_text(at(row, columns.model)) if columns.model else None,
            messages=messages,
            message_languages=self._languages(raw, [chat.places[index] for index in spoken]),
            truncated=chat.truncated,
            reading=chat,
            ratings=ratings,
            flagged=self.marks.flagged(row, origins),
            branch_of=_text(row.get("branch_of")) if self.convert else None,
        )

    def source_id(self, row: Any) -> str | None:
        """A record's own id."""
        column = (ROW if self.convert else self.columns).id
        return _text(at(row, column)) if column and isinstance(row, dict) else None

    def _languages(self, raw: list, places: list[int]) -> list[str | None] | None:
        """The language of each message, where messages carry one."""
        if not self.message_language:
            return None
        given = (raw[place].get(self.message_language) if isinstance(raw[place], dict) else None for place in places)
        languages = [language_name(_text(language)) for language in given]
        return languages if any(languages) else None

    def _user(self, row: dict, raw: list, source_id: str | None, column: str | None) -> str | None:
        if self.user_from_id and not (column and at(row, column)):
            part = _PART.fullmatch(source_id or "")
            return part[1] if part else source_id
        if not column:
            return None
        user = at(row, column)
        if user is None and raw and isinstance(raw[0], dict):
            user = raw[0].get(column)
        return _text(user)


WILDCHAT = Layout(
    name="wildchat",
    required=("conversation", "conversation_hash"),
    columns=Columns("conversation", "conversation_hash", "hashed_ip", "language", "model", "role", "content"),
    message_language="language",
)
LMSYS = Layout(
    name="lmsys",
    required=("conversation", "conversation_id"),
    columns=Columns("conversation", "conversation_id", None, "language", "model", "role", "content"),
)
SHAREGPT = Layout(
    name="sharegpt",
    required=("conversations",),
    columns=Columns("conversations", "id", None, None, "model", "from", "value"),
    user_from_id=True,
)
MESSAGES = Layout(
    name="messages",
    required=("messages",),
    columns=Columns("messages", "id", "user", "language", "model", "role", "content"),
    other_names={"id": ("conversation_id", "conversation_hash"), "user": ("user_id", "userId", "uid", "hashed_ip")},
)


def each(chats: Callable[[dict], Iterable[dict]], records: Iterable[Any], columns: Columns) -> Iterator[Any]:
    """`Layout.convert` for records that hold whole conversations, with `chats` for each record; what else a record tells
    stays with its rows.
    """
    for record in records:
        if isinstance(record, dict):
            yield from ({**record, **row} for row in chats(record))
        else:
            yield record


def at(value: Any, path: str | None) -> Any:
    """What stands under a dotted name in objects, also in JSON that is kept as text; None for nothing.

    A column may itself have a dot in its name: the longest name that there is counts.
    """
    if not path:
        return None
    value = parsed(value)
    if not isinstance(value, dict):
        return None
    if path in value:
        return value[path]
    head, dot, rest = path.partition(".")
    while dot:
        if head in value:
            return at(value[head], rest)
        more, dot, rest = rest.partition(".")
        head = f"{head}.{more}"
    return None


def parsed(value: Any) -> Any:
    """A text that is a JSON object or list as what it stands for; anything else as it is."""
    if isinstance(value, str) and value[:1] in ("{", "[", " ", "\n"):
        try:
            found = json.loads(value)
        except (ValueError, RecursionError):
            return value
        return found if isinstance(found, dict | list) else value
    return value


def hashed_user(user: str | None) -> str | None:
    """A name for a user that is the same in every log, so that the split does not move. It is not published: whoever guesses
    an address can compute it. See `privacy.published_name`.
    """
    return hashlib.blake2b(f"user:{user}".encode(errors="replace"), digest_size=8).hexdigest() if user else None


def _from_first_question(chat: Chat) -> list[int]:
    """Which messages of a chat are used: what the assistant says before the user (a greeting, or the answer to something
    unknown) is not. None without a message of the user.
    """
    roles = [message["role"] for message in chat.messages]
    if "user" not in roles:
        return []
    first = roles.index("user")
    if first == 0:
        return list(range(len(roles)))
    return [index for index, role in enumerate(roles) if index >= first or role in ("system", GAP)]


def _first_fault(chat: Chat) -> str:
    """Why the first message that says nothing, or cannot be read, does not; "" where there is none."""
    if chat.lost:
        return chat.lost[0].what
    return records.EMPTY_CONTENT if any(note.what == NOTHING_SAID for note in chat.notes) else ""


def _origins(raw: list, chat: Chat, spoken: Iterable[int]) -> list[Sequence[dict]]:
    """Of each message that is used, the source's own messages that it was made of; those of tool steps are their answer's."""
    found: list[Sequence[dict]] = []
    start = 0
    for index in spoken:
        role, place = chat.messages[index]["role"], chat.places[index]
        group = [] if role == "tool" else raw[min(start, place) : place + 1]
        found.append([message for message in group if isinstance(message, dict)])
        start = start if role == "tool" else place + 1
    return found


def _text(value: Any) -> str | None:
    """A short metadata value as valid text; None for nothing."""
    if value is None or value == "":
        return None
    return str(value).encode(errors="replace").decode()
