"""The reports of Open-i's Indiana collection, as published (one XML file each) or as the re-pack of two CSV tables."""

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any
from xml.etree import ElementTree

from tqdm import tqdm

from components.preprocess.readers.reading import BadRow, find_table, read_csv
from components.preprocess.readers.texts import decode, unwrap
from components.preprocess.source import Exclusion, View
from components.shared.folder import Folder

REPORTS_TABLE = "indiana_reports.csv"
PROJECTIONS_TABLE = "indiana_projections.csv"
_VIEW_WORDS: tuple[tuple[View, re.Pattern[str]], ...] = (
    ("PA", re.compile(r"\b(pa|postero-?anterior)\b", re.IGNORECASE)),
    ("AP", re.compile(r"\b(ap|antero-?posterior)\b", re.IGNORECASE)),
    ("FRONTAL", re.compile(r"\bfrontal\b", re.IGNORECASE)),
    ("LATERAL", re.compile(r"\blateral\b", re.IGNORECASE)),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenIImage:
    """One image that a report lists."""

    image_id: str
    file: str  # name of the PNG, without a folder
    view: View


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenIReport:
    """One report. A section is None when it is missing, "" when it is there and empty."""

    study_id: str
    source: str  # the file or line it stands in, for messages
    images: tuple[OpenIImage, ...]
    findings: str | None = None
    impression: str | None = None
    indication: str | None = None
    latin1: bool = False


def named_view(text: str) -> View:
    """The one view that a caption or a table cell names, else "".

    Most captions of Open-i describe the examination ("Chest PA and lateral"), the same words under each of its images;
    a text that names a frontal and a lateral view therefore says nothing about one image.
    """
    named = {view for view, words in _VIEW_WORDS if words.search(text)}
    if len(named) > 1:
        named = named - {"FRONTAL"} if "LATERAL" not in named else set()  # "frontal, PA" names PA
    return named.pop() if len(named) == 1 else ""


def base_id(study_id: str) -> str:
    """Open-i's number of a report: its id without the letters CXR."""
    return study_id.strip().removeprefix("CXR")


# --- XML ------------------------------------------------------------------------------------------------------------


def read_xml_reports(folder: Folder, names: Sequence[str]) -> Iterator[OpenIReport | Exclusion]:
    """Parse every file. One that is no XML, or declares a document type, is an Exclusion."""
    files = tqdm(folder.read_many(names), total=len(names), desc="reports", unit="report")
    for name, data in zip(names, files, strict=True):
        stem = base_id(PurePosixPath(name).stem)
        if data is None:
            yield Exclusion(study_id=stem, reason="no_report", detail="the file went away while it was read")
            continue
        try:
            root, latin1 = _parse_xml(data)
        except _DocumentType:
            detail = "it declares a document type, which is refused because entities could be expanded without end"
            yield Exclusion(study_id=stem, reason="bad_report_xml", detail=detail)
        except (ElementTree.ParseError, ValueError, LookupError) as error:  # the last two: an encoding nobody knows
            yield Exclusion(study_id=stem, reason="bad_report_xml", detail=f"no XML: {error}")
        else:
            yield _xml_report(root, name, latin1)


class _DocumentType(Exception):
    """A DOCTYPE was met."""


class _Builder(ElementTree.TreeBuilder):
    """Refuses a document type, and with it every entity that a file could declare and have expanded."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> Any:
        raise _DocumentType


def _parse_xml(data: bytes) -> tuple[ElementTree.Element, bool]:
    """The root and whether a file that declares nothing else had to be read as Latin-1."""
    try:
        return ElementTree.fromstring(data, ElementTree.XMLParser(target=_Builder())), False
    except ElementTree.ParseError:
        if not decode(data)[1]:
            raise
    parser = ElementTree.XMLParser(target=_Builder(), encoding="iso-8859-1")
    return ElementTree.fromstring(data, parser), True


def _xml_report(root: ElementTree.Element, name: str, latin1: bool) -> OpenIReport:
    """Elements are searched by name: where they stand differs between descriptions of the collection."""
    ids = (base_id(element.get("id", "")) for element in root.iter("uId"))
    sections = _sections(root)
    return OpenIReport(
        study_id=next((found for found in ids if found), base_id(PurePosixPath(name).stem)),
        source=PurePosixPath(name).name,
        images=_xml_images(root),
        findings=sections.get("FINDINGS"),
        impression=sections.get("IMPRESSION"),
        indication=sections.get("INDICATION"),
        latin1=latin1,
    )


def _sections(root: ElementTree.Element) -> dict[str, str]:
    """Text by label. A label that occurs twice keeps both texts, in order."""
    found: dict[str, list[str]] = defaultdict(list)
    for element in root.iter("AbstractText"):
        found[element.get("Label", "").strip().upper()].append("".join(element.itertext()))
    return {label: unwrap(" ".join(texts)) or "" for label, texts in found.items()}


def _xml_images(root: ElementTree.Element) -> tuple[OpenIImage, ...]:
    images: dict[str, OpenIImage] = {}  # in the order of the file; an id that is listed twice counts once
    for element in root.iter("parentImage"):
        if image_id := element.get("id", "").strip():
            caption = " ".join("".join(part.itertext()) for part in element.iter("caption"))
            images.setdefault(image_id, OpenIImage(image_id=image_id, file=f"{image_id}.png", view=named_view(caption)))
    return tuple(images.values())


# --- the two tables ---------------------------------------------------------------------------------------------------


def read_table_reports(folder: Folder) -> Iterator[OpenIReport | Exclusion]:
    """Join the two tables on uid. An empty cell is a missing section: a table cannot tell the two apart."""
    bad: list[BadRow] = []
    images = _table_images(folder, bad)
    rows = read_csv(folder, REPORTS_TABLE, ("uid", "indication", "findings", "impression"), bad.append)
    reported = set()
    for row in rows:
        if not (study_id := base_id(row["uid"])):
            detail = f"line {row.line} of {REPORTS_TABLE} has no uid"
            yield Exclusion(study_id=f"line {row.line}", reason="bad_row", detail=detail)
            continue
        reported.add(study_id)
        yield OpenIReport(
            study_id=study_id,
            source=f"line {row.line} of {REPORTS_TABLE}",
            images=tuple(images.get(study_id, ())),
            findings=unwrap(row["findings"]) or None,
            impression=unwrap(row["impression"]) or None,
            indication=unwrap(row["indication"]) or None,
            latin1=row.latin1,
        )
    for broken in bad:
        study_id = base_id(broken.fields.get("uid", "")) or f"line {broken.line}"
        reported.add(study_id)
        yield Exclusion(study_id=study_id, reason="bad_row", detail=broken.detail)
    for study_id in images.keys() - reported:
        yield Exclusion(study_id=study_id, reason="no_report", detail=f"{REPORTS_TABLE} has no such uid")


def name_views(folder: Folder, reports: Iterator[OpenIReport | Exclusion]) -> Iterator[OpenIReport | Exclusion]:
    """Take from the projections table, when it lies beside the XML files, the views that captions do not name."""
    views = projections(folder)
    for report in reports:
        if isinstance(report, OpenIReport):
            images = (replace(i, view=i.view or views.get(_short(i.image_id), "")) for i in report.images)
            report = replace(report, images=tuple(images))
        yield report


def projections(folder: Folder) -> dict[str, View]:
    """View by image, as the re-pack names images; empty when there is no such table."""
    if find_table(folder, PROJECTIONS_TABLE) is None:
        return {}
    rows = read_csv(folder, PROJECTIONS_TABLE, ("uid", "filename", "projection"))
    return {_short(row["filename"]): named_view(row["projection"]) for row in rows}


def _short(name: str) -> str:
    """One image, three spellings: CXR1_1_IM-0001-4001 (XML), CXR2_IM-0652-1001 (XML), 1_IM-0001-4001.dcm.png (table).

    The re-pack writes <report>_IM-..., Open-i CXR<report>_IM-... or CXR<report>_<n>_IM-...
    """
    name = base_id(name).removesuffix(".png").removesuffix(".dcm")
    report, mark, rest = name.partition("_IM-")
    return report.partition("_")[0] + mark + rest


def _table_images(folder: Folder, bad: list[BadRow]) -> dict[str, list[OpenIImage]]:
    images: dict[str, list[OpenIImage]] = defaultdict(list)
    for row in read_csv(folder, PROJECTIONS_TABLE, ("uid", "filename", "projection"), bad.append):
        name = PurePosixPath(row["filename"]).name
        image = OpenIImage(image_id=name.removesuffix(".png"), file=name, view=named_view(row["projection"]))
        images[base_id(row["uid"])].append(image)
    return images
