"""Cues of complaint in few words, the whole of which is the verdict: "boring", "not him", "404", "why so long?".

Longer sentences are read by `cue_complaints` and its companions; here the pattern must take up the clause to its end, so
that a word such as "terrible" or "fail" counts when it is all the user says, and not inside a story or a request.
"""

from wildreward.dataset_builder.labelers.cue_tables import PRODUCT, PRONOUN, Cue, cue, either, words

_INTENSE = (
    "(?:"
    + words(
        """it's its it_is that's thats that_is this_is these_are those_are this_one_is you_are you're still so very really just
        too kinda a_bit pretty quite totally completely absolutely absolute complete total utter epic such a an another what_a
        such_a the more again really_really load_of full_of even"""
    )
    + " )*"
)
_WORTHLESS = words(
    """useless terrible horrible awful garbage rubbish trash crap crappy bullshit worthless pathetic atrocious abysmal idiotic
    shit shitty sucks disgusting disgrace nonsense"""
)
_INSULT = words("stupid dumb idiot idiotic moron liar lazy retarded retard clown imbecile")
_POOR = words(
    """boring lame fake cringe cringy cringey meh poor weak bs disappointing disappointed unhelpful incomplete unacceptable
    bad worse wrong incorrect inaccurate false untrue off way_off generic vague repetitive redundant confusing unclear
    irrelevant dull bland cheesy corny cliche clichéd awkward unnatural robotic unfunny unoriginal uninspired illogical
    implausible unrealistic unreadable gibberish nonsensical misleading outdated unfinished mediocre underwhelming sloppy
    lazy_writing hallucinating hallucination misspelled typo typos mistake mistakes error errors lie lies"""
)
_OUTPUT_BAD = words(
    """empty blank broken buggy slow laggy failing failed fails fail crashing crashed crashes nan null none undefined zero
    garbled truncated cut_off unfinished incomplete invisible stuck frozen blurry"""
)
_THING = rf"(?: (?:{PRODUCT}|one|thing|writing|writer|bot|ai|machine|joke|advice|idea|attempt|try|work|job|line|rhyme|translation))?"

