"""Write the report of a study: what is said, and what it means.

Meaning is deterministic, wording depends on the style: a faint consolidation is an "opacity", a dense one in a lower
zone "may represent pneumonia", a faint atelectasis is sometimes only "possible". The labels of the findings text and
its graph come from the choice of sentences, never from reading the text back. The two reserves of other words also say
what else is absent, doubt other faint findings, and speak of what no observation covers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from components.preprocess.phantom import sentences as say
from components.preprocess.phantom.draft import Draft, split
from components.preprocess.phantom.held_out import HELD_OUT
from components.preprocess.phantom.paraphrased import PARAPHRASED
from components.preprocess.phantom.patients import DEVICES, STYLES
from components.preprocess.phantom.shapes import READ_BY, Shape, draw_shape, lay_out
from components.preprocess.phantom.state import (
    OBSERVATION,
    OPACITY_BELOW,
    PNEUMONIA_ABOVE,
    Finding,
    Language,
    StudyState,
)
from model.errors import DataError
from model.records import Labels

# The assumed habits of a phantom radiologist, as probabilities.
MENTIONS_PRESENT = 0.97
MENTIONS_CHANGE = 0.25
MENTIONS_RESOLVED = 0.12
SAYS_POSSIBLE = 0.6  # of an atelectasis below FAINT; in the reserves of whatever is
MENTIONS_NORMAL = {"lungs": 0.9, "parenchyma": 0.75, "pleura": 0.95, "heart": 0.9, "mediastinum": 0.7, "bones": 0.5}

SAYS_ASIDE = 0.25  # with a finding, in the reserves of other words
SAYS_DISTRACTOR = 0.3

FAINT = 0.3
TERSE = 1  # the style that impressions are written in
LUNG_FINDINGS = frozenset({"consolidation", "edema", "atelectasis", "nodule"})

WORDINGS: dict[Language, say.Wording] = {"usual": say.USUAL, "paraphrased": PARAPHRASED, "held_out": HELD_OUT}
# What an aside may call absent.
_ABSENT = {
    "pneumothorax": "pneumothorax/n",
    "pleural_effusion": "pleural/a=z effusion/n@z",
    "edema": "edema/n",
    "consolidation": "consolidation/n",
}
_OF_THE_HEART = ("heart", "mediastin", "cardiac")

_ORDER = tuple(say.PRESENT)
_ZONES = ("upper", "mid", "lower", "")
_BY_SEVERITY = {
    "small": ("small", "moderate", "large"),
    "mild": ("mild", "moderate", "severe"),
    "mildly": ("mildly", "moderately", "severely"),
}
_INDICATIONS = (
    "___ year old {person} with cough.",
    "___ year old {person} with shortness of breath.",
    "___ year old {person} with chest pain.",
    "___ year old {person} with fever.",
    "___ year old {person}, interval change.",
    "___ year old {person}, preoperative evaluation.",
)


@dataclass(frozen=True)
class PhantomReport:
    """A report and what its findings text says."""

    findings: str
    impression: str
    indication: str
    full_text: str  # in the shape of a MIMIC-CXR report file
    labels: Labels  # of `findings`
    graph: dict[str, Any]  # RadGraph layout, of `findings`
    mentioned: list[Finding]
    shape: Shape = "usual"  # of `full_text`; findings and impression are given whether it has their sections or not

    @property
    def findings_read_by(self) -> tuple[str, ...]:
        """The modes of the sectioner that find the findings section in `full_text`."""
        return READ_BY[self.shape]


def write_report(state: StudyState, odd_shapes: bool = False) -> PhantomReport:
    """Write the report of one study. The same state gives the same report.

    odd_shapes: let some files have an addendum, a wrong header or a section less, as real ones do; see shapes.py.
    Raises DataError for a state that cannot be worded: an unknown style, or a finding without its side or zone.
    """
    _check(state)
    rng = np.random.default_rng([state.study_seed, 1])
    words = None if state.language == "usual" else np.random.default_rng([state.study_seed, 30])
    draft = Draft(WORDINGS[state.language], state.style, words)
    for part in (_devices, _lungs, _pleura, _heart, _bones):
        part(draft, state, rng)
    if draft.chance(SAYS_DISTRACTOR):
        draft.add(draft.choose(draft.wording.distractors))
    if not draft.sentences:  # everything omitted: an empty findings section is not a report
        _say_finding(draft, state.findings[0], state, rng)
    findings, graph = say.join(draft.sentences)
    impression = say.join(draft.summary)[0] if draft.summary else "No acute cardiopulmonary process."
    indication = str(rng.choice(_INDICATIONS)).format(person=rng.choice(["man", "woman"]))
    shape = draw_shape(state) if odd_shapes else "usual"
    return PhantomReport(
        findings=findings,
        impression=impression,
        indication=indication,
        full_text=lay_out(state, findings, impression, indication, shape),
        labels=draft.labels(),
        graph=graph,
        mentioned=draft.mentioned,
        shape=shape,
    )


def _check(state: StudyState) -> None:
    if not 0 <= state.style < STYLES:
        raise DataError(f"study {state.study_id} has style {state.style}; use 0 to {STYLES - 1}")
    for finding in (*state.findings, *state.resolved):
        template = say.PRESENT[finding.name][TERSE]
        for part in ("side", "zone"):
            if f"{{{part}}}" in template and not getattr(finding, part):
                raise DataError(f"study {state.study_id} has a {finding.name} with no {part}; its report needs one")
        if not 0 < finding.severity <= 1:
            raise DataError(
                f"study {state.study_id} has a {finding.name} of severity {finding.severity}; use above 0, at most 1"
            )


def observation_of(finding: Finding) -> str:
    """Return the observation that a finding is reported as."""
    if finding.name == "consolidation" and finding.severity < OPACITY_BELOW:
        return "Lung Opacity"
    return OBSERVATION[finding.name]


def may_be_pneumonia(finding: Finding) -> bool:
    return finding.name == "consolidation" and finding.zone == "lower" and finding.severity > PNEUMONIA_ABOVE


def _devices(draft: Draft, state: StudyState, rng: np.random.Generator) -> None:
    _say_all(draft, state, rng, DEVICES)


def _lungs(draft: Draft, state: StudyState, rng: np.random.Generator) -> None:
    _say_all(draft, state, rng, LUNG_FINDINGS)
    names = {finding.name for finding in state.findings}
    if not names & LUNG_FINDINGS:
        _say_normal(draft, state, rng, "lungs", "lungs")
    absent = [name for name in ("consolidation", "edema") if name not in names]
    _say_normal(draft, state, rng, "parenchyma", " or ".join(absent), *(OBSERVATION[name] for name in absent))


def _pleura(draft: Draft, state: StudyState, rng: np.random.Generator) -> None:
    _say_all(draft, state, rng, frozenset({"pleural_effusion", "pneumothorax", "pleural_thickening"}))
    names = {finding.name for finding in state.findings}
    absent = [name for name in ("pleural_effusion", "pneumothorax") if name not in names]
    key = " or ".join(name.removeprefix("pleural_") for name in absent)
    _say_normal(draft, state, rng, "pleura", key, *(OBSERVATION[name] for name in absent))


def _heart(draft: Draft, state: StudyState, rng: np.random.Generator) -> None:
    _say_all(draft, state, rng, frozenset({"cardiomegaly", "enlarged_mediastinum"}))
    names = {finding.name for finding in state.findings}
    if "cardiomegaly" not in names:
        _say_normal(draft, state, rng, "heart", "heart", "Cardiomegaly")
    if "enlarged_mediastinum" not in names:
        _say_normal(draft, state, rng, "mediastinum", "mediastinum", "Enlarged Cardiomediastinum")


def _bones(draft: Draft, state: StudyState, rng: np.random.Generator) -> None:
    _say_all(draft, state, rng, frozenset({"rib_fracture"}))
    if not any(finding.name == "rib_fracture" for finding in state.findings):
        # The usual terse style says "osseous abnormality", which is no mention of a fracture.
        unsaid = state.style == TERSE and state.language == "usual"
        _say_normal(draft, state, rng, "bones", "bones", *(() if unsaid else ("Fracture",)))


def _say_all(draft: Draft, state: StudyState, rng: np.random.Generator, names: frozenset[str]) -> None:
    """Say the present findings of these names, then some of those that went away."""
    for finding in sorted(state.findings, key=_report_order):
        if finding.name in names and rng.random() < MENTIONS_PRESENT:
            _say_finding(draft, finding, state, rng)
    for finding in sorted(state.resolved, key=_report_order):
        if finding.name in names & say.RESOLVED.keys() and rng.random() < MENTIONS_RESOLVED:
            template = draft.choose(_of(draft.wording.resolved, finding))
            draft.add(template, (observation_of(finding), 0), **_slots(finding))


def _report_order(finding: Finding) -> tuple[int, bool, int]:
    return _ORDER.index(finding.name), finding.side != "right", _ZONES.index(finding.zone)


def _of(variants: Mapping[str, tuple[str, ...]], finding: Finding) -> tuple[str, ...]:
    """Return the templates of a finding; the usual ones have a slot where the reserves tell opacities apart."""
    is_opacity = observation_of(finding) == "Lung Opacity" and "opacity" in variants
    return variants["opacity" if is_opacity else finding.name]


def _say_finding(draft: Draft, finding: Finding, state: StudyState, rng: np.random.Generator) -> None:
    wording = draft.wording
    variants = _of(wording.present, finding)
    status, tail, tail_statuses = 1, "", []
    hedges = rng.random() < SAYS_POSSIBLE
    mentions_change = state.has_prior and finding.name not in DEVICES and rng.random() < MENTIONS_CHANGE
    if finding.name in wording.uncertain and finding.severity < FAINT and hedges:
        status, variants = -1, wording.uncertain[finding.name]
    elif may_be_pneumonia(finding):
        tail, tail_statuses = draft.choose(wording.pneumonia), [("Pneumonia", -1)]
    template, more = split(draft.choose(variants))
    if status == 1 and not tail:
        if mentions_change:
            tail = _change(draft, template, finding)
        elif draft.chance(SAYS_ASIDE):
            tail, tail_statuses = _aside(draft, state)
    draft.add(template + tail, (observation_of(finding), status), *more, *tail_statuses, **_slots(finding))
    draft.mentioned.append(finding)
    if finding.name not in DEVICES:
        draft.summary.append(say.parse(split(variants[TERSE])[0], **_slots(finding)))


def _change(draft: Draft, template: str, finding: Finding) -> str:
    """Return the change word. The labeler reads a "stable" heart or mediastinum as uncertain, so these get none."""
    if finding.change not in draft.wording.changes or any(word in template for word in _OF_THE_HEART):
        return ""
    return draft.choose(draft.wording.changes[finding.change])


def _aside(draft: Draft, state: StudyState) -> tuple[str, list[tuple[str, int]]]:
    """Return words for the absence of something else, and their status."""
    names = {finding.name for finding in state.findings}
    absent = tuple(name for name in _ABSENT if name not in names)
    if not absent:
        return "", []
    name = draft.choose(absent)
    return draft.choose(draft.wording.asides).format(absent=_ABSENT[name]), [(OBSERVATION[name], 0)]


def _say_normal(draft: Draft, state: StudyState, rng: np.random.Generator, part: str, key: str, *negated: str) -> None:
    if key and rng.random() < MENTIONS_NORMAL[part]:
        draft.add(draft.choose(draft.wording.normal[key]), *((name, 0) for name in negated))


def _slots(finding: Finding) -> dict[str, str]:
    level = int(finding.severity >= 0.33) + int(finding.severity >= 0.66)
    scale = "mild" if finding.name in ("cardiomegaly", "edema") else "small"
    return {
        "side": finding.side,
        "zone": finding.zone,
        "amount": _BY_SEVERITY[scale][level],
        "degree": _BY_SEVERITY["mildly"][level],
        "what": "opacity" if observation_of(finding) == "Lung Opacity" else "consolidation",
    }
