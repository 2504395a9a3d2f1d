"""Numbers as people read them: Markdown tables, and estimates with their intervals."""

from collections.abc import Mapping, Sequence
from typing import Any


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])


def number_text(value: float | None, digits: int = 3, reason: str | None = None) -> str:
    """`0.712`; a dash for none, with the `reason` where there is one."""
    shown = "–" if value is None else f"{value:.{digits}f}"
    return f"{shown} ({reason})" if reason else shown


def estimate_text(estimate: Mapping[str, Any], digits: int = 3, factor: float = 1.0) -> str:
    """`0.712 [0.650, 0.770]` of a `{"value", "low", "high"}`; a dash for none, with the `reason` where there is one."""
    value, low, high = (None if (x := estimate.get(key)) is None else x * factor for key in ("value", "low", "high"))
    if value is None:
        return number_text(None, reason=estimate.get("reason"))
    text = number_text(value, digits)
    return text if low is None else f"{text} [{number_text(low, digits)}, {number_text(high, digits)}]"
