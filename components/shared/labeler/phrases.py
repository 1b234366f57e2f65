"""What the labeler looks for: the phrase families of the observations.

Everything here is data; the words that change the status of a mention are in triggers.py. The families are regular
expressions over lower-cased text; each begins at a word and states its own end, so that "port" is neither "portable"
nor (unless fidelity is "original") part of "support".
"""

CARDIAC_PARTS = r"(?:sizes?|silhouettes?|shadows?|contours?|width)\b"
# "heart and mediastinal contours", "cardiac, mediastinal and hilar silhouettes"
JOINED = r"(?:(?:,| and|, and) (?:the )?(?:cardiac|heart|mediastinal|cardiomediastinal|hilar|aortic))*"

# Names of the disease itself: a mention is positive unless something in the sentence says otherwise.
FAMILIES: dict[str, tuple[str, ...]] = {
    "Cardiomegaly": (
        r"cardi[oa]-?megall?y\b",
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
        r"nodular (?:densit|opaci)\w+",
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
    "Atelectasis": (r"atel[ei]ct[ae]\w+", r"collapse[sd]?\b"),
    "Pneumothorax": (r"\w*pn(?:eu|ue|e)mo-?thora(?:x|ces)\b",),
    "Pleural Effusion": (r"eff?uss?ions?\b", r"pleural fluid\b"),
    "Pleural Other": (
        r"pleural thickening\b",
        r"thickening of (?:the )?(?:\w+ ){0,3}pleura\b",
        r"fibrosis\b",
        r"fibrothorax\b",
        r"pleur(?:al|o-?parenchymal|o-?pericardial) scar(?:s|ring)?\b",
    ),
    "Fracture": (r"fractur\w+",),
    "Support Devices": (
        r"line\b",
        r"lines\b",
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
        r"(?:size|contour|silhouette|width) of the (?:heart|cardiac)\b",
    ),
    "Enlarged Cardiomediastinum": (
        r"(?:cardio)?mediastinum\b",
        rf"(?:cardio-?)?mediastinal{JOINED} (?:silhouettes?|contours?|configurations?|width|borders?)\b",
        r"pericardial (?:silhouettes?|configurations?)\b",
    ),
}

# Fidelity "original" finds a family anywhere in a word; these alone are whole words there too.
WHOLE_WORDS = frozenset({r"line\b", r"drains?\b", r"ports?\b", r"ett\b", r"ngt\b"})
# Only under fidelity "original".
ORIGINAL_EXTRA: dict[str, tuple[str, ...]] = {"Support Devices": (r"support",)}
ORIGINAL_NEUTRAL: dict[str, tuple[str, ...]] = {"Enlarged Cardiomediastinum": (r"contour",)}

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
    "Lung Lesion": (r"\bmass(?:ive|achusetts)\w*", r"\bcalcified (?:\w+ )?nodul\w*"),
    "Lung Opacity": (r"\bpleur\w+[ -](?:parenchymal )?scar\w*",),
    "Cardiomegaly": (rf"\b{_POSITION}(?:heart|cardiac)(?: {CARDIAC_PARTS})?",),
    "Enlarged Cardiomediastinum": (
        rf"\b{_POSITION}(?:cardio)?mediastin(?:um|al)\b(?: silhouette| contours?)?",
        r"\bshift of the mediastinum\b",
    ),
    "Support Devices": (
        r"\b(?:pleural|fissural|septal|fracture|kerley(?: b)?|skin) lines?\b",
        r"\bcardiophrenic lines?\b",
    ),
    "Atelectasis": (r"\b(?:vertebral|vertebra)[a-z ]* collapse\w*",),
}
