"""The page of `s2d evaluate`: the same tables as printed, bars, and cases."""

import html
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from components.evaluate import system_table as tables
from components.evaluate.page.bars import observation_bars
from components.evaluate.page.case import case_html, cases_section
from components.evaluate.page.document import document, number, paragraph, table
from components.evaluate.page.pictures import SIDE, figure
from components.evaluate.texts import Texts
from model.radiograph import read_radiograph


def render_system(evaluation: dict[str, Any], references: Texts, reports: Texts, pictures: Mapping[str, Path]) -> str:
    """The page. references, reports: in the same order. pictures: radiographs by study id; may lack some or all."""
    protocol = evaluation["protocol"]
    row = {name: i for i, name in enumerate(references.ids)}
    shown = [
        case_html(
            case,
            references.texts[row[case["id"]]],
            reports.texts[row[case["id"]]],
            [_radiograph(pictures[case["id"]], case["id"])] if case["id"] in pictures else [],
        )
        for case in evaluation["cases"]
    ]
    body = [
        *(
            paragraph(line, "lost" if line.startswith("WARNING") else "")
            for line in tables.protocol_lines(protocol | {"synthetic": False})  # the banner says that it is
        ),
        _numbers(evaluation),
        _section("Single observations", paragraph("F1 with 95 % interval, uncertain as positive (u1).", "note")),
        observation_bars(evaluation["per_label"]),
        _section(f"Clinical efficacy by {protocol['labeler']}", table(tables.ce_rows(evaluation))),
        _section("Text", table(tables.nlg_rows(evaluation["metrics"]))),
        _section("Beside reports that never saw the image", table(tables.baseline_rows(evaluation))),
        *(paragraph(line, "lost" if "NOT BEATEN" in line else "") for line in tables.control_lines(evaluation)),
        _section("Guards", table(tables.guard_rows(evaluation))),
        *_optional(evaluation),
        cases_section(evaluation["cases"], shown),
        _section("All observations", table(tables.label_rows(evaluation))),
        _section("What this rests on", table(_sources(protocol))),
    ]
    return document("Evaluation of generated reports", body, synthetic=protocol["synthetic"])


def _numbers(evaluation: dict[str, Any]) -> str:
    keys = [evaluation["protocol"]["headline"], "bleu4", "rouge_l"]
    shown = []
    for key in keys:
        found = evaluation["metrics"][key]
        shown.append(number(f"{found['value']:.3f}", f"[{found['low']:.3f}, {found['high']:.3f}]", key))
    return f'<div class="numbers">{"".join(shown)}</div>'


def _optional(evaluation: dict[str, Any]) -> list[str]:
    parts = []
    if "seeds" in evaluation:
        parts.append(_section("Training seeds", table(tables.seed_rows(evaluation))))
    if "comparison" in evaluation:
        parts.append(_section(tables.comparison_title(evaluation), table(tables.comparison_rows(evaluation))))
    if "radgraph" in evaluation:
        parts.append(_section(f"Graphs by {evaluation['radgraph']['by']}", table(tables.radgraph_rows(evaluation))))
    if "heavy" in evaluation:
        parts.append(_section("Metrics of large models", table(tables.heavy_rows(evaluation))))
        parts += [paragraph(line) for line in tables.heavy_lines(evaluation)]
    return parts


def _sources(protocol: dict[str, Any]) -> list[list[str]]:
    files = [("references", protocol["references"])]
    files += [("predictions", file) for file in protocol["predictions"]]
    files += [("compared with", file) for file in protocol["compared_with"]]
    files += [("train", protocol["train"])] if protocol["train"] else []
    rows = [["part", "what"], *([name, f"{file['file']}, sha256 {file['sha256']}"] for name, file in files)]
    libraries = ", ".join(f"{name} {version}" for name, version in protocol["libraries"].items())
    return [*rows, ["code", protocol["git_commit"]], ["libraries", libraries], ["made", protocol["created_at"]]]


def _radiograph(path: Path, study: str) -> str:
    """As the model would see it. Raises RadiographError for what is none."""
    return figure(Image.fromarray(read_radiograph(path, SIDE).pixels), f"study {study}")


def _section(title: str, content: str) -> str:
    return f"<h2>{html.escape(title)}</h2>{content}"
