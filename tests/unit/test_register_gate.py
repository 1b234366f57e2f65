"""The release gate on evaluations made by hand, and the card that tells its decision."""

import copy
from pathlib import Path

import pytest
import yaml

from components.register.gate import GATE_FILE, Gate, decide, read_gate
from components.register.model_card import model_card
from model.errors import ConfigError, ManifestError

METRIC = "rule_micro_f1_14_u1"
CONTROLS = ("shuffled", "blank", "best_constant", "prior")
NUMBERS = {"rule_macro_f1_14_u0": 0.6, "rule_example_f1_14_u0": 0.7, "bleu4": 0.4}
GUARDS = {"laterality_accuracy": 0.7, "distinct_reports_share": 0.5, "length_ratio": 1.1, "laterality_matched": 229}
NOT_COMPARED = {"version": "", "model_uri": "", "comparable": False, "why_not": "no version is served yet"}


def estimate(value, half=0.02):
    return {"value": value, "low": value - half, "high": value + half}


def row(arm, value):
    more = {name: estimate(number) for name, number in NUMBERS.items()} if arm == "full" else {}
    return {"arm": arm, "label": f"label of {arm}", METRIC: estimate(value), **more}


def table(full=0.76, **controls):
    values = {"full": full, "shuffled": 0.23, "blank": 0.2, "best_constant": 0.38, "prior": 0.51} | controls
    return {
        "protocol": {"headline": METRIC},
        "rows": [row(arm, value) for arm, value in values.items()],
        "guards": dict(GUARDS),
        "controls": {},
        "serving": dict(NOT_COMPARED),
    }


def compared(difference, p):
    """An evaluation with a served version that is as far away, in every compared metric."""
    evaluation = table()
    evaluation["serving"] = {"version": "0.1.0-old", "model_uri": "s3://b/old", "comparable": True, "why_not": ""}
    found = {"difference": difference, "low": difference - 0.02, "high": difference + 0.02, "p": p, "p_holm": p}
    evaluation["controls"]["full_vs_serving"] = {"metrics": dict.fromkeys((METRIC, *NUMBERS), found)}
    return evaluation


def judge(evaluation, **thresholds):
    gate, sha256 = read_gate()
    return decide(evaluation, gate.model_copy(update=thresholds), sha256)


def test_clear_of_every_control_and_floor_passes():
    decision = judge(table())
    assert decision.passed
    assert [control["arm"] for control in decision.controls] == list(CONTROLS)
    assert all(floor["held"] for floor in decision.floors)
    assert decision.serving["why_not"] == "no version is served yet"


@pytest.mark.parametrize("name", CONTROLS)
@pytest.mark.parametrize("value", [0.74, 0.80])  # overlapping intervals; a control that is better
def test_each_control_alone_can_stop_a_release(name, value):
    (lost,) = judge(table(**{name: value})).lost
    assert f"label of {name}" in lost


def test_a_gap_just_wider_than_the_intervals_passes_and_a_touch_does_not():
    assert judge(table(full=0.5501, prior=0.51)).passed
    assert len(judge(table(full=0.55, prior=0.51)).lost) == 1


@pytest.mark.parametrize(
    "name, value, clause",
    [
        (METRIC, 0.8, "rule_micro_f1_14_u1 is 0.760 [0.740, 0.780], its floor 0.8"),
        ("guards.laterality_accuracy", 0.75, "guards.laterality_accuracy is 0.700, its floor 0.75"),
    ],
)
def test_a_floor_that_does_not_hold_refuses_with_metric_value_and_floor(name, value, clause):
    assert judge(table(), floors={name: value}).lost == [clause]
    assert judge(table(), floors={name: value - 0.1}).passed


def test_a_value_on_its_floor_holds_and_one_that_is_no_number_does_not():
    assert judge(table(), floors={METRIC: 0.76}).passed
    evaluation = table()
    evaluation["guards"]["laterality_accuracy"] = float("nan")
    assert not judge(evaluation).passed


@pytest.mark.parametrize(
    "difference, p, passed",
    [
        (-0.08, 0.001, False),  # significantly worse
        (-0.08, 0.2, True),  # worse, within chance
        (0.0, 1.0, True),
        (0.08, 0.001, True),  # significantly better
    ],
)
def test_only_a_significant_loss_to_the_served_version_stops(difference, p, passed):
    decision = judge(compared(difference, p))
    assert decision.passed is passed
    assert {entry["difference"] for entry in decision.serving["metrics"]} == {difference}
    if not passed:
        assert decision.lost[0] == (
            "rule_micro_f1_14_u1 is significantly worse than that of the served 0.1.0-old:"
            " difference -0.080 [-0.100, -0.060], p = 0.0010"
        )


