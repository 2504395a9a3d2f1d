"""The cues of complaint: rejection (level 1) and error correction (level 2). See `cue_tables` for how they are read."""

import re

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
    hint_words,
    words,
)

_BAD = words(
    """wrong incorrect incorrectly inaccurate false untrue invalid broken useless terrible awful horrible bad poor boring
    generic vague confusing repetitive redundant unfinished incomplete nonsense garbage rubbish bullshit bs crap trash lame
    ridiculous absurd stupid dumb off mistaken misleading outdated worse unreadable unusable a_mistake an_error a_lie lies
    mistakes wordy cliche cheesy unclear irrelevant unrelated the_same the_wrong a_wrong an_incorrect the_exact_same bland
    weak cringe unnatural overkill contradictory gibberish made_up fake messy weird odd awkward strange
    ugly stiff forced unrealistic unprofessional inappropriate nonsensical superficial shallow simplistic robotic salesy"""
)
_HARMLESS = words(
    """matter matters necessary necessarily need needed required have_to a_problem your_fault my urgent worry only about mean
    until because important sure bother want mind care clear know your_name possible allowed that_i that_it an_issue a_big
    a_real a_bad bad to_be up_to for_me for_my fair just too"""
)
_ERROR = words("errors? exceptions? traceback")
_TOO = words(
    """long short generic vague formal informal complicated complex much many simple wordy broad similar basic easy hard boring
    cheesy corny abstract technical small big slow fast detailed few literal cliche verbose repetitive obvious dark light
    casual academic general salesy robotic"""
)
_OPERATE = words(
    """work works worked working run running show shows showing shown display displayed displaying appear appearing exist
    render rendering load loading update updating updated change changing changed compile respond responding recogni[sz]ed
    defined resolve solve fix help save saving print printing open opening move moving start match found detected"""
)
_STILL_BAD = either(
    "not?|an? similar|similar|detected|complain\\w*|(?:the )?same(?: (?:errors?|issues?|problems?|results?|thing|output|message|answer|response|as)\\b|$)|wrong|incorrect|errors?|(?:this|the|an?) (?:\\w+ )?(?:errors?|issues?|problems?)|with errors?",
    "(?:doesn|isn|can|won|didn|aren)'?t|cannot|does not|is not|cant",
    words(
        r"""gives? giving gets? getting got too very generic missing incomplete unfinished broken using uses only shows?
        showing seeing see(?!_if) returns? returning says? saying throws? fail\w* unusable unclear confus\w+ repeat\w*
        repetitive seems? looks? sounds? feels? needs?_to_(?:be_)?fix\w* empty occurs? happen\w* persists? way a_bit quite
        far long wordy vague pretty doing making receiv\w+ stuck overflow\w* bigger smaller in_the_wrong"""
    ),
)

