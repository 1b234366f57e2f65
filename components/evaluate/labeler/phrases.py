"""What the labeler looks for: phrase families of the observations, and the words that change a mention's status.

Everything here is data. The families are regular expressions over lower-cased text; each begins at a word and states
its own end, so that "port" is neither "portable" nor (unless fidelity is "original") part of "support".
"""

from typing import Literal, NamedTuple

CARDIAC_PARTS = r"(?:sizes?|silhouettes?|shadows?|contours?|width)\b"
# "heart and mediastinal contours", "cardiac, mediastinal and hilar silhouettes"
JOINED = r"(?:(?:,| and|, and) (?:the )?(?:cardiac|heart|mediastinal|cardiomediastinal|hilar|aortic))*"

# Names of the disease itself: a mention is positive unless something in the sentence says otherwise.
FAMILIES: dict[str, tuple[str, ...]] = {
    "Cardiomegaly": (
        r"cardiomegaly\b",
        r"(?:cardiac|heart) enlargement\b",
    ),
    "Enlarged Cardiomediastinum": (
        r"(?:cardio)?mediastinal (?:widening|enlargement)\b",
        r"widen(?:ed|ing of the) (?:upper |superior )?(?:cardio)?mediastin(?:um|al)\b(?: contours?| silhouettes?)?",
    ),
    "Lung Opacity": (
        r"opaci\w*",
        r"infiltrat\w*",
        r"air[ -]?space (?:disease|process|consolidation)\w*",
        r"(?:interstitial|reticular) (?:lung )?(?:marking|pattern)s?\b",
        r"reticulation\w*",
        r"increased densit\w+",
        r"decreased translucency\b",
        r"(?:parenchymal )?scar(?:s|ring)?\b",
        r"(?:peribronchial|bronchial wall|wall) thickening\b",
    ),
    "Lung Lesion": (
        r"mass(?:es)?\b",
        r"nodules?\b",
        r"nodular (?:densit|opacit)\w+",
        r"lumps?\b",
        r"cavitary lesions?\b",
        r"(?:lung|pulmonary) lesions?\b",
        r"\w*carcinoma\w*",
        r"neoplas\w+",
        r"tumou?rs?\b",
    ),
    "Edema": (
        r"o?edema\b",
        r"heart failure\b",
        r"chf\b",
        r"(?:pulmonary |vascular |venous )+congestion\b",
        r"vascular prominence\b",
        r"indistinct\w*",
    ),
    "Consolidation": (r"consolidat\w+",),
    "Pneumonia": (r"\w*pneumonias?\b", r"infecti(?:on|ons|ous)\b"),
    "Atelectasis": (r"atelecta\w+", r"collapse[sd]?\b"),
    "Pneumothorax": (r"\w*pneumothora(?:x|ces)\b",),
    "Pleural Effusion": (r"effusions?\b", r"pleural fluid\b"),
    "Pleural Other": (
        r"pleural thickening\b",
        r"thickening of the (?:\w+ )?pleura\b",
        r"fibrosis\b",
        r"fibrothorax\b",
        r"pleur(?:al|o-?parenchymal|o-?pericardial) scar(?:s|ring)?\b",
    ),
    "Fracture": (r"fractur\w+",),
    "Support Devices": (
        r"lines?\b",
        r"picc\b",
        r"tubes?\b",
        r"endotracheal\b",
        r"ett\b",
        r"ngt\b",
        r"catheters?\b",
        r"cannulas?\b",
        r"drains?\b",
        r"valves?\b",
        r"(?:pacer|pacemaker)s?\b",
        r"pac(?:ing|er) (?:leads?|wires?)\b",
        r"(?:aicd|icd|defibrillator)s?\b",
        r"devices?\b",
        r"hardware\b",
        r"plates?\b(?![ -](?:like|atelecta))",
        r"screws?\b",
        r"coils?\b",
        r"arthroplast\w+",
        r"ports?\b",
        r"port-a-caths?\b",
        r"markers?\b",
        r"apparatus\b",
        r"equipment\b",
    ),
}

