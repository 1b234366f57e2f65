"""No identity gets through: an object full of markers, pseudonyms and dates."""

from datetime import date, timedelta
from io import BytesIO
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate, get_frame
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    RLELossless,
)

from components.preprocess.readers.deidentify import deidentify, pseudonym_key
from components.preprocess.readers.dicom_header import read_header
from components.preprocess.readers.jpeg_comments import without_comments
from components.preprocess.readers.pseudonyms import Pseudonyms
from model.errors import ConfigError, DataError, RadiographError
from model.radiograph import read_radiograph

KEY = Pseudonyms(b"0123456789abcdef-test")
MARK = "ZQMARK"
MARKED_NUMBER = 0x5A514D4B  # "ZQMK" or "KMQZ" in the bytes

# One value per VR (PS3.5 table 6.2-1) that could carry an identity; numbers carry theirs in their bytes.
EVERY_VR: dict[str, Any] = {
    "AE": MARK,
    "AS": "077Y",
    "AT": MARKED_NUMBER,
    "CS": MARK,
    "DA": "19770707",
    "DS": "77777.25",
    "DT": "19770707070707.777777+0700",
    "FD": 7.77e77,
    "FL": 7.75e7,
    "IS": "777777777",
    "LO": MARK,
    "LT": MARK,
    "OB": MARK.encode(),
    "OD": MARK.encode() + b"zz",
    "OF": MARK.encode() + b"zz",
    "OL": MARK.encode() + b"zz",
    "OV": MARK.encode() + b"zz",
    "OW": MARK.encode(),
    "PN": f"{MARK}^Given^M=山田^太郎",
    "SH": MARK,
    "SL": MARKED_NUMBER,
    "SS": 0x5A51,
    "ST": MARK,
    "SV": MARKED_NUMBER << 8,
    "TM": "070707.777777",
    "UC": MARK,
    "UI": "1.2.840.7777777.7",
    "UL": MARKED_NUMBER,
    "UN": MARK.encode(),
    "UR": f"http://{MARK}",
    "US": 0x5A51,
    "UT": MARK,
    "UV": MARKED_NUMBER << 8,
}
TRACES = (
    *(
        MARK.encode(),
        b"ZQ",
        b"QZ",
        "山田".encode(),
        "太郎".encode(),
        b"Given",
        b"077Y",
        b"19770707",
        b"777777",
        b"77777",
    ),
    *(np.float64(7.77e77).tobytes(), np.float32(7.75e7).tobytes()),
)


