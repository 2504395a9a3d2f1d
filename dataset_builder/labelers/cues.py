"""The embedded labeler: the level of a follow-up read from explicit cues in its text, with no model and no network.

The follow-up is cut into clauses; each is held against the tables in `cue_approvals` and `cue_complaints`. What is quoted,
pasted, code or spoken in a role does not count, and without strong evidence the level is neutral: precision comes
before recall. Only the beginning and the end of a long follow-up are looked at, so the time a call takes is bounded.
What counts as feedback, and how well the cues find it: `docs/labeling-guidelines.md`.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

from wildreward.dataset_builder.labelers.cue_approvals import APPROVAL, APPROVAL_HINTS
from wildreward.dataset_builder.labelers.cue_chinese import simplified
from wildreward.dataset_builder.labelers.cue_complaints import COMPLAINT_HINTS, COMPLAINTS
from wildreward.dataset_builder.labelers.cue_failures import ERROR_HINTS, ERROR_TEXT
from wildreward.dataset_builder.labelers.cue_tables import FILLER, Cue

CUES_VERSION = "2"

HEAD, TAIL = 420, 160  # characters of a long follow-up that are read
MAX_CLAUSES = 16
CONTRASTS = frozenset({"but", "however", "although", "except", "though", "yet"})
ELSEWHERE = "¤"  # stands for code and quotations, which are not the user's own words

_CODE = re.compile(r"```.*?(?:```|$)|`[^`\n]{1,200}`", re.S)
_QUOTE = re.compile(r"\"[^\"\n]{2,400}\"|“[^”\n]{2,400}”|«[^»\n]{2,400}»|「[^」\n]{1,400}」|^>.*$", re.M)
_PASTED_LINE = re.compile(r"^.*(?:[{};]\s*$|=>|\bat [\w.$]+\(|File \"|^\s*\|.*\|).*$", re.M)
# "rewrite this: …": what follows is material to work on
_MATERIAL = re.compile(
    r"(?:please |pls |can you |could you |now |ok |okay )*(?:re-?write|rephrase|re-?word|translate|give|write|summari[sz]e|correct|"
    r"proofread|paraphrase|edit|improve|simplify|check|reply|respond|expand|elaborate|grammar|explain|analy[sz]e|continue|shorten|"
    r"make|turn|convert|act|incorporate|use|add|include|post|what does|is (?:this|it|the))\b[^\n]{0,160}?(?::\s|\n)"
)
_ZH_MATERIAL = re.compile(
    r"(?:请|帮我|你|把|将|给我|对|以下|下面|这段话|进行|英文|中文){0,6}(?:翻译|润色|改写|修改|扩写|缩写|续写|总结|概括|分析|回复|仿写|降重|检查|提取|解释|评价)[^\n]{0,30}?[：:\n]"
)
_SPACE = re.compile(r"[ \t\r\f\v]+")
_CONTRAST = re.compile(r" (?:but|however|although|except that) | [–—-]{1,2} ")
_BREAK = re.compile(r"[.!?;:…,\n¶¦。！？；，]+\s*")
_PUNCTUATION = str.maketrans(dict.fromkeys('!"#()*+,-./:;<=>?[]^_`{|}~…¶\n\t', " "))

_REQUEST = re.compile(
    r"\?|\b(?:please|pls|plz|can you|could you|would you|write|give me|make|create|generate|rewrite|provide|explain|add|"
    r"tell me|show|help|translate|summari[sz]e|i want|i need|i'd like|what|how|why|where|which|list|continue|act as|now)\b"
)
_GOES_ON = re.compile(
    r"\?|\b(?:please|pls|plz|can you|could you|would you|write|give me|make|create|generate|rewrite|provide|explain|add|"
    r"tell me|show me|translate|summari[sz]e|i want|i need|i'd like|list|continue|act as|let's|let us|(?<!for )(?<!works )(?<!working )(?<!fixed )now(?! (?:it|everything|all|works?)\b)|but|how about|also|i am|i will)\b"
)
_ASKING = re.compile(
    r"(?:please |pls |ok |okay |now |and |but |so |then |also |just )*(?:can|could|would|will|what|how|where|which|who|when|is|are|do|does|did|give|write|make|"
    r"add|show|create|rewrite|continue|generate|explain|list|use|provide|tell|change|remove|include|let|let's|lets|more|another|act|"
    r"i want|i need|i would|i'd|i'll|i will|if|summari[sz]e|expand|describe|translate|try|keep|suggest|think|elaborate|compare|find|put|"
    r"get|turn|convert|replace|update|imagine|design|rephrase|answer|help|say|do|don't|dont|please|with|without|for|in|about|only)\b"
)
_ZH_REQUEST = re.compile(
    r"^(?:请(?!你?(?:认真|仔细|重新|再))|帮|写一|翻译[:：成]|分析|总结(?:一|出|成)|如何|什么|哪|把|将|给我写|用.{1,6}(?:写|说|翻译)|假如|如果|以|描述|评价|润色|改写|扩写|缩写|续写|模仿|生成一)|"
    r"(?:吗|么|是不是|好不好|行不行|对不对|可不可以|能不能|怎么办|怎么做|是什么)$"
)
_SORRY = re.compile(r"apologi[sz]e|apologies|sorry for")
_BUT = re.compile(
    r"(?:ok|okay|yes|yeah|well|no|hmm+|right)?[,. ]*but\b(?! (?:i (?:want|need|have|would|also|like|am|will)|please|can|could|what|how|in|for|make|let|now|first|before|also|thank)\b)"
)
_TASK = re.compile(
    r"(?:please |pls |ok |okay |now |and |so |then |also |sure |thanks |great |i'd like (?:you )?to |i want (?:you )?to |can you |could you |let's )*"
    r"(?:write|make|create|give|continue|recount|tell|describe|rewrite|add|imagine|generate|share|identify|list|go over|include|more detail|i'd like|explain|try)\b"
)
_GAME = re.compile(
    r"what (?:do|will|would|should|are) (?:you|your (?:party|character|group)) "
    r"(?:want to do|going to do|like to do|do)(?: next)?\s*\?|\broll(?:ing)? (?:a|the|for) |\bd20\b|^\*\w+"
)
_NARRATION = re.compile(
    r"you (?:see|grab|feel|realize|realise|notice|decide|search|arrive|navigate|make your|worry|double check|wait|glance|"
    r"try|find|hear|walk|look|wake|open|take|step|turn|enter|think|don't want to|hop|drop|pick|reach|stand|sit|run|"
    r"can see|also notice)\b|your (?:eyes|hands?) \w+|as you "
)
_SCENE = re.compile(r"let's (?:re)?write (?:that|this|the|a) (?:whole |next )?(?:scene|flashback|part)|that scene\b")
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
_CONTINUING = re.compile(r"\b(?:continu\w*|go on|keep going|the rest|resume|left off|(?<!didn't )(?<!didnt )(?<!not )finish|complete the)\b")
_SUCCESS = re.compile(r"\bworks\b|\bworked\b|now working|thank")
_APOLOGY = re.compile(
    r"(?:oh |ah |wait |no[, ]+|ok )*(?:sorry[, .…]+(?:bro |but )?(?:my|maybe (?:i|my)|i (?:just )?(?:meant|mean|forgot|made|accident\w+|asked|said|typed|"
    r"wrote|should|intended|wasn't|didn't|had to|thought|copied|pasted|gave|misread))|sorry (?:sir |bro |man )?that i|my bad|my mistake|oops|i (?:just )?(?:forgot|made an? (?:mistake|error))|"
    r"i guess i)|.{0,12}\bi made an? (?:mistake|error)"
)
_LETTER = re.compile(
    r"(?:(?:[\w']+ ){0,3}(?:reply|response|email)? ?[\"“]?)?(?:dear |subject: |to whom )|(?:[a-z]|user|client|customer|system|interviewer): "
)
_ANYWAY = re.compile(r"(?:thanks?|you) any ?ways?\b")
_SPEAKER = re.compile(r"(?!\w*(?:error|exception|warning))[a-z]{2,15}: ")
_INSISTENCE = re.compile(r"again, (?:we|i|this|that|it|you|the|no|not|please|don't|do not)\b(?! think)")
_CONTRADICTION = re.compile(
    r"(?:no |well |but )*actually,? (?:(?:it|it's|its|he|she|they|that|that's|there|those|you)\b(?! (?:want|would|can|could|let|will|is it|don't want|do not want))|"
    r"(?!if\b|when\b)[\w' ]{1,40} (?:is|are|was|were|isn't|aren't|has|does|did)\b)[^?]*$"
)
_ASKED_FIX = re.compile(r"(?:please|pls|plz|kindly) (?:correct|fix)\b")
_THANKS_FOR = re.compile(
    r"for (?:the|your|this|that|all|all the|sharing|providing|explaining|helping|clarifying) ?(?:[\w-]+ ){0,3}?"
    r"(?:help|explanation|answers?|response|info\w*|clarif\w+|suggestions?|advice|code|details?|insights?|examples?|summary|"
    r"update|corrections?|list|ideas?|feedback|confirm\w*|this|that|me|input|support)"
)
_UNCLOSED = re.compile(r"[\"“][^\"”¶]{60,}(?=¶|$)")
_TAGS = frozenset({"right", "correct", "no", "isn't it", "is it", "doesn't it", "does it", "are they", "yes"})
_LIKED = re.compile(r"(?:like|love) (?:the )?[\"“`']?([^\"”`'.,!?\n]{3,60})")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Level 1–5 of a follow-up, how sure the cue is (share of such cues that were right), and the cue's code."""

    level: int
    confidence: float
    reason: str


