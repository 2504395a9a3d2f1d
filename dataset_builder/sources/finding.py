"""Which layout a file has: all that are known, and the search among the names and the messages of its first records."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

from wildreward.common.chat import ROLES
from wildreward.common.errors import UserError
from wildreward.dataset_builder.sources.arena import ARENA
from wildreward.dataset_builder.sources.chatgpt import CHATGPT
from wildreward.dataset_builder.sources.claude import CLAUDE
from wildreward.dataset_builder.sources.langfuse import LANGFUSE
from wildreward.dataset_builder.sources.layouts import (
    LMSYS,
    MESSAGES,
    SHAREGPT,
    WILDCHAT,
    Columns,
    Layout,
    at,
    parsed,
)
from wildreward.dataset_builder.sources.librechat import LIBRECHAT
from wildreward.dataset_builder.sources.lines import EXCHANGES, LINES
from wildreward.dataset_builder.sources.opentelemetry import OPENTELEMETRY
from wildreward.dataset_builder.sources.openwebui import OPEN_WEBUI

ROWS = (WILDCHAT, LMSYS, SHAREGPT, MESSAGES)
EXPORTS = (CHATGPT, CLAUDE, OPEN_WEBUI, LIBRECHAT, ARENA, OPENTELEMETRY, LANGFUSE)
TABLES = (LINES, EXCHANGES)
LAYOUTS = {layout.name: layout for layout in (*ROWS, *EXPORTS, *TABLES)}
_KNOWN_FIRST = (*EXPORTS[:5], *ROWS, *EXPORTS[5:])  # what calls of a model have in common with a row is its `input`
ROLE_KEYS = ("role", "from", "sender", "author", "speaker", "isCreatedByUser")
CONTENT_KEYS = ("content", "value", "text", "message", "parts", "body")
LONGEST_NAME, MOST_NAMES = 40, 30  # in a message
DEEPEST, WIDEST = 6, 60  # objects inside objects that are looked into; more keys are ids, not names


def find_layout(
    found: Collection[str],
    *,
    name: str = "auto",
    columns: Columns | None = None,
    where: str,
    records: Sequence[Any] = (),
) -> Layout:
    """The layout whose columns are all there.

    Args:
        found: column names of the source.
        name: a layout's name, or "auto".
        columns: names that replace the layout's own.
        where: the source, for the error.
        records: some of the source's, whose names are `found`, too, and whose messages tell what their keys are called.

    Raises:
        UserError: nothing fits; what was seen, what was expected, and which option helps.
    """
    columns = columns or Columns()
    if name != "auto" and name not in LAYOUTS:
        raise UserError(f"unknown layout {name!r}; expected auto or one of {', '.join(LAYOUTS)}")
    if name == "auto" and columns.messages:
        name = MESSAGES.name
    given = {key: value for key, value in vars(columns).items() if value and key not in ("role", "content")}
    names = set(found) | names_of(records)
    candidates = [LAYOUTS[name]] if name != "auto" else [*_KNOWN_FIRST, *TABLES]
    for layout in _fitting(candidates, names, columns, records, name):
        if layout.convert and given and layout.name not in (LINES.name, EXCHANGES.name):
            options = ", ".join(f"--{key}-column" for key in given)
            raise UserError(f"{where} is of the layout {layout.name}, whose columns are known; leave out {options}")
        if set(given.values()) <= names:
            return _with_keys(layout.among(names), columns, records)
    tops = set(found) | {key for record in records if isinstance(record, dict) for key in record}
    raise UserError(f"{where} {_unknown(tops, names, candidates, columns, records)}")


def _fitting(
    candidates: Sequence[Layout], names: set[str], columns: Columns, records: Sequence[Any], name: str
) -> Iterator[Layout]:
    """Layouts that fit: those of the records, those of records in a list inside them, messages under any name, tables."""
    renamed = [layout if layout in EXPORTS else layout.with_columns(columns) for layout in candidates]
    tables = [layout for layout in renamed if layout.name in (LINES.name, EXCHANGES.name) and name == "auto"]
    known = [layout for layout in renamed if layout not in tables]
    fitting = [layout for layout in known if layout.fits(names)]
    yield from (layout for layout in fitting if _holds_messages(layout, records))
    for key, inner in _wrapped(records):
        inner_names = names_of(inner)
        for layout in [*known, *tables[:1]]:
            if layout.fits(inner_names):
                yield replace(_with_keys(layout.among(inner_names), columns, inner), inside=key, other_names={})
    lists = message_lists(records)
    if name == "auto" and len(lists) == 1:
        yield MESSAGES.with_columns(replace(columns, messages=lists[0]))
    yield from (layout for layout in tables if layout.fits(names))
    yield from fitting  # in which no message was found, which is told when all has been read


def _holds_messages(layout: Layout, records: Sequence[Any]) -> bool:
    """Whether messages are where the layout has them; yes where nothing was read."""
    if layout.convert or not records:
        return True
    own = layout.columns.role, layout.columns.content
    values = [parsed(at(record, layout.columns.messages)) for record in records]
    lists = [[item for item in value if isinstance(item, dict)] for value in values if isinstance(value, list)]
    return any(_keys_of(found)[0] or any(own[0] in item and own[1] in item for item in found) for found in lists)


def names_of(records: Sequence[Any]) -> set[str]:
    """Names of the records' columns, of those inside objects with dots, also of the objects in lists."""
    found: set[str] = set()

    def walk(value: Any, prefix: str, depth: int) -> None:
        value = parsed(value)
        if isinstance(value, list):
            for item in value[:3]:
                if isinstance(item, dict):
                    walk(item, prefix, depth)
        if isinstance(value, dict) and depth < DEEPEST:
            for key, inner in [*value.items()][:WIDEST]:
                path = f"{prefix}.{key}" if prefix else str(key)
                found.add(path)
                walk(inner, path, depth + 1)

    for record in records:
        if isinstance(record, dict):
            found.update(map(str, record))
            walk(record, "", 0)
    return found


