"""Words of a text in any script: Chinese has no blanks between them, so each of its characters counts as one."""

import re

_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
HAN_LETTER = re.compile(f"[{_HAN}]")
WORD = re.compile(f"[{_HAN}]|[^\\s{_HAN}]+")


def count_words(text: str) -> int:
    """Words of `text`; each Chinese character is one."""
    if text.isascii() or not HAN_LETTER.search(text):
        return len(text.split())
    return len(WORD.findall(text))