@dataclass(slots=True)
class _Clause:
    text: str
    index: int
    question: bool
    after_but: bool
    last: bool = False


def _mark_contrast(found: re.Match[str]) -> str:
    return " , " if found.group()[1] in "–—-" else " ¦ "


class _Turn:
    """The follow-up in its clauses, and what is known about the answer before it; computed on demand."""

    def __init__(self, feedback: str, response: str) -> None:
        raw = feedback.strip()
        self.length = len(raw)
        if self.length > HEAD + TAIL:
            raw = raw[:HEAD] + " ¶ " + raw[-TAIL:]
        self.raw = raw.lower().replace("’", "'").replace("\\_", "_")
        if not self.raw.isascii():
            self.raw = simplified(self.raw)
        self.response = response

    @cached_property
    def words(self) -> set[str]:
        return set(self.raw.translate(_PUNCTUATION).split())

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
    def clauses(self) -> list[_Clause]:
        found = list(self._split())
        if len(found) > MAX_CLAUSES:
            found = found[: MAX_CLAUSES - 4] + found[-4:]
        if found:
            found[-1].last = True
        return found

    def _split(self) -> Iterator[_Clause]:
        text = _CONTRAST.sub(_mark_contrast, self.text)
        start, index, after_but = 0, 0, False
        pending: _Clause | None = None
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
                pending = _Clause(clause, index, "?" in mark or "？" in mark, after_but)
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
        return "```" in self.response or _TRYABLE.search(self.response[-1500:].lower()) is not None

    @cached_property
    def asked(self) -> bool:
        """The answer ended in a question of its own, not in a mere offer of further help."""
        tail = self.response[-160:].strip().lower()
        return _ASKS.search(tail[-60:]) is not None and _OFFER.search(tail) is None

    @cached_property
    def roleplay(self) -> bool:
        tail = self.response[-300:].lower()
        game = ("?" in tail or "roll" in tail or "*" in tail) and _GAME.search(tail) is not None
        return game or _NARRATION.match(self.raw) is not None or _SCENE.search(self.raw) is not None

    def closes(self, approval: Cue) -> bool:
        """Whether the approval ends the matter: nothing is asked, and little else is told."""
        if _GOES_ON.search(self.text) or any(clause.question for clause in self.clauses):
            return False
        return self.length < (100 if approval.level == 5 else 40)

    def approved_before(self, clause: _Clause) -> bool:
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

    def holds(self, need: str, clause: _Clause) -> bool:
        """Whether the property a cue asks for holds for this turn and clause."""
        return NEEDS[need](self, clause)


