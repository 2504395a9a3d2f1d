"""Show a conversation to a model as data: cut to a budget, and unable to be read as anything but one quoted record.

The record is one line of JSON. Line breaks, quotes and everything that looks like a model's control token are written
as JSON escapes, so no text in it can start a line, close the record or form `<|im_start|>` and its relatives; a JSON
reader still gets the exact text back. The record stands between two boundary lines derived from its content, which it
therefore cannot contain.
"""

import hashlib
import json
import logging
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple, Self

from wildreward.common.settings import check_least

logger = logging.getLogger(__name__)

SURROGATES = re.compile("[\ud800-\udfff]")
# What tokenizers of chat models parse as control tokens, by their shapes. The first sign of each is escaped.
CONTROL_TOKENS = re.compile(
    r"""<(?=[|｜]|[^\s<>]{1,40}>)                # <|name|>, <｜name｜>, <name>, </name>, <turn|>, ]<]name[>[
    |\[(?=/?[A-Za-z]?[A-Z_]{2}[A-Z0-9_]{0,38}\]) # [INST], [/INST], [gMASK], [UNUSED_TOKEN_146]
    |\[(?=/?[a-z_]{3,32}[0-9]{1,5}\])           # [unused1], [control_8]
    |\[(?=/?[a-z]+_[a-z]+_[a-z_]{1,32}\])       # [start_header_id]
    |\[(?=([|@])[^\s\[\]]{1,38}\1\])            # [|Human|], [@BOS@]
    |\[(?=[a-z]~\[)|\](?=[~!]{1,2}[a-z]~?[\[\]]) # [e~[, ]~b], ]~!b[
    |>(?=>[A-Z]{2,24}<<)                        # >>TITLE<<
    |\|(?=[A-Z_]{4,24}\|)                       # |SPEAKER|, |||EMAIL_ADDRESS|||
    |\{(?=\{[#~/])                              # {{#system}}
    """,
    re.VERBOSE,
)
LINE_SEPARATORS = {"\u2028": "\\u2028", "\u2029": "\\u2029", "\x85": "\\u0085", "\x7f": "\\u007f"}
LEFT_OUT = " […{count} characters left out…] "
# Nothing is shown shorter than with this many tokens for a part of it.
LEAST_SHOWN = 40


class ChatMessage(NamedTuple):
    """One message: role is "system", "user", "tool" or "assistant", see `common.chat`."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Budget:
    """How many tokens of each part are shown; see `estimate_tokens`. What does not fit is left out and said so."""

    history: int = 1000
    query: int = 800
    response: int = 1200
    feedback: int = 800

    def settings(self) -> dict[str, int]:
        """As a message names them."""
        return {f"shown_{part}_tokens": tokens for part, tokens in asdict(self).items()}

    def half(self) -> Self | None:
        """Half as much of each part, for a model whose context is shorter; None where too little would be left."""
        if self.feedback < 2 * LEAST_SHOWN:
            return None
        return type(self)(*(tokens // 2 for tokens in asdict(self).values()))

    @classmethod
    def of(cls, tokens: int) -> Self:
        """`tokens` shared out among the parts as in the default."""
        default = cls()
        whole = default.history + default.query + default.response + default.feedback
        check_least(("shown_tokens", tokens, 40))
        return cls(
            *(part * tokens // whole for part in (default.history, default.query, default.response, default.feedback))
        )


@dataclass(frozen=True, slots=True)
class Record:
    """A conversation made ready to be shown.

    Attributes:
        text: the JSON line between its two boundary lines.
        boundary: the line before and after it.
        cut: something was left out to keep within the budget.
    """

    text: str
    boundary: str
    cut: bool


def estimate_tokens(text: str) -> int:
    """Estimate of how many tokens a model sees: four ASCII characters a token, or one character of any other script."""
    ascii_count = len(text.encode("ascii", "ignore"))
    return (ascii_count + 3) // 4 + len(text) - ascii_count


def shorten(text: str, tokens: int) -> tuple[str, bool]:
    """Keep the beginning and the end of `text` within about `tokens` tokens, noting how much is left out; was it cut?"""
    if len(text) <= tokens or (len(text) <= 4 * tokens and estimate_tokens(text) <= tokens):
        return SURROGATES.sub("\ufffd", text), False
    # Only as much as could fit at four characters a token is looked at, so a text of many megabytes costs no more.
    head = _prefix(text[: 4 * tokens], (tokens * 2) // 3)
    tail = _prefix(text[-4 * tokens :][::-1], tokens - (tokens * 2) // 3)[::-1]
    note = LEFT_OUT.format(count=len(text) - len(head) - len(tail))
    return SURROGATES.sub("\ufffd", head + note + tail), True


def _prefix(text: str, tokens: int) -> str:
    """The longest beginning of `text` whose estimate is at most `tokens`."""
    quarters = 4 * tokens
    for index, character in enumerate(text):
        quarters -= 1 if character.isascii() else 4
        if quarters < 0:
            return text[:index]
    return text


def recent(history: Sequence[ChatMessage], tokens: int) -> tuple[list[dict[str, str]], bool]:
    """The newest messages that fit in `tokens`, at most half of it for one message; was anything of them shortened?"""
    kept: list[dict[str, str]] = []
    any_cut = False
    for message in reversed(history):
        content, cut = shorten(message.content, min(tokens, max(tokens // 2, 64)))
        cost = estimate_tokens(content) + 8
        if cost > tokens:
            break
        tokens -= cost
        any_cut |= cut
        kept.append({"role": message.role, "content": content})
    return kept[::-1], any_cut


def quote(fields: dict[str, object]) -> str:
    """One line of JSON in which nothing can pass for a line break, a quotation mark or a control token."""
    line = json.dumps(fields, ensure_ascii=False)
    for character, escape in LINE_SEPARATORS.items():
        line = line.replace(character, escape)
    # Only string contents can hold these patterns: in the structure of the JSON, a bracket or a brace never stands before
    # a letter or one of the other signs.
    return CONTROL_TOKENS.sub(lambda match: f"\\u{ord(match[0]):04x}", line)


def framed(fields: dict[str, object], cut: bool) -> Record:
    """The record of these fields, with a boundary that it cannot contain."""
    line = quote(fields)
    boundary = "=" * 8 + hashlib.sha256(line.encode()).hexdigest()[:16] + "=" * 8
    return Record(f"{boundary}\n{line}\n{boundary}", boundary, cut)


def report_cut_rows(count: int) -> None:
    """Log how many conversations were not shown whole, at the end of a run."""
    if count:
        logger.info("%d conversations were longer than --shown_tokens and were shown in part", count)