COMPLAINTS: tuple[Cue, ...] = (
    cue(
        "frustration",
        1,
        r"(?:.{0,40}\b)?"
        + either(
            r"useless|stop wasting|(?:wasting|waste of) my time|wtf|what the (?:hell|fuck)|bozo|you suck|this sucks|that sucks|fuck (?:you|off)",
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
        either(
            r"(?:i|we) (?:(?:really|still|just|honestly) )?(?:don't|dont|do not|didn't|did not) (?:(?:really|particularly|quite) )?(?:like|love) (?:it|this|that|these|those|the|any|how|your)",
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
    cue("says_not", 2, rf"{PRONOUN}{NOT} {ADVERBS}(?!{_HARMLESS}\b)\w+", "stated", "early", "unanswered"),
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
        rf"(?: (?:you|that|above|below|in|from|with|of|for)(?: [\w'.-]+){{1,3}}?)?{NOT} (?!{_HARMLESS}\b)\w+",
        "stated",
        "early",
    ),
    cue(
        "not_working",
        2,
        r"(?!(?:if|when|what|how|why|assuming|give|make|please|no|just|but|so|update|can|could|don't|dont|do|did i|we|i have|words|a|an)\b)"
        rf"(?:[\w'./&#()=¤*-]+ ){{0,7}}?(?!that\b|which\b|if\b)[\w'./&#()=¤*-]+(?:{NOT}| will not| may not) (?:(?:seem to|appear to|even|really|actually|still|quite|be|being|fully|properly|correctly|get|getting|been) )*{_OPERATE}\b",
        "stated",
        "rebuke",
        "tryable",
    ),
    cue(
        "not_working",
        2,
        rf"(?:(?:also|still|that|it|this|even) )*(?:did not|didn't|didnt|does not|doesn't|doesnt|not|isn't) (?:(?:seem to|appear to|even|really|actually|still) )*{_OPERATE}\b",
        "stated",
        "tryable",
        first=True,
    ),
    cue(
        "not_working",
        2,
        rf"(?:i|we) (?:(?:tried|did|have|added|changed|ran|put|pasted|copied)\b.{{0,60}}?)(?: (?:and|but))?{NOT} (?:even )?{_OPERATE}\b",
        "tryable",
    ),
    cue(
        "not_working",
        2,
        r"(?:(?:and|then|when .{1,60}) )?(?:nothing (?:happens|happened|changed|changes|shows|showed|works|is (?:happening|showing|displayed|changing)|appears)|"
        r"no (?:output|luck|effect|change|result|results|difference)$|to no avail)",
        "tryable",
    ),
    cue(
        "still_wrong",
        2,
        r"(?:(?:no|nope|it'?s?|its|it is|this|that|i'?m|i am|i|we|they|there|there's|there is|you|you're|you are|the \w+|the \w+ \w+|these|this is|that's|that is|is|are|your \w+) )*?"
        + either(
            rf"(?:still|stil) (?:(?:is|are|have|has|having|had|getting|get|gets|got|seeing|see|sees|receiving|showing|shows) )*{_STILL_BAD}",
            r"(?:exact(?:ly)? |the |getting the |get the )*same (?:error|errors|issue|problem|result|results|thing|output|message|mistake|answer|behaviou?r)",
        )
        + r"\b",
        "stated",
        "unanswered",
    ),
    cue("still_wrong", 2, r"the (?:[\w'-]+ ){1,3}(?:is|are) still \w+", "stated", "tryable", "brief", "opening"),
    cue(
        "error_report",
        2,
        either(
            r"(?:(?:when|after|while|if) .{1,80}? )?(?:i|we)(?:'m|m| am|'ve| have| also| still| now| just| keep| again| did)* "
            r"(?:get|got|gets|getting|geting|receive|received|receiving|see|seeing|have|having|encounter\w*|facing|ran into)"
            rf"(?: [\w'.-]+){{0,5}}? {_ERROR}\b(?! (?:handling|handler))",
            rf"(?:getting|got|receiving|get|having|still getting|another|same|new|different|compile|compiler|runtime|build|syntax|your code have|have) (?:[\w'-]+ ){{0,3}}?{_ERROR}\b"
            r"(?! (?:handling|handler|checking|bars?|term|function|message (?:is|to|should|when|that)))",
            r"(?:it|this|that|which|above code|code|script|(?:the|your) (?:[\w'.-]+ ){0,3}[\w'.-]+|line \d+|formula|function|method)(?: (?:still|now|also|just|will|would|keeps?|continuel?y|is))* "
            r"(?:gives?|gave|giving|throws?|throwing|threw|raises?|raised|raise|returns?|returned|produces?|produced|shows?|showing|says|creates?|created|causes?|caused|generates?|has|have|had)"
            rf"(?: [\w'-]+){{0,5}}? {_ERROR}\b",
            r"(?:this is |here is |here's )?(?:the |this |an )?errors?(?: message)?(?: is| says| shown| in line| on line| at|(?: (?:i'm|i am|i) (?:get|got|getting))?$)",
            r"(?:[\w.-]+ ){0,3}(?:test|tests|build|function|it|deploy\w*|command) (?:fails?|failed)\b|(?:[\w.-]+ ){1,6}throws? (?:an? )?\w*(?:error|exception)\b",
            r"it (?:says|said|tells me|is saying) .{0,60}\b(?:not|doesn't|doesnt|isn't|error|invalid|undefined|failed|denied|cannot|can't|unknown|no)\b",
            r"(?:i'm|i am|we're|we are) (?:still )?missing (?:the|a|some)\b",
        ),
        "tryable",
    ),
    cue(
        "you_failed",
        2,
        r"(?:chat|chatgpt|you|u|your (?:answer|response|code|script|example|list|story|poem|last \w+))"
        r"(?: (?:have|had|just|still|also|again|completely|keep|kept|even|only|always|are|were|has|accidentally|seem to have|seem to|totally|continue to|really|may have|might have|probably|clearly)|'ve|'re)* "
        + either(
            r"forg[oe]t\w*|misunderst\w+|misread|mistaken|ignor(?:ed|ing)|skipp(?:ed|ing)|omit\w*|left out|fail(?:ed)?|repeat(?:ed|ing)?|messed up|screwed|mixed up|confused|contradict\w*|lied|lost",
            r"miss(?:ed|ing|ign)?(?! you)|cut off|got cut|stopped",
            r"made (?:\w+ ){0,3}(?:mistakes?|errors?|up)|got (?:\w+ ){0,3}wrong|did (?:it|that|this) wrong|gave me the (?:same|wrong)|(?:wrote|used|changed|put|did) the wrong|making (?:stuff|things|it|this|that) up",
            r"(?:didn'?t|did not|haven'?t|have not|never (?:gave|answered|included|mentioned|did))(?! (?:have to|need|find|see any|know if))|(?:aren't|not|are not) (?:\w+ing|supposed)|don't (?:get it|understand|listen|follow|seem)",
        )
        + r"\b",
        "rebuke",
        "not_continuing",
    ),
    cue(
        "i_said",
        2,
        r"(?:as )?i (?:(?:have|'ve|already|just|explicitly|specifically|clearly|literally|only|also|had|did) )*"
        r"(?:said|told (?:you|u)|asked (?:you|u|for|to|not|about|if)|asked$|specified|requested|instructed|already (?:gave|sent|mentioned|explained|provided))\b(?! (?:you (?:a|one) question|goodbye))",
        "short",
        "unanswered",
        "no_apology",
    ),
    cue(
        "i_meant",
        2,
        r"(?:i mea?nt|what i(?:'m| am| was)? (?:meant|mean|mean't|wanted|asking|asked)(?: for)?(?: is| was)?|i was (?:asking|talking|referring|looking for|hoping for|expecting)|i(?:'m| am) (?:asking|talking) (?:about|for)|i am not (?:asking|talking))\b",
        "short",
        "unanswered",
        "no_apology",
        first=True,
    ),
    cue(
        "already_tried",
        2,
        r"(?:i|we)(?:'ve| have| did| am|'m)?(?: just)? (?:already (?:did|done|tried|doing)|(?:tried|did|done) (?:that|this|it|all|your|the)(?: already)?|have tried)\b",
        "tryable",
        "short",
        "no_success",
        first=True,
    ),
    cue(
        "contradiction",
        2,
        either(
            r"(?:(?:no|then|earlier|previously) )*(?:in your \w+ (?:response|answer|message) )?you (?:(?:just|already|also|previously|earlier|literally) )*(?:said|told|mentioned|stated|claimed|assumed)\b",
            r"didn't you (?:just )?(?:say|tell|mention)|(?:then )?why did (?:you|u|your \w+)(?: \w+)? (?:say|state|claim|tell|write)|why you (?:say|said|state|stated)",
            r"that contradicts|you(?:'re| are) contradicting",
        ),
        "short",
        "contrast",
    ),
    cue(
        "challenge",
        2,
        r"(?:are you (?:really |absolutely |quite |100% |very )?(?:sure|certain)|r u sure|you sure\b|is (?:this|that|it) (?:really |actually )?(?:correct|right|true)$|really$|seriously$|"
        r"did(?:n't)? you (?:not |even |forget|miss|notice|read|ignore)|you didn't notice)",
        "short",
        "unanswered",
        "opening",
    ),
    cue(
        "challenge",
        2,
        either(
            r"(?:why (?:did|do|have|are|were) (?:you|u)(?: have)?|why (?:didn'?t|don'?t|aren'?t|haven'?t) (?:you|u)|why you) (?:(?:still|always|keep|just|only|not|suddenly|again|even) )*"
            r"(?:not|stop\w*|keep|repeat\w*|leave|left|skip\w*|ignor\w*|forg[eo]t|chang\w+|remov\w+|omit\w*|exclud\w+|lie|lied|cut|miss\w*|mak(?:e|ing) (?:a )?mistake|refuse|apologi\w+|add|include|give me|provide|mention|continu\w+|answer|follow)\b",
            r"why (?:is|are|was|were) (?:some|part|half|parts|all|most) of (?:the|this|it|your)|why (?:isn't|doesn't|is|does) (?:it|this|that|the code)(?: \w+)? (?:not )?work",
            r"(?:shouldn't|should not) (?:it|that|this|there|they|you)\b|isn't (?:that|this|it) (?:wrong|incorrect|a mistake)",
        ),
        "short",
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
        rf"(?:{PRONOUN}|you|first one|others|most|both|all|(?:your|the) (?:[\w'-]+ ){{0,2}}{PRODUCT})(?:'s|'re|s)?(?: (?:is|are|was|were|sounds?|seems?|looks?|feels?|reads?|getting|being|went|go|picked|used|gave|be))? "
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
        "redo",
        2,
        r"(?:(?:can|could|would|will) you |pls |just |you (?:need to|have to|should|must) |no |nope |i want you to |let's |lets )*"
        + either(
            r"(?:try (?:it |this |that )?(?:once )?again|recalculate|re-?check|check (?:it |this |that |your \w+ |every \w+ )?again|double[- ]check|look again|read (?:it|my \w+|the \w+) again|think again|think about it again|answer again)",
            r"(?:fix (?:it|this|that|the (?:error|bug|issue|problem|code)|your)|correct (?:it|yourself|your))",
        )
        + r"\b(?! (?:with|using|for|but with|my))",
        "brief",
        "unanswered",
        first=True,
    ),
    cue(
        "no",
        2,
        r"(?:no|nope|nah|noo+)(?=$| "
        + words(
            """no i i'm im it it's its that that's thats this you you're u the not make only still they these there there's he she we
            do don't dont show leave go sir like what just instead because as in if your our my give look please write keep same
            error flat use wait way never act create tell provide add rewrite explain generate continue answer start stop
            change put fix remove include find think try read summarize translate describe let lets let's sorry mean want"""
        )
        + r"\b)",
        "refutes",
        first=True,
    ),
    cue(
        "no", 2, r"not (?:really|quite|exactly|what|like that|even close|correct)\b", "unanswered", "stated", first=True
    ),
    cue(
        "nonexistent",
        2,
        r"(?:there (?:is|are|was|were)|there's|theres|i (?:see|got)) (?:no|not any) (?:[\w'-]+ ){1,4}(?:shown|above|here|provided|included|displayed|attached|given|listed)\b",
        "stated",
        "short",
    ),
    cue(
        "nonexistent",
        2,
        either(
            r"(?:there (?:is|are|was|were)(?: still| also| actually)?|there's|theres) (?:no|not an?|not any) (?!way|need|longer|problem|doubt|reason|one|matter|rush|idea|point|limit|wrong|right|difference|errors|time)"
            r"(?:[\w'./()-]+ ){0,6}?(?:method|function|event|page|file|option|image|diagram|column|table|button|class|property|attribute|api|module|package|library|command|shown|here|above|such|"
            r"in (?:the|your|this|that|my|there)|conflict|parameter|field|menu|setting|link|code|line|on (?:the|my))\b",
            r"(?:i|we) (?:don't|dont|cannot|can't|cant|do not|couldn't|could not) (?:even )?(?:see|find) (?!how|why|what|the point|where|anything wrong|a reason)\w+",
        ),
        "stated",
        "short",
        "tryable",
        "unanswered",
    ),
    cue(
        "nonexistent",
        2,
        r"(?!an? |list|give|if |when )(?:the |those |these |that |this )?(?:(?!that )[\w'./()&-]+ ){1,6}?(?:does not|doesn't|doesnt|don't|do not|didn't|did not) (?:even |actually )?(?:exist|appear)\b",
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
        "refuses",
        2,
        r"no [\w'-]+ (?:is|are|was|isn't|should|shouldn't|doesn't|means?)\b",
        "refutes",
        "brief",
        first=True,
    ),
    cue("says_wrong", 2, r"(?:the )?only (?:mistake|problem|issue|error|thing wrong)\b(?! i got)", "early"),
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
        r"[\w'-]+ (?:isn't|isnt|is not|aren't) (?:an?|the|part of|in|on|from) (?!problem|issue|big)\w+",
        "stated",
        "opening",
        "brief",
        "unanswered",
    ),
    cue("says_not", 2, rf"(?:the |your )¤{NOT} \w+", "stated", "early"),
    cue(
        "still_wrong",
        2,
        r"(?:this|that|it|these|they|your [\w'-]+|(?:the|this) (?:[\w'-]+ ){1,2})(?: is| are)? ?still (?!(?:need|want|possible|valid|good|great|love|works?)\b)\w+(?:s|ing|d)\b",
        "stated",
        "early",
        "short",
        "tryable",
    ),
    cue("still_wrong", 2, r"(?:.{0,40} )?still this (?:error|message|problem|issue)", "tryable", "brief"),
    cue(
        "error_report",
        2,
        rf"(?:[\w'.,-]+ ){{0,6}}(?:gives?|gave|throws?|threw|raises?|raised|generates?|produces?|reports?) (?:me |us )?(?:an?|the|this|that|another|same|following)(?: \w+)? {_ERROR}\b",
        "tryable",
        "near",
        "stated",
    ),
    cue(
        "you_failed",
        2,
        r"(?:you|u) (?:have )?only (?:gave|give|generated|listed|provided|wrote|included|did|answered|showed|made|used|created|mentioned|translated|covered)\b",
        "rebuke",
        "not_continuing",
    ),
    cue(
        "frustration",
        1,
        r"you(?:'re| are) (?:still |just |not |any |no |as |so |really )*(?:bad|worse|better|dumb)\b(?= (?:at|than|as)\b)",
        "short",
    ),
    cue(
        "i_said",
        2,
        r"(?:my (?:request|prompt|question|instructions?|message) (?:says|said|was|is|clearly|specif\w+)\b|(?:that'?s |that is |this is )?what i (?:just )?(?:said|told you)$|when i (?:said|wrote|asked)\b)",
        "short",
        "unanswered",
        first=True,
    ),
    cue(
        "i_said",
        2,
        r"i (?:want|need|wanted|needed|expect|expected) (?:it |them |you |the |an? |your )?(?:to be )?(?:[\w'-]+ ){1,6}not (?!just|only|to|sure|typically|usually|always|the whole)\w+",
        "brief",
        "unanswered",
        "opening",
    ),
    cue("i_said", 2, r"i expect(?:ed)? (?:your?|it|the|that)\b", "brief", "unanswered", "opening"),
    cue("insists", 2, r"again$", "insists"),
    cue(
        "i_thought",
        2,
        r"i thought (?!about|of|i|we should|it would|maybe|you (?:might|may|would)|that maybe)\w+",
        "brief",
        "unanswered",
        "opening",
    ),
    cue("redo", 2, r"(?:correct|fix)\b(?: (?:it|this|that|them))?$", "asks_fix"),
    cue(
        "flawed",
        2,
        r"(?:still )?(?:the|it|its|it's|they|they're|this|that|these|those|there|some|only|you|your|second|first|last|(?:[\w'.-]+ ){1,2}(?:is|are|was|were|doesn't|isn't|don't|still))\b(?! (?:can|could|please|would))",
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
    cue("missing", 2, r"missing (?:the|an?|some|part)\b", "opening", "brief"),
    cue("missing", 2, r"(?:the |your )?(?:\w+ )?¤ (?:is|are) (?:still )?missing\b", "stated", "early"),
    cue(
        "too_much",
        2,
        r"(?:the |your )?(?:[\w'-]+ ){0,3}?¤ (?:is|are|sounds?|seems?|looks?|feels?) (?:\w+ ){0,3}?too\b",
        "stated",
        "early",
    ),
    cue("not_working", 2, r"i (?:only|just) (?:got|get|see|have)\b", "tryable", "brief", "stated"),
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
        "you_failed",
        2,
        r"(?:you|u) seem .{0,40}to have (?:forgotten|missed|ignored|misunderstood|skipped|lost)\b",
        "near",
    ),
    cue(
        "dislike",
        2,
        r"(?:i'm|i am|im|still) not (?:feeling like|feeling it|happy|satisfied|convinced|impressed)\b",
        "short",
    ),
    cue(
        "i_said",
        2,
        r"(?:i|we) (?:do not|don't|dont|didn't) (?:only|just) (?:want|waant|need)\b|as i (?:have )?(?:said|mentioned|alluded|explained|told|stated|wrote|asked)\b",
        "short",
        "early",
        "unanswered",
    ),
    cue(
        "you_failed",
        2,
        r"(?:you|u|your (?:answers?|responses?))(?: (?:have|been|are|is|keep|kept|still|just|always|again))* (?:giving|gave|given|give|providing|provided|writing|wrote|sending|returning|using|used) (?:me )?(?:\w+ ){0,2}(?:incomplete|wrong|incorrect|the same|invalid|fake|broken)\b",
        "near",
    ),
    cue(
        "you_failed",
        2,
        r"you (?:shouldn't|should not|can't just|cannot just) (?!worry|need|have to)\w+",
        "opening",
        "unanswered",
    ),
    cue("redo", 2, r"you (?:have|need) to (?:fix|correct|check|redo|recalculate)\b", "brief", first=True),
    cue(
        "not_working",
        2,
        r"(?:[\w'-]+ ){1,10}?(?:won't|wont|will not|doesn't|doesnt|can't|cannot|didn't) work\b",
        "but",
        "stated",
        "near",
    ),
    cue(
        "not_working",
        2,
        r"only (?:the|one|a|\d+|some) .{1,40}? (?:is|are|was|were) (?:shown|displayed|visible|showing|working|there|printed|returned)\b",
        "tryable",
        "brief",
    ),
    cue("i_meant", 2, r"i mean (?!what|because|if|maybe|i|you|how|like)\w+", "brief", "unanswered", "opening"),
    cue(
        "contradicts",
        2,
        r"(?:it|it's|its|he|she|they|that|there|those|the|this|you|your|\w+)\b",
        "contradicts",
        "opening",
    ),
    cue(
        "still_wrong",
        2,
        r"(?:the |that |this |same |your )?(?:[\w'-]+ )?(?:errors?|issues?|problems?|bugs?) (?:still |also )?(?:persists?|remains?|is still|are still|still|happens again|continues?|exists?)\b",
        "tryable",
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
        "not_working",
        2,
        r"(?:the|my|all|some|your) (?:[\w'-]+ ){1,4}(?:is|are|was|were|have|has) (?:gone|disappeared|vanished|broken|lost)\b",
        "tryable",
        "brief",
        "stated",
    ),
    cue("you_failed", 2, r"you(?:'re| are| were) (?:not )?supposed to\b", "short", "unanswered", "early"),
    cue(
        "error_report",
        2,
        r"(?:the |my )?(?:only |main |other )?(?:problem|issue) (?:now |here |still )?is (?!solved|fixed|resolved)\w+|.{3,60} is the error\b",
        "tryable",
        "short",
        "early",
    ),
    cue(
        "nonexistent",
        2,
        r"there(?:'s| is| are) no (?!way|need|longer|problem|doubt|reason|one|matter|rush|idea|point|limit|wrong|difference|time|such|specific|preference)[\w' -]+$",
        "opening",
        "brief",
        "unanswered",
        "stated",
    ),
    cue("redo", 2, r"(?:revise|reconsider|recheck|rethink|re-think|correct) your\b", "brief"),
    cue(
        "not_working",
        2,
        r"(?:it|this|that)(?: is| was| got|'s)? (?:broken|broke|stopped|crashed|crashes|freezes|froze)\b",
        "near",
        "stated",
    ),
    cue(
        "not_working",
        2,
        r"(?:(?:when|if) .{1,80})?(?:and )?it (?:just|only|simply) (?:says|shows|prints|returns|gives|displays|outputs)\b",
        "tryable",
        "near",
    ),
    cue(
        "not_working",
        2,
        r"(?:.{0,60}\b)?no [\w-]+ (?:plays?|shows?|appears?|happens?|is (?:shown|displayed|returned|printed))\b",
        "tryable",
        "near",
        "stated",
    ),
    cue(
        "says_wrong",
        2,
        r"(?:.{0,80}\b)?(?:returns?|gives?|gave|shows?|prints?|outputs?|got|getting|produces?) (?:me )?(?:an? |the )?(?:incorrect|wrong)\b",
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
    cue(
        "you_failed", 2, r"you (?:[\w']+ ){0,2}(?:make|made|making|have) (?:[\w']+ ){0,3}(?:mistakes|errors)\b", "near"
    ),
    cue(
        "challenge",
        2,
        r"(?:you|u) (?:don't|dont|do not) (?:remember|recall|listen|understand)\b",
        "short",
        "unanswered",
    ),
    cue(
        "zh_complaint",
        2,
        either(
            r"(?:不|不是|不对|不對|错|錯|错了|錯了|不行)(?:$|[\s的啊吧呀])|.{0,8}(?:不对|不對)(?!称)",
            r".{0,10}(?:你|答案|结果|結果|代码|程式碼?|这个|這個|还是|還是|完全|都|有|是|写|寫|搞|弄|理解|说|說|算).{0,6}(?:错了|錯了|有误|有誤|有错|有錯|错误|錯誤|不正确|不正確|报错|報錯)",
            r".{0,6}(?:还是|還是|仍然|依然|依旧).{0,6}(?:不行|不对|不對|报错|報錯|错|錯|一样|一樣|没有|沒有|不能|无法|無法|失败|失敗|有问题|有問題)",
            r".{0,12}(?:报错|報錯|出错了|出錯了)|.{0,8}[没沒]有?(?:用|效果|效|反应|反應)(?:$|[啊了])|.{0,8}(?:不起作用|运行不了|無法運行|无法运行|不能运行|跑不起来)",
            r".{0,4}不是(?:这样|這樣|我(?:想)?要的|我说的|我說的|我的意思)|我(?:说|說|问|問|指|要)的(?:是|不是)|我的意思是|我[没沒]有?[让讓]你",
            r"你(?:没有?|沒有?|忘了|忘记|忘記|漏了|漏掉|搞错|搞錯|弄错|弄錯|理解错|理解錯|误解|誤解|怎么又|怎麼又|确定吗?|確定嗎?)|(?:为什么|為什麼)你?(?:没有|沒有|不|还是|還是|又|报错|報錯)",
            r".{0,6}太(?:长|長|短|简单|簡單|笼统|籠統|官方|啰嗦|囉嗦|空洞|机械|機械|抽象|普通|生硬)了?$|.{0,4}不[够夠](?:具体|具體|详细|詳細|好|专业|專業|自然|清楚)",
            r"(?:胡说|胡說|瞎编|瞎編|乱说|亂說|垃圾)|.{0,10}(?:失去了|少了|缺少|漏了|不完整|没写完|沒寫完|没说完|沒說完)|.{0,6}不符合|(?:请|請|你)?再(?:检查|檢查|想想|试试|試試|算)一?[遍次下]?",
        ),
        "short",
    ),
    cue(
        "other_complaint",
        2,
        r"(?:.{0,40}\b)?"
        + either(
            r"(?:no (?:me )?(?:funciona|sirve|es correcto|es así|existe|está bien)|(?:está|esta) mal|incorrecto|eso no es|te equivocas|sigue sin|não (?:funciona|está|é isso)|está errad[oa])\b",
            r"(?:(?:ne )?(?:marche|fonctionne) pas|c'est (?:faux|incorrect|pas (?:ça|bon|correct))|tu (?:t'es|te) tromp\w+|non (?:funziona|è (?:corretto|giusto|quello))|sbagliato)\b",
            r"(?:(?:funktioniert|geht|klappt) (?:\w+ )?nicht|stimmt nicht|das ist falsch|werkt niet|klopt niet|неправильно|не работает|ошибка)\b",
            r"違います|違う|間違|動きません|動かない|エラーが|틀렸|아니야|아니요|안 ?(?:돼|되|됩)|오류|잘못",
        ),
        "short",
    ),
)

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
    sbagliato nicht falsch niet come ignore superficial shallow simplistic robotic salesy flaw flaws gone went mistake finish broke freezes froze revise reconsider rethink plays remember recall no gone disappeared vanished something supposed persists persist remains remain giving given shown displayed visible mean actually deprecated outdated obsolete similar feeling happy satisfied convinced impressed alluded explained stated"""
)
ERROR_HINTS = (
    *(
        "error",
        "uninitialized",
        "line ",
        "exception",
        "traceback",
        "curl:",
        "uncaught",
        "fault",
        "errno",
        "undefined",
        "unexpected",
        "unable",
        "failed",
    ),
    *(
        "denied",
        "unknown",
        "invalid",
        "cannot",
        "can't",
        "not recognized",
        "not defined",
        "not a function",
        "not found",
    ),
    *(
        "could not",
        "no module",
        "no such",
        "has no",
        "does not",
        "not assignable",
        "expected",
        "npm err",
        "exit status",
    ),
)

# A pasted message of something that failed.
ERROR_TEXT = re.compile(
    either(
        r"traceback \(most recent|uninitialized constant|\bline \d+: .{0,40}(?:expected|unexpected|not found|error)|exception has occurred|\b[a-z.]{4,}(?:error|exception)\b|\bcurl: \(\d|\berror \w{0,4}\d{2,}\b|\b[\w.]*(?:error|exception)\b\s*[:(\[\"]|\buncaught\b|level=error|segmentation fault|npm err|exit status|errno",
        r"\b(?:is|was) not (?:recognized as|defined\b|a function)|no module named|cannot find (?:module|name|symbol)|undefined (?:reference|method|variable|index)",
        r"could not (?:find|resolve|load|be (?:found|resolved|located))|command not found|no such (?:file|table|column|module)|permission denied",
        r"has no (?:attribute|exported member|member)|unexpected (?:token|eof|end of|identifier|indent)|unable to (?:locate|load|resolve|import)",
        r"does not (?:exist on type|contain a definition|conform to)|cannot (?:read propert|import name|use import)|can't (?:resolve|call) |unknown option",
        r"invalid (?:syntax|drive|literal)|failed to (?:compile|load|resolve|execute|import|install|fetch)|not assignable to|undefined is not|expected ';'",
    )
)