NEEDS: dict[str, Callable[[_Turn, _Clause], bool]] = {
    # where the clause stands, and how
    "stated": lambda turn, clause: not clause.question,
    "opening": lambda turn, clause: clause.index == 0,
    "alone": lambda turn, clause: clause.index == 0 and clause.last,
    "early": lambda turn, clause: clause.index < 2 or turn.length < 250,
    "near": lambda turn, clause: clause.index < 4 or turn.length < 250 or clause.last,
    "compact": lambda turn, clause: clause.index < 3 and len(clause.text) < 90,
    "rebuke": lambda turn, clause: clause.index < 2 or turn.length < 500,
    "but": lambda turn, clause: clause.after_but,
    "contrast": lambda turn, clause: (
        clause.after_but or clause.index > 0 or clause.text.startswith(("no ", "didn't", "why", "then"))
    ),
    "after_approval": lambda turn, clause: clause.after_but and 0 < clause.index < 3 and turn.approved_before(clause),
    # the follow-up as a whole
    "short": lambda turn, clause: turn.length < 400,
    "brief": lambda turn, clause: turn.length < 160,
    # not an aside inside a request or a tale: "make it longer. they don't know each other"
    "no_aside": lambda turn, clause: clause.index == 0 or turn.length < 160 or _TASK.match(turn.text) is None,
    "second_of_two": lambda turn, clause: clause.index == 1 and clause.last,
    "not_aside": lambda turn, clause: clause.index == 0 or _TASK.match(turn.text) is None,
    "apologised": lambda turn, clause: _SORRY.search(turn.response[:90].lower()) is not None,
    "begins_with_but": lambda turn, clause: _BUT.match(turn.raw) is not None and "?" not in turn.raw,
    "zh_statement": lambda turn, clause: not clause.question and _ZH_REQUEST.search(clause.text) is None,
    "terse": lambda turn, clause: turn.length < 60,
    "not_request": lambda turn, clause: _ASKING.match(turn.text) is None,
    "insists": lambda turn, clause: turn.length < 400 and _INSISTENCE.match(turn.raw) is not None,
    "asks_fix": lambda turn, clause: clause.index > 0 and _ASKED_FIX.search(turn.text) is not None,
    "nothing_asked": lambda turn, clause: turn.length < 200 and (clause.index == 1 or not _REQUEST.search(turn.text)),
    "not_continuing": lambda turn, clause: _CONTINUING.search(turn.text) is None,
    "no_success": lambda turn, clause: _SUCCESS.search(turn.text) is None,
    "no_apology": lambda turn, clause: _APOLOGY.match(turn.raw) is None,
    "grateful": lambda turn, clause: _ANYWAY.search(turn.raw[:60]) is None,
    "own_thanks": lambda turn, clause: (
        turn.length < 400 or " for " not in turn.raw[:40] or _THANKS_FOR.search(turn.raw[:90]) is not None
    ),
    # the answer before
    "unanswered": lambda turn, clause: not turn.asked,
    "unprompted": lambda turn, clause: (
        not (turn.asked and clause.text.startswith(("it", "correct", "exactly", "precisely")))
    ),
    "refutes": lambda turn, clause: turn.refutable(),
    "contradicts": lambda turn, clause: (
        turn.length < 160 and not turn.asked and _CONTRADICTION.match(turn.raw) is not None
    ),
    "coded": lambda turn, clause: "```" in turn.response,
    "tryable": lambda turn, clause: turn.tryable,
    "names_answer": lambda turn, clause: turn.names_answer(),
    "subject_named": lambda turn, clause: clause.text.split(" ", 1)[0] in turn.response.lower(),
}


