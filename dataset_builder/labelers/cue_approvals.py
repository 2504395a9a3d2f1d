"""The cues of approval: thanks, praise, liking, success. See `cue_tables` for how they are read."""

from wildreward.dataset_builder.labelers import cue_chinese as chinese
from wildreward.dataset_builder.labelers import cue_languages as languages
from wildreward.dataset_builder.labelers.cue_tables import (
    ADVERBS,
    BE,
    PRONOUN,
    SUBJECT,
    Cue,
    cue,
    either,
    foreign,
    hint_words,
    words,
)

_GREAT = words(
    """great perfect perfectly awesome excellent amazing brilliant wonderful fantastic superb incredible outstanding fabulous
    lovely beautiful splendid magnificent terrific marvelous marvellous phenomenal stunning impressive genius hilarious
    gorgeous exceptional spot_on on_point bravo stellar masterful fascinating"""
)
_GOOD = rf"(?:{_GREAT}|good|nice|cool|neat|sweet)"
_GOOD_THING = words(
    """job work stuff answers? responses? reply replies explanations? start suggestions? advice summary examples? ideas?
    points? list one ones catch thinking outline story poem info information tips? insights? improvement choice try attempt
    going effort analysis plan thoughts? recommendations? description breakdown"""
)
_SIGN = r"[^\x00-\x7f]|[:;)(~*^/-]"
_END = rf"(?=\s*(?:$|{_SIGN}))"
_GOES_ON = (
    rf"(?=\s*(?:$|{_SIGN}|"
    + words(
        """now thanks? thx ty thank can could would will and so i i'd i'll i've i'm we let let's lets please pls plz also what
        how where why who when which next then you your do does is are give write create make add continue go tell explain
        show try use using generate that that's this it these for_now here lastly finally again just keep as except if work
        enough with in my the maybe to_start to_me one done"""
    )
    + r"\b))"
)
_THANKS = words(
    """thank_you thank_u thanks thankyou thanx thnx thnks thank$ thx thks tks ty tysm tyvm cheers much_appreciated
    many_thanks"""
)
_ASIDE = words(
    """very great good perfect awesome cool nice excellent amazing got_it understood no i_will many works it_works lovely
    i_see i_understand sounds_good fine better that_helps? a_lot_of"""
)
_LIKED = (
    r"the (?:(?:new|whole|first|second|third|fourth|fifth|last|original|previous|following|general|overall) )*"
    + words(
        """ideas? concepts? way one ones direction style tone option structure format sound names? titles? story part line
        answer response use term suggestions? approach result output design theme ending twist first second third last
        elements"""
    )
)

