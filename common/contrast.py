"""Broken answers made from real ones, with no annotation: what a reward model must not prefer to the answer itself.

A model that learns from users' reactions alone sees a question with one answer only, so it may learn which questions end in
complaints and never whether an answer answers. Training sets these beside answers that users liked, evaluation counts how
often the real one wins; the two use different phrases for refusals.
"""

import math
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from wildreward.common.contrast_phrases import REFUSALS, UNSURE
from wildreward.common.refusals import looks_like_refusal
from wildreward.common.words import HAN_LETTER, WORD

KINDS = {
    "other_answer": "the answer to another question",
    "shuffled": "its own words shuffled",
    "cut": "itself cut off in mid-sentence",
    "repeated": "its beginning repeated over and over",
    "empty": "an empty answer",
    "unsure": "saying that it is not sure",
    "refusal": "a refusal",
}
"""What is set beside an answer, in words."""
_WEIGHTS = {
    "other_answer": 4,
    "shuffled": 2,
    "cut": 2,
}  # how often, where an answer gets fewer pairs than there are kinds; else 1

_DRAWN = 16  # answers of other chats, of which the one to the most similar question is taken
_LOOKED_AT = 512  # most answers looked at for these
_SAME = 0.8  # similarity of two questions from which the answer to one may well answer the other
_READ = 1000  # characters of a question that are compared
# a character with which no sentence, formula or list ends
_MID_SENTENCE = re.compile(r"[^.!?:;。\uff01\uff1f\uff1a\uff1b…)\]}>\"'`|*]")
_LEAST_WORDS = 8  # of an answer that can be cut off or repeated


@dataclass(frozen=True)
class Answered:
    """A question with its real answer."""

    id: str
    owner: str
    """Whose chat it is: the other answer is of somebody else."""
    query: str
    answer: str
    language: str | None = None
    """English name; None: told by the script, where it tells."""
    may_refuse: bool = False
    """A refusal would have been right, or was."""

    @cached_property
    def spoken(self) -> str | None:
        """The language, where known or told by the script."""
        if self.language in (None, "unknown"):
            return "English" if self.answer.isascii() else "Chinese" if HAN_LETTER.search(self.answer) else None
        return self.language


class Broken(NamedTuple):
    """A broken answer to the question at `place`."""

    place: int
    kind: str
    text: str


def broken_answers(
    answered: Sequence[Answered],
    places: Sequence[int],
    kinds: Sequence[str],
    share: float,
    seed: int,
    held_out_phrases: bool = False,
) -> Iterator[Broken]:
    """Broken answers to the questions at `places`, each unlike the real one.

    What a question gets depends on its id, its texts and the seed, and for `other_answer` on the other chats; never on the
    order. Kinds that cannot be made of an answer (one word cannot be shuffled) are passed over.

    Args:
        answered: all questions, from which other answers come.
        places: of those whose answers are set against broken ones.
        kinds: of `KINDS`.
        share: broken answers for each question; of 0.5 every second question gets one. At most one of each kind.
        seed: of everything drawn.
        held_out_phrases: refuse in the words kept for evaluation instead of those for training.
    """
    others = _OtherAnswers(answered, seed) if "other_answer" in kinds else None
    for place in places:
        one = answered[place]
        rng = random.Random(f"{seed}:{one.id}")
        wanted = int(share) + (rng.random() < share % 1)
        # weighted sampling without replacement (Efraimidis and Spirakis 2006)
        keys = {kind: rng.random() ** (1 / _WEIGHTS.get(kind, 1)) for kind in KINDS}
        for kind in sorted(set(kinds), key=lambda kind: -keys[kind]):
            if not wanted:
                break
            drawn = random.Random(f"{seed}:{one.id}:{kind}")  # of its own: whatever kinds there are beside it
            text = (
                others.find(place) if kind == "other_answer" and others else _make(one, kind, drawn, held_out_phrases)
            )
            if text is not None and text.strip() != one.answer.strip():
                wanted -= 1
                yield Broken(place, kind, text)


