"""The pipeline step's page: the arms, and test radiographs with evidence maps beside what was written and is true."""

import html
from collections.abc import Sequence
from typing import Any

from PIL import Image

from components.evaluate.page.bars import observation_bars
from components.evaluate.page.case import case_html, cases_section
from components.evaluate.page.document import document, paragraph, table
from components.evaluate.page.pictures import figure, overlay
from components.evaluate.table import (
    arm_rows,
    cell,
    control_line,
    evidence_line,
    evidence_rows,
    guard_line,
    protocol_text,
    served_line,
)
from components.shared.labeler import sided_mentions
from model.generation import Draft, DraftSentence
from model.radiograph import decode_png
from model.records import Study

MAPS_PER_CASE = 3
WHAT_WAS_TRIED = (
    "Maps are validated when they beat those of the same finding on another patient and the mean training mask of that"
    " finding and side, in pointing and pixel AUC with intervals apart. docs/results/grounding.md says what was tried."
)


def render_page(evaluation: dict[str, Any], studies: Sequence[Study], drafts: Sequence[Draft]) -> str:
    """The page for the full model's drafts of the test studies."""
    cases = evaluation["cases"]
    row = {study.study_id: i for i, study in enumerate(studies)}
    status = evaluation["evidence"]["status"]
    shown = [_case(case, studies[row[case["id"]]], drafts[row[case["id"]]], status) for case in cases]
    controls = "".join(
        f"<li{'' if c['separated'] else ' class=lost'}>{html.escape(control_line(c)[2:])}</li>"
        for c in evaluation["controls"].values()
    )
    body = [
        paragraph(protocol_text(evaluation)),
        table(arm_rows(evaluation)),
        f'<ul class="controls">{controls}</ul>',
        paragraph(served_line(evaluation)) if "serving" in evaluation else "",
        "<h2>Evidence maps and guards</h2>",
        paragraph(evidence_line(evaluation)),
        table(maps) if (maps := evidence_rows(evaluation)) else "",
        paragraph(WHAT_WAS_TRIED, "note"),
        paragraph(guard_line(evaluation)),
        "<h2>Single observations, full model</h2>",
        paragraph("F1 with 95 % interval, uncertain as positive (u1).", "note"),
        observation_bars(evaluation["per_label"]),
        cases_section(cases, shown),
        "<h2>All observations, full model</h2>",
        table(_labels(evaluation)),
    ]
    return document("S2D-Align: evaluation", body, synthetic=evaluation["synthetic"])


def _case(case: dict[str, Any], study: Study, draft: Draft, status: str) -> str:
    pixels = decode_png(study.image)
    figures = [figure(Image.fromarray(pixels), f"{study.view}, study {study.study_id}")]
    shown = [s for s in draft.sentences if s.grid is not None and _says_finding(s)][:MAPS_PER_CASE]
    figures += [
        figure(overlay(pixels, s.grid, status), f"{s.text} (evidence: {status})") for s in shown if s.grid is not None
    ]
    return case_html(case, study.findings, draft.findings, figures)


def _says_finding(sentence: DraftSentence) -> bool:
    return any(mention.status != 0 for mention in sided_mentions(sentence.text))


def _labels(evaluation: dict[str, Any]) -> list[list[str]]:
    rows = [["observation", "positive in references", "in drafts", "P (u1)", "R (u1)", "F1 (u1)", "F1 (u0)"]]
    for name, row in evaluation["per_label"].items():
        counts = [str(row[side]["positive"]) for side in ("reference", "hypothesis")]
        rows.append([name, *counts, *(cell(row["u1"][part]) for part in ("p", "r", "f1")), cell(row["u0"]["f1"])])
    return rows
