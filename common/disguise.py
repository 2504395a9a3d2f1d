"""Text as a reader takes it in, for searching: full-width letters and digits as plain ones, invisible characters gone.

Somebody who hides an address from a pattern (or whose keyboard does) writes it with other characters that look alike.
Searches run over `undisguised(text)`; `original_positions(text)` leads back to the text as it was written.
"""

import unicodedata
from collections.abc import Sequence

_HYPHENS = "\u2010\u2011\u2012\u2013\u2212\ufe63\uff0d"
# Not of the category "format", and yet without a glyph: joiners, fillers, variation selectors.
_INVISIBLE = "\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0" + "".join(
    map(chr, [*range(0x180B, 0x1810), *range(0xFE00, 0xFE10)])
)


class _Plain(dict):
    """Code point → what stands for it (`str.translate`'s table), worked out when it is first met."""

    def __missing__(self, code: int) -> str:
        self[code] = plain = _plain(chr(code))
        return plain


def undisguised(text: str) -> str:
    """`text` with ASCII in place of the characters that NFKC, or being a digit, makes equal to it, and without invisible ones
    and the backslashes that Markdown puts before `_`.

    >>> undisguised("ｂｏｂ＠gmail\\u200b.com, ０３０")
    'bob@gmail.com, 030'
    """
    text = text.replace("\\_", "_")
    return text if text.isascii() else text.translate(_TABLE)


def original_positions(text: str) -> Sequence[int]:
    """For each character of `undisguised(text)` the index in `text` of the one that it stands for."""
    if text.isascii() and "\\_" not in text:
        return range(len(text))
    kept = (index for index in range(len(text)) if text[index : index + 2] != "\\_")
    return [index for index in kept for _ in _TABLE[ord(text[index])]]


def _plain(character: str) -> str:
    category = unicodedata.category(character)
    if category == "Cf" or character in _INVISIBLE:
        return ""
    if category == "Nd":
        return str(unicodedata.decimal(character))
    if character in _HYPHENS:
        return "-"
    normal = unicodedata.normalize("NFKC", character)
    return normal if normal.isascii() else character


_TABLE = _Plain()