def message_lists(records: Sequence[Any]) -> list[str]:
    """Columns, also inside objects, that hold messages: lists of objects with a known role and something said."""
    found: dict[str, None] = {}

    def walk(value: Any, path: str, depth: int) -> None:
        value = parsed(value)
        if isinstance(value, list) and path and _keys_of(value)[0]:
            found[path] = None
        if isinstance(value, dict) and depth < DEEPEST and len(value) <= WIDEST:
            for key, inner in value.items():
                walk(inner, f"{path}.{key}" if path else str(key), depth + 1)

    for record in records:
        if isinstance(record, dict):
            walk(record, "", 0)
    return list(found)


def _keys_of(messages: list[Any]) -> tuple[str, str]:
    """Under which keys the messages have their role and their content, "" and "" if they are none."""
    objects = [message for message in messages if isinstance(message, dict)]
    for role in ROLE_KEYS:
        if any(str(message.get(role)).lower() in ROLES for message in objects):
            for content in CONTENT_KEYS:
                if content != role and any(message.get(content) for message in objects):
                    return role, content
    return "", ""


def _with_keys(layout: Layout, given: Columns, records: Sequence[Any]) -> Layout:
    """The layout with the keys that its messages have, where they do not have the layout's own."""
    if layout.convert or given.role or given.content:
        return layout
    values = [parsed(at(record, layout.columns.messages)) for record in records]
    messages = [
        message for value in values if isinstance(value, list) for message in value if isinstance(message, dict)
    ]
    own = layout.columns.role, layout.columns.content
    role, content = own if any(own[0] in m and own[1] in m for m in messages) else _keys_of(messages)
    return replace(layout, columns=replace(layout.columns, role=role, content=content)) if role else layout


def _wrapped(records: Sequence[Any]) -> Iterator[tuple[str, list[dict]]]:
    """Lists of objects inside the first record, as in `{"data": [records]}`."""
    first = records[0] if records and isinstance(records[0], dict) else {}
    for key, value in [*first.items()][:WIDEST]:
        if isinstance(value, list) and value and all(isinstance(item, dict) for item in value[:20]):
            yield str(key), value[:20]


def _unknown(
    tops: set[str], names: set[str], candidates: Sequence[Layout], columns: Columns, records: Sequence[Any]
) -> str:
    """What was seen, what was expected, and which option helps."""
    given = {key: value for key, value in vars(columns).items() if value and key not in ("role", "content")}
    absent = [f"{value} (--{key}-column)" for key, value in given.items() if value not in names]
    but = f", but not {', '.join(absent)}" if absent else ""
    rows = [layout.with_columns(columns) for layout in candidates if layout not in EXPORTS]
    required = (
        f"{each.name}: {', '.join(name.partition('|')[0] for name in each.required)}"
        for each in sorted(rows or candidates, key=lambda each: each.name != WILDCHAT.name)
    )
    exports = ", ".join(layout.name for layout in candidates if layout in EXPORTS)
    expected = "; or ".join([*required, *([f"an export ({exports})"] if rows and exports else [])])
    lists = message_lists(records)
    help_ = (
        "Give the names with --messages-column, --id-column, --user-column; of a message a record with --id-column, "
        "--role-key, --content-key"
    )
    if len(lists) > 1:
        help_ = f"Messages are in {shown_names(lists)}: choose one with --messages-column"
    elif other := _object_lists(records):
        path, keys = other[0]
        help_ = f"{path} holds objects with {shown_names(keys)}: if these are the messages, give --messages-column {path} with --role-key and --content-key"
    return f"has the columns {shown_names(tops)}{but}; expected {expected}. {help_}"


def _object_lists(records: Sequence[Any]) -> list[tuple[str, set[str]]]:
    """Columns that hold lists of objects, with the objects' keys."""
    found: dict[str, set[str]] = {}
    for record in records:
        for key in record if isinstance(record, dict) else ():
            value = parsed(record[key])
            inner = [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
            if inner:
                found.setdefault(str(key), set()).update(str(name) for item in inner for name in item)
    return [*found.items()]


def shown_names(names: Collection[str]) -> str:
    """Names of columns or keys for an error; in a JSON object that is no row, the keys may be people's words."""
    cut = [name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}…" for name in sorted(names)]
    more = f" and {len(cut) - MOST_NAMES} more" if len(cut) > MOST_NAMES else ""
    return " ".join(", ".join(cut[:MOST_NAMES]).split()) + more or "none"
