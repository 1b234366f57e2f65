"""The release gate on tables made by hand."""

import pytest

from components.register.gate import CONTROLS, lost_controls
from components.register.model_card import model_card
from model.errors import ManifestError

METRIC = "rule_micro_f1_14_u1"


def row(arm, value, half=0.02):
    return {"arm": arm, "label": f"label of {arm}", METRIC: {"value": value, "low": value - half, "high": value + half}}


def table(full=0.76, **controls):
    values = {"full": full, "shuffled": 0.23, "best_constant": 0.38, "prior": 0.51} | controls
    return {"protocol": {"headline": METRIC}, "rows": [row(arm, value) for arm, value in values.items()]}


def test_clear_of_every_control_passes():
    assert lost_controls(table()) == []


@pytest.mark.parametrize("name", CONTROLS)
@pytest.mark.parametrize("value", [0.74, 0.80])  # overlapping intervals; a control that is better
def test_each_control_alone_can_stop_a_release(name, value):
    (lost,) = lost_controls(table(**{name: value}))
    assert f"label of {name}" in lost


def test_a_gap_just_wider_than_the_intervals_passes_and_a_touch_does_not():
    assert not lost_controls(table(full=0.5501, prior=0.51))
    assert len(lost_controls(table(full=0.55, prior=0.51))) == 1


def test_an_evaluation_without_a_control_is_no_evaluation():
    evaluation = table()
    del evaluation["rows"][-1]
    with pytest.raises(ManifestError, match="prior"):
        lost_controls(evaluation)


LOST = ["the best constant report reaches more"]


def about_version(**values):
    return {
        "name": "s2d-align",
        "version": "0.1.0-00000000",
        "synthetic": True,
        "use_agreement": "",
        "trained_on": "phantom",
        "dataset_digest": "d",
        "preset": "tiny",
        "evidence_status": "not validated",
        "git_commit": "c",
        "checkpoint_uri": "s3://b/c",
        "created_at": "2026-01-01",
        "libraries": {"torch": "2"},
        "gate": {"passed": False, "lost": LOST},
        **values,
    }


def test_the_card_says_draft_phantom_and_what_was_lost():
    card = model_card(about_version(), table())
    for expected in ("draft", "synthetic phantoms", "not passed", LOST[0], "not validated", "0.760 [0.740, 0.780]"):
        assert expected in card


def test_the_card_names_the_agreement_that_binds_the_weights():
    assert "under: Agreement A" in model_card(about_version(synthetic=False, use_agreement="Agreement A"), table())
    assert "agreement" not in model_card(about_version(), table())
