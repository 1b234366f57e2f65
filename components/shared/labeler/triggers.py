"""The words that change the status of a mention, and the words that limit how far they reach. Data only."""

from typing import Literal, NamedTuple

Category = Literal["pseudo", "pre_uncertain", "negated", "uncertain", "normal", "stable", "abnormal"]
Direction = Literal["forward", "backward", "both"]
Reach = Literal["list", "near"]


class Trigger(NamedTuple):
    """A word that changes the status of mentions around it.

    `reach`: "list" runs on through "a, b, or c"; "near" passes only "or", for adjectives such as "possible".
    """

    rule: str
    category: Category
    direction: Direction
    reach: Reach
    pattern: str


_ADV = r"(?:\w+ly )?"
_SEEN = (
    r"(?:seen|identified|present|visuali[sz]ed|evident|appreciated|demonstrated|detected|apparent|observed|noted"
    r"|visible)"
)
_MODAL = r"(?:may|might|could)"
_NOT = r"(?:not|(?:is|are|was|were|has|have|had|does|do|did|could)n't)"
_ASKED = r"(?:excluded|ruled out)"
_END = r"(?=\s*(?:$|[,;:.)]|and\b|or\b|at\b|in\b|on\b|given\b|but\b|as well\b))"
_GONE = r"(?:resolved|removed|cleared|disappeared|withdrawn|gone)"
_CHANGE = r"(?:change|increase|decrease|improvement|worsening|enlargement in)"

