"""The conditions a cue can ask for: of the turn as a whole, or of the clause it is found in. See `cue_tables.Cue`."""

import re
from collections.abc import Callable

from wildreward.dataset_builder.labelers.cue_turns import Clause, Turn

_REQUEST = re.compile(
    r"\?|\b(?:please|pls|plz|can you|could you|would you|write|give me|make|create|generate|rewrite|provide|explain|add|"
    r"tell me|show|help|translate|summari[sz]e|i want|i need|i'd like|what|how|why|where|which|list|continue|act as|now)\b"
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
    r"(?:ok|okay|yes|yeah|well|no|hmm+|right)?[,. ]*but\b(?! (?:i (?:want|need|have|would|also|like|am|will)|please|can|could|what|how|in|for|make|let|now (?:can|could|please|make|add|i want|write|let)|first|before|also|thank)\b)"
)
_ADDRESSED = re.compile(r"\b(?:previous|response|answer|your|you gave|above|last one)\b")
_TASK = re.compile(
    r"(?:please |pls |ok |okay |now |and |so |then |also |sure |thanks |great |i'd like (?:you )?to |i want (?:you )?to |can you |could you |let's )*"
    r"(?:write|make|create|give|continue|recount|tell|describe|rewrite|add|imagine|generate|share|identify|list|go over|include|more detail|i'd like|explain|try)\b"
)
_CONTINUING = re.compile(
    r"\b(?:continu\w*|go on|keep going|the rest|resume|left off|(?<!didn't )(?<!didnt )(?<!not )finish(?:ing)?|complete the)\b"
)
_SUCCESS = re.compile(r"\bworks\b|\bworked\b|now working|thank")
APOLOGY = re.compile(
    r"(?:oh |ah |wait |no[, ]+|ok )*(?:sorry[, .…]+(?:bro |but )?(?:my|maybe (?:i|my)|i (?:just )?(?:meant|mean|forgot|made|accident\w+|asked|said|typed|"
    r"wrote|should|intended|wasn't|didn't|had to|thought|copied|pasted|gave|misread))|sorry (?:sir |bro |man )?that i|my bad|my mistake|oops|i (?:just )?(?:forgot|made an? (?:mistake|error))|"
    r"i guess i)|.{0,12}\bi made an? (?:mistake|error)"
)
_ANYWAY = re.compile(r"(?:thanks?|you) any ?ways?\b")
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


def _wish_after(turn: Turn, clause: Clause) -> bool:
    following = turn.clauses[clause.index + 1 : clause.index + 2]
    return any(then.after_but and (then.text.startswith("you ") or _ASKING.match(then.text)) for then in following)


NEEDS: dict[str, Callable[[Turn, Clause], bool]] = {
    # of the follow-up as a whole, and of the answer before it
    "short": lambda turn, clause: turn.length < 400,
    "brief": lambda turn, clause: turn.length < 160,
    "apologised": lambda turn, clause: _SORRY.search(turn.response[:90].lower()) is not None,
    "begins_with_but": lambda turn, clause: _BUT.match(turn.raw) is not None and "?" not in turn.raw,
    "terse": lambda turn, clause: turn.length < 60,
    "not_request": lambda turn, clause: _ASKING.match(turn.text) is None,
    "insists": lambda turn, clause: turn.length < 400 and _INSISTENCE.match(turn.raw) is not None,
    "not_continuing": lambda turn, clause: _CONTINUING.search(turn.text) is None,
    "no_success": lambda turn, clause: _SUCCESS.search(turn.text) is None,
    "no_apology": lambda turn, clause: APOLOGY.match(turn.raw) is None,
    "grateful": lambda turn, clause: _ANYWAY.search(turn.raw[:60]) is None,
    "own_thanks": lambda turn, clause: (
        turn.length < 400 or " for " not in turn.raw[:40] or _THANKS_FOR.search(turn.raw[:90]) is not None
    ),
    "unanswered": lambda turn, clause: not turn.asked,
    "refutes": lambda turn, clause: turn.refutable(),
    "contradicts": lambda turn, clause: (
        turn.length < 160 and not turn.asked and _CONTRADICTION.match(turn.raw) is not None
    ),
    "coded": lambda turn, clause: "```" in turn.response,
    "tryable": lambda turn, clause: turn.tryable,
    "names_answer": lambda turn, clause: turn.names_answer(),
    "foreign": lambda turn, clause: turn.foreign,
    # of the clause: where it stands and how it is meant
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
    "no_aside": lambda turn, clause: (
        clause.index == 0 or _TASK.match(turn.text) is None or _ADDRESSED.search(turn.text) is not None
    ),
    "last_of_several": lambda turn, clause: clause.index > 0 and clause.last,
    # not "try again, but without lists", which is a wish
    "no_wish_next": lambda turn, clause: not _wish_after(turn, clause),
    "second_of_two": lambda turn, clause: clause.index == 1 and clause.last,
    "not_aside": lambda turn, clause: clause.index == 0 or _TASK.match(turn.text) is None,
    "zh_statement": lambda turn, clause: not clause.question and _ZH_REQUEST.search(clause.text) is None,
    "asks_fix": lambda turn, clause: clause.index > 0 and _ASKED_FIX.search(turn.text) is not None,
    "nothing_asked": lambda turn, clause: turn.length < 200 and (clause.index == 1 or not _REQUEST.search(turn.text)),
    "unprompted": lambda turn, clause: (
        not (turn.asked and clause.text.startswith(("it", "correct", "exactly", "precisely")))
    ),
    "subject_named": lambda turn, clause: clause.text.split(" ", 1)[0] in turn.response.lower(),
}

# Cheap conditions of the turn as a whole: they are looked at before any pattern, and leave out the cues that need them.
GATES = (
    "tryable",
    "unanswered",
    "foreign",
    "short",
    "brief",
    "terse",
    "apologised",
    "begins_with_but",
    "coded",
    "not_request",
)
