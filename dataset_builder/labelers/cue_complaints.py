"""The cues of complaint, rejection (level 1) and error correction (level 2): here those that judge the answer itself."""

from wildreward.dataset_builder.labelers import cue_chinese as chinese
from wildreward.dataset_builder.labelers import cue_languages as languages
from wildreward.dataset_builder.labelers.cue_bare import BARE, BARE_HINTS
from wildreward.dataset_builder.labelers.cue_failures import FAILURES
from wildreward.dataset_builder.labelers.cue_objections import OBJECTIONS
from wildreward.dataset_builder.labelers.cue_rebukes import REBUKES
from wildreward.dataset_builder.labelers.cue_tables import (
    ADVERBS,
    BE,
    NOT,
    PRODUCT,
    PRONOUN,
    SUBJECT,
    Cue,
    cue,
    either,
    foreign,
    hint_words,
    words,
)

_BAD = words(
    """wrong incorrect incorrectly inaccurate false untrue invalid broken useless terrible awful horrible bad poor boring
    generic vague confusing repetitive redundant unfinished incomplete nonsense garbage rubbish bullshit bs crap trash lame
    ridiculous absurd stupid dumb off mistaken misleading outdated worse unreadable unusable a_mistake an_error a_lie lies
    mistakes wordy cliche cheesy unclear irrelevant unrelated the_same the_wrong a_wrong an_incorrect the_exact_same bland
    weak cringe unnatural overkill contradictory gibberish made_up fake messy weird odd awkward strange
    ugly stiff forced unrealistic unprofessional inappropriate nonsensical superficial surface_level shallow simplistic robotic salesy"""
)
_HARMLESS = words(
    """matter matters necessary necessarily need needed required have_to a_problem your_fault my urgent worry only about mean
    until because important sure bother want mind care clear know your_name possible allowed that_i that_it an_issue a_big
    a_real a_bad bad to_be up_to for_me for_my fair just too"""
)
_TOO = words(
    """long short generic vague formal informal complicated complex much many simple wordy broad similar basic easy hard boring
    cheesy corny abstract technical small big slow fast detailed few literal cliche verbose repetitive obvious dark light
    casual academic general salesy robotic lengthy vague_too wordy_too surface_level serious dramatic"""
)

