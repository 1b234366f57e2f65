"""One self-contained page: the table, and test radiographs beside what was written and what is true."""

import base64
import html
from collections.abc import Sequence
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from components.evaluate.table import COLUMNS, cell, control_line, evidence_line, guard_line, protocol_text
from components.shared.labeler import label, sided_mentions
from model.generation import Draft, DraftSentence
from model.radiograph import decode_png
from model.records import Study

CASES = 12
MAPS_PER_CASE = 3
JPEG_QUALITY = 85

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;max-width:1180px;margin:2rem auto;padding:0 1rem;color:#1b1b1b}
table{border-collapse:collapse;margin:1rem 0}td,th{border:1px solid #ccc;padding:.3rem .6rem;text-align:left}
th{background:#f2f2f2}.banner{background:#fff3cd;border:1px solid #e0c36a;padding:.6rem 1rem}
.case{display:flex;gap:1rem;border-top:1px solid #ccc;padding:1rem 0;flex-wrap:wrap}.case>div{flex:1;min-width:300px}
figure{margin:0 .5rem .5rem 0;display:inline-block;width:224px;vertical-align:top}
img{width:224px;background:#000}figcaption{font-size:12px}.lost{color:#a40000;font-weight:600}
"""


def render_page(evaluation: dict[str, Any], studies: Sequence[Study], drafts: Sequence[Draft]) -> str:
    """The page for the full model's drafts of the test studies."""
    status = evaluation["evidence"]["status"]
    shown = [_case(studies[i], drafts[i], status) for i in choose(studies)]
    lines = [
        f"<li{'' if c['separated'] else ' class=lost'}>{html.escape(control_line(c)[2:])}</li>"
        for c in evaluation["controls"].values()
    ]
    banner = "SYNTHETIC: phantom radiographs and phantom reports. " if evaluation["synthetic"] else ""
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>S2D-Align evaluation</title><style>{_STYLE}</style>"
        f"<h1>S2D-Align: evaluation</h1><p class=banner>{banner}Generated texts are drafts of a research model, not for"
        f" clinical use.</p><p>{html.escape(protocol_text(evaluation))}</p>{_rows(evaluation)}<ul>{''.join(lines)}</ul>"
        f"<p>{html.escape(evidence_line(evaluation))}</p><p>{html.escape(guard_line(evaluation))}</p>"
        f"{_labels(evaluation)}<h2>Test radiographs</h2>{''.join(shown)}</html>"
    )


def choose(studies: Sequence[Study]) -> list[int]:
    """Spread over the split, one study per patient, at most a quarter of them all-normal; drafts play no part."""
    step = max(1, len(studies) // (4 * CASES))
    chosen: list[int] = []
    patients: set[str] = set()
    normal = 0
    for i in [*range(0, len(studies), step), *range(len(studies))]:
        is_normal = label(studies[i].findings)["No Finding"] == 1
        if studies[i].patient_id in patients or (is_normal and normal >= CASES // 4) or len(chosen) == CASES:
            continue
        chosen.append(i)
        patients.add(studies[i].patient_id)
        normal += is_normal
    return chosen


def overlay(pixels: np.ndarray, grid: np.ndarray, status: str) -> Image.Image:
    """The map in red over the radiograph, with its status written into the picture so that it cannot be cut off."""
    size = pixels.shape[0]
    unit = (grid - grid.min()) / max(float(np.ptp(grid)), 1e-12)
    heat = Image.fromarray(unit.astype(np.float32), mode="F").resize((size, size), Image.Resampling.BILINEAR)
    weight = 0.6 * np.asarray(heat)[..., None]
    colours = np.array([255.0, 40.0, 0.0])
    mixed = (1 - weight) * pixels[..., None].astype(float) + weight * colours
    image = Image.fromarray(mixed.clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, size - 14, size, size), fill=(0, 0, 0))
    draw.text((3, size - 13), f"evidence: {status}", fill=(255, 255, 255))
    return image


def _case(study: Study, draft: Draft, status: str) -> str:
    pixels = decode_png(study.image)
    figures = [_figure(Image.fromarray(pixels), f"{study.view}, study {study.study_id}", "png")]
    shown = [s for s in draft.sentences if s.grid is not None and _says_finding(s)][:MAPS_PER_CASE]
    figures += [_figure(overlay(pixels, s.grid, status), s.text, "jpeg") for s in shown if s.grid is not None]
    return (
        f"<div class=case><div>{''.join(figures)}</div><div><h3>Draft</h3><p>{html.escape(draft.findings)}</p>"
        f"<h3>Reference</h3><p>{html.escape(study.findings)}</p></div></div>"
    )


def _says_finding(sentence: DraftSentence) -> bool:
    return any(mention.status != 0 for mention in sided_mentions(sentence.text))


def _figure(image: Image.Image, caption: str, kind: str) -> str:
    sink = BytesIO()
    image.save(sink, kind, quality=JPEG_QUALITY)
    data = base64.b64encode(sink.getvalue()).decode()
    source = f"data:image/{kind};base64,{data}"
    return f'<figure><img alt="" src="{source}"><figcaption>{html.escape(caption)}</figcaption></figure>'


def _rows(evaluation: dict[str, Any]) -> str:
    head = "".join(f"<th>{html.escape(title)}</th>" for title in ("report by", *COLUMNS.values()))
    rows = [
        f"<tr><td>{html.escape(row['label'])}</td>" + "".join(f"<td>{cell(row[key])}</td>" for key in COLUMNS) + "</tr>"
        for row in evaluation["rows"]
    ]
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"


def _labels(evaluation: dict[str, Any]) -> str:
    titles = ("observation", "positive in references", "in drafts", "P (u1)", "R (u1)", "F1 (u1)", "F1 (u0)")
    rows = [
        f"<tr><td>{name}</td><td>{row['reference']['positive']}</td><td>{row['hypothesis']['positive']}</td>"
        f"<td>{cell(row['u1']['p'])}</td><td>{cell(row['u1']['r'])}</td><td>{cell(row['u1']['f1'])}</td>"
        f"<td>{cell(row['u0']['f1'])}</td></tr>"
        for name, row in evaluation["per_label"].items()
    ]
    head = "".join(f"<th>{title}</th>" for title in titles)
    return f"<h2>Per observation, full model</h2><table><tr>{head}</tr>{''.join(rows)}</table>"
