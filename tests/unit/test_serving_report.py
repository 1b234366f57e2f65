"""What a report says beyond the model's words: draft, model, warnings, regions, evidence; and how refusals travel."""

import numpy as np
import pytest

from model.errors import DataError, RadiographError
from model.generation import Draft, DraftSentence
from model.records import Report
from serving.refusal import PassedOn, Refused, parse_refusal, refusal
from serving.report import DRAFT_WARNING, build_report, named_region

MANIFEST = {
    "name": "s2d-align",
    "version": "0.1.0-abc",
    "sha256": "f" * 64,
    "trained_on": "phantom",
    "synthetic": True,
    "evidence_status": "not validated",
}


def draft(distance: float = 3.0) -> Draft:
    grid = np.array([[1.0, 1.0], [0.0, 2.0]])
    sentences = [DraftSentence("Small left pleural effusion.", 0.8, grid), DraftSentence("No edema.", 0.9, None)]
    return Draft("Small left pleural effusion. No edema.", sentences, np.zeros(3), distance)


def built(distance: float = 3.0, **changes: object) -> Report:
    return build_report(
        draft(distance),
        manifest=MANIFEST | changes,
        distance_limit=5.0,
        intake_warnings=["view position unknown"],
        report_id="r",
        request_id="q",
    )


def test_every_report_says_that_it_is_a_draft_of_a_phantom_model():
    report = built()
    assert report.status == "draft"
    assert report.warnings[0] == DRAFT_WARNING
    assert any("synthetic phantoms" in warning for warning in report.warnings)
    assert report.warnings[-1] == "view position unknown"
    assert not any("synthetic" in warning for warning in built(synthetic=False).warnings)


def test_an_image_beyond_the_limit_is_called_unlike_the_training_data():
    assert built(5.0).in_distribution
    far = built(5.1)
    assert not far.in_distribution
    assert "unlike the training data (distance 5.1, limit 5.0)" in far.warnings[2]


def test_evidence_sums_to_one_and_carries_what_evaluation_found():
    first, second = built().sentences
    assert first.evidence.grid == [[0.25, 0.25], [0.0, 0.5]]
    assert first.evidence.status == "not validated"
    assert second.evidence is None
    assert built(evidence_status="validated").sentences[0].evidence.status == "validated"


@pytest.mark.parametrize(
    "text, region",
    [
        ("Small left pleural effusion.", "left pleura"),
        ("There is an opacity in the right lower lobe.", "right lower lobe"),
        ("Both lungs are clear; the left mid lung zone is dense.", "left mid lung"),
        ("The heart size is normal.", "heart"),
        ("The mediastinal contours are widened.", "mediastinum"),
        ("Bilateral perihilar lung opacities.", "bilateral perihilar lung"),
        ("No acute findings.", None),
        ("A right upper extremity line.", None),
        ("Unchanged.", None),
    ],
)
def test_the_region_is_the_anatomy_that_the_sentence_names(text, region):
    assert named_region(text) == region


@pytest.mark.parametrize(
    "error, code, reason",
    [
        (RadiographError("the file is a CT", reason="modality"), "INVALID_ARG", "modality"),
        (DataError("wrong size"), "INVALID_ARG", "bad_input"),
        (Refused("no_model", "none"), "UNAVAILABLE", "no_model"),
        (Refused("busy", "full"), "UNAVAILABLE", "busy"),
        (Refused("cancelled", "gone"), "CANCELLED", "cancelled"),
        (Refused("out_of_distribution", "far"), "INVALID_ARG", "out_of_distribution"),
    ],
)
def test_a_refusal_survives_the_way_through_triton_and_another_model(error, code, reason):
    found, text = refusal(error)
    assert found == code
    assert parse_refusal(f"in ensemble 's2d_align', {text}") == (reason, str(error))
    assert refusal(PassedOn(text)) == (code, text)


def test_what_triton_says_of_a_dead_process_is_that_the_model_is_down():
    code, text = refusal(PassedOn("Stub process 'report_generator_0_0' is not healthy."))
    assert (code, parse_refusal(text)[0]) == ("UNAVAILABLE", "model_down")
    assert refusal(PassedOn('{"reason": "internal", "message": "m"}'))[0] == "INTERNAL"


def test_a_foreign_exception_does_not_reach_the_caller(caplog):
    try:
        raise RuntimeError("/srv/code.py: PatientName=Doe^Jane")
    except RuntimeError as error:
        code, text = refusal(error)
    assert code == "INTERNAL"
    assert "Doe" not in text + caplog.text
    assert "srv" not in text
    assert "error=RuntimeError" in caplog.text


@pytest.mark.parametrize("text", ["", "Stub process 'x' is not healthy.", "{broken", '{"other": 1}', "{}"])
def test_texts_that_are_no_refusal_say_nothing(text):
    assert parse_refusal(text) == ("internal", "the inference server failed")
