"""Refusals, known by their wording."""

import re

from wildreward.common.words import count_words

MAX_REFUSAL_WORDS = 150
_HEAD_CHARS = 400

# Blanks are written as \s: the pattern that this goes into leaves plain ones out.
_CANNOT = (
    r"(?:can(?:no|['’])?t|can\s+not|could(?:n['’]t|\s+not)|won['’]t|will\s+not|(?:un|not\s+)able\s+to|not\s+comfortable|"
    r"not\s+going\s+to)"
)
_ENGLISH = re.compile(
    rf"""\b(?:
        i(?:['’]m|\ am)?\s+(?:really\s+|so\s+|very\s+)?sorry\b[^.!?]{{0,60}}\b{_CANNOT}
      | i(?:['’]m|\ am)?\s+(?:simply\s+|just\s+|really\s+)?{_CANNOT}\s+(?:(?:and|or)\s+(?:will\s+not|won['’]t)\s+)?
        (?:be\s+able\s+to\s+)?(?:\w+\s+)?(?:help|assist|provide|give\s+you|share|explain\s+how|tell\s+you\s+how|create|generate|write|comply|fulfil+|engage|discuss|support|do\s+that|continue|answer|produce|offer|participate)
      | i(?:['’]m|\ am)\s+(?:unable|not\s+able|not\s+comfortable|not\s+allowed|not\s+programmed|not\s+permitted)\b
      | i\s+must\s+(?:decline|refuse)
      | (?:goes|is|would\s+be)\s+against\s+(?:my|openai['’]?s?|our)\s+(?:\w+\s+)?(?:guidelines|polic(?:y|ies)|programming|principles)
      | (?:violates?|violating)\s+(?:\w+\s+){{0,3}}(?:guidelines|polic(?:y|ies))
      | (?:this|the|an?)\s+(?:(?:ai\s+)?assistant|ai\s+model)\s+(?:is\s+)?{_CANNOT}
      | as\s+an\s+(?:ai|artificial)\b[^.!?]{{0,80}}\b(?:{_CANNOT}|not\s+capable|do\s+not|don['’]t)
    )
    | (?:\bnot|n['’]t)\s+(?:appropriate|ethical|something\s+i\s+can)
    """,
    re.I | re.X,
)
_CHINESE = re.compile(
    "(?:抱歉|对不起|很遗憾|不好意思)[^。!?]{0,30}(?:不能|无法|不可以|没有办法|不便)"
    "|我(?:不能|无法|不可以|不会)(?:为[你您]|给[你您]|向[你您])?(?:提供|协助|帮|生成|创作|回答|满足|参与|讨论)"
    "|违反(?:了)?[^。]{0,12}(?:准则|政策|规定|原则|法律)"
)


def looks_like_refusal(response: str) -> bool:
    """A short response with refusal wording near its beginning."""
    if len(response) > 8 * MAX_REFUSAL_WORDS:
        return False
    head = response[:_HEAD_CHARS]
    return bool(_ENGLISH.search(head) or _CHINESE.search(head)) and count_words(response) <= MAX_REFUSAL_WORDS