_VERDICTS: tuple[Cue, ...] = (
    cue(
        "frustration",
        1,
        r"(?:.{0,40}\b)?"
        + either(
            r"useless|stop wasting|(?:wasting|waste of) my time|wtf|what the (?:hell|fuck)(?! (?:is|are) (?!this|that|it\b))|bozo|you suck|this sucks|fuck (?:you|off)",
            r"are you (?:stupid|dumb|kidding|drunk|color blind|blind)|you are about to be fired|shut up|just do what i",
            r"you(?:'re| are) (?:(?:so|such an?|an?|fucking|really|being|very) )*(?:stupid|dumb|idiot|moron|useless|terrible|awful|lazy|lying|liar|hopeless|incompetent)",
            r"stop (?:lying|repeating|apologi[sz]ing)|go(?:ing)? (?:in|round in) circles|you keep (?:going )?(?:back|on repeating|repeating)",
            r"(?:complete|total|absolute|utter) (?:rubbish|garbage|nonsense|bullshit|crap)|(?:that|this|it)(?:'s| is| was) even worse",
        ),
    ),
    cue(
        "not_asked",
        1,
        either(
            rf"(?:(?:{SUBJECT}|again|you are|you're|you))?(?: is| are| was|'s|s| did|'re)?(?: still| really| just| quite)* ?(?:not|isn't|isnt|wasn't|aren't|didn't|doesn't) "
            r"(?:(?:quite|really|at all|exactly|do|doing|answer|answering|give|giving|the|it|following) )*(?:me )?what i(?:'m|'ve)?\b(?! asked? the)",
            r"(?:i|we) (?:did not|didn't|didnt|never) (?:ask|say|want|request|mean|tell)(?! the question)\b",
        ),
        "no_apology",
    ),
    cue(
        "dislike",
        2,
        r"(?:(?:i think )?(?:this|it|that) is [\w ]{1,20} )?"
        + either(
            r"(?:i|we) (?:(?:really|still|just|honestly) )?(?:don't|dont|do not|didn't|did not) (?:(?:really|particularly|quite) )?(?:like|love) (?:it|this|that|these|those|the|any|how|your|having|many|so many|when you|using)",
            r"(?:didn't|don't|dont) like (?:it|this|that|any|these)|not a (?:big |huge )?fan of|i hate (?:it|this|that|these)",
        )
        + r"\b",
    ),
    cue(
        "says_wrong",
        2,
        rf"{SUBJECT}{BE} (?:to be )?(?:an? |some )?{ADVERBS}{_BAD}\b(?! (?:with|for (?:him|her|them|me|us)|if)\b)",
        "stated",
    ),
    cue(
        "says_wrong",
        2,
        ADVERBS
        + either(
            "wrong|incorrect|false|nonsense|bullshit|no good|(?:almost|close)$",
            "not (?:correct|right|true|accurate|quite|exactly|really|good|working|helpful|funny|it|at all|what i|enough)",
            "(?:doesn't|doesnt|dont|does not|didn't|didnt) work",
        )
        + r"\b",
        "stated",
        "unanswered",
        first=True,
    ),
    cue(
        "says_wrong",
        2,
        rf"(?!my |if |when |what )(?:[\w'&/.-]+ ){{1,6}}(?:is|are|was|were|seems?|looks?) {ADVERBS}"
        r"(?:wrong|incorrect|inaccurate|not (?:correct|right|accurate|true)|missing(?= (?:from|in|here)|$)|incomplete|not complete)\b",
        "stated",
        "short",
    ),
    cue(
        "says_wrong",
        2,
        r"(?:there (?:must be|is|are|seems to be|might be|were) (?:an?|some|several|many|multiple|still|another) (?:\w+ )?"
        r"(?:mistakes?|errors?|issues?|problems?|bugs?|typos?)\b(?! (?:that|with my|in my|messages?|handl))|(?:it|he|she|they|there)(?:'s| is| are) (?:no|not) such)",
        "stated",
        "short",
    ),
    cue(
        "says_wrong",
        2,
        r"(?:actually )?the (?:correct|right|actual) (?:\w+ ){1,4}(?:is|should be|are|was)\b(?! [a-f]\b)",
        "stated",
        "short",
        "unanswered",
        "early",
    ),
    cue(
        "says_not",
        2,
        rf"(?!they|those){PRONOUN}{NOT} {ADVERBS}(?<!always )(?!{_HARMLESS}\b|sound too\b|exhaustive\b|that (?:big|bad|hard|difficult)\b)\w+",
        "stated",
        "early",
        "unanswered",
        "no_aside",
    ),
    cue(
        "says_not",
        2,
        rf"(?:they|those){NOT} {ADVERBS}(?!{_HARMLESS}\b)\w+",
        "stated",
        "early",
        "unanswered",
        "opening",
    ),
    cue(
        "says_not",
        2,
        r"(?:the|your) (?:[\w'./-]+ ){1,4}(?:don't|doesn't|doesnt|dont|didn't|does not|do not|did not) (?:even |really |quite |actually )?"
        r"(?:sound|look|seem|match|fit|rhyme|make (?:any )?sense|read|feel|flow|add up|include|mention|follow|reflect|answer)\b",
        "stated",
        "early",
        "short",
        "unanswered",
    ),
    cue("says_not", 2, r"(?:none|neither) of (?:these|those|them|the|your|it)\b", "stated", first=True),
    cue(
        "says_not",
        2,
        rf"(?:the|your|this|that|these|those|some|many|most of the|none of the|all the|half of the) (?:[\w'.&-]+ ){{0,3}}{PRODUCT}"
        rf"(?: (?:you|that|above|below|in|from|with|of|for)(?: [\w'.-]+){{1,3}}?)?{NOT} (?!(?:include|be|contain|have|use|exceed|always)\b)(?!{_HARMLESS}\b)\w+",
        "stated",
        "early",
    ),
    cue(
        "missing",
        2,
        rf"(?:some of |part of |half of |the rest of |the end of )?(?:{SUBJECT}|the (?:[\w'-]+ ){{0,3}}[\w'-]+)(?:'s|'re|s)?(?: (?:is|are|was|were|has|have|still|got|also|been|get|gets|must|seems? to be|just|gotten|being|had))* "
        r"(?:miss(?:ing|ign)|incomplete|unfinished|cut ?off|cut short|not complete|not finished|truncated|left out|lacking|lacks)\b",
        "stated",
        "short",
        "not_continuing",
    ),
    cue(
        "too_much",
        2,
        rf"(?:{PRONOUN}|you(?: [a-z]+ed)?(?: it)?|first one|others|most|both|all|(?:your|the|this) (?:[\w'-]+ ){{0,2}}{PRODUCT})(?:'s|'re|s)?(?: (?:is|are|was|were|sounds?|seems?|looks?|feels?|reads?|getting|being|went|go|picked|used|gave|be))? "
        rf"{ADVERBS}too (?!early|late|high|low|(?:is|was|are)\b)\w+(?! (?:to (?!fit|post|use|read|be)))",
        "stated",
        "early",
    ),
    cue("too_much", 2, rf"(?:sounds?|looks?|reads?|feels?) {ADVERBS}(?:too \w+|{_BAD})\b", "stated", first=True),
    cue(
        "too_much",
        2,
        r"(?:the|your) (?:[\w'-]+ ){1,3}you (?:recommended|suggested|gave|wrote|chose|picked|used|listed)(?: me)? (?:is|are|was|were) (?:too|not|wrong|still)\b",
        "stated",
        first=True,
    ),
    cue("too_much", 2, rf"(?:a bit |still |way |much |a little |far )*too {_TOO}$", "unanswered", first=True),
    cue(
        "not_enough",
        2,
        either(
            rf"(?:(?:{PRONOUN}|you|your \w+|the \w+){NOT}(?: being| feel| sound| look| go)?|not|still not|i (?:don't|dont|do not) (?:think|feel)(?: like)? (?:it|this|that|you|you're|it's|these)(?: are| is)?(?: being)?)"
            r" (?:\w+ ){0,2}enough\b",
            r"(?:you|we) can do better|(?:can't|cant) you do better|try harder|(?:come on )?do better$|come on$",
        ),
        "stated",
        "short",
    ),
    cue(
        "should_be",
        2,
        r"(?:it|that|this|they) should(?:n't| not)? (?:(?:only|not|also|actually|just|still) )*(?:be|have been|return|look|say)\b(?:.* (?:not|instead)\b|.{0,40}$)",
        "stated",
        "brief",
        "unanswered",
        "opening",
        first=True,
    ),
    cue(
        "says_wrong",
        2,
        r"(?:the )?only (?:mistake|problem|issue|error|thing wrong)\b(?! (?:i got|is (?:i'm|i am|i|my)\b))",
        "early",
    ),
    cue(
        "says_wrong",
        2,
        rf"(?:{PRONOUN}|(?:the|your) [\w'-]+)(?: (?:failed|fails|crashe[sd]|broke|breaks)|(?:'s| is) (?:erroring|failing|crashing|breaking|throwing))\b",
        "tryable",
        "early",
    ),
    cue(
        "says_wrong",
        2,
        r"(?:the |your )?(?:[\w'-]+ ){0,6}(?:is|are|was|and|were)? ?(?:not|no longer) (?:accessible|available|valid|supported|active)\b",
        "stated",
        "early",
        "unanswered",
    ),
    cue(
        "says_wrong",
        2,
        r"(?:[\w'-]+ ){0,4}(?:nearly|partly|partially|not entirely|only half) (?:right|correct)\b",
        "brief",
        first=True,
    ),
    cue(
        "says_wrong", 2, r"(?:[\w'-]+ ){0,5}(?:the )?(?:opposite|inverse|reverse) of (?:what|the)\b", "stated", "early"
    ),
    cue(
        "says_wrong",
        2,
        r"(?:the |your )(?:[\w'-]+ ){1,4}(?:is|are|was|seems? to be|comes? out|returns?|shows?) (?:blank|empty|null|undefined|nan)\b",
        "stated",
        "tryable",
        "early",
    ),
    cue(
        "says_not",
        2,
        r"(?:doesn't|doesnt|does not|isn't|not) (?:even |really )?(?:seem|look|sound|appear|make sense|fit|match|rhyme)\b",
        "stated",
        "early",
        first=True,
    ),
    cue(
        "says_not",
        2,
        rf"(?:when .{{3,60}} )?(?:the|my|now the|this) (?:[\w'./-]+ ){{0,4}}[\w'./-]+{NOT} (?!{_HARMLESS}\b|be\b)\w+",
        "stated",
        "coded",
        "opening",
        "short",
    ),
    cue(
        "says_not",
        2,
        r"(?!which|who|what|that\b)[\w'-]+ (?:isn't|isnt|is not|aren't) (?:an?|the|part of|in|on|from) (?!problem|issue|big)\w+",
        "stated",
        "opening",
        "brief",
        "unanswered",
    ),
    cue("says_not", 2, rf"(?:the |your )?¤{NOT} \w+", "stated", "early"),
    cue(
        "frustration",
        1,
        r"you(?:'re| are) (?:still |just |not |any |no |as |so |really )*(?:bad|worse|better|dumb)\b(?= (?:at|than|as)\b)",
        "short",
    ),
    cue(
        "i_thought",
        2,
        r"i thought (?!about|of|i|we should|it would|maybe|you (?:might|may|would)|that maybe)\w+",
        "brief",
        "unanswered",
        "opening",
    ),
    cue(
        "flawed",
        2,
        r"(?!i\b|we\b)(?:still )?(?:the|it|its|it's|they|they're|this|that|these|those|there|some|only|you|your|second|first|last|(?:[\w'.-]+ ){1,2}(?:is|are|was|were|doesn't|isn't|don't|still)|(?:each|every|both|all) [\w'-]+ (?:should|must|need))\b(?! (?:can|could|please|would|leads?|is about|needs? (?:a few|some|more|to be (?:more|shorter|longer))))(?!(?:'s| is| are) (?:one|only one|another|just one) (?:\w+ )?(?:thing|wrinkle|question|point|more))",
        "stated",
        "after_approval",
        "unanswered",
    ),
    cue(
        "says_wrong",
        2,
        r"i (?:do not|don't|dont) (?:think|believe) (?:that|that's|this|this is|it|it's|you|your|what|these|those)\b.{0,40}\b(?:accurate|correct|right|true|works?|working)\b",
        "short",
        first=True,
    ),
    cue(
        "says_wrong",
        2,
        r"(?:it|this|that|the [\w'-]+|your [\w'-]+)(?:'s| is| are| uses?| using)* .{0,20}(?:deprecated|outdated|obsolete)\b",
        "stated",
        "near",
    ),
    cue("says_wrong", 2, r"(?:that|this|it)(?:'s| is) only (?:an?|the|one|\d)\b", "stated", "opening", "unanswered"),
    cue("too_much", 2, rf"(?:still |a bit |a little |way |far |much )*too {_TOO}\b", "but", "stated", "near"),
    cue(
        "too_much",
        2,
        r"(?:it|this|that|they|these|the ¤ \w+|the (?:[\w'-]+ ){1,3}|this (?:[\w'-]+ ){1,6}) ?(?:might|may|could|would) be too \w+|(?:this|the|your) (?:[\w'-]+ ){1,6}(?:took|takes|goes|went|going|go) (?:\w+ )*too far\b",
        "stated",
        "early",
    ),
    cue("missing", 2, r"missing (?:the|an?|some|part)\b", "opening", "brief"),
    cue("missing", 2, r"(?:the |your )?(?:\w+ )?¤ (?:is|are) (?:still )?missing\b", "stated", "early"),
    cue(
        "too_much",
        2,
        rf"(?:the |your )?(?:[\w'-]+ ){{0,3}}?¤ (?:is|are|sounds?|seems?|looks?|feels?) (?:(?:\w+ ){{0,3}}?too\b|{ADVERBS}{_BAD}\b)",
        "stated",
        "early",
    ),
    cue(
        "says_not",
        2,
        rf"(?:the|my|it|this|that|there|\w+ )(?: [\w'./-]+){{0,4}}?{NOT} (?!{_HARMLESS}\b)\w+",
        "stated",
        "but",
        "tryable",
        "short",
    ),
    cue(
        "dislike",
        2,
        r"(?:i'm|i am|im|still) not (?:feeling like|feeling it|happy|satisfied|convinced|impressed)\b",
        "short",
    ),
    cue(
        "says_wrong",
        2,
        r"(?:there(?:'s| is| must be) )?something(?: is|'s| went| must be|'s)? (?:wrong|off|not right)\b",
        "short",
        "early",
    ),
    cue(
        "says_wrong",
        2,
        r"(?!(?:can|could|would) you )(?:.{0,80}\b)?(?:returns?|gives?|gave|shows?|prints?|outputs?|got|getting|produces?) (?:me )?(?:an? |the )?(?:incorrect|wrong)\b",
        "near",
    ),
    cue(
        "says_wrong",
        2,
        rf"(?:this|that|it|(?:the|your) (?:[\w'-]+ ){{0,2}}{PRODUCT}|this [\w'-]+) (?:still |also )?(?:has|have|contains?|got) (?:[\w'-]+ ){{0,2}}(?:flaws?|mistakes?|typos?|bugs?|errors?|inaccuracies)\b",
        "stated",
        "near",
    ),
    cue("says_wrong", 2, r"(?:we|you|it|something)(?:'ve| have|'s| has)? (?:\w+ )?(?:gone|went) wrong\b", "short"),
    cue("says_wrong", 2, r"(?:close enough|almost (?:there|right|correct|got it)|not there yet)$", "opening"),
)

