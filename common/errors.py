"""The one exception the command line turns into a single line for the user, and how it names what came without repeating it."""

from typing import Any

KINDS = {str: "text", bool: "true or false", int: "number", float: "number", list: "list", dict: "object"}


class UserError(Exception):
    """Something the user can put right. The message says what came, what was expected and what to do."""


def described(value: Any) -> str:
    """What a value is, with its keys and types; of text only the length, for it may be somebody's chat."""
    if isinstance(value, bool | int | float | None):
        return repr(value)
    if isinstance(value, str):
        return f"a text of {len(value)} characters" if value else "an empty text"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    if isinstance(value, dict):
        inside = ", ".join(f"{_readable(key)} ({_kind(item)})" for key, item in list(value.items())[:10])
        return f"an object with {inside}" if inside else "an empty object"
    return f"a {type(value).__name__}"


def _kind(value: Any) -> str:
    return "None" if value is None else KINDS.get(type(value), type(value).__name__)


def _readable(key: Any) -> str:
    return str(key)[:40].encode("utf-8", "backslashreplace").decode()
