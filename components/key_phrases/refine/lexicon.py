"""The words whose meaning the guard knows. Data only, and readable: one line per meaning, synonyms behind it.

A word that stands nowhere here is not harmless: it has to be in both phrases, unchanged but for its plural.
"""

import re
from collections.abc import Mapping
from typing import Literal

Category = Literal["observation", "anatomy", "side", "severity", "change", "negation", "hedge", "number", "neutral",
                   "person", "word"]  # fmt: skip


def _entries(category: Category, table: str) -> dict[str, tuple[Category, str]]:
    """One meaning per line: the canonical word, then its synonyms."""
    rows = [line.split() for line in table.strip().splitlines()]
    return {word: (category, row[0]) for row in rows for word in row}


OBSERVATIONS = _entries(
    "observation",
    """
    effusion
    fluid
    pneumothorax
    edema oedema
    consolidation
    opacity opacification
    infiltrate
    atelectasis
    pneumonia
    infection
    nodule
    mass
    lesion
    cavity
    cardiomegaly
    congestion
    emphysema
    fibrosis
    scar scarring
    thickening thickened
    fracture fractured
    abnormality
    disease
    process
    widened widening
    enlarged enlargement
    calcification calcified
    granuloma
    hernia
    blunting blunted
    elevation elevated
    collapse collapsed
    hyperinflation hyperinflated
    deformity
    scoliosis
    pneumomediastinum
    pneumoperitoneum
    hemorrhage
    tube
    line
    catheter
    picc
    pacemaker pacer
    lead
    wire
    clip
    drain
    device
    valve
    clear
    normal
    unremarkable
    intact
    expanded
    """,
)
ANATOMIES = _entries(
    "anatomy",
    """
    lung pulmonary
    lungs
    pleural pleura
    heart cardiac
    mediastinum mediastinal
    cardiomediastinal
    hilum hilar
    hila
    base basal basilar
    bases
    apex apical
    apices
    lobe lobar
    lobes
    upper
    mid
    middle
    lower
    perihilar
    retrocardiac
    interstitial interstitium
    rib ribs
    clavicle
    spine spinal
    diaphragm
    hemidiaphragm
    costophrenic
    angle
    angles
    trachea tracheal
    carina
    aorta aortic
    stomach gastric
    lingula lingular
    fissure
    osseous bony bone bones
    vertebra vertebral
    shoulder
    chest thorax
    hemithorax
    svc
    atrium
    jugular
    subclavian
    pericardial pericardium
    esophagus esophageal
    silhouette
    contour
    size
    """,
)
SIDES = _entries("side", "right\nleft\nbilateral bilaterally both\nunilateral")
SEVERITIES = _entries(
    "severity",
    """
    tiny
    trace
    minimal minimally
    small
    slight slightly
    mild mildly
    moderate moderately
    large
    severe severely
    marked markedly
    extensive extensively
    massive
    subtle
    faint
    """,
)
# A change speaks of an earlier study: one that the tuple does not have is an invented prior.
CHANGES = _entries(
    "change",
    """
    unchanged stable
    new newly
    worse worsened worsening
    improved improving improvement
    increased increasing increase
    decreased decreasing decrease
    persistent persisting
    resolved resolving
    recurrent
    progressive progression
    interval
    again
    remains
    prior previous previously earlier
    comparison compared
    since
    """,
)
NEGATIONS = _entries("negation", "no without\nabsent\nnot\nnor neither none never\nnegative\nexcluded\ndenies")
HEDGES = _entries(
    "hedge",
    "possible possibly probable probably likely questionable questionably suspected suspicion presumed maybe"
    " may might could equivocal",
)
NUMBERS = _entries(
    "number",
    "cm\nmm\nzero\none\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\nten\neleven\ntwelve\nmultiple\nseveral\nfew",
)
# Words that a phrase may gain or lose without saying anything else.
NEUTRAL = _entries(
    "neutral",
    """
    a an the
    in at on of within involving
    there is are be that which
    seen noted present identified visible visualized demonstrated observed evident
    evidence sign signs finding findings
    area areas region zone zones field fields space
    side sided sized amount
    structures
    measuring diameter by x
    and
    """,
)
PERSONS = _entries(
    "person",
    """
    patient patients he she his her man woman male female mr mrs ms dr
    today yesterday date year years month months week weeks day days hour hours
    """,
)
WORDS: Mapping[str, tuple[Category, str]] = {
    **OBSERVATIONS, **ANATOMIES, **SIDES, **SEVERITIES, **CHANGES, **NEGATIONS, **HEDGES, **NUMBERS, **NEUTRAL,
    **PERSONS,
}  # fmt: skip

_SEEN = "(?:seen|identified|present|visible|visualized|evident|noted|demonstrated|observed)"
# Before the words are read, in this order.
REWRITES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\bnon[- ](?=[a-z])", "non"),
        (r"\bmid-?(?=lung|zone)", "mid "),
        (r"\bair[- ]space\b", "airspace"),
        (r"\bat the level of\b", "at"),  # elsewhere a level has a meaning: "air-fluid level"
        (r"(?<=\d)(?=[cm]m\b)", " "),
        (r"\bwithin normal limits\b", "normal"),
        (r"\bnormal in size\b", "normal size"),
        (r"\b(?:absence|lack) of\b|\bfree (?:of|from)\b|\bnegative for\b", "no"),
        (rf"\b(?:is |are )?not {_SEEN}$|\b(?:is|are) absent$", "absent"),
        (r"\b(?:can ?not|could not) be (?:entirely |completely )?excluded$", "possible"),
        (r"\b(?:may|might|could) be (?:present|seen)$", "possible"),
        (r"^(?:concern|suspicion|question|possibility) (?:for|of)\b", "possible"),
        (r"\bbi(?=basilar\b|basal\b|apical\b)", "bilateral "),
        (r"\b(base|apex) of the ((?:right|left) )?lung\b", r"\2\1"),
        (r"\blung (?=base|apex|apices)", ""),
        (r"\b(?:right and left|left and right)\b", "bilateral"),
    )
)
# Introduces what the observation may stand for. Only tentative ones: "due to" would assert it.
LINK = re.compile(
    r",? (?:that |which )?(?:suggestive of|suggesting|suspicious for|concerning for|worrisome for"
    r"|raising (?:concern|suspicion) for"
    r"|(?:may|might|could|possibly|probably|likely) (?:be|represent|reflect|indicate|suggest)(?:s|ing)?(?: an?)?) "
    r"|, (?:possibly|probably|likely) (?=[a-z])"
)
