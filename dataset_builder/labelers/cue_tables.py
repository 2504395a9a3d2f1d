"""The building blocks of the cues in `cue_approvals` and `cue_complaints`.

Patterns see one clause at a time: lower case, straight apostrophes, no code, no quotations (a `¤` stands in their
place), leading words such as "ok" or "but" removed. They are anchored at the clause's beginning, so what they cost
grows with the number of clauses only.
"""

import re
from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Cue:
    """One kind of evidence: a pattern, the level it speaks for, and the conditions under which it counts.

    `first` limits it to the two opening clauses; `needs` names properties that must all hold (`cues.NEEDS`).
    """

    reason: str
    level: int
    pattern: re.Pattern[str]
    first: bool = False
    needs: tuple[str, ...] = ()


def cue(reason: str, level: int, pattern: str, *needs: str, first: bool = False) -> Cue:
    return Cue(reason, level, re.compile(pattern), first, needs)


def foreign(*cues: Cue) -> tuple[Cue, ...]:
    """Cues of other scripts and languages, held against follow-ups with letters beyond ASCII only."""
    return tuple(replace(cue, needs=("foreign", *cue.needs)) for cue in cues)


def words(text: str) -> str:
    """An alternation of the whitespace-separated alternatives in `text`; `_` stands for a blank inside one of them."""
    return "(?:" + "|".join(text.split()).replace("_", " ") + ")"


def hint_words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def either(*patterns: str) -> str:
    return "(?:" + "|".join(patterns) + ")"


FILLER = re.compile(
    "(?:"
    + words(
        r"""ok okay k oh ah+ aha wow woah whoa wooo+ well(?!_done) hmm+ hm+ um+ yes yeah yea yep yup ya alright all_right hey hi hello
        sure right lol haha\w* omg mm+ huh so and but however although though sorry please sir bro dude chatgpt gpt chat now
        also then yet unfortunately i_think i_feel_like i_believe i_guess i_feel it_seems_that it_seems_like it_seems it_appears seems_like
        it_looks_like looks_like it_appears_that because for_some_reason wait hurrah damn man yay hooray actually as_you_can_see"""
    )
    + r"\b[\s~-]*)+"
)

ADVERBS = (
    "(?:"
    + words(
        """still stil also just now again really actually even simply clearly completely totally all only always already
        both obviously kinda quite definitely absolutely mostly almost so very pretty too way much far a_bit a_little
        little bit rather somewhat factually wildly super extremely exactly truly more indeed looking here fully properly
        kind_of fundamentally freaking fucking either"""
    )
    + " )*"
)
PRONOUN = words("that this it these those they")
PRODUCT = words(
    """code script program output outputs answer answers response responses reply result results function link links url
    table formula image images button page file format formatting example examples solution command text query list loop
    app diagram number numbers title titles poem story sentence sentences paragraph summary explanation method class model
    website graph chart regex column columns row rows line lines word words name names citation citations reference
    references source sources calculation count menu layout value values variable array version api one ones tone
    translation email letter article essay logic math order syntax equation question questions option options phrase
    ending part introduction conclusion"""
)
# What a user says something about: the answer itself, or a thing the answer is made of.
SUBJECT = either(
    PRONOUN,
    "you|u|both|everything",
    r"all(?: of (?:this|that|these|them|those))?",
    r"(?:your |the )?(?:first|second|third|fourth|last)(?: (?:and|one|two|part)(?: \w+)?)?",
    rf"(?!(?:[\w'-]+ ){{0,2}}my |(?:is|are|does|do|did|can|could|what|which|how|if|any|was|were|make)\b)(?:(?:the|your|this|that|these|those|some|most|half) )?(?:of )?(?:the |your |these |them )?(?:[\w'-]+ ){{0,3}}{PRODUCT}"
    r"(?: (?:you (?:gave|wrote|provided|sent|made|generated|mentioned)(?: me)?|above|here))?",
)
BE = either(
    "'s|'re|s",
    " (?:is|are|was|were|seems?|looks?|sounds?|feels?|reads?|got|has been)",
    " (?:is still|are still|still is|seems to be|appears? to be)",
)
NOT = (
    r"(?: (?:still|also|just|really|actually|all|both|clearly|even|again|now|simply|either|obviously|currently))*"
    + either(
        r"(?: (?:is|are|was|were|does|did|do|has|have|can|could)|'s|'re|s)? not",
        r" (?:do|does|did|is|are)n'?t",
        " "
        + words(
            """dosent dosen't doesn;t wasn't wasnt weren't won't wont can't cant cannot couldn't hasn't haven't ain't never
            no_longer stopped failed_to fails_to"""
        ),
    )
)
