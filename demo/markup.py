"""What chats say and models give as HTML. Chats are data: every text is escaped, and nothing in it is Markdown."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from wildreward.common.chat import Message, shorten
from wildreward.common.tables import number_text
from wildreward.evaluation.labelers import LEVEL_NAMES

LEVELS = tuple(name for name in LEVEL_NAMES if name != "neutral")
LONGEST = 6_000  # characters of a message that are shown
ROLES = {"user": "User", "assistant": "Assistant", "system": "System", "tool": "Tool"}


def text(value: object, longest: int = LONGEST) -> str:
    """A text, its middle left out where it is long. Signs that the page's own templates read are written as numbers."""
    shown = escape(shorten(str(value), longest))
    return shown.replace("$", "&#36;").replace("{", "&#123;").replace("}", "&#125;").replace("`", "&#96;")


def level_word(label: int, levels: int = len(LEVELS)) -> str:
    """What a label is called: the words are those of four levels."""
    return LEVELS[label - 1] if levels == len(LEVELS) and 1 <= label <= levels else f"level {label}"


def level_class(label: int, levels: int = len(LEVELS)) -> str:
    """The colour of a label, of the four that there are."""
    return f"wr-l{1 + round((label - 1) * 3 / max(levels - 1, 1))}"


def error(message: object) -> str:
    """One line about what went wrong."""
    return f'<p class="wr-error" role="alert">{text(" ".join(str(message).split()), 400)}</p>'


def note(message: str) -> str:
    return f'<p class="wr-note">{text(message)}</p>'


def bubble(message: Message, kind: str = "", name: str | None = None) -> str:
    """A message under its role."""
    role = str(message["role"])
    shown = text(name or ROLES.get(role, role))
    return (
        f'<div class="wr-message wr-{role if role in ROLES else "tool"} {kind}"><div class="wr-role">{shown}</div>'
        f'<div class="wr-text" dir="auto">{text(message["content"])}</div></div>'
    )


def earlier(messages: Sequence[Message]) -> str:
    """What was said before, folded; of very much the last messages."""
    if not messages:
        return ""
    last = messages[-20:]
    count = f"{len(messages)} message{'s' if len(messages) > 1 else ''}"
    shown = f"{count}, the last {len(last)} shown" if len(last) < len(messages) else count
    return f'<details class="wr-more"><summary>Earlier in the conversation: {shown}</summary>{"".join(map(bubble, last))}</details>'


def level_bars(probs: Sequence[float]) -> str:
    """A row for each level: its name, a bar as long as its probability, percent."""
    rows = "".join(
        f'<div class="wr-bar"><span class="wr-bar-name">{level_word(label, len(probs))}</span>'
        f'<span class="wr-track"><span class="wr-fill {level_class(label, len(probs))}" style="width:{100 * p:.1f}%"></span></span>'
        f'<span class="wr-percent">{100 * p:.0f}%</span></div>'
        for label, p in enumerate(probs, start=1)
    )
    return f'<div class="wr-bars" role="img" aria-label="level distribution">{rows}</div>'


def score(value: float | None) -> str:
    return f'<span class="wr-score">{number_text(value, 2)}</span>'


def chip(value: object, kind: str = "") -> str:
    return f'<span class="wr-chip {kind}">{text(value, 80)}</span>'


def tiles(figures: Sequence[tuple[str, str, str]]) -> str:
    """(name, number, what it says) of each figure."""
    shown = "".join(
        f'<div class="wr-tile"><div class="wr-tile-name">{text(name)}</div><div class="wr-tile-value">{text(value)}</div>'
        f'<div class="wr-tile-note">{text(says)}</div></div>'
        for name, value, says in figures
    )
    return f'<div class="wr-tiles">{shown}</div>'


def tables(blocks: Sequence[Mapping[str, Any]]) -> str:
    """What `evaluation.page.blocks` found in results.md."""
    shown = ""
    for block in blocks:
        if block["kind"] == "table":
            head = "".join(f"<th>{text(cell)}</th>" for cell in block["head"])
            rows = "".join(f"<tr>{''.join(f'<td>{text(cell)}</td>' for cell in row)}</tr>" for row in block["rows"])
            shown += f"<table><tr>{head}</tr>{rows}</table>"
        else:
            shown += f"<{block['kind']}>{text(block['text'])}</{block['kind']}>"
    return f'<div class="wr-table">{shown}</div>'
