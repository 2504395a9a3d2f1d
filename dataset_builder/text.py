"""What texts are counted and compared by: words, languages, hashes."""

import hashlib
import re

import pycld2

from wildreward.common.words import HAN_LETTER

# Codes of languages that logs use; WildChat writes "English", others "en" or "en-US".
LANGUAGES = {
    "ar": "Arabic",
    "cmn": "Chinese",
    "de": "German",
    "en": "English",
    "eng": "English",
    "es": "Spanish",
    "fr": "French",
    "hi": "Hindi",
    "id": "Indonesian",
    "it": "Italian",
    "ja": "Japanese",
    "ko": "Korean",
    "nl": "Dutch",
    "pl": "Polish",
    "pt": "Portuguese",
    "ru": "Russian",
    "tr": "Turkish",
    "uk": "Ukrainian",
    "vi": "Vietnamese",
    "zh": "Chinese",
    "zho": "Chinese",
}
_UNKNOWN = frozenset(
    {"", "?", "-", "auto", "n/a", "na", "nan", "nolang", "none", "null", "und", "undefined", "unknown", "xx"}
)
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
_DETECT_CHARS = 600
_LEAST_SHARE = 70  # per cent of a text in one language
_NO_PROSE = re.compile(r"```.*?(?:```|$)|`[^`\n]*`|https?://\S+|\\(?=_)", re.S)  # code and addresses
LATIN = 0x24F  # the last letter of the Latin alphabets, but for those of Vietnamese and others with two accents
OTHER_LETTERS = 0.1  # share of the letters from which a text is not taken for English


def language_name(given: str | None) -> str | None:
    """The English name for a code with or without its region; None for what says that nobody knows; else as it is.

    >>> language_name("zh_CN")
    'Chinese'
    """
    if given is None or given.strip().lower() in _UNKNOWN:
        return None
    code = given.lower().replace("_", "-").partition("-")[0]
    return LANGUAGES.get(code, given)


def has_other_letters(text: str) -> bool:
    """Whether more than a few of the letters are of other alphabets than the Latin ones."""
    if text.isascii():
        return False
    letters = [letter for letter in text if letter.isalpha()]
    return bool(letters) and sum(ord(letter) > LATIN for letter in letters) >= OTHER_LETTERS * len(letters)


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


def detect_language(text: str) -> str | None:
    """The language of prose in any script, as CLD2 finds it. None where it is not sure, as of a few words or of code, or where
    a good part is in another language, as of a letter with the wish to translate it.
    """
    try:
        sure, _, ((name, code, share, _), *_) = pycld2.detect(_NO_PROSE.sub(" ", text[:_DETECT_CHARS]))
    except pycld2.error:  # control characters
        return None
    if not sure or (share < _LEAST_SHARE and code != "en"):
        return None
    return LANGUAGES.get(code.partition("-")[0]) or name.capitalize()


def hash64(*texts: str) -> int:
    """A signed 64-bit hash of texts, the same on every machine."""
    if len(texts) == 1:
        digest = hashlib.blake2b(texts[0].encode(errors="replace"), digest_size=8)
    else:
        pieces = [text.encode(errors="replace") for text in texts]
        framed = b"".join([part for data in pieces for part in (len(data).to_bytes(8, "little"), data)])
        digest = hashlib.blake2b(framed, digest_size=8)
    return int.from_bytes(digest.digest(), "little", signed=True)
