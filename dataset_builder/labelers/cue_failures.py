"""Cues of complaint: what the answer gave was tried, and failed. See `cue_tables` for how cues are read."""

import re

from wildreward.dataset_builder.labelers.cue_tables import NOT, Cue, cue, either, words

_ERROR = words(r"\w*errors? \w*exceptions? traceback")
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

FAILURES: tuple[Cue, ...] = (
    cue(
        "not_working",
        2,
        r"(?!(?:if|when|what|how|why|assuming|give|make|please|no|just|but|so|update|can|could|don't|dont|do|did i|we|i have|words|a|an|he|she|they|who|people|users?|even if|even though|players?|someone|everyone)\b)"
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
            r"(?:exact(?:ly)? |the |getting the |get the )*same (?:error|errors|issue|problem|result|results|thing|output|message|mistake|answer|behaviou?r)(?! (?:to|for|in|as an?|as the|with|about|on)\b)",
        )
        + r"\b",
        "stated",
        "unanswered",
        "no_wish_next",
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
        "already_tried",
        2,
        r"(?:i|we)(?:'ve| have| did| am|'m)?(?: just)? (?:already (?:did|done|tried|doing)|(?:tried|did|done) (?:that|this|it|all|your|the)(?: already)?|have tried)\b",
        "tryable",
        "short",
        "no_success",
        first=True,
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
    cue("not_working", 2, r"i (?:only|just) (?:got|get|see|have)\b", "tryable", "brief", "stated"),
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
    cue(
        "still_wrong",
        2,
        r"(?:the |that |this |same |your )?(?:[\w'-]+ )?(?:errors?|issues?|problems?|bugs?) (?:still |also )?(?:persists?|remains?|is still|are still|still|happens again|continues?|exists?)\b",
        "tryable",
        "short",
    ),
    cue(
        "not_working",
        2,
        r"(?:the|my|all|some|your) (?:[\w'-]+ ){1,4}(?:is|are|was|were|have|has) (?:gone|disappeared|vanished|broken|lost)\b",
        "tryable",
        "brief",
        "stated",
    ),
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
        "level",
        "access",
        "dumped",
        "pointer",
        "exact",
        "applied",
        "aborting",
        "is not ",
        "required",
        "exit status",
    ),
)

# A pasted message of something that failed.
ERROR_TEXT = re.compile(
    either(
        r"traceback \(most recent|uninitialized constant|\bline \d+: .{0,40}(?:expected|unexpected|not found|error)|exception has occurred|an error occurred \(|\b\w+(?:error|exception)\b\s*['\"]|\bcurl: \(\d|\berror \w{0,4}\d{2,}\b|(?<!except )(?<!catch )(?<!squared )(?<!absolute )(?<!standard )(?<!mean )\b[\w.]*(?:error|exception)\b\s*[:\[]|\b(?:msg \d+, level|invalid column|access denied|core dumped|segfault|null ?pointer ?exception)|cannot be (?:applied to|converted|found|resolved|null)|no exact matches in|integer expression expected|aborting installation|is not (?:iterable|callable|subscriptable)|missing \d+ required|\buncaught\b|level=error|segmentation fault|npm err|exit status|errno",
        r"\b(?:is|was) not (?:recognized as|defined\b|a function)|no module named|cannot find (?:module|name|symbol)|undefined (?:reference|method|variable|index)",
        r"could not (?:find|resolve|load|be (?:found|resolved|located))|command not found|no such (?:file|table|column|module)|permission denied",
        r"has no (?:attribute|exported member|member)|unexpected (?:token|eof|end of|identifier|indent)|unable to (?:locate|load|resolve|import)",
        r"does not (?:exist on type|contain a definition|conform to)|cannot (?:read propert|import name|use import)|can't (?:resolve|call) |unknown option",
        r"invalid (?:syntax|drive|literal)|failed to (?:compile|load|resolve|execute|import|install|fetch)|not assignable to|undefined is not|expected ';'",
    )
)