# Words for a normal organ: they say nothing until the sentence calls the organ normal, unchanged or enlarged.
NEUTRAL_FAMILIES: dict[str, tuple[str, ...]] = {
    "Cardiomegaly": (
        rf"(?:heart|cardiac){JOINED} {CARDIAC_PARTS}",
        r"(?:the )?heart\b(?! (?:failure|border|valve|rate|enlargement))",
        rf"(?:size|contour|silhouette|width) of the (?:heart|cardiac)\b",
    ),
    "Enlarged Cardiomediastinum": (
        r"(?:cardio)?mediastinum\b",
        rf"(?:cardio-?)?mediastinal{JOINED} (?:silhouettes?|contours?|configurations?|width|borders?)\b",
        r"pericardial (?:silhouettes?|configurations?)\b",
    ),
}

# Only under fidelity "original", which also drops the word boundary before every family.
ORIGINAL_EXTRA: dict[str, tuple[str, ...]] = {
    "Enlarged Cardiomediastinum": (r"contour",),
    "Support Devices": (r"support",),
}

# These make no label, but a report with one of them is not "No Finding".
BLOCKERS: tuple[str, ...] = (
    r"emphysem\w+",
    r"copd\b",
    r"hyper-?(?:inflat|expan|lucen)\w+",
    r"(?:kypho)?scolio\w+",
    r"kypho\w+",
    r"degenerative\b",
    r"calcif\w+",
    r"granuloma\w*",
    r"hernia\w*",
    r"atherosclero\w+",
    r"osteopeni\w+",
    r"volume loss\b",
    r"deformit\w+",
    r"pleural plaques?\b",
    r"elevat(?:ed|ion)\b",
    r"blunt\w+",
    r"prominen\w+",
    r"cuffing\b",
    r"aspiration\b",
    r"hemorrhag\w+",
    r"pneumoperitoneum\b",
    r"pneumomediastinum\b",
    r"tracheostomy\b",
    r"densit\w+",
)