def _breaks(text: str) -> Iterator[tuple[int, int, str]]:
    for found in _BREAK.finditer(text):
        mark = found.group()
        # a stop inside a word ("app.css", "3:15") ends nothing
        if len(mark) > 1 or mark in "!?\n¶¦。！？；，" or found.end() == len(text):
            yield found.start(), found.end(), mark
    yield len(text), len(text), ""


def _first_hit(cues: tuple[Cue, ...], turn: _Turn, hints: frozenset[str]) -> tuple[Cue, _Clause] | None:
    for clause in turn.clauses:
        if (
            clause.text.isascii()
            and not clause.after_but
            and hints.isdisjoint(clause.text.translate(_PUNCTUATION).split())
        ):
            continue
        for cue in cues:
            if cue.first and clause.index > 1:
                continue
            if cue.pattern.match(clause.text) and all(turn.holds(need, clause) for need in cue.needs):
                return cue, clause
    return None


def _complaint(turn: _Turn) -> tuple[Cue, _Clause] | None:
    """The first complaint, unless it stands deep inside a long message: there it is about something else."""
    if _APOLOGY.match(turn.raw):
        return None
    hit = _first_hit(COMPLAINTS, turn, COMPLAINT_HINTS)
    if hit is None or turn.length < 250:
        return hit
    position, last = hit[1].index, hit[1].last
    if turn.length < 600:
        return hit if position < 6 or last else None
    return hit if position < 3 or (last and turn.tryable) else None