def test_a_threshold_of_an_unknown_metric_is_refused_in_one_line():
    serving = read_gate()[0].serving.model_copy(update={"metrics": ("chexbert_f1",)})
    for thresholds, near in (
        ({"floors": {"rule_micro_f1_14": 0.4}}, r"floors name 'rule_micro_f1_14'.*rule_micro_f1_14_u1"),
        ({"serving": serving}, "serving.metrics name 'chexbert_f1'"),
    ):
        for evaluation in (table(), compared(0, 1)):
            with pytest.raises(ConfigError, match=near) as raised:
                judge(evaluation, **thresholds)
            assert "\n" not in str(raised.value)


def test_an_evaluation_without_what_the_gate_needs_is_no_evaluation():
    for missing, why in (("prior", "prior"), ("guards", "no guards"), ("serving", "served version")):
        evaluation = copy.deepcopy(table())
        if missing == "prior":
            del evaluation["rows"][-1]
        else:
            del evaluation[missing]
        with pytest.raises(ManifestError, match=why):
            judge(evaluation)


@pytest.mark.parametrize(
    "change, why",
    [
        ({"floor": {}}, "floor: Extra inputs"),
        ({"floors": {METRIC: "high"}}, "floors.rule_micro_f1_14_u1: Input should be a valid number"),
        ({"floors": {METRIC: float("nan")}}, "finite number"),
        ({"floors": {}}, "floors: .*at least 1"),
        ({"controls": []}, "controls: .*at least 1"),
        ({"serving": {"alpha": 5, "metrics": [METRIC]}}, "serving.alpha: .*less than 1"),
    ],
)
def test_a_gate_file_with_a_mistake_is_refused_in_one_line(tmp_path, change, why):
    path = tmp_path / "gate.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(GATE_FILE.read_text()) | change))
    with pytest.raises(ConfigError, match=why) as raised:
        read_gate(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "content, why", [("a: [", "is not YAML"), ("", "the file: Input should be"), (None, "cannot be read")]
)
def test_a_file_that_is_no_gate_is_refused_in_one_line(tmp_path: Path, content, why):
    path = tmp_path / "gate.yaml"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=why) as raised:
        read_gate(path)
    assert "\n" not in str(raised.value)


def test_the_shipped_gate_compares_what_it_names():
    gate = Gate.model_validate(yaml.safe_load(GATE_FILE.read_text()))
    assert set(gate.controls) == set(CONTROLS)
    assert METRIC in gate.floors and METRIC in gate.serving.metrics


def about_version(decision, **values):
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
        "gate": {"mode": "record", **decision.as_json()},
        **values,
    }


def test_the_card_says_draft_phantom_and_what_was_lost():
    evaluation = table(best_constant=0.75)
    decision = judge(evaluation, floors={METRIC: 0.8})
    card = model_card(about_version(decision), evaluation)
    for expected in ("draft", "synthetic phantoms", "not passed", *decision.lost, "not validated"):
        assert expected in card
    assert f"| `{METRIC}` | 0.760 [0.740, 0.780] | 0.8 | **not held** |" in card
    assert "Not compared with a served version: no version is served yet." in card


def test_the_card_has_the_numbers_of_the_comparison_with_the_served_version():
    evaluation = compared(-0.01, 0.5)
    card = model_card(about_version(judge(evaluation)), evaluation)
    assert "Decision: passed." in card
    assert (
        "not significantly worse than that of the served 0.1.0-old: difference -0.010 [-0.030, +0.010], p = 0.5000"
        in card
    )


def test_the_card_names_the_agreement_that_binds_the_weights():
    decision = judge(table())
    bound = model_card(about_version(decision, synthetic=False, use_agreement="Agreement A"), table())
    assert "under: Agreement A" in bound
    assert "agreement" not in model_card(about_version(decision), table())


def test_a_misspelt_control_is_said_to_be_one():
    with pytest.raises(ManifestError, match=r"'blnk'.*correct the gate's controls"):
        judge(table(), controls=("blnk",))