_POSITION = (
    r"(?:over(?:ly|lying|lies|lie)?|behind|along|obscur\w+|(?<!change )(?<!increase )(?<!enlargement )in) "
    r"(?:the )?(?:superior |left |right |lower |mid )?"
)
# A hit that overlaps one of these is no mention of that observation.
UNMENTIONS: dict[str, tuple[str, ...]] = {
    "Pleural Effusion": (r"\b(?:peri)cardial effusions?", r"\b(?:knee |hip )?joint effusions?"),
    "Lung Lesion": (r"\bmassive\w*", r"\bcalcified (?:\w+ )?nodul\w*"),
    "Lung Opacity": (r"\bpleur\w+[ -](?:parenchymal )?scar\w*",),
    "Cardiomegaly": (rf"\b{_POSITION}(?:heart|cardiac)(?: {CARDIAC_PARTS})?",),
    "Enlarged Cardiomediastinum": (
        rf"\b{_POSITION}(?:cardio)?mediastin(?:um|al)\b(?: silhouette| contours?)?",
        r"\bshift of the mediastinum\b",
    ),
    "Support Devices": (r"\b(?:pleural|fissural|septal|kerley(?: b)?|skin) lines?\b", r"\bcardiophrenic lines?\b"),
    "Atelectasis": (r"\b(?:vertebral|vertebra)[a-z ]* collapse\w*",),
}

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
_SEEN = r"(?:seen|identified|present|visuali[sz]ed|evident|appreciated|demonstrated|detected|apparent|observed|noted|visible)"
_MODAL = r"(?:may|might|could)"
_END = r"(?=\s*(?:$|[,;:.)]|and\b|or\b|at\b|in\b|on\b|given\b|but\b|as well\b))"
_GONE = r"(?:resolved|removed|cleared|disappeared|withdrawn)"
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
        r"(?:not|not yet|partially|partly|incompletely|nearly|almost|largely|mostly) (?:completely |entirely |fully )?"
        + _GONE
        + r"|near(?:ly)?[ -]complete (?:resolution|clearing)(?: of)?|(?:partial|incomplete) (?:resolution|clearing)(?: of)?",
    ),
    Trigger(
        "pre.not_excluded",
        "pre_uncertain",
        "backward",
        "list",
        rf"(?:cannot|can not|could not|not|difficult to)(?: be)? {_ADV}(?:excluded|ruled out)"
        r"|(?:is|are) difficult to (?:exclude|rule out)",
    ),
    Trigger(
        "pre.cannot_exclude",
        "pre_uncertain",
        "forward",
        "list",
        rf"(?:cannot|can not|could not|not|difficult to) {_ADV}(?:exclude|rule out)",
    ),
    Trigger("pre.no_new", "pre_uncertain", "forward", "list", r"no new\b"),
    Trigger("neg.no_longer", "negated", "backward", "list", rf"no longer {_ADV}{_SEEN}"),
    Trigger("neg.not_seen", "negated", "backward", "list", rf"not(?: been)? {_ADV}{_SEEN}"),
    Trigger("neg.not_enlarged", "negated", "backward", "list", rf"not {_ADV}(?:enlarged|widened)"),
    Trigger(
        "neg.no",
        "negated",
        "forward",
        "list",
        r"no\b(?! longer)|without\b|nor\b|neither\b|free of|negative for|clear of|absence of|lack of|rather than|instead of"
        r"|not (?:show|demonstrate|reveal|have|contain|represent|suggest)\b",
    ),
    Trigger("neg.removal_of", "negated", "forward", "near", r"(?:resolution|removal|clearing|disappearance) of"),
    Trigger(
        "neg.resolved_x",
        "negated",
        "forward",
        "near",
        rf"(?:^|(?<=, )|(?<=the )|(?<=interval )){_GONE}(?= (?!after|since|in|on|from))",
    ),
    Trigger("neg.resolved", "negated", "backward", "list", rf"\b{_GONE}|(?:is|are|was|been) (?:excluded|ruled out)"),
    Trigger("neg.absent", "negated", "backward", "list", r"absent\b|: none\b"),
    Trigger(
        "normal",
        "normal",
        "both",
        "list",
        r"(?:at )?(?:the )?(?:upper|high) limits? of normal|within normal limits|(?:top|high)[ -]normal|normal\b|unremarkable",
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
        rf"|{_MODAL} be considered|less likely{_END}",
    ),
    Trigger("unc.may", "uncertain", "forward", "list", rf"{_MODAL}\b"),
    Trigger(
        "unc.concern_for",
        "uncertain",
        "forward",
        "list",
        r"(?:suspicio\w+|concern\w*|worrisome) (?:for|of)|question of|possibility of|favou?r\w*|consider\w*|suspect\b",
    ),
    Trigger(
        "unc.possible",
        "uncertain",
        "forward",
        "near",
        r"(?:possibl[ey]|probabl[ey]|(?:most |less |very )?likely|presum(?:ably|ed)|questionable|suspected|equivocal)\b",
    ),
    Trigger("unc.versus", "uncertain", "both", "near", r"versus\b|vs\b\.?|and/or\b"),
    Trigger(
        "abnormal",
        "abnormal",
        "both",
        "near",
        r"enlarged|enlargement|widened|widening|broadened|dilated|abnormal\b"
        r"|(?:is|are|remains?|appears?) (?:\w+ )?(?:large|big|wide|increased|prominent)\b"
        r"|(?:large|big|prominent|increased) (?=heart|cardiac|(?:cardio)?mediast)|increase in|has increased",
    ),
)

# No scope crosses these.
TERMINATORS = (
    r"\b(?:but|however|although|though|except|while|whereas|which|aside from|apart from|other than|besides|yet|there (?:is|are))\b"
    r"|;|(?<!consistent )(?<!compatible )(?<!compared )(?<!comparison )(?<!keeping )(?<!associated )\bwith\b"
)
COORDINATORS = r",\s*(?:and/or|and|or|nor)\b|,|\band/or\b|\bas well as\b|\b(?:and|or|nor)\b|(?<=[a-z])/(?=[a-z])"
FINITE_VERBS = (
    r"\b(?:is|are|was|were|has|have|remains?|appears?|persists?|shows?|demonstrates?|projects?|terminates?|ends?|lies|"
    r"overlies|extends?|may|might|could|can|cannot|obscures?)\b"
)
# Between the two sides of "versus": what stands before these words is not one of the alternatives.
EXPLAINS = rf"{FINITE_VERBS}|\b(?:reflecting|representing|suggesting|indicating|due to|from)\b"
# Words that open a claim of its own after "no x and" or "no x,".
NEW_CLAIM = r"\s*(?:an?|the|there|small|moderate|mild|severe|minimal|trace|stable|unchanged|persistent|enlarged|improved|worsened)\b"
