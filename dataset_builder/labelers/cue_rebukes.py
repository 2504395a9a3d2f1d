"""Cues of complaint that address the assistant: it forgot, ignored, contradicted itself, should look again."""

from wildreward.dataset_builder.labelers.cue_tables import Cue, cue, either, words

REBUKES: tuple[Cue, ...] = (
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
        r"(?:said|told (?:you|u)|asked (?:you|u|for|to|not|about|if)|asked$|told before|specified|requested|instructed|already (?:gave|sent|mentioned|explained|provided))\b(?! (?:you (?:a|one) question|goodbye))",
        "short",
        "unanswered",
        "no_apology",
    ),
    cue(
        "i_meant",
        2,
        r"(?:i mea?nt(?! it as\b| can you)|what i(?:'m| am| was)? (?:meant|mean|mean't|wanted|asking|asked)(?: for)?(?: is| was)?|i was (?:asking|talking|referring|looking for|hoping for|expecting)(?! (?:since|because))|i(?:'m| am) (?:asking (?:about|for|these|this|if|whether|in)|talking (?:about|for))|i am not (?:asking|talking))\b",
        "short",
        "unanswered",
        "no_apology",
        "not_aside",
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
        "redo",
        2,
        r"(?:(?:can|could|would|will) you |pls |just |you (?:need to|have to|should|must) |no |nope |i want you to |let's |lets )*"
        + either(
            r"(?:try (?:it |this |that )?(?:once )?again|recalculate|re-?check|check (?:it |this |that |your \w+ |every \w+ )?again|double[- ]check|look again|read (?:it|my \w+|the \w+) again|think again|think about it again|answer again)",
            r"(?:fix (?:it|this|that|the (?:error|bug|issue|problem|code)|your)|correct (?:it|yourself|your))",
        )
        + r"\b(?! (?:with|using|for|but with|my|on (?:hard|easy|an?)|in the|as an?)\b)",
        "brief",
        "no_wish_next",
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
        "refuses",
        2,
        r"no [\w'-]+ (?:is|are|was|isn't|should|shouldn't|doesn't|means?)\b",
        "refutes",
        "brief",
        first=True,
    ),
    cue(
        "you_failed",
        2,
        r"(?:you|u) (?:have )?only (?:gave|give|generated|listed|provided|wrote|included|did|answered|showed|made|used|created|mentioned|translated|covered)\b",
        "rebuke",
        "not_continuing",
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
    cue("redo", 2, r"(?:correct|fix)\b(?: (?:it|this|that|them))?$", "asks_fix"),
    cue(
        "you_failed",
        2,
        r"(?:you|u) seem .{0,40}to have (?:forgotten|missed|ignored|misunderstood|skipped|lost)\b",
        "near",
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
    cue("i_meant", 2, r"i mean (?!what|because|if|maybe|i|you|how|like)\w+", "brief", "unanswered", "opening"),
    cue(
        "contradicts",
        2,
        r"(?:it|it's|its|he|she|they|that|there|those|the|this|you|your|\w+)\b",
        "contradicts",
        "opening",
    ),
    cue("you_failed", 2, r"you(?:'re| are| were) (?:not )?supposed to\b", "short", "unanswered", "early"),
    cue(
        "redo",
        2,
        r"(?:revise|reconsider|recheck|rethink|re-think|correct) your\b(?! (?:\w+ ){1,2}to (?:explain|include|add|make))",
        "brief",
    ),
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
)
