"""Phrases of approval and complaint in languages that the classifier does not read, kept as data in `phrases.json`.

How right they are was hardly measured: they were written down, not learned. A follow-up counts when its first clause is
one of them, so that nothing is guessed from words inside a longer text.
"""

import json
import re
import unicodedata
from functools import cache
from pathlib import Path

CLAUSE_END = re.compile(r"[\s,.!?;:~…，。！？；：、～]*[\n,.!?;:…，。！？；：、～]+\s*")
PARTICLES = re.compile(r"[了啊呀吧呢啦哦哟嘛喔～~ ]+$")


def level_by_phrase(text: str) -> int | None:
    """The level that a follow-up's first clause says, None where it is no known phrase.

    Praise with nothing behind it is satisfaction (5), praise that goes on positive engagement (4).

    >>> level_by_phrase("谢谢！"), level_by_phrase("不对，重新写"), level_by_phrase("继续")
    (5, 2, None)
    """
    clauses = [clause for clause in CLAUSE_END.split(unicodedata.normalize("NFKC", text).strip().lower()) if clause]
    level = phrases().get(PARTICLES.sub("", clauses[0]) or clauses[0]) if clauses else None
    return 5 if level == 4 and len(clauses) == 1 else level


@cache
def phrases() -> dict[str, int]:
    """Phrase → level: 1 rejection, 2 error correction, 4 approval."""
    table = json.loads(Path(__file__).with_name("phrases.json").read_text(encoding="utf-8"))
    return {phrase: int(level) for levels in table.values() for level, known in levels.items() for phrase in known}
