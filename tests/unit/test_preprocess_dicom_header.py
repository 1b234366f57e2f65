"""What a header says of view and time, and what it does not."""

from datetime import datetime

import pytest
from pydicom.dataset import Dataset

from components.preprocess.readers.dicom_header import taken_at, time_of, view_of


@pytest.mark.parametrize(
    ("position", "meaning", "view"),
    [
        ("PA", "", "PA"),
        ("AP", "postero-anterior", "AP"),
        ("LLO", "", ""),
        ("RAO", "", "LATERAL"),
        ("", "postero-anterior", "PA"),
        ("", "Antero-Posterior", "AP"),
        ("", "left lateral", "LATERAL"),
        ("ERECT", "postero-anterior", "PA"),
        ("", "", ""),
    ],
)
def test_views_are_read_and_never_guessed(position: str, meaning: str, view: str) -> None:
    dicom, code = Dataset(), Dataset()
    dicom.ViewPosition, code.CodeMeaning = position, meaning
    dicom.ViewCodeSequence = [code] if meaning else []
    assert view_of(dicom) == view


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"StudyDate": "20200102", "StudyTime": "09"}, datetime(2020, 1, 2, 9)),
        ({"StudyDate": "2020.01.02"}, datetime(2020, 1, 2)),
        ({"StudyDate": "20200102", "StudyTime": "0900", "AcquisitionDate": "20200103"}, datetime(2020, 1, 2, 9)),
        ({"StudyDate": "20200102", "ContentDate": "20200103", "ContentTime": "1"}, datetime(2020, 1, 3)),
        ({"StudyDate": "20201302", "StudyTime": "0900"}, None),
        ({}, None),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")  # some values are wrong on purpose
def test_when_a_picture_was_taken(values: dict[str, str], expected: datetime | None) -> None:
    dicom = Dataset()
    for keyword, value in values.items():
        setattr(dicom, keyword, value)
    assert taken_at(dicom) == expected


@pytest.mark.parametrize("text", ["9", "093", "2500", "0960", "abcd", "09:3x", "09324455.1", ""])
def test_what_is_no_time_is_none(text: str) -> None:
    assert time_of(text) is None
