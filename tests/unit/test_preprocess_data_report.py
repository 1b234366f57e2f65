"""The page says what was counted, stands alone, keeps little, and is the same every time."""

import base64
import re
import sys
from datetime import datetime
from html.parser import HTMLParser
from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from components.preprocess.data_report import Report
from components.preprocess.data_report.counts import EXAMPLES, THUMBNAILS
from components.preprocess.data_report.near_duplicates import near_duplicates
from components.preprocess.data_report.plots import histogram, percent, quantile
from components.preprocess.facts import StudyFacts, describe
from components.preprocess.source import Exclusion, SourceAbout
from model.radiograph import encode_png
from model.records import Split, Study

ABOUT = SourceAbout(name="mimic-cxr", synthetic=False, use_agreement="", has_history=True, config={"sectioner": "x<y"})
SPLITS: tuple[Split, ...] = ("train", "train", "validate", "test")
VOID = {"meta", "img", "br"}


class Checker(HTMLParser):
    """Every tag that is opened is closed, and nothing is loaded or run."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag not in ("script", "link", "iframe", "object")
        for name, value in attrs:
            assert not name.startswith("on")
            assert name not in ("src", "href") or str(value).startswith("data:image/")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in ("rect", "line")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def example(number: int, *, findings: str = "", blank: bool = False) -> tuple[StudyFacts, bytes]:
    rng = np.random.default_rng(number)
    pixels = np.zeros((64, 64), np.uint8) if blank else rng.integers(0, 256, (64, 64), dtype=np.uint8)
    words = " ".join(chr(97 + n) * (1 + n % 7) + chr(97 + m) for n, m in rng.integers(0, 26, (20, 2)))
    study = Study(
        study_id=f"s{number:04d}",
        patient_id=f"p{number // 4:03d}",
        split=SPLITS[number // 4 % 4],
        view="PA" if number % 3 else "AP",
        taken_at=datetime(2150, 1, 1),
        image=encode_png(pixels),
        findings=findings or words,
        labels={"Edema": 1 if number % 4 == 0 else 0, "Pneumonia": -1 if number % 2 else None},
        reference_study_id="r" if number % 2 else None,
        reference_policy="nearest",
    )
    facts = describe(
        study,
        pixels,
        source_labels={"Edema": 1} if number % 2 else None,
        notes=["report_latin1"] if number % 10 == 0 else [],
        reference_taken_at=datetime(2151, 1, 1),
    )
    return facts, study.image


def report(numbers: range, **about: object) -> tuple[Report, str]:
    found = Report()
    for number in numbers:
        found.add(*example(number))
    return found, found.html(name="demo", about=ABOUT, image_size=64)


def text_of(page: str) -> str:
    without = re.sub(r"<(style|svg).*?</\1>", " ", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", without))


def test_counts_are_those_of_a_hand_count() -> None:
    text = text_of(report(range(80))[1])
    assert "train 40 10 13 27" in text  # studies, patients, AP, PA
    assert "validate 20 5 7 13" in text
    assert "Edema 20 60 0 0 25.0 %" in text  # present, absent, uncertain, not mentioned
    assert "Pneumonia 0 0 40 40 0.0 %" in text
    assert "Edema 40 0 0 0 100.0 %" in text  # the source's own
    assert "describe other text" in text
    assert "train nearest 20 50.0 % 100.0 % 0.0 %" in text
    assert "report_latin1 8" in text


def test_the_page_stands_alone_and_is_well_formed() -> None:
    checker = Checker()
    checker.feed(report(range(30))[1])
    assert checker.open == []


def test_equal_studies_give_equal_bytes_and_no_time_is_in_it() -> None:
    first, second = (report(range(24))[1] for _ in range(2))
    assert first == second
    assert str(datetime.now().year) not in text_of(first)


def test_the_examples_do_not_depend_on_the_order_and_stay_few() -> None:
    forwards, backwards = report(range(40))[0], report(range(39, -1, -1))[0]
    shown = [facts.study_id for facts, _ in forwards.examples.pictures()]
    assert shown == [facts.study_id for facts, _ in backwards.examples.pictures()]
    assert len(shown) == len(set(shown)) == EXAMPLES


def test_suspicious_pictures_are_shown_and_kept_few() -> None:
    found = Report()
    for number in range(40):
        found.add(*example(number, blank=True))
    page = found.html(name="demo", about=ABOUT, image_size=64)
    assert f"{THUMBNAILS} of 40 are shown" in page and "blank: 40" in page
    assert "39 studies show the very image" in page
    picture = re.search(r'width=128 height=128 src="data:image/jpeg;base64,([^"]+)"', page)
    assert picture and Image.open(BytesIO(base64.b64decode(picture[1]))).size == (128, 128)


def test_exclusions_are_counted_by_reason_and_cause_and_escaped() -> None:
    found = Report()
    for number in range(9):
        found.exclude(Exclusion(study_id=f"n{number}", reason="no_findings", cause="rule"))
    found.exclude(Exclusion(study_id="<b>7", reason="unreadable_truncated"))
    page = found.html(name="<demo>", about=ABOUT, image_size=64)
    text = text_of(page)
    assert "no_findings rule 9 n0, n1, n2, n3, n4" in text
    assert "unreadable_truncated problem 1 &lt;b&gt;7" in text
    assert "<demo>" not in page and "x&lt;y" in page


@pytest.mark.parametrize(
    ("synthetic", "agreement", "shown", "missing"),
    [(True, "", "SYNTHETIC", "Restricted:"), (False, "Agreement 1", "Restricted: Agreement 1", "SYNTHETIC")],
)
def test_banners(synthetic: bool, agreement: str, shown: str, missing: str) -> None:
    about = SourceAbout(name="x", synthetic=synthetic, use_agreement=agreement, has_history=False)
    page = Report().html(name="empty", about=about, image_size=64)
    assert shown in page and missing not in page


def test_memory_grows_by_little_for_each_study() -> None:
    def size(found: Report) -> int:
        columns = (found.signatures, found.texts, found.images, found.study_ids, found.openings)
        columns_bytes = sum(sys.getsizeof(column) for column in columns)
        return columns_bytes + sum(map(sys.getsizeof, found.openings)) + sum(map(sys.getsizeof, found.study_ids))

    assert (size(report(range(400))[0]) - size(report(range(200))[0])) / 200 < 350


def test_repeated_reports_are_grouped_largest_first() -> None:
    found = Report()
    texts = ["The lungs are clear. No effusion."] * 5 + ["THE lungs are clear.  No effusion."] + ["Large mass."] * 2
    for number, findings in enumerate([*texts, *[""] * 10]):
        found.add(*example(number, findings=findings))
    text = text_of(found.html(name="demo", about=ABOUT, image_size=64))
    assert "6 of 18 findings repeat" in text and "form 2 groups, which hold 8 studies" in text
    assert "6 1 s0000, s0001, s0002, s0003, s0004 The lungs are clear. No effusion." in text


def test_near_duplicates_equal_a_plain_comparison() -> None:
    """Clusters of up to seven flipped bits about random centres, which are far apart: pairs say the same as groups."""
    rng = np.random.default_rng(2)
    values: list[int] = []
    for size in (1, 2, 3, 7, 12, 1, 1):
        centre = int(rng.integers(0, 1 << 63))
        values += [centre] * size  # the most frequent one leads
        for _ in range(size - 1):
            bits = rng.choice(64, int(rng.integers(1, 8)), replace=False)
            values.append(centre ^ sum(1 << int(bit) for bit in bits))
    shuffled = [values[i] for i in rng.permutation(len(values))]
    groups = near_duplicates(np.array(shuffled, dtype=np.uint64))
    assert [len(group) for group in groups] == [23, 13, 5, 3]
    for group in groups:
        near = [i for i, value in enumerate(shuffled) if (value ^ shuffled[group[0]]).bit_count() <= 14]
        assert list(group) == near
    assert near_duplicates(np.array([], dtype=np.uint64)) == []


def test_plots_say_small_shares_and_bin_every_value() -> None:
    assert (percent(0), percent(0.0004), percent(0.25)) == ("0.0 %", "under 0.1 %", "25.0 %")
    counts = {value: 1 for value in range(200)} | {5000: 1}
    shown = [int(n) for n in re.findall(r"<title>[^:]+: (\d+)</title>", histogram(counts, title="t", axis="words"))]
    assert sum(shown) == 201 and 10 <= len(shown) <= 31
    for share in (0.0, 0.05, 0.5, 0.95, 1.0):
        ordered = sorted(counts)
        assert quantile(counts, share) == ordered[max(0, int(np.ceil(share * 201)) - 1)]
