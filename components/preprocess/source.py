"""What a source of radiographs and reports hands to the rest of this step: studies, and what it had to leave out.

Every reader (MIMIC-CXR, Open-i, a hospital) is a `Source`; nothing behind it knows a data set's own layout.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, Protocol

from model.records import Split

if TYPE_CHECKING:  # it would load every decoder, and the command line only wants to know SOURCES
    from model.radiograph import Equalize

SOURCES = ("mimic-cxr", "mimic-cxr-jpg", "iu-xray", "annotation-json", "dicom-folder", "phantom")

# "FRONTAL": named frontal, but neither PA nor AP (order of preference: PA, AP, FRONTAL); its Study.view is "unknown".
# "": no table and no header names a view.
View = Literal["PA", "AP", "FRONTAL", "LATERAL", ""]

MARKER = "SYNTHETIC"  # the file at the root of every phantom: its settings as JSON, written last

# Why a study is left out. A rule leaves it out of every data set made this way; a problem is damage that somebody can
# mend, and counts against --max-excluded.
Cause = Literal["rule", "problem"]


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceImage:
    """One image of a study, not yet read."""

    image_id: str  # as the source names it; pseudonymous
    path: str  # where `Source.load` finds it
    view: View
    taken_at: datetime | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class SourceStudy:
    """One study as the source tells it. Text is unwrapped to one line and otherwise untouched."""

    study_id: str
    patient_id: str
    split: Split | None  # None: the source has no split, one is drawn by patient
    images: tuple[SourceImage, ...]
    taken_at: datetime | None = None  # the earliest of its images; None when that is not known
    findings: str | None = None  # None: no such section; "": an empty one
    impression: str | None = None
    indication: str | None = None
    radgraph: dict[str, Any] | None = None  # graph of `findings`, when the source has published ones
    truth: dict[str, Any] | None = None  # phantoms only: the line of truth.jsonl, of which the regions are taken
    source_labels: dict[str, int | None] | None = None  # published labels, shown in the data report and nowhere else
    notes: tuple[str, ...] = ()  # odd but usable, counted in the manifest, such as "report_latin1"


@dataclass(frozen=True, kw_only=True, slots=True)
class Exclusion:
    """A study that does not enter the data set, and why. Holds no text and no identity beyond the pseudonym."""

    study_id: str
    reason: str  # a stable word: no_findings, no_frontal_view, no_report, duplicate_study_id, unreadable_truncated, ...
    detail: str = ""  # one line for a person
    cause: Cause = "problem"


@dataclass(frozen=True, kw_only=True)
class SourceAbout:
    """What the manifest says of a source."""

    name: str
    synthetic: bool
    use_agreement: str  # name of the agreement that restricts the data; "" when nothing does
    has_history: bool  # several dated studies per patient: a prior report can exist
    equalized: "Equalize" = "none"  # how the files' grey values were made, and so how DICOM must be read beside them
    config: dict[str, Any] = field(default_factory=dict)  # how it was read: sectioner, tables with their SHA-256, ...


class Source(Protocol):
    """Reads one layout. Picklable, because `load` runs in other processes."""

    def about(self) -> SourceAbout:
        """Describe the source. Raises DataError when the folder is not of this layout."""
        ...

    def studies(self) -> Iterator[SourceStudy | Exclusion]:
        """Yield every study once, all studies of a patient together, patients in order of their id.

        Raises DataError for what makes the whole source unusable (a missing table, missing columns); a single bad
        study is an Exclusion.
        """
        ...

    def load(self, image: SourceImage) -> bytes:
        """Return the bytes of an image: DICOM, PNG or JPEG. Raises RadiographError or StoreError."""
        ...