BARE: tuple[Cue, ...] = (
    # anger at the assistant, and answers thrown out as a whole
    cue(
        "frustration",
        1,
        rf"{_INTENSE}(?:{_WORTHLESS}{_THING}|{_INSULT}(?: (?:ai|bot|machine|robot|answer|thing|gpt))?)$",
        "opening",
        "stated",
        "unanswered",
    ),
    cue(
        "frustration",
        1,
        r"(?:the )?(?:worst|dumbest|stupidest) (?:answer|response|reply|story|poem|joke|ai|bot|one|thing|advice)\b",
        "opening",
        "stated",
    ),
    cue("frustration", 1, r"(?:bad|stupid|dumb|useless|silly) (?:bot|ai|robot|machine|chatbot)\b", "compact"),
    cue(
        "frustration",
        1,
        either(
            r"(?:this|that|it|you)(?:'s| is| are|'re)? (?:(?:so|very|really|getting|just|quite|super|extremely|becoming) )*(?:frustrating|annoying|infuriating|exhausting|hopeless|ridiculous|unbelievable)",
            r"(?:i'm|i am|im) (?:(?:so|very|really|getting|just|quite|super|extremely|a bit|a little) )*(?:frustrated|annoyed|angry|upset|disappointed|fed up|sick of|tired of (?:this|you|your|repeating))",
            r"you(?:'re| are)? (?:making|driving|make|drive) me (?:mad|angry|crazy|insane|nuts|sad|sick)|(?:it|this|that) makes me (?:very |so |really )?(?:sad|mad|angry)",
            r"what(?:'s| is) wrong with you|you can't even\b|(?:please )?be serious$|you call (?:that|this|it) an?\b|learn (?:from your|to (?:read|listen|count))",
            r"how (?:hard|difficult) (?:is it to (?:understand|follow|read|get|just|answer|do (?:it|this|that|what))|can it be)\b|how many times (?:do|must|should|have) i|(?:this is )?a (?:complete |total )?(?:waste|joke)$",
            r"(?:do not|don't|dont) (?:you )?(?:fucking|ever again)|(?:this|that|it)(?:'s| is)? (?:so |really |just )?(?:fucking )?(?:stupid|dumb|bullshit)$",
            r"you(?:'re| are) (?:(?:so|really|still|just|very) )*(?:not helpful|no help|unhelpful|not helping|annoying|frustrating|impossible|broken|dumb|stupid)\b",
        ),
        "rebuke",
        "unanswered",
    ),
    cue("frustration", 1, r"(?:epic |total |big )?fail(?:ed)?$", "opening", "unanswered"),
    # the answer is judged: bad, false, full of mistakes
    cue("says_wrong", 2, rf"(?:{_INTENSE}|u r |ur |u are )(?:{_POOR}{_THING})$", "opening", "stated", "unanswered"),
    cue(
        "says_wrong",
        2,
        r"(?:u r|ur|youre|u are) (?:so |totally |completely )?(?:wrong|mistaken|incorrect)\b",
        "opening",
    ),
    cue(
        "says_wrong",
        2,
        r"there(?:'s| is| are)? (?:an? |some |several |many |still |too many |a few |lots of |so many )*(?:typos?|mistakes?|errors?|spelling mistakes?|grammar mistakes?|grammatical errors?|inconsistenc(?:y|ies)|contradictions?|plot holes?)(?: in (?:it|this|that|the|your|here|line)\b.*)?$",
        "stated",
        "early",
        "unanswered",
        "short",
    ),
    cue(
        "says_wrong",
        2,
        r"(?:[\w'-]+ ){0,4}(?:misspelled|misspelt|mispelled|spelled (?:it |this |that )?wrong|spelt wrong|spelled incorrectly)\b",
        "stated",
        "early",
        "unanswered",
    ),
    cue(
        "says_wrong",
        2,
        r"(?:that|this|it|which|(?:your|the|this|that) \w+)? ?(?:makes?|made|making) (?:absolutely |literally )?(?:no|zero|little) (?:\w+ )?sense\b",
        "stated",
        "near",
    ),
    cue(
        "says_wrong",
        2,
        r"(?:this|that|it|which) (?:directly |clearly |completely )?contradicts\b|(?:this|that|it)(?:'s| is) (?:a |self-)?(?:contradiction|contradictory|contradicting)\b",
        "early",
        "unanswered",
        "stated",
    ),
    cue(
        "says_wrong",
        2,
        rf"(?:{PRONOUN}|(?:the|your) \w+|the \w+ \w+|(?:this|that|your|the) {PRODUCT}|(?:this|that|your|the) joke)(?:'s)? (?:really |kinda |just )?(?:sucks?|stinks?|is trash|is garbage)$",
        "opening",
        "unanswered",
    ),
    cue(
        "says_wrong",
        2,
        r"(?:sounds?|reads?|looks?|feels?) (?:too much |a lot |so |just |exactly )*(?:like (?:an? )?(?:ai|robot|bot|chatgpt|machine|template|advertisement|ad|commercial|essay|list|child)|(?:robotic|ai[- ]generated|machine[- ]generated))",
        "early",
        "stated",
        "unanswered",
    ),
    cue(
        "says_wrong",
        2,
        r"(?:[\w'-]+ ){1,4}(?:is|was|are|were) (?:(?:still|also|very|totally|really|quite|not|completely) )*(?:wrong|incorrect|inaccurate|misleading|incomplete|outdated|invalid)\b",
        "opening",
        "stated",
        "unanswered",
        "brief",
        "subject_named",
    ),
    cue(
        "says_wrong",
        2,
        r"(?:something|it|this|that) (?:still |just |also )*(?:feels|seems|sounds|looks) (?:like something is )?(?:missing|off|wrong|weird|wierd|odd|strange|unnatural|forced|stiff|flat)\b",
        "stated",
        "early",
        "short",
    ),
    cue(
        "says_wrong",
        2,
        r"(?:wrongly|badly|poorly|incorrectly) (?:written|done|translated|formatted|worded|phrased|spelled)\b",
        "early",
        "unanswered",
    ),
    cue(
        "says_wrong",
        2,
        r"i (?:can )?(?:see|notice|noticed|found|spotted) (?:some |a few |an? |several |many |still )*(?:gaps?|issues?|problems?|mistakes?|errors?|inconsistenc(?:y|ies)|flaws?|bugs?|typos?)\b(?! (?:with my|in my|messages?))",
        "opening",
        "stated",
        "unanswered",
        "brief",
    ),
    cue(
        "says_wrong",
        2,
        r"(?:(?:the|it|this|that|your|these|they|both|all) ?)(?:[\w'-]+ ){0,4}(?:is|are|looks?|appears?|'s|'re) (?:still |now |all |completely )*(?:upside down|upside-down|backwards?|reversed|inverted|mirrored|flipped|misaligned|overlapping|out of order|duplicated|swapped|in the wrong)\b",
        "early",
        "stated",
        "unanswered",
        "brief",
    ),
    cue(
        "says_wrong",
        2,
        r".{0,60}\b(?:mistakenly|erroneously|wrongly|(?:is|are|was|were|been|you) incorrectly)\b",
        "stated",
        "early",
        "short",
        "unanswered",
    ),
    # something is denied: "not him", "he is not a doctor"
    cue(
        "says_not",
        2,
        r"not (?:great|interesting|helpful|useful|accurate|impressed|satisfied|satisfactory|acceptable|convincing|creative|original|realistic|logical|clear|working|relevant|related|possible|funny|scary|enough|good|him|her|them|me|it|this|that|those|these|this one|that one|the one|the same|the answer.*|the right.*|my.{1,30}|really my.*)$",
        "opening",
        "stated",
        "unanswered",
    ),
    cue(
        "says_not",
        2,
        r"(?!i |we |why |sorry )(?:he|she|they|it|this|that|[\w'+-]+|[\w'-]+ [\w'-]+) (?:is|was|are|were|did|does|do|has|have)(?: not|n't) [\w' -]{1,40}$",
        "opening",
        "stated",
        "unanswered",
        "terse",
        "not_request",
    ),
    cue(
        "says_not",
        2,
        r"(?!i |we |why |sorry )(?:[\w'+-]+ ){1,8}not [\w'-]+(?: [\w'-]+)?$",
        "opening",
        "stated",
        "unanswered",
        "terse",
        "not_request",
    ),
    cue(
        "says_not",
        2,
        r"(?:the|these|those|your|so|this|it|they|[\w'-]+ and [\w'-]+) .{0,60}?\b(?:do|does|did)(?:n't| not) (?:really |even |fully )?(?:satisfy|meet|fulfill?|comply|conform)\b",
        "stated",
        "near",
        "short",
        "unanswered",
    ),
    cue(
        "says_not",
        2,
        r"(?:no )?you (?:can't|cannot|can not|cant) (?!be serious|go wrong|imagine|believe|beat|just)(?:use|capture|get|have|do|put|call|move|take|make|assume|say|go|change|access|add|apply|compare|mix|pass|set|start|relate|be|return|play|place)\b",
        "opening",
        "stated",
        "unanswered",
        "brief",
    ),
    # "ECS, not EMR"
    cue(
        "corrects",
        2,
        r"not (?!using|just|only|sure|to\b|yet|necessarily|too)[\w'-]+(?: [\w'-]+){0,3}$",
        "second_of_two",
        "stated",
        "unanswered",
        "terse",
        "not_request",
        "no_apology",
    ),
    # nothing has become better
    cue(
        "still_wrong",
        2,
        r"(?:exactly |literally |just )?(?:the )?same (?:as|like|thing as) (?:before|last|above|the (?:last|previous|first|original)|earlier)\b.{0,30}$",
        "opening",
        "stated",
        "unanswered",
    ),
    cue(
        "still_wrong",
        2,
        r"(?:that|this|it|which) (?:would|will|also|still) (?:also |still |just )*(?:give|cause|produce|fail|throw|return|have)s? (?:the same|an? error|the error|errors|wrong|if the)\b|(?:the |it )?(?:error|problem|issue|result|output)?(?:'s| is| got| gets)? (?:even |much )?worse(?: now)?$",
        "early",
        "stated",
        "short",
        "tryable",
    ),
    # too much of something
    cue(
        "too_much",
        2,
        r"(?:(?:this|these|that|those|your) (?:[\w'-]+ ){1,2}(?:is|are)|(?:the|all|most) (?:[\w'-]+ ){1,4}(?:is|are) (?:still|way|far|much|a bit|a little|all)) (?:still |way |far |much |a bit |a little |all )*too (?!early|late)\w+",
        "stated",
        "early",
        "short",
        "unanswered",
        "no_aside",
    ),
    # the value that would be right
    cue(
        "should_be",
        2,
        r"(?:the )?(?:(?:right|correct|real|actual|final) )?(?:answer|result|output|total|sum|value|number|ending|order|name|title|date|year) (?:should|must|has to|is supposed to|was supposed to) (?:be|have been)\b",
        "opening",
        "stated",
        "unanswered",
        "brief",
    ),
    # what was tried does not do what it should
    cue(
        "not_working",
        2,
        rf"(?:still |just |now |always |it |it's |its |it is |is |the (?:\w+ )?\w+ (?:is|are|comes? out|shows?) |this is |returns? |it returns? |getting |i get |i'm getting |gives? |it gives |prints? |it prints |shows? |tests? (?:are |is )?)*{_OUTPUT_BAD}(?: (?:page|screen|output|result|code|list|string|again|now))*$",
        "opening",
        "stated",
        "tryable",
    ),
    cue(
        "not_working",
        2,
        r"(?:it |it's |the (?:[\w'-]+ ){1,2}|this |that |button |code |page )?(?:still )?(?:does|did|do|prints?|shows?|returns?|displays?|outputs?|still) (?:absolutely )?nothing\b",
        "early",
        "stated",
        "tryable",
    ),
    cue(
        "not_working",
        2,
        r"(?:has |it has |there are |full of |got |many |some )?bugs$|(?:infinite|endless) loop$|(?:still )?nothing$|(?:no|it) (?:doesn't|didn't|did not|does not)$|(?:won't|wont|doesn't|doesnt|didn't|can't|cannot) (?:even )?(?:compile|run|build|load|open|start|install|work)\b",
        "opening",
        "stated",
        "tryable",
    ),
    cue(
        "not_working",
        2,
        r"(?:i )?(?:can't|cant|cannot|could not|couldn't|am unable to|unable to|am not able to|was not able to|wasn't able to|was unable to)(?: even)? (?:see|hear|find|install|run|open|access|build|load|compile|import|start|connect|download|get it|get this|make it work)\b",
        "early",
        "stated",
        "tryable",
        "brief",
    ),
    cue(
        "not_working",
        2,
        r"(?:(?:i|i'm|i am|it|it's|getting|get|got|gives?|says|still|a|an|the|with|error|status|code|http) )*(?:40[0-9]|50[0-4])(?: .{0,40})?$",
        "opening",
        "stated",
        "tryable",
        "brief",
    ),
    cue(
        "not_working",
        2,
        r"you(?:'ve| have)? (?:just |now |also |completely )*(?:broke|broken|removed|deleted|lost|dropped|messed|ruined)\b",
        "early",
        "unanswered",
    ),
    cue(
        "not_working",
        2,
        r"(?:it|this|that|the [\w'-]+(?: [\w'-]+)?|the code|the script) (?:is |are |still )*only (?:\w+ing|shows?|works?|gives?|returns?|prints?|takes?|uses?|adds?|displays?|changes?|outputs?)\b",
        "stated",
        "tryable",
        "early",
        "short",
    ),
    cue(
        "not_working",
        2,
        r"(?:i'm|im|i am|we're|we are) (?:still )?not (?:seeing|getting|hearing|receiving|able to)\b|(?:i|we) (?:still |now |just |only )*(?:get|got|see|am getting) (?:null|nothing|none|nan|undefined|an? (?:empty|blank|black|white|weird|strange))\b",
        "early",
        "stated",
        "tryable",
        "short",
    ),
)