APPROVAL: tuple[Cue, ...] = (
    cue(
        "thanks",
        5,
        rf"(?:{_ASIDE} )*(?:{_THANKS}|(?:i )?(?:really |do |so |greatly )?appreciate (?:it|that|this|your|you))\b(?! "
        + either(
            "in advance|her|him|them|everyone|god|to (?:the|our|their|his|its)",
            "(?:you )?(?:note|letter|card|email|message|page|speech)",
            "for (?:taking the time to (?:read|apply)|contacting|reaching out|choosing|joining|visiting|considering|"
            "applying|attending|inviting|coming|watching|reading|listening|the opportunity)",
            "for your (?:interest|purchase|order|email|application|inquiry|enquiry|message|letter|business|submission)",
        )
        + r"\b)",
        "own_thanks",
        "grateful",
        first=True,
    ),
    cue("thanks", 5, rf"{_THANKS}\b(?! (?:in advance|her|him|them|you (?:letter|note))\b)", "nothing_asked"),
    cue("praise", 5, rf"(?:{ADVERBS}{_GOOD}|(?:love|loved|loving) (?:it|this|that)){_GOES_ON}", first=True),
    cue(
        "praise",
        5,
        rf"(?:you (?:did|have done|are doing|'re doing)? ?(?:an? |such an? )?|{PRONOUN}{BE} (?:an? |such an? |some )?)?"
        rf"{ADVERBS}(?:{_GOOD}|solid|helpful|useful) {_GOOD_THING}\b(?! (?:of|for|on|about|with)\b)",
        "compact",
    ),
    cue(
        "praise",
        4,
        rf"(?:looks?|sounds?|seems?|works?|worked|reads?) {ADVERBS}(?:{_GREAT}|good|nice|well|fine|cool|right|correct){_GOES_ON}",
        first=True,
    ),
    cue(
        "praise_statement",
        4,
        rf"(?!you |you'|u )(?:{SUBJECT}|(?:number|option|version) \w+|which|conversation){BE}(?: working| looking)? (?:an? |such an? |some |the )?{ADVERBS}"
        rf"(?:{_GREAT}|good|nice|cool|neat|helpful|useful|insightful|better|closer|(?:exactly )?what i (?:wanted|needed|was looking for)|well done|the best){_GOES_ON}",
        "unprompted",
        "stated",
    ),
    cue(
        "praise_statement",
        4,
        rf"{PRONOUN}{BE} (?:an? |such an? |some |the )?{ADVERBS}{_GREAT}\b(?! for (?:people|users|those|someone))",
    ),
    cue(
        "praise_statement",
        4,
        rf"the (?:[\w'-]+ ){{1,4}}(?:is|are|was|looks?|sounds?) (?:really |very |so |super |pretty |just )+{_GOOD}{_GOES_ON}",
        "opening",
    ),
    cue(
        "praise_statement",
        4,
        rf"{PRONOUN}{BE} (?:some |all |an? )?{ADVERBS}(?:{_GREAT}|good|nice|cool) [\w'-]+",
        "opening",
        "short",
        "unanswered",
    ),
    cue(
        "praise_statement",
        4,
        rf"[\w'-]+ (?:is|are|sounds?|looks?|was) {ADVERBS}(?:{_GREAT}|good|nice|cool|the best){_END}",
        "opening",
        "subject_named",
    ),
    cue(
        "praise",
        4,
        rf"(?:{_GREAT}|good|nice) (?!morning|afternoon|evening|day|night|luck|question|questions|bye|to|for|and|or|times?|practices?)[\w'-]+$",
        "opening",
        "unanswered",
    ),
    cue("liking", 4, r"this is what i (?:love|like|wanted|needed|was looking for)\b", first=True),
    cue("praise", 4, r"(?:(?:that's|this is|it's|that is) )?(?:much |way |a lot |even )?better$", "opening"),
    cue(
        "praise",
        5,
        r"(?:you|u) did (?:really |very |so |pretty )?(?:good|great|well|amazing|awesome|perfect)\b",
        first=True,
    ),
    cue("confirmed", 4, r"that(?:'s| is) it$", "stated", "unprompted", first=True),
    cue(
        "praise_statement",
        4,
        rf"(?:this|that) [\w'-]+{BE} {ADVERBS}(?:{_GREAT}|good|nice|cool|better){_GOES_ON}",
        "opening",
        "stated",
    ),
    cue(
        "liking",
        4,
        r"i (?:really |do |also )?(?:like|love) the (?:\w+ )?\w+(?! to\b)",
        "opening",
        "unanswered",
        "brief",
    ),
    cue(
        "liking",
        4,
        r"(?:while |what )?(?:i|we) (?:(?:really|absolutely|also|do|definitely|quite|particularly|especially|just|kinda|kind of|truly|fully|totally) )*"
        r"(?:like|love|liked|loved|enjoyed|adore) (?:it|this|that|these|those|them|all of|both of|your|how (?:you|it|this)|what you|"
        rf"where (?:you|this)|number|option|version|#|\d|most of|some of|¤|{_LIKED})\b(?! (?:to|when|if)\b)",
        "near",
    ),
    cue(
        "liking",
        4,
        r"(?:i|we) (?:really |do |also )?(?:like|love) (?!to\b)(?:the )?(?:¤|[\w'-]+)",
        "names_answer",
        first=True,
    ),
    cue(
        "works",
        5,
        r"(?:it|that|this|everything|these|those|they|all|code|(?:the|your|second|first|last) (?:[\w'-]+ ){0,2}(?:code|script|fix|solution|function|command|one|suggestion|answer))"
        r"(?: (?:is|are|now|all|finally|actually|really|just|did|does|has|also|do|perfectly)|'s)* "
        r"(?:works?|worked|working|runs?|ran|helps?|helped|solved|solves|fixed|fixes|did (?:it|the trick|the job))"
        r"(?=\s*(?:$|[:)~]|(?:now|great|perfect\w*|fine|well|very well|thank\w*|thx|a lot|me|my (?:issue|problem)|the (?:issue|problem|error)|"
        r"like a charm|as expected|so (?:well|much)|flawless\w*|beautiful\w*|better|really well|awesome|ty|can|could|and|please|let|it)\b))",
        "near",
    ),
    cue(
        "works",
        5,
        r"(?:it |all )?(?:works|worked|solved|fixed|working|hurrah)(?: it)?(?: (?:now|great|perfectly|fine|well|like a charm))*$",
        first=True,
    ),
    cue(
        "confirmed",
        4,
        either(
            r"(?:you'?re|you are|u r) (?:absolutely |totally |completely |quite |so |exactly )?(?:right|correct)",
            r"(?:that|this|it|those|these|they)(?:'s|s| is| was| are| sounds?| looks?| seems?) (?:absolutely |totally |exactly |all |indeed |pretty much )?(?:right|correct|true|accurate)",
            r"(?:that|this|it) (?:(?:actually|all|now|totally|really|does) )*makes? (?:(?:a lot of|perfect|total|more|much more|so much) )*sense",
            r"(?:correct|exactly|precisely|makes (?:perfect |total |a lot of )?sense|spot on)(?! (?:it|this|that|the|my|with|what|how|as|where|like|why|you))",
        )
        + _GOES_ON,
        "unprompted",
        "stated",
        first=True,
    ),
    cue(
        "admiration",
        5,
        either(
            r"you helped (?:me )?(?:so much|a lot)|you(?:'re| are|r)? (?:(?:so|very|really|truly|simply|just|absolutely|the|an?|such an?|super|too) )*"
            r"(?:best|awesome|awsome|amazing|brilliant|genius|legend|lifesaver|life saver|wonderful|incredible|rock|rocks|smart|cool|helpful|fantastic|impressive)"
            + _END,
            r"(?:i'?m|i am|we are|colou?r me) (?:(?:very|so|really|quite|truly|beyond|extremely) )*(?:impressed|amazed|blown away)",
            r"you(?:'re| are) the best\b|well done\b|kudos|congrats\b|congratulations$|hats off|(?:you )?nailed it|you got it$|nicely done|good bot",
            r"(?:this is |that's |that is )?(?:much|way|far|a lot) (?:better|clearer|closer)(?! (?:if|to|way))|(?:that'?s )?more like it|now (?:we'?re|you'?re) talking",
            r"(?:just|exactly) what i (?:wanted|needed|was looking for)|it helped a lot|i understand (?:much )?better",
            r"(?:(?:this|that|it) (?:conversation )?(?:was|is|has been) )?(?:very|super|extremely|really|so|incredibly|most) "
            r"(?:helpful|insightful|informative|impressive|useful)\b(?! (?:if|for|to)\b)",
            r"(?:this|that|it) (?:really |also |does )?(?:helps|helped)(?: me)?(?: a lot| so much)?$",
        ),
        "compact",
    ),
    cue(
        "praise",
        4,
        rf"not (?:too |so |that )?bad(?: at all)?$|what an? {ADVERBS}{_GOOD} \w+$|(?:i )?prefer (?:this|that|your)\b",
        first=True,
    ),
    cue("praise", 4, r"wow(?: wow)*$", "alone"),
    cue(
        "praise",
        5,
        r"(?:very |so |super |really |extremely |quite |pretty )*(?:helpful|well done|hilarious|funny|impressive|insightful)$|(?:super|superb|yay+|well done|very interesting|congratulations|10/10|100/100|a\+|five stars)$|"
        r"(?:the )?best (?:answer|response|story|one|poem|joke|explanation)\b(?! (?:is|for|to|would))|keep up the (?:good|great) work|chef's kiss|(?:problem|issue|case) solved$|"
        r"(?:this|that|it)(?:'s| is| was) (?:(?:so|very|really|super|quite|pretty|incredibly|too) )*(?:funny|hilarious|interesting|impressive|clever|creative|cute|fun|touching|moving|sad and beautiful)$",
        "opening",
        "stated",
    ),
    cue(
        "works",
        5,
        r"(?:perfect|finally|ok|great|i|we)?,? ?(?:got|have|had) it (?:working|to work|fixed|solved)\b",
        "near",
    ),
    cue(
        "works",
        4,
        r"(?:this|that|it|these|those)(?: one)?(?: will|'ll| would| should| definitely)+ (?:work|do|help|suffice|be (?:great|perfect|good|fine|awesome))\b(?! (?:if|to|for (?:a|an|any))\b)",
        "opening",
        "stated",
        "unanswered",
    ),
    cue(
        "praise_statement",
        4,
        r"(?:these|those|they|there)(?: are| were| is|'re) (?:some |all |also |really |very |such )*(?:great|good|excellent|amazing|awesome|nice|fantastic|wonderful|brilliant|cool|interesting) [\w'-]+(?: [\w'-]+)?(?: for .{1,30})?$",
        "early",
        "stated",
        "unanswered",
    ),
    cue(
        "praise_statement",
        4,
        r"(?!what|which|who|it)(?:[\w'-]+ ){1,3}(?:sounds?|looks?|seems?) (?:really |very |so |quite |pretty )?(?:nice|great|good|amazing|awesome|delicious|interesting|fun|perfect|lovely|cool)$",
        "opening",
        "stated",
        "unanswered",
        "not_request",
    ),
    *foreign(*chinese.APPROVALS),
    *languages.APPROVALS,
)

