"""Open-i's Indiana collection: one XML report per patient, and PNG files that only its parentImage elements name.

The report's number is the study id, written as <uId id="CXR50000012"/>; the XML file has the number of the patient, and
the images are named after the report. Captions name the view of an image, or the examination, or are missing.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element, SubElement

import numpy as np

from components.preprocess.phantom.files import write_atomically
from components.preprocess.phantom.layouts.pictures import to_png
from components.preprocess.phantom.state import Finding
from components.preprocess.phantom.study import PhantomImage, PhantomStudy

SERIES = {"PA": 1001, "AP": 1001, "LATERAL": 2001}
CAPTION_VIEWS = {"PA": "PA view", "AP": "AP view", "LATERAL": "Lateral"}
TERMS = {
    "cardiomegaly": "Cardiomegaly",
    "enlarged_mediastinum": "Mediastinum/enlarged",
    "pleural_effusion": "Pleural Effusion",
    "pneumothorax": "Pneumothorax",
    "consolidation": "Consolidation",
    "atelectasis": "Pulmonary Atelectasis",
    "edema": "Pulmonary Edema",
    "nodule": "Nodule",
    "pleural_thickening": "Thickening/pleura",
    "rib_fracture": "Fractures, Bone/ribs",
    "endotracheal_tube": "Tube, Inserted",
    "central_line": "Catheters, Indwelling",
    "pacemaker": "Implanted Medical Device",
}


def write_study(root: Path, study: PhantomStudy) -> dict[str, Any]:
    names = [f"CXR{study.state.study_id}_IM-{study.number:04d}-{SERIES[image.view]}" for image in study.images]
    paths = [f"NLMCXR_png/{name}.png" for name in names]
    for image, path in zip(study.images, paths, strict=True):
        write_atomically(root / path, to_png(image.dicom))
    citation = _citation(study, names)
    ElementTree.indent(citation)
    data = ElementTree.tostring(citation, encoding="utf-8", xml_declaration=True) + b"\n"
    write_atomically(root / "ecgen-radiology" / f"{study.number}.xml", data)
    return {"images": paths}


def write_tables(root: Path, rows: Sequence[dict[str, Any]]) -> None:
    """The collection has none."""


def _citation(study: PhantomStudy, names: list[str]) -> Element:
    citation = Element("eCitation")
    SubElement(citation, "meta", type="rr")
    SubElement(citation, "uId", id=f"CXR{study.state.study_id}")
    SubElement(citation, "docSource").text = "CXR"
    abstract = SubElement(SubElement(SubElement(citation, "MedlineCitation"), "Article"), "Abstract")
    for label, text in (
        ("COMPARISON", "___" if study.state.has_prior else "None."),
        ("INDICATION", study.report.indication),
        ("FINDINGS", study.findings),
        ("IMPRESSION", study.impression),
    ):
        SubElement(abstract, "AbstractText", Label=label).text = text.replace("___", "XXXX") or None
    _add_terms(citation, study.state.findings)
    for name, image, caption in zip(names, study.images, _captions(study), strict=True):
        _add_image(citation, name, image, caption)
    return citation


def _add_terms(citation: Element, findings: Sequence[Finding]) -> None:
    terms = SubElement(citation, "MeSH")
    majors = ["/".join(filter(None, (TERMS[f.name], f.side, f.zone))) for f in findings]
    for major in majors or ["normal"]:
        SubElement(terms, "major").text = major
    for name in sorted({TERMS[finding.name].split("/")[0].lower() for finding in findings}):
        SubElement(terms, "automatic").text = name


def _add_image(citation: Element, name: str, image: PhantomImage, caption: str) -> None:
    parent = SubElement(citation, "parentImage", id=name)
    if caption:
        SubElement(parent, "caption").text = caption


def _captions(study: PhantomStudy) -> Iterator[str]:
    """One kind for all images of a study. The words for an examination say nothing about one image."""
    kind = np.random.default_rng([study.state.study_seed, 41]).choice(["view", "examination", ""], p=[0.4, 0.3, 0.3])
    for image in study.images:
        if kind == "view":
            yield CAPTION_VIEWS[image.view]
        elif kind == "examination" and len(study.images) > 1:
            yield f"Xray Chest {study.state.view} and Lateral"
        else:
            yield ""