BARE_HINTS = """read only boring lame fake cringe cringy cringey meh poor weak bs garbage trash rubbish crap crappy terrible horrible awful
worthless pathetic atrocious abysmal shit shitty sucks suck stinks disgusting disgrace idiot idiotic moron liar lazy stupid
dumb retarded clown bot ai robot worst dumbest stupidest frustrating frustrated annoying annoyed infuriating exhausting
hopeless ridiculous unbelievable angry upset disappointed disappointing fed tired sick mad crazy insane sad seriously
serious learn hard times joke waste fucking unhelpful helpful incomplete unacceptable dull corny unfunny
unoriginal uninspired illogical implausible mediocre underwhelming sloppy hallucinating hallucination misspelled misspelt
mispelled spelled spelt typo typos mistakes error errors lie lies sense contradicts contradiction contradicting
contradictory inconsistency contradictions robotic advertisement template chatgpt machine generated interesting
 failing failed fails fail crashing crashed crashes empty buggy slow laggy garbled frozen blurry
bugs loop nothing unable 400 401 402 403 404 405 500 501 502 503 504 removed deleted dropped ruined redo properly follow
obey respect instructions rules disagree doubt debatable questionable where where's introduced changed replaced
repeated misspelled mistook switched reversed swapped added invented mixed keep ignoring repeating confusing mixing
skipping forgetting assuming mistaken lost cheating stuck wrong stop close closer warmer mistakenly
erroneously wrongly incorrectly receive isn't isnt aren't missing wanted expecting hoping expected ur youre u
unoriginal hallucinations inconsistencies"""