# In order of precedence where several match at the same place: the first wins.
TRIGGERS: tuple[Trigger, ...] = (
    Trigger(
        "stable.no_change",
        "stable",
        "both",
        "list",
        r"(?:no|without) (?:significant |interval |appreciable |substantial |relevant |definite |major |important )*"
        + _CHANGE
        + r"\b|not (?:significantly |appreciably |substantially )?changed",
    ),
    Trigger(
        "pseudo.partly_gone",
        "pseudo",
        "both",
        "near",
        rf"(?:{_NOT}|not yet|partially|partly|incompletely|nearly|almost|largely|mostly)"
        + r" (?:completely |entirely |fully )?"
        + _GONE
        + r"|(?:near(?:ly)?[ -]complete|partial|incomplete) (?:resolution|clearing)(?: of)?"
        r"|(?:no|without) (?:\w+ )?(?:resolution|clearing|removal)(?: of)?|not absent\b"
        rf"|not {_ADV}{_SEEN} (?:on|in|at) (?:the |any )?(?:prior|previous|earlier|preceding|last|comparison|old)",
    ),
    Trigger(
        "pre.not_excluded",
        "pre_uncertain",
        "backward",
        "list",
        rf"(?:cannot|can't|{_NOT}|difficult to) {_ADV}(?:be )?{_ADV}{_ASKED}|(?:to|must|should) be {_ASKED}"
        r"|(?:is|are) difficult to (?:exclude|rule out)",
    ),
    Trigger(
        "pre.cannot_exclude",
        "pre_uncertain",
        "forward",
        "list",
        rf"(?:cannot|can't|{_NOT}|difficult to|unable to) {_ADV}(?:exclude|rule out)",
    ),
    Trigger("pre.no_new", "pre_uncertain", "forward", "list", r"no new\b"),
    Trigger("neg.no_longer", "negated", "backward", "list", rf"no longer {_ADV}{_SEEN}"),
    Trigger("neg.not_seen", "negated", "backward", "list", rf"{_NOT}(?: been)? {_ADV}(?:{_SEEN}|suspected|recurred)"),
    Trigger(
        "neg.not_enlarged_x",
        "negated",
        "forward",
        "near",
        r"(?:not |non-?)(?:enlarged|widened) (?=(?:heart|cardiac|(?:cardio)?mediast))",
    ),
    Trigger(
        "neg.not_enlarged", "negated", "backward", "list", rf"(?:{_NOT}|neither|no longer) {_ADV}(?:enlarged|widened)"
    ),
    Trigger("neg.none", "negated", "backward", "list", r"(?:none|no|negative)(?=\s*$)"),
    Trigger(
        "neg.no",
        "negated",
        "forward",
        "list",
        r"no\b(?! longer)|without\b|nor\b|neither\b|free of|negative for|clear of|absence of|lack of|rather than"
        r"|instead of|(?<=, )not an?\b|there (?:is|are) no longer\b|w/o\b|(?:is|are|was|were)(?: not|n't) (?:an?|any)\b"
        rf"|{_NOT} (?:show|demonstrate|reveal|have|contain|represent|suggest|support)\b"
        r"|rules out\b|ruled out(?= \w)(?! (?:at|in|on|by|with|given|and|or|but)\b)",
    ),
    Trigger("neg.removal_of", "negated", "forward", "near", r"(?:resolution|removal|clearing|disappearance) of"),
    Trigger(
        "neg.resolved_x",
        "negated",
        "forward",
        "near",
        rf"(?:^|(?<=, )|(?<=the )|(?<=with )|(?<=interval )){_GONE}(?= (?!after|since|in|on|from))",
    ),
    Trigger("neg.resolved", "negated", "backward", "list", rf"{_GONE}|(?:is|are|was|been) {_ASKED}|{_ASKED}{_END}"),
    Trigger("neg.absent", "negated", "backward", "list", r"absent\b"),
    Trigger(
        "normal",
        "normal",
        "both",
        "list",
        r"(?:at )?(?:the )?(?:upper|high) limits? of normal|within normal limits|(?:top|high)[ -]normal|normal\b"
        r"|unremarkable",
    ),
    Trigger(
        "stable",
        "stable",
        "both",
        "list",
        r"stable\b|unchanged|(?:is|are) similar(?: to prior)?|similar to (?:the )?prior",
    ),
    Trigger(
        "unc.enlarged",
        "uncertain",
        "both",
        "near",
        rf"(?:{_MODAL} be|possibly|probably|likely|borderline) {_ADV}(?:enlarged|widened|prominent)|borderline",
    ),
    Trigger(
        "unc.may_exist",
        "uncertain",
        "backward",
        "list",
        rf"{_MODAL} (?:also )?(?:be )?(?:present|exist|persist|coexist)",
    ),
    Trigger(
        "unc.is_possible",
        "uncertain",
        "backward",
        "list",
        rf"(?:is|are) (?:also )?(?:possible|probable|likely|unlikely|questionable|presumed){_END}"
        rf"|(?:is|are) (?:also )?(?:suspected|questioned|considered|a consideration|a possibility){_END}"
        rf"|{_MODAL} be considered|(?:less |un)likely{_END}|(?:in|on) the differential\b",
    ),
    Trigger("unc.may", "uncertain", "forward", "list", rf"{_MODAL}\b"),
    Trigger(
        "unc.concern_for",
        "uncertain",
        "forward",
        "list",
        r"(?:suspicio\w+|concern\w*|worrisome) (?:for|of)|question(?: of)?\b|possibility of|favou?r\w*|consider\w*"
        r"|suspect\b|unlikely to\b|differential(?: \w+)? (?:includes?|of|is|are)\b",
    ),
    # What is asked is not said: "rule out x", "evaluate for x", "x?", "x (?)", "? x", "is there x?".
    Trigger("unc.rule_out", "uncertain", "forward", "list", r"rule out|r/o\b|exclude\b|(?:evaluat|assess)\w* for\b"),
    Trigger("unc.asked", "uncertain", "backward", "near", r"\?\)?$|\(\?\)"),
    Trigger("unc.asks_for", "uncertain", "forward", "near", r"\?"),
    Trigger("unc.asks", "uncertain", "forward", "list", r"^(?:is|are|was|were|any|does|do)\b(?=.*\?$)"),
    Trigger(
        "unc.possible",
        "uncertain",
        "forward",
        "near",
        r"(?:possibl[ey]|probabl[ey]|(?:most |less |very )?likely|presum(?:ably|ed)|questionable|suspected"
        r"|equivocal)\b",
    ),
    Trigger("unc.versus", "uncertain", "both", "near", r"versus\b|vs\b\.?|and/or\b"),
    Trigger(
        "abnormal",
        "abnormal",
        "both",
        "near",
        r"enlarged|enlargement|widened|widening|broadened|dilated|abnormal\b|not (?:normal|unremarkable)\b"
        r"|(?:is|are|remains?|appears?) (?:(?!not?\b)\w+ )?(?:large|big|wide|increased|prominent)\b"
        r"|prominence of (?:the )?(?=(?:heart|cardiac|(?:cardio)?mediast))"
        r"|(?:large|big|wide|prominent|increased) (?=heart|cardiac|(?:cardio)?mediast)|increase in|has increased",
    ),
)

# No scope crosses these.
TERMINATORS = (
    r"\b(?:but|however|although|though|except|while|whereas|which|aside from|apart from|other than|besides|yet"
    r"|there (?:is|are))\b"
    r"|;|(?<!consistent )(?<!compatible )(?<!compared )(?<!comparison )(?<!keeping )(?<!associated )\bwith\b"
)
COORDINATORS = r",\s*(?:and/or|and|or|nor)\b|,|\band/or\b|\bas well as\b|\b(?:and|or|nor)\b|(?<=[a-z])/(?=[a-z])"
FINITE_VERBS = (
    r"\b(?:is|are|was|were|has|have|remains?|appears?|persists?|shows?|demonstrates?|projects?|terminates?|ends?|lies|"
    r"overlies|extends?|may|might|could|can|cannot|obscures?)\b"
)
CLOSED = rf"{FINITE_VERBS}|\b{_SEEN}\b"  # what is negated before one of these is complete
# Between the two sides of "versus": what stands before these words is not one of the alternatives.
EXPLAINS = rf"{FINITE_VERBS}|\b(?:reflecting|representing|suggesting|indicating|due to|from)\b"
# Words that open a claim of its own after "no x and" or "no x,".
NEW_CLAIM = (
    r"\s*(?:an?|the|there|small|moderate|mild|severe|minimal|trace|stable|unchanged|persistent|enlarged|improved"
    r"|worsened)\b"
)
