"""A follow-up as the cues see it: cut into clauses, without what is quoted, pasted or code, next to the answer before it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

from wildreward.dataset_builder.labelers.cue_approvals import APPROVAL
from wildreward.dataset_builder.labelers.cue_chinese import simplified
from wildreward.dataset_builder.labelers.cue_failures import ERROR_HINTS, ERROR_TEXT
from wildreward.dataset_builder.labelers.cue_tables import FILLER, Cue
from wildreward.dataset_builder.words import HAN_LETTER

HEAD, TAIL = 420, 160  # characters of a long follow-up that are read
MAX_CLAUSES = 16
ELSEWHERE = "¤"  # stands for code and quotations, which are not the user's own words

_CODE = re.compile(r"```.*?(?:```|$)|`[^`\n]{1,200}`", re.S)
_QUOTE = re.compile(r"\"[^\"\n]{2,400}\"|“[^”\n]{2,400}”|«[^»\n]{2,400}»|「[^」\n]{1,400}」|^>.*$", re.M)
_PASTED_LINE = re.compile(r"^.*(?:[{};]\s*$|=>|\bat [\w.$]+\(|File \"|^\s*\|.*\|).*$", re.M)
# "rewrite this: …": what follows is material to work on
_MATERIAL = re.compile(
    r"(?:please |pls |can you |could you |now |ok |okay )*(?:re-?write|rephrase|re-?word|translate|give|write|summari[sz]e|correct|"
    r"proofread|par[a-z]*phrase|edit|improve|simplify|check|reply|respond|expand|elaborate|grammar|explain|analy[sz]e|continue|shorten|"
    r"make|turn|convert|act|incorporate|use|add|include|post|what does|is (?:this|it|the))\b[^\n]{0,160}?(?::\s|\n)"
)
_ZH_MATERIAL = re.compile(
    r"(?:请|帮我|你|把|将|给我|对|以下|下面|这段话|进行|英文|中文){0,6}(?:翻译|润色|改写|修改|扩写|缩写|续写|总结|概括|分析|回复|仿写|降重|检查|提取|解释|评价)[^\n]{0,30}?[：:\n]"
)
_SPACE = re.compile(r"[ \t\r\f\v]+")
_CONTRAST = re.compile(r" (?:but|however|although|except that) | [–—-]{1,2} ")
_BREAK = re.compile(r"[.!?;:…,\n¶¦。！？；，]+\s*")
PUNCTUATION = str.maketrans(dict.fromkeys('!"#()*+,-./:;<=>?[]^_`{|}~…¶\n\t', " "))

_GOES_ON = re.compile(
    r"\?|\b(?:please|pls|plz|can you|could you|would you|write|give me|make|create|generate|rewrite|provide|explain|add|"
    r"tell me|show me|translate|summari[sz]e|i want|i need|i'd like|list|continue|act as|let's|let us|(?<!for )(?<!works )(?<!working )(?<!fixed )now(?! (?:it|everything|all|works?)\b)|but|how about|also|i am|i will)\b"
)
_GAME = re.compile(
    r"what (?:do|will|would|should|are) (?:you|your (?:party|character|group)) "
    r"(?:want to do|going to do|like to do|do)(?: next)?\s*\?|\broll(?:ing)? (?:a|the|for) |\bd20\b|^\*\w+"
)
_NARRATION = re.compile(
    r"you (?:are (?:facing|in a|standing)|see|grab|feel|realize|realise|notice|decide|search|arrive|navigate|make your|worry|double check|wait|glance|"
    r"try|find|hear|walk|look|wake|open|take|step|turn|enter|think|don't want to|hop|drop|pick|reach|stand|sit|run|"
    r"can see|also notice)\b|your (?:eyes|hands?) \w+|as you "
)
# an answer that plays a part: "I carefully open the door and …"
_ACTS = re.compile(
    r"\bi (?:(?:\w+ly|then|also|now|just|finally) ){0,2}(?:examine|approach|enter|open|grab|pick|reach|pull|push|press|touch|"
    r"walk|step|turn|head|run|climb|crawl|look (?!forward)|glance|gaze|stare|peer|peek|search|inspect|investigate|explore|"
    r"listen|knock|whisper|shout|yell|nod|sigh|smile|grin|laugh|chuckle|lean|sit|stand|kneel|insert|decide|ponder|reconsider|"
    r"retrace|make my way|swipe|unlock|draw|swing|cast|attack|strike|jump|leap|dodge|wait|hide|sneak)\b"
)
ACTED = 500  # characters of the answer in which an act is looked for
_SCENE = re.compile(r"let's (?:re)?write (?:that|this|the|a) (?:whole |next )?(?:scene|flashback|part)|that scene\b")
_WANTS_MORE = re.compile(r"(?:please|could you|can you|if you) (?:provide|share|paste|send|post|give me|clarify)")
_TRYABLE = re.compile(
    r"`|\b(?:run|install|command|function|code|settings|click|plugin|script|browser|package|file|server|database|formula|"
    r"app|version|update)\b"
)
_ASKS = re.compile(r"[?？](?=$|[\s\"')*_])")
_OFFER = re.compile(
    r"(?:anything else|any (?:other|more|further|additional) (?:question|help|request|assistance|information)|else i can|"
    r"help you with|assist you|have any questions|like me to)[^?]*\?"
)
_NUMBERED = re.compile(r"no\.? ?\d")
_FIRM_NO = re.compile(
    r"(?:ok |sorry |oh |ah )?(?:no|nope|nah)[,. !]+(?:that|it'?s|this|you|the|still|not|i (?:mean|said|want|ask)|there|wrong)\b"
)
_UNCLOSED = re.compile(r"[\"“][^\"”¶]{60,}(?=¶|$)")
_TAGS = frozenset({"right", "correct", "no", "isn't it", "is it", "doesn't it", "does it", "are they", "yes"})
_LIKED = re.compile(r"(?:like|love) (?:the )?[\"“`']?([^\"”`'.,!?\n]{3,60})")


@dataclass(slots=True)
class Clause:
    """One clause: `question` when it ends in a question mark, `after_but` when it follows a contrast."""

    text: str
    index: int
    question: bool
    after_but: bool
    last: bool = False


def _mark_contrast(found: re.Match[str]) -> str:
    return " , " if found.group()[1] in "–—-" else " ¦ "


class Turn:
    """The follow-up in its clauses, and what is known about the answer before it; computed on demand."""

    def __init__(self, feedback: str, response: str, query: str = "") -> None:
        raw = feedback.strip()
        self.length = len(raw)
        if self.length > HEAD + TAIL:
            raw = raw[:HEAD] + " ¶ " + raw[-TAIL:]
        self.raw = raw.lower().replace("’", "'").replace("\\_", "_")
        if not self.raw.isascii():
            self.raw = simplified(self.raw)
        self.response, self.query = response, query
        self.foreign = not self.raw.isascii()

    @cached_property
    def words(self) -> set[str]:
        return set(self.raw.translate(PUNCTUATION).split())

    @cached_property
    def text(self) -> str:
        """The user's own words."""
        material = _MATERIAL.match(self.raw) or (None if self.raw.isascii() else _ZH_MATERIAL.match(self.raw))
        text = self.raw[: material.end()] if material else self.raw
        text = _CODE.sub(f" {ELSEWHERE} ", text) if "`" in text else text
        text = _UNCLOSED.sub(f" {ELSEWHERE} ", _QUOTE.sub(f" {ELSEWHERE} ", text))
        if "\n" in text:
            text = _PASTED_LINE.sub(" ", text)
        return _SPACE.sub(" ", text).strip()

    @cached_property
    def clauses(self) -> list[Clause]:
        found = list(self._split())
        if len(found) > MAX_CLAUSES:
            found = found[: MAX_CLAUSES - 4] + found[-4:]
        if found:
            found[-1].last = True
        return found

    def _split(self) -> Iterator[Clause]:
        text = _CONTRAST.sub(_mark_contrast, self.text)
        start, index, after_but = 0, 0, False
        pending: Clause | None = None
        for begin, end, mark in _breaks(text):
            clause = text[start:begin].strip(" ()*#\"'-~.")
            filler = FILLER.match(clause)
            if filler is not None:
                after_but = after_but or filler.group().startswith(("but ", "and yet ", "yet "))
                if filler.end() < len(clause):
                    clause = clause[filler.end() :]
            if clause in _TAGS and "?" in mark and pending is not None:
                pending.question = True
            elif clause and index < MAX_CLAUSES * 2:
                if pending is not None:
                    yield pending
                pending = Clause(clause, index, "?" in mark or "？" in mark, after_but)
                index += 1
                after_but = False
            after_but = after_but or "¦" in mark
            start = end
        if pending is not None:
            yield pending

    @cached_property
    def shows_error(self) -> bool:
        """The follow-up begins with, or soon comes to, the message of something that failed."""
        head = self.raw[:300]
        return any(hint in head for hint in ERROR_HINTS) and ERROR_TEXT.search(head) is not None

    @cached_property
    def tryable(self) -> bool:
        """The answer gave something to run or to try out."""
        if "```" in self.response:
            return True
        if len(self.response) < 400 and _WANTS_MORE.search(self.response.lower()):
            return False
        return _TRYABLE.search(self.response[-1500:].lower()) is not None

    @cached_property
    def asked(self) -> bool:
        """The answer ended in a question of its own, not in a mere offer of further help."""
        tail = self.response[-160:].strip().lower()
        return _ASKS.search(tail[-60:]) is not None and _OFFER.search(tail) is None

    @cached_property
    def roleplay(self) -> bool:
        tail = self.response[-300:].lower()
        game = ("?" in tail or "roll" in tail or "*" in tail) and _GAME.search(tail) is not None
        told = _NARRATION.match(self.raw) is not None or _SCENE.search(self.raw) is not None
        return game or told or self._plays_a_part()

    def _plays_a_part(self) -> bool:
        narrated = _NARRATION.match(self.query[:HEAD].strip().lower()) is not None
        return narrated and _ACTS.search(self.response[:ACTED].lower()) is not None

    def closes(self, approval: Cue) -> bool:
        """Whether the approval ends the matter: nothing is asked, and little else is told."""
        if _GOES_ON.search(self.text) or any(clause.question for clause in self.clauses):
            return False
        return self.length < (100 if approval.level == 5 else 40)

    def approved_before(self, clause: Clause) -> bool:
        """The clause before voices approval."""
        before = self.clauses[clause.index - 1].text
        return any(cue.reason != "confirmed" and cue.pattern.match(before) is not None for cue in APPROVAL)

    def names_answer(self) -> bool:
        """What is said to be liked is found in the answer."""
        liked = _LIKED.search(self.raw)
        return liked is not None and " ".join(liked.group(1).split()[:2]) in self.response.lower()

    def refutable(self) -> bool:
        """Whether a "no" can only be about the answer: nothing was asked, or more than an answer to a question follows."""
        if _NUMBERED.match(self.raw):
            return False
        return _ASKS.search(self.response[-160:]) is None or (not self.asked and _FIRM_NO.match(self.raw) is not None)


def _beside_chinese(text: str, mark: re.Match[str]) -> bool:
    around = (text[max(0, mark.start() - 1) : mark.start()], text[mark.end() : mark.end() + 1])
    return mark.group() in ",;:" and any(map(HAN_LETTER.match, around))


def _breaks(text: str) -> Iterator[tuple[int, int, str]]:
    for found in _BREAK.finditer(text):
        mark = found.group()
        # a stop inside a word ("app.css", "3:15") ends nothing; Chinese, typed without blanks, has no such words
        if len(mark) > 1 or mark in "!?\n¶¦。！？；，" or found.end() == len(text) or _beside_chinese(text, found):
            yield found.start(), found.end(), mark
    yield len(text), len(text), ""
