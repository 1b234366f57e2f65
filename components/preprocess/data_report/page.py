"""The page of the data report: self-contained, without scripts, so that it opens from a mail and in Kubeflow's pane."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from html import escape

import numpy as np

from components.preprocess.data_report.counts import IDS_SHOWN, Counts, Gallery, SplitCounts
from components.preprocess.data_report.elements import STYLE, figure, number, share, table
from components.preprocess.data_report.near_duplicates import near_duplicates
from components.preprocess.data_report.plots import bars, histogram, legend, quantile
from components.preprocess.source import SourceAbout
from components.preprocess.suspicious import FLAGS
from components.shared.labeler import LABELER
from model.records import OBSERVATIONS

EXAMPLE_PIXELS, THUMBNAIL_PIXELS = 256, 128
GROUPS_SHOWN = 10


def page(counts: Counts, *, name: str, about: SourceAbout, image_size: int) -> str:
    """Write the whole page."""
    body = [
        f"<h1>Data report: {escape(name)}</h1>",
        f"<p class=sub>Source {escape(about.name)}. One frontal radiograph a study, {image_size} x {image_size} pixels,"
        " 8 bit.</p>",
        _banners(about),
        _tiles(counts),
        _section("Splits", _splits(counts)),
        _section("Left out", _exclusions(counts)),
        _section("Findings in the reports", _labels(counts)),
        _section("Length of the reports", _lengths(counts)),
        _section("Reference reports", _references(counts)),
        _section("Example radiographs", _examples(counts)),
        _section("Suspicious radiographs", _suspicious(counts)),
        _section("Reports that say nearly the same", _duplicates(counts)),
        _section("Notes: odd but used", _notes(counts)),
        _section("How it was read", _config(about)),
    ]
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Data report: {escape(name)}</title>'
        f"<style>{STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )


def _section(title: str, content: str) -> str:
    return f"<h2>{title}</h2>{content}"


def _banners(about: SourceAbout) -> str:
    banners = ""
    if about.use_agreement:
        banners += (
            f"<p class='banner restricted'><b>Restricted: {escape(about.use_agreement)}.</b> Only a person who has"
            " signed it may have this data set, or this page: texts and radiographs of the data set are shown here.</p>"
        )
    if about.synthetic:
        banners += "<p class=banner><b>SYNTHETIC.</b> Phantom radiographs and phantom reports; no patient is here.</p>"
    return banners


def _tiles(counts: Counts) -> str:
    splits = counts.splits.values()
    numbers = {
        "studies": number(counts.studies),
        "patients": number(sum(split.patients for split in splits)),
        "left out by rule": number(sum(n for (cause, _), n in counts.exclusions.items() if cause == "rule")),
        "left out, a problem": number(sum(n for (cause, _), n in counts.exclusions.items() if cause == "problem")),
        "with a reference report": share(sum(split.references["with"] for split in splits), counts.studies),
        "suspicious radiographs": number(sum(counts.suspicious.values())),
    }
    tiles = "".join(f"<div class=tile><b>{value}</b><span>{label}</span></div>" for label, value in numbers.items())
    return f"<div class=tiles>{tiles}</div>"


def _splits(counts: Counts) -> str:
    views = sorted({view for split in counts.splits.values() for view in split.views})
    rows = [
        [name, number(split.studies), number(split.patients), *(number(split.views[view]) for view in views)]
        for name, split in counts.splits.items()
    ]
    views_named = ["view not named" if view == "unknown" else view for view in views]
    return table(["split", "studies", "patients", *views_named], rows)


def _exclusions(counts: Counts) -> str:
    if not counts.exclusions:
        return "<p>No study was left out.</p>"
    kinds = sorted(counts.exclusions.items(), key=lambda item: (item[0][0] == "rule", -item[1], item[0][1]))
    rows = [
        [reason, "problem" if cause == "problem" else "rule", number(n), ", ".join(counts.excluded[cause, reason])]
        for (cause, reason), n in kinds
    ]
    return (
        "<p>A <i>rule</i> leaves a study out of every data set that is made this way; a <i>problem</i> is damage that"
        " somebody can mend. All of them are in <code>excluded.csv</code>.</p>"
        + table(["reason", "kind", "studies", f"the first {IDS_SHOWN} ids"], rows, text=(0, 1, 3))
    )


def _labels(counts: Counts) -> str:
    splits = {name: split for name, split in counts.splits.items() if split.studies}
    shares = {
        name: [_positive(split.labels, name, split.studies) for split in splits.values()] for name in OBSERVATIONS
    }
    text = (
        f"<p>Share of studies whose findings name the observation as present, read by {escape(LABELER)}. It says what"
        f" the text says, not what the image shows.</p><p>{legend(list(splits))}</p>"
        + bars(shares, title="Share of studies with each observation, per split")
        + _labeltable("This labeler, on the findings", counts.splits.values(), source=False)
    )
    if any(split.with_source_labels for split in splits.values()):
        text += (
            "<h3>Labels published by the source</h3><p>They describe <b>other text</b> (in MIMIC-CXR mostly the"
            " impression), so they differ from the above by design. They are shown here and used nowhere.</p>"
            + _label_comparison(counts.splits.values())
            + _labeltable("Published by the source", counts.splits.values(), source=True)
        )
    return text


def _label_comparison(splits: Iterable[SplitCounts]) -> str:
    own, published, studies, labelled = Counter[tuple[str, int]](), Counter[tuple[str, int]](), 0, 0
    for split in splits:
        own, published = own + split.labels, published + split.source_labels
        studies, labelled = studies + split.studies, labelled + split.with_source_labels
    rows = {name: [_positive(own, name, studies), _positive(published, name, labelled)] for name in OBSERVATIONS}
    key = legend(["this labeler, findings", "published by the source, other text"])
    return f"<p>{key}</p>" + bars(rows, title="Labels read here beside the published ones")


def _labeltable(caption: str, splits: Iterable[SplitCounts], *, source: bool) -> str:
    total, studies = Counter[tuple[str, int]](), 0
    for split in splits:
        total += split.source_labels if source else split.labels
        studies += split.with_source_labels if source else split.studies
    rows = []
    for name in OBSERVATIONS:
        mentioned = [total[name, value] for value in (1, 0, -1)]
        rows.append([name, *map(number, mentioned), number(studies - sum(mentioned)), share(mentioned[0], studies)])
    head = [caption, "present", "absent", "uncertain", "not mentioned", "present, share"]
    return f"<div class=wide>{table(head, rows)}</div>"


def _lengths(counts: Counts) -> str:
    words = Counter[int]()
    for split in counts.splits.values():
        words += split.words
    rows = [
        [name, *(str(quantile(split.words, part)) for part in (0.05, 0.5, 0.95, 1.0))]
        for name, split in counts.splits.items()
        if split.studies
    ]
    quantiles = table(["words", "5 % have at most", "half", "95 %", "longest"], rows)
    return histogram(words, title="Histogram of the words of the findings", axis="words of the findings") + quantiles


def _references(counts: Counts) -> str:
    rows = []
    for name, split in counts.splits.items():
        having = split.references["with"]
        row = [name, ", ".join(sorted(split.policies)) or "-", number(having), share(having, split.studies)]
        rows.append([*row, *(share(split.references[kind], having) for kind in ("future", "same_day"))])
    head = ["split", "policy", "studies with one", "share", "of these, of the future", "of these, of the same day"]
    return (
        "<p>The report of another study that training may read beside the radiograph. A report of the future can tell"
        " what the radiograph shows; <code>prior_only</code> admits none. <code>similar</code> takes that of another"
        " patient of the training split.</p>" + table(head, rows, text=(0, 1))
    )


def _examples(counts: Counts) -> str:
    figures = [
        figure(png, EXAMPLE_PIXELS, f"{facts.study_id}, {facts.split}, {facts.view}", facts.opening)
        for facts, png in counts.examples.pictures()
    ]
    if not figures:
        return "<p>None were given.</p>"
    return "<p>Chosen by a hash of the study id, not by their looks.</p>" + "".join(figures)


def _suspicious(counts: Counts) -> str:
    parts = [
        "<p>Flagged by simple rules tuned on phantoms. Nothing is left out for a flag; look at them. A chest with one"
        " white lung looks like a lateral to these rules.</p>"
    ]
    if repeated := len(counts.images) - len(np.unique(np.array(counts.images))):
        parts.append(f"<p>{number(repeated)} studies show the very image of another study of their split.</p>")
    for flag, meaning in FLAGS.items():
        flagged = counts.suspicious[flag]
        parts.append(f"<h3>{flag}: {number(flagged)}</h3><p class=small>{escape(meaning)}</p>")
        parts += _thumbnails(counts.thumbnails.get(flag), flagged)
    return "".join(parts)


def _thumbnails(gallery: Gallery | None, flagged: int) -> list[str]:
    pictures = gallery.pictures() if gallery else []
    figures = [figure(png, THUMBNAIL_PIXELS, f"{facts.study_id}, {facts.split}") for facts, png in pictures]
    if 0 < len(figures) < flagged:
        figures.append(f"<p class=small>{len(figures)} of {number(flagged)} are shown.</p>")
    return figures


def _duplicates(counts: Counts) -> str:
    texts = np.array(counts.texts, dtype=np.uint64)
    repeated = len(texts) - len(np.unique(texts))
    groups = near_duplicates(np.array(counts.signatures, dtype=np.uint64))
    line = (
        f"<p>{number(repeated)} of {number(len(texts))} findings repeat the text of another study word for word."
        f" Such repeats and texts that differ in a few words form {number(len(groups))} groups, which hold"
        f" {number(sum(map(len, groups)))} studies. Normal chests are often dictated from a template; such reports"
        " score well for a model that has learnt the template alone.</p>"
    )
    if not groups:
        return line
    rows = [
        [
            number(len(group)),
            number(len(np.unique(texts[group]))),
            ", ".join(counts.study_ids[i] for i in group[:IDS_SHOWN]),
            counts.openings[group[0]],
        ]
        for group in groups[:GROUPS_SHOWN]
    ]
    return line + table(["studies", "wordings", f"the first {IDS_SHOWN} ids", "begins"], rows, text=(2, 3))


def _notes(counts: Counts) -> str:
    if not counts.notes:
        return "<p>Nothing was noted.</p>"
    rows = [[note, number(n)] for note, n in sorted(counts.notes.items(), key=lambda item: (-item[1], item[0]))]
    return table(["note", "studies"], rows)


def _config(about: SourceAbout) -> str:
    rows = [
        [key, value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)]
        for key, value in sorted(about.config.items())
    ]
    rows = [
        ["several dated studies a patient", "yes" if about.has_history else "no"],
        ["use agreement", about.use_agreement or "none recorded"],
        *rows,
    ]
    return table(["", ""], rows, text=(0, 1))


def _positive(labels: Mapping[tuple[str, int], int], name: str, studies: int) -> float | None:
    return labels.get((name, 1), 0) / studies if studies else None
