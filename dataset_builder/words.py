"""Counting words, where a Chinese character counts as one word, and guessing a language from the script."""

import re

_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(f"[{_HAN}]|[^\\s{_HAN}]+")
_SCRIPTS = (
    ("Japanese", re.compile("[\u3040-\u30ff]")),
    ("Korean", re.compile("[\uac00-\ud7af]")),
    ("Chinese", re.compile(f"[{_HAN}]")),
    ("Russian", re.compile("[\u0400-\u04ff]")),
    ("Arabic", re.compile("[\u0600-\u06ff]")),
    ("Hebrew", re.compile("[\u0590-\u05ff]")),
    ("Thai", re.compile("[\u0e00-\u0e7f]")),
    ("Hindi", re.compile("[\u0900-\u097f]")),
    ("Greek", re.compile("[\u0370-\u03ff]")),
)
_GUESS_CHARS = 400


def count_words(text: str) -> int:
    """Words of `text`; each Chinese character is one."""
    if text.isascii():
        return len(text.split())
    return sum(1 for _ in _WORD.finditer(text))


def more_words_than(texts: list[str], limit: int) -> bool:
    """Whether the texts hold more than `limit` words together; looks closely only where length leaves it open."""
    if sum(map(len, texts)) <= limit:
        return False
    left = limit
    for text in texts:
        if text.isascii() and len(text) > left:
            left -= text.count(" ") + text.count("\n") + text.count("\t") + text.count("\r") + 1
        else:
            left -= len(text)
    if left >= 0:
        return False
    total = 0
    for text in texts:
        total += count_words(text)
        if total > limit:
            return True
    return False


def guess_language(text: str) -> str | None:
    """The language of a text in a script that tells it, else None (Latin script: many languages)."""
    if text.isascii():
        return None
    head = text[:_GUESS_CHARS]
    letters = sum(character.isalpha() for character in head) or 1
    for language, pattern in _SCRIPTS:
        if len(pattern.findall(head)) * 5 >= letters:
            return language
    return None
