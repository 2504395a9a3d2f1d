"""The layouts that are known by name, and finding out which one a source has."""

from collections.abc import Collection

from wildreward.dataset_builder.sources.base import Columns, Layout
from wildreward.errors import UserError

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
LONGEST_NAME, MOST_NAMES = 40, 30
LAYOUTS = {layout.name: layout for layout in (WILDCHAT, LMSYS, SHAREGPT, MESSAGES)}


def find_layout(found: Collection[str], *, name: str = "auto", columns: Columns | None = None, where: str) -> Layout:
    """The layout whose columns are all in `found`.

    Args:
        found: top-level column names of the source.
        name: a layout's name, or "auto".
        columns: names that replace the layout's own.
        where: the source, for the error.

    Raises:
        UserError: nothing fits, listing expected and found.
    """
    columns = columns or Columns()
    if name != "auto" and name not in LAYOUTS:
        raise UserError(f"unknown layout {name!r}; expected auto or one of {', '.join(LAYOUTS)}")
    if name == "auto" and columns.messages:
        name = MESSAGES.name
    candidates = [LAYOUTS[name]] if name != "auto" else list(LAYOUTS.values())
    candidates = [layout.with_columns(columns) for layout in candidates]
    given = [value for key, value in vars(columns).items() if value and key not in ("role", "content")]
    for layout in candidates:
        if set(layout.required) <= set(found) and set(given) <= set(found):
            return layout.among(found)
    absent = [f"{name} (--{key}-column)" for key, name in vars(columns).items() if name in given and name not in found]
    but = f", but not {', '.join(absent)}" if absent else ""
    expected = "; or ".join(f"{layout.name}: {', '.join(layout.required)}" for layout in candidates)
    raise UserError(
        f"{where} has the columns {shown_names(found)}{but}; expected {expected}. "
        "Give the names with --messages-column, --id-column, --user-column"
    )


def shown_names(names: Collection[str]) -> str:
    """Names of columns or keys for an error; in a JSON object that is no row, the keys may be people's words."""
    cut = [name if len(name) <= LONGEST_NAME else f"{name[:LONGEST_NAME]}…" for name in sorted(names)]
    more = f" and {len(cut) - MOST_NAMES} more" if len(cut) > MOST_NAMES else ""
    return ", ".join(cut[:MOST_NAMES]) + more or "none"
