"""The phantom's exports, read back: each study as the generator says it is."""

import json
from pathlib import Path
from typing import Any

import pytest

from components.preprocess.phantom.make import make_phantom
from components.preprocess.readers.annotation_json import AnnotationJson
from components.preprocess.readers.iu_xray import IuXray
from components.preprocess.source import Source, SourceStudy


def export(root: Path, layout: str) -> dict[str, dict[str, Any]]:
    """Write a phantom and return its truth by study."""
    make_phantom(root, patients=6, seed=3, layout=layout, size=64, workers=1)
    lines = (root / "truth.jsonl").read_text(encoding="utf-8").splitlines()
    return {truth["study_id"]: truth for truth in map(json.loads, lines)}


def read(source: Source) -> list[SourceStudy]:
    found = list(source.studies())
    studies = [study for study in found if isinstance(study, SourceStudy)]
    assert studies == found  # a phantom has no damage
    return studies


@pytest.mark.parametrize("layout", ["iu-xray", "annotation-json"])
def test_an_export_has_the_studies_texts_and_images_of_its_truth(tmp_path: Path, layout: str) -> None:
    truths = export(tmp_path, layout)
    source: Source = IuXray(str(tmp_path)) if layout == "iu-xray" else AnnotationJson(str(tmp_path))

    studies = read(source)

    assert {study.study_id for study in studies} == truths.keys()
    assert source.about().synthetic and source.about().use_agreement == ""
    for study in studies:
        truth = truths[study.study_id]
        assert study.truth == truth
        has_findings = truth["report_shape"] != "impression_only"
        assert study.findings == (" ".join(truth["findings_text"].split()) if has_findings else "")
        assert [image.path for image in study.images] == [image["path"] for image in truth["images"]]
        assert all(source.load(image).startswith(b"\x89PNG") for image in study.images)
        # A view that is named is the true one; which are named is the layout's choice.
        views = [image["view"] for image in truth["images"]]
        assert all(image.view in ("", view) for image, view in zip(study.images, views, strict=True))
        assert study.split == (truth["split"] if layout == "annotation-json" else None)
    assert [study.patient_id for study in studies] == sorted(study.patient_id for study in studies)
    if layout == "iu-xray":
        assert all(study.patient_id == study.study_id for study in studies)
        assert {image.view for study in studies for image in study.images} > {""}