def radiograph(**more: Any) -> FileDataset:
    """An ordinary invented radiograph of 8 x 6 pixels, 12 of 16 bits."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = "1.2.3.7.1"
    dicom = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dicom.SOPClassUID, dicom.SOPInstanceUID = DigitalXRayImageStorageForPresentation, "1.2.3.7.1"
    dicom.StudyInstanceUID, dicom.SeriesInstanceUID = "1.2.3.7", "1.2.3.7.0"
    dicom.Modality, dicom.BodyPartExamined, dicom.ViewPosition = "DX", "CHEST", "PA"
    dicom.PatientID, dicom.AccessionNumber = "4711", "A-0815"
    dicom.StudyDate = dicom.AcquisitionDate = "20200229"
    dicom.StudyTime, dicom.AcquisitionTime = "0932", "093244.5"
    dicom.PatientOrientation = ["L", "F"]
    dicom.Rows, dicom.Columns, dicom.SamplesPerPixel = 6, 8, 1
    dicom.BitsAllocated, dicom.BitsStored, dicom.HighBit, dicom.PixelRepresentation = 16, 12, 11, 0
    dicom.PhotometricInterpretation, dicom.PixelSpacing = "MONOCHROME1", ["0.139", "0.139"]
    dicom.RescaleSlope, dicom.RescaleIntercept, dicom.WindowCenter, dicom.WindowWidth = "1.5", "-3", "700", "1400.25"
    values = np.random.default_rng(7).integers(0, 1000, (6, 8)).astype("<u2")
    dicom.add_new("PixelData", "OW", values.tobytes())
    for keyword, value in more.items():
        setattr(dicom, keyword, value)
    return dicom


def as_bytes(dicom: Dataset) -> bytes:
    buffer = BytesIO()
    dicom.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def marked() -> FileDataset:
    """The radiograph with a marker in every VR: plain, nested twice, private, in the file meta and the preamble."""
    dicom = radiograph()
    dicom.preamble = (MARK * 30).encode()[:128]
    dicom.file_meta.SourceApplicationEntityTitle = MARK
    dicom.file_meta.PrivateInformationCreatorUID = "1.2.840.7777777.7"
    dicom.file_meta.PrivateInformation = MARK.encode()
    block = dicom.private_block(0x0099, MARK, create=True)
    deepest, deeper = Dataset(), Dataset()
    for number, (vr, value) in enumerate(EVERY_VR.items(), 0x10):
        for holder in (dicom, deeper, deepest):
            holder.add_new((0x0040 if holder is dicom else 0x0042, 0xE000 + number), vr, value)
        block.add_new(number, vr, value)
    deeper.ReferencedImageSequence = [deepest]
    dicom.RequestAttributesSequence = [deeper]
    for keyword in ("PatientName", "OtherPatientNames", "ReferringPhysicianName", "OperatorsName"):
        setattr(dicom, keyword, EVERY_VR["PN"])
    for keyword in ("PatientAddress", "InstitutionName", "StationName", "StudyDescription", "ImageComments", "StudyID"):
        setattr(dicom, keyword, MARK)
    dicom.SpecificCharacterSet = "ISO_IR 192"
    # Kept attributes, filled with what does not belong there.
    dicom.ViewPosition, dicom.BodyPartExamined = MARK, f"CHEST {MARK}"
    dicom.PatientOrientation = [MARK, "F"]
    dicom.PresentationLUTShape = dicom.VOILUTFunction = dicom.PresentationIntentType = dicom.BurnedInAnnotation = MARK
    dicom.StudyDate, dicom.ContentTime = "19770707", f"07{MARK}"
    dicom.add_new(0x60000010, "US", 8)
    dicom.add_new(0x60000022, "LO", MARK)
    dicom.add_new(0x60003000, "OW", MARK.encode())
    dicom.PixelData += MARK.encode()  # behind the last pixel
    table = Dataset()
    table.LUTDescriptor, table.LUTExplanation = [4096, 0, 12], MARK
    table.add_new("LUTData", "OW", np.arange(4096, dtype="<u2")[::-1].tobytes() + MARK.encode())
    dicom.VOILUTSequence = [table]
    return dicom


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")  # the values are wrong on purpose
def test_no_marker_survives_and_the_picture_stays(syntax: pydicom.uid.UID) -> None:
    dicom = marked()
    dicom.file_meta.TransferSyntaxUID = syntax
    data = as_bytes(dicom)
    assert all(trace in data for trace in (MARK.encode(), b"19770707", "山田".encode()))
    clean = deidentify(data, KEY)

    assert [trace for trace in TRACES if trace in clean] == []
    for uid in ("1.2.3.7", "1.2.840.7777777.7", "4711", "A-0815"):
        assert uid.encode() not in clean
    before, after = read_radiograph(data, 32), read_radiograph(clean, 32)
    assert np.array_equal(before.pixels, after.pixels)
    new = pydicom.dcmread(BytesIO(clean))
    assert np.array_equal(new.pixel_array, pydicom.dcmread(BytesIO(as_bytes(radiograph()))).pixel_array)
    assert new.preamble == b"\0" * 128


def test_what_was_done_is_written_into_the_object() -> None:
    new = pydicom.dcmread(BytesIO(deidentify(as_bytes(radiograph()), KEY)))
    assert new.PatientIdentityRemoved == "YES"
    assert new.LongitudinalTemporalInformationModified == "MODIFIED"
    assert [(code.CodeValue, code.CodingSchemeDesignator) for code in new.DeidentificationMethodCodeSequence] == [
        ("113100", "DCM"),
        ("113107", "DCM"),
    ]
    assert "PS3.15" in new.DeidentificationMethod
    assert new.PatientName == new.PatientBirthDate == new.PatientSex == ""


def test_padding_windows_and_tables_survive_bit_for_bit() -> None:
    dicom = radiograph(PixelPaddingValue=0, VOILUTFunction="SIGMOID", PresentationLUTShape="INVERSE")
    dicom.PixelSpacing = ["0.1390000000001", "1.39e-1"]
    new = pydicom.dcmread(BytesIO(deidentify(as_bytes(dicom), KEY)))
    for keyword in ("PixelPaddingValue", "VOILUTFunction", "PresentationLUTShape", "PixelSpacing", "WindowWidth"):
        assert new[keyword].value == dicom[keyword].value, keyword
    assert new.ViewPosition == "PA" and new.PatientOrientation == ["L", "F"] and new.BodyPartExamined == "CHEST"


@pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless])
def test_compressed_pixels_stay_compressed_and_equal(syntax: pydicom.uid.UID) -> None:
    dicom = radiograph()
    values = np.arange(96 * 96, dtype="<u2").reshape(96, 96) % 4096
    dicom.Rows = dicom.Columns = 96
    dicom.PixelData = values.tobytes()
    dicom.compress(syntax, generate_instance_uid=False)
    new = pydicom.dcmread(BytesIO(deidentify(as_bytes(dicom), KEY)))
    assert new.file_meta.TransferSyntaxUID == syntax
    assert np.array_equal(new.pixel_array, values)


def jpeg() -> bytes:
    from PIL import Image

    buffer = BytesIO()
    grey = np.add.outer(np.arange(64), np.arange(64)).astype(np.uint8)
    Image.fromarray(grey).save(buffer, format="JPEG", comment=MARK.encode(), exif=b"Exif\0\0" + MARK.encode())
    return buffer.getvalue() + MARK.encode()


def jpeg2000() -> bytes:
    dicom = radiograph(Rows=64, Columns=64)
    dicom.PixelData = np.arange(64 * 64, dtype="<u2").tobytes()
    dicom.compress(JPEG2000Lossless, generate_instance_uid=False)
    stream = get_frame(dicom.PixelData, 0, number_of_frames=1)
    start = stream.index(b"\xff\x90")
    comment = MARK.encode()
    return stream[:start] + b"\xff\x64" + (4 + len(comment)).to_bytes(2, "big") + b"\0\1" + comment + stream[start:]


@pytest.mark.parametrize(("stream", "syntax"), [(jpeg(), JPEGBaseline8Bit), (jpeg2000(), JPEG2000Lossless)])
def test_comments_of_compressed_streams_are_dropped(stream: bytes, syntax: pydicom.uid.UID) -> None:
    from PIL import Image

    clean = without_comments(stream, syntax)
    assert MARK.encode() in stream and MARK.encode() not in clean
    decoded = [np.asarray(Image.open(BytesIO(each))) for each in (stream, clean)]
    assert np.array_equal(*decoded)


def test_a_comment_in_a_fragment_of_an_object_is_dropped() -> None:
    dicom = radiograph(BitsAllocated=8, BitsStored=8, HighBit=7, Rows=64, Columns=64)
    dicom.PhotometricInterpretation = "MONOCHROME2"
    dicom.PixelData = encapsulate([jpeg()])
    dicom["PixelData"].VR = "OB"
    dicom.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    data = as_bytes(dicom)
    clean = deidentify(data, KEY)
    assert MARK.encode() in data and MARK.encode() not in clean
    assert np.array_equal(read_radiograph(data, 64).pixels, read_radiograph(clean, 64).pixels)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 600))
def test_a_broken_stream_is_never_anything_but_a_refusal(noise: bytes, at: int) -> None:
    for stream, syntax in ((jpeg(), JPEGBaseline8Bit), (jpeg2000(), JPEG2000Lossless)):
        broken = stream[:at] + noise + stream[at + len(noise) :]
        try:
            assert isinstance(without_comments(broken, syntax), bytes)
        except RadiographError as error:
            assert error.reason in ("undecodable", "truncated")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"BurnedInAnnotation": "YES"}, "burned_in"),
        ({"Modality": "CT"}, "modality"),
        ({"NumberOfFrames": 2}, "multi_frame"),
    ],
)
def test_what_cannot_be_cleaned_is_refused(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(RadiographError) as caught:
        deidentify(as_bytes(radiograph(**change)), KEY)
    assert caught.value.reason == reason


def test_an_overlay_in_the_pixel_words_is_refused() -> None:
    dicom = radiograph()
    dicom.add_new(0x60000102, "US", 12)
    with pytest.raises(RadiographError, match="burned"):
        deidentify(as_bytes(dicom), KEY)


@pytest.mark.parametrize("declared", ["NO", None])
def test_without_a_declaration_the_picture_passes_as_it_is(declared: str | None) -> None:
    data = as_bytes(radiograph(**({"BurnedInAnnotation": declared} if declared else {})))
    assert np.array_equal(read_radiograph(data, 16).pixels, read_radiograph(deidentify(data, KEY), 16).pixels)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_bytes_are_a_refusal_in_one_line_without_content(data: st.DataObject) -> None:
    whole = as_bytes(radiograph(PatientName="Marker^Person"))
    end = data.draw(st.integers(0, len(whole)))
    broken = bytearray(whole[:end])
    for position in data.draw(st.lists(st.integers(0, max(0, end - 1)), max_size=6)):
        if broken:
            broken[position] = data.draw(st.integers(0, 255))
    try:
        assert b"Person" not in deidentify(bytes(broken), KEY)
    except RadiographError as error:
        assert "Marker" not in str(error) and "\n" not in str(error) and error.__cause__ is None


# --- pseudonyms and dates


def test_one_key_one_pseudonym_another_key_another() -> None:
    other = Pseudonyms(b"another key, also long enough")
    data = as_bytes(radiograph())
    assert deidentify(data, KEY) == deidentify(data, KEY)
    first, second = (pydicom.dcmread(BytesIO(deidentify(data, pseudonyms))) for pseudonyms in (KEY, other))
    for keyword in ("PatientID", "AccessionNumber", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"):
        assert first[keyword].value != second[keyword].value
    assert first.SOPInstanceUID.startswith("2.25.") and first.SOPInstanceUID.is_valid
    assert first.file_meta.MediaStorageSOPInstanceUID == first.SOPInstanceUID == KEY.uid("1.2.3.7.1")
    assert KEY.fingerprint() != other.fingerprint() and KEY.key.hex() not in repr(KEY)


def test_domains_and_issuers_do_not_meet() -> None:
    made = {KEY.patient("1"), KEY.patient("1", "north"), KEY.study("1"), KEY.image("1"), KEY.accession("1")}
    assert len({pseudonym[1:] for pseudonym in made}) == 5
    assert all(len(pseudonym) <= 17 for pseudonym in made) and len(KEY.accession("1")) == 16


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=80))
def test_a_sealed_name_comes_back_and_shows_nothing(name: str) -> None:
    sealed = KEY.seal(name)
    assert KEY.open(sealed) == name and KEY.seal(name) == sealed
    assert len(name) < 4 or name not in sealed
    with pytest.raises(DataError, match="another S2D_PSEUDONYM_KEY"):
        Pseudonyms(b"some other key that is long").open(sealed)


@settings(max_examples=50, deadline=None)
@given(st.dates(min_value=date(1990, 1, 1)), st.integers(0, 4000), st.text("0123456789", min_size=1))
def test_dates_move_into_the_past_and_intervals_stay(day: Any, gap: int, patient: str) -> None:
    days = [day - timedelta(days=gap), day]
    shifted = []
    for each in days:
        dicom = radiograph(PatientID=patient, StudyDate=f"{each:%Y%m%d}", AcquisitionDate=f"{each:%Y%m%d}")
        shifted.append(pydicom.dcmread(BytesIO(deidentify(as_bytes(dicom), KEY))))
    first, second = (read_header(each, "").taken_at for each in shifted)
    assert first is not None and second is not None
    assert second - first == timedelta(days=gap)
    assert timedelta(days=1) <= days[1] - second.date() <= timedelta(days=3650)
    assert second.time().isoformat() == "09:32:44.500000"


@pytest.mark.parametrize("value", ["", "short", " " * 40])
def test_a_missing_or_short_key_is_refused_with_the_remedy(value: str) -> None:
    with pytest.raises(ConfigError, match=r"S2D_PSEUDONYM_KEY .*openssl rand"):
        pseudonym_key({"S2D_PSEUDONYM_KEY": value} if value else {})


def test_the_key_is_what_the_environment_holds() -> None:
    assert pseudonym_key({"S2D_PSEUDONYM_KEY": "0123456789abcdef\n"}) == b"0123456789abcdef"
