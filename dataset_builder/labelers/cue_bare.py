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

_NAMED = r"(?!remember\b|we should\b|i only\b|i want\b|let's\b|lets\b|yes\b|ya\b|no need\b|so\b|you (?:don't|dont|do not) (?:need|have)\b|(?:i'm|i am) not sure\b|i (?:don't|dont) (?:know|have)\b|not sure\b|identify\b|only\b|continue\b|where\b|which\b|who\b|if\b|when\b|sorry\b)[\w'./¤-]+"

BARE: tuple[Cue, ...] = (
    cue("frustration", 1, rf"{_INTENSE}(?:{_WORTHLESS}{_THING}|{_INSULT}(?: (?:ai|bot|machine|robot|answer|thing|gpt))?)$", "opening", "stated", "unanswered"),
    cue("frustration", 1, r"(?:the )?(?:worst|dumbest|stupidest) (?:answer|response|reply|story|poem|joke|ai|bot|one|thing|advice)\b", "opening", "stated"),
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
    cue("says_wrong", 2, rf"(?:{_INTENSE}|u r |ur |u are )(?:{_POOR}{_THING})$", "opening", "stated", "unanswered"),
    cue("still_wrong", 2, r"(?:exactly |literally |just )?(?:the )?same (?:as|like|thing as) (?:before|last|above|the (?:last|previous|first|original)|earlier)\b.{0,30}$", "opening", "stated", "unanswered"),
    cue("frustration", 1, r"(?:epic |total |big )?fail(?:ed)?$", "opening", "unanswered"),
    cue("says_wrong", 2, r"(?:u r|ur|youre|u are) (?:so |totally |completely )?(?:wrong|mistaken|incorrect)\b", "opening"),
    cue(
        "says_wrong",
        2,
        r"there(?:'s| is| are)? (?:an? |some |several |many |still |too many |a few |lots of |so many )*(?:typos?|mistakes?|errors?|spelling mistakes?|grammar mistakes?|grammatical errors?|inconsistenc(?:y|ies)|contradictions?|plot holes?)(?: in (?:it|this|that|the|your|here|line)\b.*)?$",
        "stated",
        "early",
        "unanswered",
        "short",
    ),
    cue("says_wrong", 2, r"(?:[\w'-]+ ){0,4}(?:misspelled|misspelt|mispelled|spelled (?:it |this |that )?wrong|spelt wrong|spelled incorrectly)\b", "stated", "early", "unanswered"),
    cue("says_wrong", 2, r"(?:that|this|it|which|(?:your|the|this|that) \w+)? ?(?:makes?|made|making) (?:absolutely |literally )?(?:no|zero|little) (?:\w+ )?sense\b", "stated", "near"),
    cue("says_wrong", 2, r"(?:this|that|it|which) (?:directly |clearly |completely )?contradicts\b|(?:this|that|it)(?:'s| is) (?:a |self-)?(?:contradiction|contradictory|contradicting)\b", "early", "unanswered", "stated"),
    cue("says_wrong", 2, rf"(?:{PRONOUN}|(?:the|your) \w+|the \w+ \w+|(?:this|that|your|the) {PRODUCT}|(?:this|that|your|the) joke)(?:'s)? (?:really |kinda |just )?(?:sucks?|stinks?|is trash|is garbage)$", "opening", "unanswered"),
    cue("says_wrong", 2, r"(?:sounds?|reads?|looks?|feels?) (?:too much |a lot |so |just |exactly )*(?:like (?:an? )?(?:ai|robot|bot|chatgpt|machine|template|advertisement|ad|commercial|essay|list|child)|(?:robotic|ai[- ]generated|machine[- ]generated))", "early", "stated", "unanswered"),
    cue("says_not", 2, r"not (?:great|interesting|helpful|useful|accurate|impressed|satisfied|satisfactory|acceptable|convincing|creative|original|realistic|logical|clear|working|relevant|related|possible|funny|scary|enough|good|him|her|them|me|it|this|that|those|these|this one|that one|the one|the same|the answer.*|the right.*|my.{1,30}|really my.*)$", "opening", "stated", "unanswered"),
    cue("says_not", 2, r"(?!i |we |why |sorry )(?:he|she|they|it|this|that|[\w'+-]+|[\w'-]+ [\w'-]+) (?:is|was|are|were|did|does|do|has|have)(?: not|n't) [\w' -]{1,40}$", "opening", "stated", "unanswered", "terse", "not_request"),
    cue("says_not", 2, r"(?!i |we |why |sorry )(?:[\w'+-]+ ){1,8}not [\w'-]+(?: [\w'-]+)?$", "opening", "stated", "unanswered", "terse", "not_request"),
    cue("should_be", 2, r"(?:the )?(?:(?:right|correct|real|actual|final) )?(?:answer|result|output|total|sum|value|number|ending|order|name|title|date|year) (?:should|must|has to|is supposed to|was supposed to) (?:be|have been)\b", "opening", "stated", "unanswered", "brief"),
    cue("not_working", 2, rf"(?:still |just |now |always |it |it's |its |it is |is |the (?:\w+ )?\w+ (?:is|are|comes? out|shows?) |this is |returns? |it returns? |getting |i get |i'm getting |gives? |it gives |prints? |it prints |shows? |tests? (?:are |is )?)*{_OUTPUT_BAD}(?: (?:page|screen|output|result|code|list|string|again|now))*$", "opening", "stated", "tryable"),
    cue("not_working", 2, r"(?:it |it's |the (?:[\w'-]+ ){1,2}|this |that |button |code |page )?(?:still )?(?:does|did|do|prints?|shows?|returns?|displays?|outputs?|still) (?:absolutely )?nothing\b", "early", "stated", "tryable"),
    cue("not_working", 2, r"(?:has |it has |there are |full of |got |many |some )?bugs$|(?:infinite|endless) loop$|(?:still )?nothing$|(?:no|it) (?:doesn't|didn't|did not|does not)$|(?:won't|wont|doesn't|doesnt|didn't|can't|cannot) (?:even )?(?:compile|run|build|load|open|start|install|work)\b", "opening", "stated", "tryable"),
    cue("not_working", 2, r"(?:i )?(?:can't|cant|cannot|could not|couldn't|am unable to|unable to|am not able to|was not able to|wasn't able to|was unable to)(?: even)? (?:see|hear|find|install|run|open|access|build|load|compile|import|start|connect|download|get it|get this|make it work)\b", "early", "stated", "tryable", "brief"),
    cue("not_working", 2, r"(?:(?:i|i'm|i am|it|it's|getting|get|got|gives?|says|still|a|an|the|with|error|status|code|http) )*(?:40[0-9]|50[0-4])(?: .{0,40})?$", "opening", "stated", "tryable", "brief"),
    cue("not_working", 2, r"you(?:'ve| have)? (?:just |now |also |completely )*(?:broke|broken|removed|deleted|lost|dropped|messed|ruined)\b", "early", "unanswered"),
    cue("redo", 2, r"(?:just |please )*(?:redo(?: (?:it|this|that|the whole thing))?|do it (?:properly|right|correctly)|(?:just |please )?(?:answer|read) (?:the|my) (?:question|prompt|instructions?|request|message)s?(?: again| properly| carefully| first)*|(?:follow|obey|respect) (?:the|my) (?:instructions?|rules?|prompt|format|request)s?)$", "early", "unanswered", "brief"),
    cue("disagrees", 2, r"(?:i )?(?:don't|dont|do not) (?:really )?think so\b|i (?:strongly |totally |completely |respectfully )?disagree\b|i beg to differ|i doubt (?:it|that)\b|(?:that|this|it)(?:'s| is) (?:debatable|questionable|not (?:how|why|where|when)\b.*)", "opening", "stated", "unanswered"),
    cue("challenge", 2, r"(?:why (?:(?:is|are|was|were|does|do|did) )?(?:it|this|that|they|these|all|everything|you|the \w+|u) )(?:(?:still|all|always|keep|so|look|sound|seem|write|writing|reply|answer|speak|talk|start|stop|give|say|always) )*(?:so |too |the same|wrong|empty|blank|missing|different (?:from|than) what|in (?:english|chinese|french|spanish|german)|short$|long$|repeat|stuck)", "opening", "unanswered", "brief"),
    cue("challenge", 2, r"why (?:so|too) (?:long|short|many|few|much|formal|serious|boring|vague|complicated|slow|negative|generic|repetitive)$|(?:did|do|can) you (?:even |actually |really |not )+(?:read|understand|listen|try|check|follow|know what)\b|did you read (?:my|the|what|it)\b", "opening", "unanswered", "brief"),
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
        "says_not",
        2,
        r"(?:the|these|those|your|so|this|it|they|[\w'-]+ and [\w'-]+) .{0,60}?\b(?:do|does|did)(?:n't| not) (?:really |even |fully )?(?:satisfy|meet|fulfill?|comply|conform)\b",
        "stated",
        "near",
        "short",
        "unanswered",
    ),
    # doubt put as a question: "isn't that only true for ...?"
    cue(
        "challenge",
        2,
        r"(?:isn't|aren't|wasn't|weren't|doesn't|didn't|shouldn't|wouldn't|isnt|doesnt|didnt|hasn't|haven't) (?:that|this|it|there|he|she|they|the|we|these|those|your)\b(?! (?:pattern|like|interesting|amazing|great|cool|wonderful|beautiful))",
        "opening",
        "unanswered",
        "brief",
    ),
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
    cue("i_meant", 2, r"(?:no )?i mea?nt?$", "opening", "unanswered", "short"),
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
        "says_not",
        2,
        r"(?:no )?you (?:can't|cannot|can not|cant) (?!be serious|go wrong|imagine|believe|beat|just)(?:use|capture|get|have|do|put|call|move|take|make|assume|say|go|change|access|add|apply|compare|mix|pass|set|start|relate|be|return|play|place)\b",
        "opening",
        "stated",
        "unanswered",
        "brief",
    ),
    cue(
        "missing",
        2,
        r"(?:you|your [\w'-]+|it) (?:never|wasn't|wasnt|weren't|isn't|isnt|didn't|didnt|haven't|not) (?:\w+ )?(?:finish\w*|done|complete[d]?)\b",
        "early",
        "stated",
        "brief",
    ),
    cue(
        "contradiction",
        2,
        r"(?:\w+ ){0,2}(?:ago|earlier|before|previously|last time|just now)[\w ]{0,12} you (?:said|told|say|mentioned|stated|claimed|wrote)\b|i thought (?:i|we|you) (?:told|said|agreed|decided|established|were|knew|could|had)\b",
        "opening",
        "unanswered",
        "short",
    ),
    cue(
        "challenge",
        2,
        r"(?:isn't|isnt|is) (?:that|this|it) (?:not )?the wrong\b|why (?:do|are|did|would) you (?:always |still |even )?(?:keep|still|using|giving|doing|making|saying|repeating|suggesting|incorporating|changing|assum\w+)\b",
        "opening",
        "unanswered",
        "brief",
    ),
    cue("says_wrong", 2, r"(?:wrongly|badly|poorly|incorrectly) (?:written|done|translated|formatted|worded|phrased|spelled)\b", "early", "unanswered"),
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
    cue(
        "you_failed",
        2,
        r"(?:(?:it |you )?seems? (?:like |that )?)?you(?:'re| are| seem to be| keep) (?:still )?(?:getting confused|confused|suggesting|using the|referring|mixing|talking about the wrong|giving me)\b",
        "opening",
        "stated",
        "unanswered",
        "short",
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
    cue("redo", 2, r"(?:please )?fix (?:it|this|that)$", "last_of_several", "brief", "unanswered"),
    cue(
        "not_working",
        2,
        r"(?:i'm|im|i am|we're|we are) (?:still )?not (?:seeing|getting|hearing|receiving|able to)\b|(?:i|we) (?:still |now |just |only )*(?:get|got|see|am getting) (?:null|nothing|none|nan|undefined|an? (?:empty|blank|black|white|weird|strange))\b",
        "early",
        "stated",
        "tryable",
        "short",
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
    cue("you_failed", 2, r"(?:.{0,40}\b)?(?:mak(?:e|es|ing)|made|repeat(?:ing)?|repeated) (?:the |this |that |these )?(?:same )?(?:mistakes?|errors?) again\b", "early", "brief"),
    cue("i_meant", 2, r"to (?:clarify|be clear)$", "opening", "unanswered", "short"),
    cue("missing", 2, r"where(?:'s| is| are) (?:the|my) (?:rest|other (?:half|part|ones?)|second|third|last|conclusion|ending|introduction|intro|references?|citations?|sources?|dialogue|example|code)(?: (?:of|part|one|half).*)?$", "opening", "unanswered", "brief"),
    cue("i_meant", 2, r"i (?:wanted|was expecting|was hoping for|was looking for|expected) (?:it|them|this|an?|the|something|more|only|just)\b(?! (?:to (?:ask|know|thank|say)))", "opening", "stated", "unanswered", "brief"),
    cue("you_failed", 2, r"you(?:'ve| have)? (?:just |only |still |again |already |even |keep |kept |also )*(?:introduced|changed|replaced|repeated|misspelled|mistook|switched|reversed|swapped|added things|added stuff|invented|mixed|did (?:it|that|this|the same(?: thing)?) again|said (?:the same|that already|this already)|keep (?:saying|doing|giving|making|using|writing|adding|repeating))\b(?! (?:my mind|the game))", "early", "stated", "unanswered", "short"),
    cue("you_failed", 2, r"you(?:'re| are|r| were| have| got)(?: (?:still|just|again|now|also|clearly|simply))* (?:ignoring|missing (?!out)|repeating|confusing|mixing (?:up|them|these|it)|contradicting|skipping|forgetting|assuming|mistaken|lost|going (?:wrong|the wrong|in the wrong|a wrong|in circles)|running yourself|cheating|stuck|hallucinating|the wrong (?:person|one|idea|number|name|date|book|movie|game|year))\b", "early", "stated", "unanswered", "short"),
    cue("stop_that", 2, r"(?:please |just )*stop (?:that|it|this|(?:with|using|doing|making|adding|putting|giving|saying|changing|ignoring|including|writing|being|telling|calling|talking|ending|starting|explaining|referring|mentioning) )", "early", "unanswered", "brief"),
    cue("almost", 2, r"(?:you(?:'re| are|r| were)?|that(?:'s| is| was)|this is|it(?:'s| is)|getting|very|so|pretty|not|almost) ?(?:getting |very |so |pretty |quite |really |a bit |a little )*(?:close|closer|warmer)\b", "opening", "stated", "unanswered", "no_success"),
    cue("disagrees", 2, r"i (?:really )?(?:do not|don't|dont|wouldn't|would not) (?:really |personally )?(?:think|believe|agree|call (?:it|that|this))\b(?! (?:i|we|so i|it will be|it'll|[\w ]+ will be)\b)", "stated", "early", "short", "unanswered"),
    cue("says_wrong", 2, r".{0,60}\b(?:mistakenly|erroneously|wrongly|(?:is|are|was|were|been|you) incorrectly)\b", "stated", "early", "short", "unanswered"),
    cue("not_delivered", 2, r"(?:it )?(?:looks like |seems like |seems )?(?:i|we) (?:did not|didn't|didnt|never|still don't|don't|dont) (?:actually )?(?:get|receive|see) (?:the|any|an|a|your|all|it|anything)\b", "early", "brief", "unanswered"),
    cue("not_delivered", 2, r"(?:the |your |this |that |these )?(?!if\b|why\b|how\b|when\b)(?:[\w'./¤-]+ ){1,5}?(?:isn't|isnt|is not|aren't|arent|are not|wasn't|weren't) (?:even |actually |being )?(?:included|shown|visible|there|present|used|allowed|implemented|specified|provided|listed|mentioned|supported|in (?:the|your|this) (?:list|code|answer|text|story|table|output|sdk|library|version|response|file|book|movie|game))\b", "stated", "early", "short", "unanswered"),
    # the answer apologised for a mistake already: what the user states next, with a "not" or a "should" in it, is the next one
    cue("objects_again", 2, rf"(?:{_NAMED} ){{1,8}}?(?:not|never|no(?! more than)|still|only|wrong|instead of|should|must|needs?|[\w]+n't|dont|doesnt|cant|didnt|isnt|wont)\b", "opening", "stated", "unanswered", "short", "apologised", "not_request", "no_apology"),
    cue("challenge", 2, r"(?:why (?:did|do|are|would|does|it|you)|isn't|aren't|doesn't|didn't|shouldn't|wasn't|weren't|is it not|so why)\b", "opening", "unanswered", "short", "apologised"),
    cue("objects_again", 2, r"[\w'¤-]+", "opening", "unanswered", "short", "apologised", "begins_with_but"),
    cue("objects", 2, r"(?!i'd|i want|i would|i need|wait|i have|i will)[\w'¤-]+(?: [\w'¤./-]+)* (?:not|never|no|only|[\w]+n't|dont|doesnt|cant|didnt|isnt|wont|already|still)\b", "opening", "stated", "unanswered", "brief", "begins_with_but", "not_request"),
    cue("missing", 2, r"(?:[\w'./-]+ ){1,4}(?:is|are) (?:still )?missing\b|.{0,40}\byour [\w'-]+ (?:is |are )?missing\b", "not_request", "stated", "early", "brief", "unanswered"),
)  # fmt: skip

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