# A clause without any of these words cannot hold a cue of approval; looking for them first saves most of the time.
APPROVAL_HINTS = hint_words(
    """bad prefer that's it thank thanks thankyou thanx thnx thnks thx thks tks ty tysm tyvm cheers appreciate appreciated great perfect
    perfectly awesome awsome excellent amazing brilliant wonderful fantastic superb incredible outstanding fabulous
    lovely beautiful splendid magnificent terrific marvelous marvellous phenomenal stunning impressive genius hilarious
    gorgeous exceptional spot bravo stellar masterful fascinating good nice nicely cool neat sweet solid helpful useful
    insightful informative better closer clearer like love loved liked enjoyed adore loving works worked working ran
    helps helped solved solves fixed fixes did hurrah correct right accurate sense exactly precisely best legend
    lifesaver saver rock rocks smart impressed amazed blown well fine kudos congrats congratulations hats nailed wanted
    needed gracias merci danke obrigado obrigada grazie dank dankjewel bedankt tack takk terima perfecto excelente
    genial estupendo parfait perfekt ausgezeichnet wunderbar perfeito beeindruckt muito muy perfetto ottimo mantap
    harika trick wow funny hilarious clever creative cute fun touching moving interesting yay super superb 10 100 a+ five
    keep chef's"""
)