def classify(feedback: str, *, query: str = "", response: str = "", language: str | None = None) -> Verdict:
    """Level of `feedback`, the user's message after `response` to `query`. Pure, bounded in time."""
    turn = _Turn(feedback, response)
    foreign = not turn.raw.isascii()
    may_complain = foreign or not COMPLAINT_HINTS.isdisjoint(turn.words)
    may_approve = foreign or not APPROVAL_HINTS.isdisjoint(turn.words)
    may_complain = may_complain or (may_approve and not CONTRASTS.isdisjoint(turn.words))
    if not (may_complain or may_approve or turn.shows_error) or turn.roleplay or _LETTER.match(turn.raw):
        return NEUTRAL
    speaker = _SPEAKER.match(turn.raw)
    if speaker and query.lower().startswith(speaker.group()):
        return NEUTRAL  # the next lines of a transcript
    if turn.shows_error and turn.tryable:
        return _verdict(2, "pasted_error")
    complaint = _complaint(turn) if may_complain else None
    approval = _first_hit(APPROVAL, turn, APPROVAL_HINTS) if may_approve else None
    if complaint and not (approval and _outweighs(approval, complaint)):
        reason = "frustration" if _frustrated(turn) else complaint[0].reason
        return _verdict(1 if reason == "frustration" else complaint[0].level, reason)
    if approval:
        return _verdict(5 if turn.closes(approval[0]) else 4, approval[0].reason)
    return NEUTRAL


def _frustrated(turn: _Turn) -> bool:
    anger = next(cue for cue in COMPLAINTS if cue.reason == "frustration")
    return any(anger.pattern.match(clause.text) for clause in turn.clauses)


def _outweighs(approval: tuple[Cue, _Clause], complaint: tuple[Cue, _Clause]) -> bool:
    if approval[1].index >= complaint[1].index:
        return False
    return complaint[1].index > 4 or complaint[0].reason in WEAK


def _verdict(level: int, reason: str) -> Verdict:
    return Verdict(level, CONFIDENCE.get(reason, UNMEASURED), reason)


NEUTRAL = Verdict(3, 0.97, "neutral")
# How often each cue was right on the labelled follow-ups, smoothed: `python benchmarks/cues_labeler.py --reasons`.
UNMEASURED = 0.65
CONFIDENCE: dict[str, float] = {
    "admiration": 0.83,
    "already_tried": 0.67,
    "challenge": 0.85,
    "confirmed": 0.89,
    "contradiction": 0.89,
    "contradicts": 0.67,
    "dislike": 0.67,
    "error_report": 0.76,
    "flawed": 0.75,
    "frustration": 0.91,
    "i_meant": 0.83,
    "i_said": 0.91,
    "i_thought": 0.67,
    "insists": 0.86,
    "liking": 0.90,
    "missing": 0.83,
    "no": 0.94,
    "nonexistent": 0.91,
    "not_asked": 0.75,
    "not_enough": 0.67,
    "not_working": 0.88,
    "other_approval": 0.67,
    "other_complaint": 0.67,
    "pasted_error": 0.92,
    "praise": 0.98,
    "praise_statement": 0.91,
    "redo": 0.92,
    "refuses": 0.67,
    "says_not": 0.93,
    "says_wrong": 0.96,
    "still_wrong": 0.90,
    "thanks": 0.95,
    "too_much": 0.62,
    "works": 0.80,
    "you_failed": 0.89,
}
WEAK = frozenset({"redo", "should_be", "nonexistent"})
