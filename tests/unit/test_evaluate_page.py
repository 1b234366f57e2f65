"""Errors marked by finding, bars with intervals, the choice of cases, and pages that say only what they are given."""

import re

import numpy as np
import pytest

from components.evaluate.cases import choose_cases
from components.evaluate.page.bars import LEFT, WIDTH, observation_bars
from components.evaluate.page.document import document, paragraph, table
from components.evaluate.page.marks import compare_texts, marked

MARKS = [
    # reference, generated, marks of the reference, marks of the generated text
    ("Small left pleural effusion.", "The lungs are clear.", [("effusion", "missed", "Pleural Effusion")], []),
    (
        "Small left pleural effusion.",
        "No pleural effusion.",
        [("effusion", "missed", "Pleural Effusion")],
        [("effusion", "missed", "Pleural Effusion")],
    ),
    ("The lungs are clear.", "Mild pulmonary edema.", [], [("edema", "invented", "Edema")]),
    ("No pneumothorax.", "Right pneumothorax.", [], [("pneumothorax", "invented", "Pneumothorax")]),
    (
        "Small left pleural effusion.",
        "Small right pleural effusion.",
        [("effusion", "wrong side", "Pleural Effusion")],
        [("effusion", "wrong side", "Pleural Effusion")],
    ),
    (
        "Bilateral pleural effusions.",
        "Right pleural effusion.",
        [("effusions", "wrong side", "Pleural Effusion")],
        [("effusion", "found", "Pleural Effusion")],
    ),
    (
        "Pleural effusion.",
        "Possible right pleural effusion.",
        [("effusion", "found", "Pleural Effusion")],
        [("effusion", "found", "Pleural Effusion")],
    ),
    ("No pleural effusion.", "There is no effusion.", [], []),
    (
        "There is a left pacemaker. A right jugular line is seen.",
        "There is a right pacemaker. A left jugular line is seen.",
        [("pacemaker", "wrong side", "Support Devices"), ("line", "wrong side", "Support Devices")],
        [("pacemaker", "wrong side", "Support Devices"), ("line", "wrong side", "Support Devices")],
    ),
    (
        "There is a left pacemaker.",
        "There is a left pacer.",
        [("pacemaker", "found", "Support Devices")],
        [("pacer", "found", "Support Devices")],
    ),
    ("The lungs are clear.", "", [], []),
]


@pytest.mark.parametrize(("reference", "generated", "in_reference", "in_generated"), MARKS)
def test_errors_are_marked_by_finding(
    reference: str, generated: str, in_reference: list[tuple[str, ...]], in_generated: list[tuple[str, ...]]
) -> None:
    for text, marks, wanted in zip(
        (reference, generated), compare_texts(reference, generated), (in_reference, in_generated), strict=True
    ):
        assert len(marks) == len(wanted)
        for mark, (words, kind, observation) in zip(marks, wanted, strict=True):
            assert text[mark.start : mark.end].lower().endswith(words)
            assert (mark.kind, mark.observation) == (kind, observation)


def test_marked_text_is_the_text_and_names_every_error_in_words() -> None:
    reference, generated = "Endotracheal tube in place. Large left effusion.", "Edema & a <b>right</b> effusion."
    in_reference, in_generated = compare_texts(reference, generated)
    page = marked(generated, in_generated)
    assert "invented: Edema" in page and "wrong side: Pleural Effusion" in page
    assert "<b>" not in page and "&amp; a &lt;b&gt;right&lt;/b&gt;" in page
    for text, marks in ((reference, in_reference), (generated, in_generated)):
        shown = re.sub(r"<small>.*?</small>|<[^>]+>", "", marked(text, marks))
        assert shown.replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">") == text
    assert marked(reference, in_reference).count("missed: Support Devices</small>") == 1  # two words, one mark


def test_bars_are_as_long_as_their_values() -> None:
    support = {"positive": 3, "uncertain": 1, "negative": 0, "blank": 6}
    nothing = {"positive": 0, "uncertain": 0, "negative": 4, "blank": 6}
    f1 = {"value": 0.5, "low": 0.25, "high": 0.75}
    svg = observation_bars(
        {
            "Edema": {"reference": support, "hypothesis": support, "u1": {"f1": f1}},
            "Fracture": {"reference": nothing, "hypothesis": nothing, "u1": {"f1": f1}},
        }
    )
    assert re.findall(r'class="bar" x="(\d+)" y="\d+" width="([\d.]+)"', svg) == [(str(LEFT), f"{WIDTH / 2:.1f}")]
    assert f"M{LEFT + WIDTH / 4:.1f} " in svg and f"H{LEFT + 3 * WIDTH / 4:.1f}" in svg
    assert "0.50 [0.25, 0.75]" in svg and "4 true, 4 predicted" in svg
    assert "in no reference and no prediction" in svg


def test_a_page_escapes_and_fetches_nothing() -> None:
    page = document("a < b", [paragraph("<script>x</script>"), table([["<i>"], ["&"]])], synthetic=True)
    assert "<script" not in page and "<i>" not in page and "a &lt; b" in page
    assert "SYNTHETIC" in page and "draft" in page
    assert not re.search(r"(?:src|href)=\"(?!data:)", page) and "url(" not in page
    assert "default-src 'none'" in page
    assert "SYNTHETIC" not in document("t", [], synthetic=False)


def test_cases_are_the_worst_the_middle_and_the_best_one_per_patient() -> None:
    n = 30
    f1 = np.linspace(0, 1, n)
    sums = {"example_14_u1": np.stack([f1, f1, f1], axis=1), "rouge_l": np.zeros((n, 1))}
    ids = [f"s{i}" for i in range(n)]
    cases = choose_cases(sums, ids, ids)
    assert [case["kind"] for case in cases] == ["worst"] * 4 + ["median"] * 4 + ["best"] * 4
    assert [case["id"] for case in cases[:4]] == ["s0", "s1", "s2", "s3"]
    assert {case["id"] for case in cases[4:8]} == {"s13", "s14", "s15", "s16"}
    assert [case["id"] for case in cases[8:]] == ["s29", "s28", "s27", "s26"]
    one = choose_cases(sums, ids, ["p"] * n)
    assert [(case["kind"], case["id"]) for case in one] == [("worst", "s0")]
    twice = choose_cases(sums, ids, [f"p{i // 2}" for i in range(n)])
    assert [case["id"] for case in twice[:4]] == ["s0", "s2", "s4", "s6"]


def test_equal_f1_is_ordered_by_rouge() -> None:
    sums = {"example_14_u1": np.zeros((3, 3)), "rouge_l": np.array([[0.5], [0.1], [0.9]])}
    cases = choose_cases(sums, ["a", "b", "c"], ["a", "b", "c"])
    assert [(case["kind"], case["id"]) for case in cases] == [("worst", "b"), ("median", "a"), ("best", "c")]
