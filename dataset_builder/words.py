"""Counting words, where a Chinese character counts as one word, and guessing a language from the script."""

import re

_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
HAN_LETTER = re.compile(f"[{_HAN}]")
_WORD = re.compile(f"[{_HAN}]|[^\\s{_HAN}]+")
_SCRIPTS = (
    ("Japanese", re.compile("[\u3040-\u30ff]")),
    ("Korean", re.compile("[\uac00-\ud7af]")),
    ("Chinese", HAN_LETTER),
    ("Russian", re.compile("[\u0400-\u04ff]")),
    ("Arabic", re.compile("[\u0600-\u06ff]")),
    ("Hebrew", re.compile("[\u0590-\u05ff]")),
    ("Thai", re.compile("[\u0e00-\u0e7f]")),
    ("Hindi", re.compile("[\u0900-\u097f]")),
    ("Greek", re.compile("[\u0370-\u03ff]")),
)
_GUESS_CHARS = 400
LATIN = 0x24F  # the last letter of the Latin alphabets, but for those of Vietnamese and others with two accents
OTHER_LETTERS = 0.1  # share of the letters from which a text is not taken for English


def has_other_letters(text: str) -> bool:
    """Whether more than a few of the letters are of other alphabets than the Latin ones."""
    if text.isascii():
        return False
    letters = [letter for letter in text if letter.isalpha()]
    return bool(letters) and sum(ord(letter) > LATIN for letter in letters) >= OTHER_LETTERS * len(letters)


def count_words(text: str) -> int:
    """Words of `text`; each Chinese character is one."""
    if text.isascii() or not HAN_LETTER.search(text):
        return len(text.split())
    return len(_WORD.findall(text))


class WordBudget:
    """Whether texts, added one after the other, stay within so many words; looks closely only where it must.

    There are no more words than characters, and in ASCII text no more than blanks plus one; both are much faster to count
    than words. Only when that bound passes the limit are the texts so far counted, each of them once.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._words, self._loose = 0, 0
        self._uncounted: list[str] = []

    def add(self, text: str) -> None:
        self._uncounted.append(text)
        bound = len(text)
        if self._words + self._loose + bound > self.limit and text.isascii():
            bound = sum(map(text.count, " \n\t\r\v\f\x1c\x1d\x1e\x1f")) + 1
        self._loose += bound

    def exceeded(self) -> bool:
        if self._words + self._loose <= self.limit:
            return False
        self._words += sum(map(count_words, self._uncounted))
        self._uncounted, self._loose = [], 0
        return self._words > self.limit


def guess_language(text: str) -> str | None:
    """The language of a text in a script that tells it, else None (Latin script: many languages)."""
    if text.isascii():
        return None
    head = text[:_GUESS_CHARS]
    letters = sum(map(str.isalpha, head)) or 1
    for language, pattern in _SCRIPTS:
        if len(pattern.findall(head)) * 5 >= letters:
            return language
    return None
