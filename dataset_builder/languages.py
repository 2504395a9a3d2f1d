"""Names of languages, whatever a log calls them: WildChat writes "English", others "en" or "en-US"."""

NAMES = {
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
UNKNOWN = frozenset(
    {"", "?", "-", "auto", "n/a", "na", "nan", "nolang", "none", "null", "und", "undefined", "unknown", "xx"}
)


def language_name(given: str | None) -> str | None:
    """The English name for a code with or without its region; None for what says that nobody knows; else as it is.

    >>> language_name("zh_CN")
    'Chinese'
    """
    if given is None or given.strip().lower() in UNKNOWN:
        return None
    code = given.lower().replace("_", "-").partition("-")[0]
    return NAMES.get(code, given)
