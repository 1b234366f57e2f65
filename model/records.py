"""The data contracts: what one study is, and what one inference returns.

Every reader makes `Study` records and nothing downstream ever sees a data set's own layout; every consumer of the model
(Triton, gateway, command line) passes on the one `Report`.
"""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

# Order of the CheXpert rule labeler's output. Three orders exist in public files, so labels are always keyed by name.
OBSERVATIONS: tuple[str, ...] = (
    "No Finding",
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Lesion",
    "Lung Opacity",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    "Support Devices",
)

Split = Literal["train", "validate", "test"]
Polarity = Literal["present", "absent", "uncertain"]
ReferencePolicy = Literal["prior_only", "nearest", "any", "similar", "none"]
Labels = dict[str, int | None]  # observation name -> 1 positive, 0 negative, -1 uncertain, None not mentioned


class Record(BaseModel):
    """Base of every record: immutable, and a misspelt field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class KeyPhrase(Record):
    """A short description of one observation, composed from the RadGraph graph of its report."""

    text: str
    polarity: Polarity
    entities: tuple[str, ...] = ()  # ids of the RadGraph entities it was composed from


class Region(Record):
    """Where a finding is, in pixels of the study's square `image`. Only sources with masks or boxes have regions."""

    name: str  # a finding of the source, such as "pleural_effusion"
    observation: str  # one of OBSERVATIONS
    side: Literal["right", "left", "bilateral", ""]
    box: tuple[int, int, int, int]  # x_min, y_min, x_max, y_max; max is exclusive
    mask_png: bytes | None = None  # 1-channel PNG over the whole square at any resolution, nonzero inside


class Study(Record):
    """One study: one frontal radiograph and its report. One row of a data set."""

    study_id: str
    patient_id: str
    split: Split
    view: Literal["PA", "AP", "unknown"]
    taken_at: datetime | None  # de-identified; only order and distance within a patient mean anything
    image: bytes  # square 8-bit grey PNG at the preset's size, made by model.radiograph
    findings: str
    impression: str | None = None
    indication: str | None = None
    reference_report: str | None = None  # findings of another study of the same patient, for stages 2 and 3
    reference_study_id: str | None = None
    reference_policy: ReferencePolicy = "none"
    key_phrases: tuple[KeyPhrase, ...] = ()
    radgraph: dict[str, Any] | None = None  # {"text": ..., "entities": {...}}; None until the key_phrases step ran
    labels: Labels = Field(default_factory=dict)
    labeler: str = ""  # who made `labels`, with its version
    regions: tuple[Region, ...] = ()
    synthetic: bool = False


class ModelIdentity(Record):
    """Which model wrote a report."""

    name: str = "s2d-align"
    version: str
    sha256: str
    trained_on: str  # the data set's name; phantom data says so here


class Evidence(Record):
    """Which patches speak for a sentence that the model wrote. `grid` sums to 1 over the square image."""

    grid: list[list[float]]  # g x g rows, top to bottom
    status: Literal["validated", "not validated"]  # did such maps beat other-patient and class-prior maps?


class Sentence(Record):
    """One sentence of a report."""

    text: str
    confidence: float = Field(ge=0, le=1)  # geometric mean of its tokens' probabilities
    region: str | None = None  # anatomy named in the text
    evidence: Evidence | None = None


class Report(Record):
    """A draft report: what every inference returns. Never anything but a draft."""

    report_id: str
    status: Literal["draft"] = "draft"
    findings: str
    impression: str | None = None
    sentences: list[Sentence]
    model: ModelIdentity
    intended_use: str
    warnings: list[str]
    in_distribution: bool
    distance: float  # Mahalanobis distance of the image embedding to the training images
    distance_limit: float  # above it the image is unlike the training data
    request_id: str
