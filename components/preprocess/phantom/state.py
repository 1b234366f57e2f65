"""What is true of one phantom study: the contract between the renderer, the report grammar and the exported truth."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

GENERATOR = "phantom@0.2.0"

FindingName = Literal[
    "cardiomegaly",
    "enlarged_mediastinum",
    "pleural_effusion",
    "pneumothorax",
    "consolidation",
    "atelectasis",
    "edema",
    "nodule",
    "pleural_thickening",
    "rib_fracture",
    "endotracheal_tube",
    "central_line",
    "pacemaker",
]
Side = Literal["right", "left", "bilateral", ""]  # of the patient; image left is the patient's right
Zone = Literal["upper", "mid", "lower", ""]
# Whose words: the usual ones, or one of the two reserves that no usual report contains.
Language = Literal["usual", "paraphrased", "held_out"]
Change = Literal["new", "worse", "stable", "better", ""]

# Observation that a finding is an instance of, for regions and labels. A faint consolidation is reported as an opacity.
OBSERVATION: dict[str, str] = {
    "cardiomegaly": "Cardiomegaly",
    "enlarged_mediastinum": "Enlarged Cardiomediastinum",
    "pleural_effusion": "Pleural Effusion",
    "pneumothorax": "Pneumothorax",
    "consolidation": "Consolidation",
    "atelectasis": "Atelectasis",
    "edema": "Edema",
    "nodule": "Lung Lesion",
    "pleural_thickening": "Pleural Other",
    "rib_fracture": "Fracture",
    "endotracheal_tube": "Support Devices",
    "central_line": "Support Devices",
    "pacemaker": "Support Devices",
}
OPACITY_BELOW = 0.5  # severity under which a consolidation is called an opacity
PNEUMONIA_ABOVE = 0.66  # severity over which a consolidation of a lower zone may represent pneumonia


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One finding of one study. A bilateral disease is two findings, one per side (edema alone is "bilateral")."""

    name: FindingName
    side: Side = ""
    zone: Zone = ""
    severity: float = 0.5  # (0, 1]: small < .33 <= moderate < .66 <= large
    change: Change = ""  # against the patient's study before; "" when there is none


@dataclass(frozen=True, kw_only=True)
class StudyState:
    """Everything that the renderer and the grammar need to know of one study."""

    patient_id: str
    study_id: str
    patient_seed: int  # the anatomy latent: equal for all studies of the patient
    study_seed: int  # pose, noise, choice of words
    view: Literal["PA", "AP"]
    taken_at: datetime
    findings: tuple[Finding, ...]
    resolved: tuple[Finding, ...] = ()  # present in the study before, gone now
    style: int = 0  # which radiologist writes
    has_prior: bool = False
    position_spread: float = field(default=0.0, repr=False)  # how much more than usual the body moves; 1 is a lot
    finding_spread: float = field(default=0.0, repr=False)  # the same of findings, within the zone that is named
    language: Language = field(default="usual", repr=False)  # how it is said; what is said does not depend on it