COMPLAINTS = (*_VERDICTS, *FAILURES, *REBUKES, *BARE, *OBJECTIONS, *foreign(*chinese.COMPLAINTS), *languages.COMPLAINTS)

# A clause without any of these words cannot hold a cue of complaint.
COMPLAINT_HINTS = hint_words(
    """not no nope nah noo nooo don't dont doesn't doesnt dosent dosen't doesn;t didn't didnt isn't isnt aren't arent
    wasn't wasnt weren't won't wont can't cant cannot couldn't hasn't haven't havent ain't never longer stopped failed
    fails fail still stil same error errors exception exceptions traceback useless wasting waste wtf hell fuck bozo suck
    sucks stupid dumb kidding drunk blind fired idiot moron terrible awful lazy lying liar hopeless incompetent
    repeating circles rubbish garbage nonsense bullshit crap worse fan hate wrong incorrect incorrectly inaccurate false
    untrue invalid broken horrible bad poor boring generic vague confusing repetitive redundant unfinished incomplete bs
    trash lame ridiculous absurd off mistaken misleading outdated unreadable unusable mistake mistakes lie lies wordy
    cliche cheesy unclear irrelevant unrelated bland weak cringe unnatural overkill contradictory gibberish made making
    fake messy weird odd awkward strange ugly stiff forced unrealistic unprofessional inappropriate nonsensical almost
    close missing miss missed issue issues problem problems bug bugs typo typos correct actual none neither nothing
    avail forget forgot forgotten misunderstood misunderstand misunderstanding misread ignored ignoring skipped skipping
    omit omits omitted omitting left repeated messed screwed mixed confused contradict contradicts contradicted
    contradicting lied lost cut said told asked specified requested instructed already meant mean mean't wanted asking
    talking referring looking hoping expecting tried done mentioned stated claimed assumed say says state claim sure
    certain really seriously why notice shouldn't should truncated lacking lacks too enough better harder again
    recalculate recheck check double fix yourself theres don;t ment missign accessible available valid nearly partly
    partially opposite inverse reverse seem seems expect expected thought only blank empty null undefined nan erroring
    failing crashing breaking throwing crashed crashes crash broke breaks gives generates raises produces reports
    excluded throws throw color shut funciona mal incorrecto eso equivocas sin pas faux trompes trompe funziona
    sbagliato nicht falsch niet come ignore superficial shallow simplistic robotic salesy flaw flaws gone went mistake finish broke freezes froze revise reconsider rethink plays remember recall no gone disappeared vanished something supposed persists persist remains remain giving given shown displayed visible mean actually deprecated outdated obsolete similar feeling happy satisfied convinced impressed alluded explained stated """
    + BARE_HINTS
)