def _make(one: Answered, kind: str, rng: random.Random, held_out_phrases: bool) -> str | None:
    if kind in _BREAKERS:
        return _BREAKERS[kind](one.answer, rng)
    phrases = (UNSURE if kind == "unsure" else REFUSALS).get(one.spoken or "")
    if phrases is None or one.may_refuse or looks_like_refusal(one.answer):
        return None
    return rng.choice(phrases[held_out_phrases])


def _cut(text: str, rng: random.Random) -> str | None:
    """The beginning, ending with a word in mid-sentence."""
    words = list(WORD.finditer(text))
    inside = words[len(words) // 5 : len(words) * 4 // 5]
    ends = [word.end() for word in inside if _MID_SENTENCE.fullmatch(word[0][-1])]
    return text[: rng.choice(ends)] if len(words) >= _LEAST_WORDS and ends else None


def _shuffled(text: str, rng: random.Random) -> str:
    """The words in another order, blanks and lines where they were."""
    words = WORD.findall(text)
    rng.shuffle(words)
    left = iter(words)
    return WORD.sub(lambda _: next(left), text)


def _repeated(text: str, rng: random.Random) -> str | None:
    """The beginning, whose last words come again and again up to the text's length."""
    words = list(WORD.finditer(text))
    if len(words) < _LEAST_WORDS:
        return None
    last = rng.randint(3, max(3, len(words) // 2))
    first = max(0, last - rng.randint(3, 15))
    phrase = text[words[first].start() : words[last].end()]
    blank = "" if HAN_LETTER.fullmatch(phrase[-1]) else " "
    start = text[: words[last].end()]
    return start + (blank + phrase) * max(2, math.ceil((len(text) - len(start)) / len(blank + phrase)))


_BREAKERS: dict[str, Callable[[str, random.Random], str | None]] = {
    "cut": _cut,
    "shuffled": _shuffled,
    "repeated": _repeated,
    "empty": lambda text, rng: "",
}


class _OtherAnswers:
    """Answers to other questions, of like length, in the same language, near in topic by the words of the questions.

    All stand in a ring by a seeded number. From the question's own place on, the first `_DRAWN` that fit are compared, so
    a question's answer depends on few others, and the work for each does not grow with their number.
    """

    def __init__(self, answered: Sequence[Answered], seed: int) -> None:
        self.answered = answered
        self.words = [frozenset(word.lower() for word in WORD.findall(one.query[:_READ])) for one in answered]
        count = Counter(word for words in self.words for word in words)
        self.weight = {word: math.log((1 + len(answered)) / (1 + n)) ** 2 for word, n in count.items()}
        number = [random.Random(f"{seed}:{one.id}:{one.answer}").random() for one in answered]
        rings: dict[str | None, list[int]] = {}
        for place in sorted(range(len(answered)), key=number.__getitem__):
            rings.setdefault(answered[place].spoken, []).append(place)
        self.rings = rings
        self.at = {place: turn for ring in rings.values() for turn, place in enumerate(ring)}

    def find(self, place: int) -> str | None:
        """The answer to the most similar of some other questions; None where nothing fits."""
        one, ring = self.answered[place], self.rings[self.answered[place].spoken]
        best, found, drawn = -1.0, None, 0
        for step in range(1, min(len(ring), _LOOKED_AT)):
            near = ring[(self.at[place] + step) % len(ring)]
            other = self.answered[near]
            if other.owner == one.owner or not len(one.answer) / 2 <= len(other.answer) <= len(one.answer) * 2:
                continue
            likeness = self.likeness(place, near)
            if likeness >= _SAME or other.answer.strip() in ("", one.answer.strip()):
                continue
            if likeness > best:
                best, found = likeness, other.answer
            drawn += 1
            if drawn == _DRAWN:
                break
        return found

    def likeness(self, first: int, second: int) -> float:
        """Cosine of the questions' words, weighted by how rare they are."""
        a, b = self.words[first], self.words[second]
        if a == b:
            return 1.0
        squares = [sum(self.weight[word] for word in words) for words in (a & b, a, b)]
        return squares[0] / math.sqrt(squares[1] * squares[2]) if squares[0] else 0.0
