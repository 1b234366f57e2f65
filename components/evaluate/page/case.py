"""One study on a page: its pictures beside what was written and what is true, with the errors marked."""

import html
from collections.abc import Sequence
from typing import Any

from components.evaluate.page.marks import compare_texts, key, marked

ABOUT = {
    "worst": "Worst reports",
    "median": "Reports in the middle",
    "best": "Best reports",
}
HOW_CHOSEN = (
    "Chosen by number: F1 of the report's own 14 observations (u1), then ROUGE-L; at most one study of a patient. Marks"
    " are by the rule labeler, whoever made the labels that are scored, and are no finer than it is."
)


def cases_section(cases: Sequence[dict[str, Any]], shown: Sequence[str]) -> str:
    """The studies under a heading per kind; shown: the HTML of every case, in their order."""
    parts = [f'<h2>Cases</h2><p class="note">{HOW_CHOSEN}</p>{key()}']
    for kind, title in ABOUT.items():
        of_kind = [text for case, text in zip(cases, shown, strict=True) if case["kind"] == kind]
        parts += [f"<h2>{title}</h2>", *of_kind] if of_kind else []
    return "".join(parts)


def case_html(case: dict[str, Any], reference: str, generated: str, pictures: Sequence[str]) -> str:
    """case: id, f1 and rouge_l as `choose_cases` has them. pictures: finished figures, the radiograph first."""
    in_reference, in_generated = compare_texts(reference, generated)
    written = marked(generated, in_generated) if generated.strip() else "<i>empty</i>"
    shown = "".join(pictures) or '<p class="note">no radiograph given</p>'
    return (
        f'<div class="case"><p class="score">study {html.escape(case["id"])}: F1 {case["f1"]:.2f},'
        f' ROUGE-L {case["rouge_l"]:.2f}</p><div class="pictures">{shown}</div><div class="words">'
        f"<section><h3>Generated (draft)</h3><p>{written}</p></section>"
        f"<section><h3>Reference</h3><p>{marked(reference, in_reference)}</p></section></div></div>"
    )
