"""Open a source by the name that people give on the command line and in the pipeline."""

import json
from dataclasses import dataclass, replace
from typing import get_args

from components.preprocess.readers.annotation_json import AnnotationJson
from components.preprocess.readers.deidentify import pseudonym_key
from components.preprocess.readers.dicom_folder import DicomFolder
from components.preprocess.readers.dicom_web import DicomWeb
from components.preprocess.readers.iu_xray import IuXray
from components.preprocess.readers.mimic_cxr import MimicCxr
from components.preprocess.readers.sections import Mode
from components.preprocess.source import MARKER, SOURCES, Source
from components.shared.folder import Folder
from model.errors import ConfigError, DataError

WEB = ("http://", "https://")
REPORTS = ("reports.csv", "reports.fhir.ndjson")
# First match counts: the JPG release has the tables of the other, and `annotation.json` may lie beside Open-i's files.
SIGNS = (
    ("mimic-cxr-jpg", ("mimic-cxr-2.0.0-chexpert.csv.gz", "mimic-cxr-2.0.0-chexpert.csv")),
    ("mimic-cxr", ("mimic-cxr-2.0.0-split.csv.gz", "mimic-cxr-2.0.0-split.csv")),
    ("iu-xray", ("ecgen-radiology", "indiana_reports.csv")),
    ("annotation-json", ("annotation.json",)),
    ("dicom-folder", REPORTS),
)


@dataclass(frozen=True, kw_only=True)
class SourceOptions:
    """What only some sources understand; an option given to another source is an error, not ignored."""

    radgraph: str = ""  # MIMIC: the published MIMIC-CXR_graphs.json
    sectioner: str = ""  # MIMIC: how reports are cut; "" takes the official rules
    reports: str = ""  # DICOM: table or FHIR resources with the texts
    deidentified: bool = False  # DICOM: the data are de-identified already


def open_source(name: str, root: str, options: SourceOptions) -> Source:
    """Make the reader of a layout; nothing is read yet. Raises ConfigError for a wrong name or a misplaced option."""
    name = name or recognise(root)
    if name not in SOURCES:
        raise ConfigError(f"there is no source {name!r}; use one of {', '.join(SOURCES)}")
    if name == "phantom":
        name, options = _layout(root), _for_phantom(_layout(root), options)
    _check(name, options)
    match name:
        case "mimic-cxr":
            return MimicCxr(root, "dicom", _sectioner(options), options.radgraph)
        case "mimic-cxr-jpg":
            return MimicCxr(root, "jpg", _sectioner(options), options.radgraph)
        case "iu-xray":
            return IuXray(root)
        case "annotation-json":
            return AnnotationJson(root)
    key = None if options.deidentified else pseudonym_key()
    reader = DicomWeb if root.startswith(WEB) else DicomFolder
    return reader(root, options.reports or _reports(root), key)


def _reports(root: str) -> str:
    """The texts beside the DICOM files, when they have the usual name."""
    if not root.startswith(WEB) and (found := next(filter(Folder(root).exists, REPORTS), "")):
        return found
    raise ConfigError("the source dicom-folder needs --reports: a CSV table or FHIR DiagnosticReports")


def recognise(root: str) -> str:
    """Name the layout of a folder by the files that only it has."""
    if root.startswith(WEB):
        return "dicom-folder"
    folder = Folder(root)
    if folder.read_if_there(MARKER) is not None:
        return "phantom"
    for name, signs in SIGNS:
        if any(folder.exists(sign) for sign in signs):
            return name
    raise DataError(f"{root} has no layout that is known; look at the folder, and name its layout with --source")


def _layout(root: str) -> str:
    """The layout that a phantom was written in, from the marker at its root."""
    marker = Folder(root).read_if_there(MARKER)
    if marker is None:
        raise DataError(f"{root} is not a phantom data set; make one with: s2d data make-phantom --out {root}")
    try:
        return str(json.loads(marker).get("layout", "mimic-cxr"))
    except ValueError as error:
        raise DataError(f"{root}/{MARKER} is not JSON; make the phantom again") from error


def _for_phantom(layout: str, options: SourceOptions) -> SourceOptions:
    """A phantom has no identity to remove."""
    if layout != "dicom-folder":
        return options
    return replace(options, deidentified=True)


def _check(name: str, options: SourceOptions) -> None:
    is_mimic, is_dicom = name.startswith("mimic-cxr"), name == "dicom-folder"
    for option, given, fits in (
        ("radgraph", options.radgraph, is_mimic),
        ("sectioner", options.sectioner, is_mimic),
        ("reports", options.reports, is_dicom),
        ("deidentified", options.deidentified, is_dicom),
    ):
        if given and not fits:
            raise ConfigError(f"--{option} means nothing to the source {name}; leave it out")


def _sectioner(options: SourceOptions) -> Mode:
    if options.sectioner not in ("", *get_args(Mode)):
        raise ConfigError(f"there is no sectioner {options.sectioner!r}; use one of {', '.join(get_args(Mode))}")
    return "strict_plus" if options.sectioner == "strict_plus" else "mimic_official"
