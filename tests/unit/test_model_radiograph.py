"""How a radiograph is read: grey values, geometry, and what is refused. Files are made here, a few kilobytes each."""

import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    RLELossless,
    generate_uid,
)

from model.errors import RadiographError
from model.radiograph import decode_png, encode_png, fit_box, fit_mask, fit_to_square, read_radiograph

SIZE = 64


def picture(height: int = 60, width: int = 48) -> np.ndarray:
    """Smooth values in 0..1 over the whole range, a bright marker in the upper left of the image."""
    ys, xs = np.mgrid[0:height, 0:width]
    values = 0.4 + 0.3 * np.sin(xs / 7) * np.cos(ys / 9)
    values[0, -1], values[2:10, 2:10] = 0.0, 1.0
    return values


def stored(bits: int, values: np.ndarray | None = None) -> np.ndarray:
    values = picture() if values is None else values
    return np.rint(values * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)


def make_dataset(pixels: np.ndarray, bits: int = 12, **attributes: Any) -> Dataset:
    """A DX object around stored values; an attribute given as None is left out."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    values: dict[str, Any] = {
        "SOPClassUID": DigitalXRayImageStorageForPresentation,
        "SOPInstanceUID": generate_uid(),
        "StudyInstanceUID": generate_uid(),
        "PatientName": "Doe^Jane",
        "PatientID": "secret-id",
        "Modality": "DX",
        "PresentationIntentType": "FOR PRESENTATION",
        "BodyPartExamined": "CHEST",
        "ViewPosition": "PA",
        "PatientOrientation": ["L", "F"],
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": pixels.shape[-2],
        "Columns": pixels.shape[-1],
        "BitsAllocated": 8 * pixels.dtype.itemsize,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        "PixelData": pixels.tobytes(),
    }
    for keyword, value in (values | attributes).items():
        if value is not None:
            setattr(dataset, keyword, value)
    return dataset


def to_bytes(dataset: Dataset) -> bytes:
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def make_dicom(pixels: np.ndarray | None = None, bits: int = 12, **attributes: Any) -> bytes:
    return to_bytes(make_dataset(stored(bits) if pixels is None else pixels, bits, **attributes))


def make_file(pixels: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, format=kind, **options)
    return buffer.getvalue()


def voi_lut(bits: int) -> Dataset:
    """A table that maps every stored value to itself, in 16 bits."""
    table = Dataset()
    table.LUTDescriptor = [2**bits, 0, 16]
    table.LUTData = np.linspace(0, 65535, 2**bits).astype("<u2").tobytes()
    table["LUTDescriptor"].VR, table["LUTData"].VR = "US", "OW"
    return table


def padded_by_hand() -> np.ndarray:
    """What reading `picture()` must give, by plain arithmetic: 60 x 48 goes to 64 x 51, centred."""
    square = np.zeros((SIZE, SIZE))
    resized = Image.fromarray(picture().astype(np.float32)).resize((51, 64), Image.Resampling.BILINEAR)
    square[:, 6:57] = np.asarray(resized)
    return np.rint(square * 255)


FULL = 2**12 - 1
SAME_PICTURE = {
    "8 bits": make_dicom(bits=8),
    "10 bits": make_dicom(bits=10),
    "12 bits": make_dicom(),
    "16 bits": make_dicom(bits=16),
    "signed": make_dicom((stored(12).astype(np.int32) - 2048).astype(np.int16)),
    "MONOCHROME1": make_dicom(FULL - stored(12), PhotometricInterpretation="MONOCHROME1"),
    "window": make_dicom(WindowCenter=FULL / 2 + 0.5, WindowWidth=FULL + 1),
    "several windows": make_dicom(WindowCenter=[FULL / 2 + 0.5, 10], WindowWidth=[FULL + 1, 5]),
    "exact window": make_dicom(WindowCenter=FULL / 2, WindowWidth=FULL, VOILUTFunction="LINEAR_EXACT"),
    "VOI LUT": make_dicom(VOILUTSequence=[voi_lut(12)]),
    "rescale": make_dicom(RescaleSlope=0.5, RescaleIntercept=-1024),
    "rescale and window": make_dicom(
        RescaleSlope=2, RescaleIntercept=-1000, WindowCenter=FULL - 1000 + 0.5, WindowWidth=2 * FULL + 1
    ),
    "inverted window": make_dicom(
        FULL - stored(12), PhotometricInterpretation="MONOCHROME1", WindowCenter=FULL / 2 + 0.5, WindowWidth=FULL + 1
    ),
    "useless window": make_dicom(WindowCenter=60000, WindowWidth=10),
    "16-bit PNG": make_file(stored(16)),
    "8-bit PNG": make_file(stored(8)),
    "grey RGB PNG": make_file(np.repeat(stored(8)[..., None], 3, axis=2)),
}


@pytest.mark.parametrize("form", SAME_PICTURE)
def test_the_same_picture_reads_the_same_in_whatever_form_it_is_stored(form: str) -> None:
    pixels = read_radiograph(SAME_PICTURE[form], SIZE).pixels
    assert pixels.dtype == np.uint8 and pixels.shape == (SIZE, SIZE)
    assert np.abs(pixels - padded_by_hand()).max() <= 1


def test_jpeg_reads_nearly_the_same() -> None:
    pixels = read_radiograph(make_file(stored(8), "JPEG", quality=95), SIZE).pixels
    assert np.abs(pixels - padded_by_hand()).mean() < 2


def test_a_window_cuts_as_the_standard_says() -> None:
    ramp = np.tile(np.arange(64, dtype=np.uint16), (64, 1))
    pixels = read_radiograph(make_dicom(ramp, WindowCenter=32.5, WindowWidth=33), SIZE).pixels
    expected = np.clip((np.arange(64) - 32) / 32 + 0.5, 0, 1) * 255  # PS3.3 C.11.2.1.2.1
    assert np.abs(pixels[0] - expected).max() <= 1


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_and_does_not_squeeze_the_grey_values(photometric: str) -> None:
    values = stored(12) // 4 + 1000
    expected = read_radiograph(make_dicom(values, PhotometricInterpretation=photometric), SIZE).pixels
    values_with_padding = values.copy()
    values_with_padding[-6:] = 4000
    padded = make_dicom(
        values_with_padding, PhotometricInterpretation=photometric, PixelPaddingValue=3990, PixelPaddingRangeLimit=4010
    )
    pixels = read_radiograph(padded, SIZE).pixels
    assert pixels[-5:].max() == 0
    assert np.abs(pixels[:-8].astype(int) - expected[:-8]).max() <= 1


@pytest.mark.parametrize("data", [SAME_PICTURE["MONOCHROME1"], SAME_PICTURE["8-bit PNG"]], ids=["DICOM", "PNG"])
def test_a_marker_on_the_left_stays_on_the_left(data: bytes) -> None:
    pixels = read_radiograph(data, SIZE).pixels
    rows, columns = np.nonzero(pixels > 230)
    assert len(rows) > 20 and columns.max() < SIZE // 2 and rows.max() < SIZE // 2


@pytest.mark.parametrize("shape", [(60, 48), (48, 60), (64, 64), (301, 200), (20, 9)])
def test_boxes_and_masks_go_where_the_pixels_go(shape: tuple[int, int]) -> None:
    mask = np.zeros(shape, dtype=bool)
    y0, x0, y1, x1 = shape[0] // 4, shape[1] // 8, shape[0] // 2, shape[1] // 2
    mask[y0:y1, x0:x1] = True
    bright = fit_to_square(mask.astype(np.float32), SIZE) >= 0.5
    assert np.array_equal(fit_mask(mask, SIZE), bright)
    x_min, y_min, x_max, y_max = fit_box((x0, y0, x1, y1), shape, SIZE)
    rows, columns = np.nonzero(bright)
    assert np.allclose(
        (x_min, y_min, x_max, y_max), (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1), atol=1
    )


def test_shrinking_averages_and_does_not_alias() -> None:
    stripes = np.zeros((640, 640), dtype=np.uint16)
    stripes[:, ::2] = 4095
    assert np.abs(read_radiograph(make_dicom(stripes), SIZE).pixels.astype(int) - 127).max() <= 6  # edges


def test_reading_a_stored_square_again_changes_nothing() -> None:
    pixels = read_radiograph(make_dicom(), SIZE).pixels
    assert np.array_equal(decode_png(encode_png(pixels)), pixels)
    assert np.array_equal(read_radiograph(encode_png(pixels), SIZE).pixels, pixels)


def test_compressed_objects_are_read() -> None:
    expected = read_radiograph(make_dicom(), SIZE).pixels
    for syntax in (RLELossless, JPEG2000Lossless):
        dataset = make_dataset(stored(12))
        dataset.compress(syntax, generate_instance_uid=False)
        assert np.array_equal(read_radiograph(to_bytes(dataset), SIZE).pixels, expected), syntax.name


@pytest.mark.parametrize("implicit", [True, False])
def test_a_file_without_preamble_is_read(implicit: bool) -> None:
    dataset = make_dataset(stored(12))
    del dataset.file_meta
    buffer = BytesIO()
    dataset.save_as(buffer, implicit_vr=implicit, little_endian=True)
    assert buffer.getvalue()[128:132] != b"DICM"
    assert np.array_equal(read_radiograph(buffer.getvalue(), SIZE).pixels, read_radiograph(make_dicom(), SIZE).pixels)


def test_path_and_bytes_give_the_same(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(make_dicom())
    assert np.array_equal(read_radiograph(path, SIZE).pixels, read_radiograph(path.read_bytes(), SIZE).pixels)


def test_meta_holds_technical_values_and_nothing_about_the_person() -> None:
    data = make_dicom(PixelSpacing=[0.14, 0.14])
    meta = read_radiograph(data, SIZE).meta
    assert meta["Modality"] == "DX" and meta["PixelSpacing"] == [0.14, 0.14] and meta["Rows"] == 60
    assert meta["sop_instance_uid"] == dcmread(BytesIO(data)).SOPInstanceUID
    assert "secret-id" not in str(meta) and "Doe" not in str(meta).title()


@pytest.mark.parametrize(
    "attributes, view",
    [
        ({"ViewPosition": "PA"}, "PA"),
        ({"ViewPosition": "AP"}, "AP"),
        ({"ViewPosition": None}, "unknown"),
        ({"ViewPosition": ""}, "unknown"),
        ({"ViewPosition": "LLD"}, "unknown"),
    ],
)
def test_the_view_is_what_the_file_says(attributes: dict[str, Any], view: str) -> None:
    radiograph = read_radiograph(make_dicom(**attributes), SIZE)
    assert radiograph.view == view
    assert ("view position unknown" in radiograph.warnings) == (view == "unknown")


def test_a_view_code_speaks_when_the_view_position_is_blank() -> None:
    code = Dataset()
    code.CodeMeaning = "antero-posterior"
    assert read_radiograph(make_dicom(ViewPosition=None, ViewCodeSequence=[code]), SIZE).view == "AP"


@pytest.mark.parametrize(
    "attributes, warning",
    [
        ({"BodyPartExamined": None}, "body part missing"),
        ({}, "no window in the file"),
        ({"WindowCenter": 60000, "WindowWidth": 10}, "the window in the file shows nothing"),
        ({"PresentationLUTShape": "INVERSE"}, "PresentationLUTShape contradicts"),
        ({"PatientOrientation": ["R", "F"]}, "mirrored"),
        ({"BurnedInAnnotation": "YES"}, "burned-in"),
    ],
)
def test_doubts_become_warnings(attributes: dict[str, Any], warning: str) -> None:
    assert any(warning in found for found in read_radiograph(make_dicom(**attributes), SIZE).warnings)


def test_a_clear_file_has_no_warnings() -> None:
    data = make_dicom(WindowCenter=2048, WindowWidth=4096, PresentationLUTShape="IDENTITY")
    assert read_radiograph(data, SIZE).warnings == ()


def test_pictures_are_warned_of() -> None:
    assert any(
        "without DICOM attributes" in warning for warning in read_radiograph(make_file(stored(8)), SIZE).warnings
    )


def _compressed_in(syntax: str) -> bytes:
    dataset = make_dataset(stored(12), PixelData=encapsulate([b"\0" * 100]))
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset["PixelData"].VR = "OB"
    return to_bytes(dataset)


def _oriented_jpeg() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return make_file(stored(8), "JPEG", exif=exif)


def _deflated() -> bytes:
    dataset = make_dataset(stored(12))
    dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    return to_bytes(dataset)


def _huge_png() -> bytes:
    header = b"IHDR" + (20000).to_bytes(4, "big") * 2 + b"\x08\0\0\0\0"
    return PNG[:12] + header + zlib.crc32(header).to_bytes(4, "big") + PNG[33:]


PHOTO = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
DICOM, PNG, JPEG = make_dicom(), make_file(stored(8)), make_file(stored(8), "JPEG")
REFUSED = [
    ("empty", "empty", b"", "is empty"),
    ("text", "not_an_image", b"patient has no findings", "DICOM, PNG or JPEG"),
    ("looks like a data set", "not_an_image", b"\x08\x00" + b"\xff" * 3, "is"),
    ("gif", "not_an_image", make_file(stored(8), "GIF"), "DICOM, PNG or JPEG"),
    ("cut pixels", "truncated", DICOM[:-100], "of 5760 bytes"),
    ("cut before the pixels", "truncated", DICOM[: DICOM.index(b"\xe0\x7f\x10\x00")], "no pixels"),
    ("cut header", "truncated", DICOM[:400], "truncated"),
    ("no pixels", "truncated", make_dicom(PixelData=None), "no pixels"),
    ("cut PNG", "truncated", PNG[: len(PNG) // 2], "broken PNG"),
    ("cut JPEG", "truncated", JPEG[: len(JPEG) // 2], "broken JPEG"),
    ("PNG head alone", "truncated", PNG[:20], "broken PNG"),
    ("CT", "modality", make_dicom(Modality="CT"), "modality CT"),
    ("MR", "modality", make_dicom(Modality="MR"), "modality MR"),
    ("ultrasound", "modality", make_dicom(Modality="US"), "modality US"),
    ("no modality", "modality", make_dicom(Modality=None), r"modality \(none\)"),
    ("hand", "body_part", make_dicom(BodyPartExamined="HAND"), "shows HAND"),
    ("lateral", "lateral", make_dicom(ViewPosition="LATERAL"), "lateral view"),
    ("left lateral", "lateral", make_dicom(ViewPosition="LL"), "lateral view"),
    ("right lateral", "lateral", make_dicom(ViewPosition="RL"), "lateral view"),
    ("frames", "multi_frame", make_dicom(np.zeros((2, 9, 9), np.uint16), NumberOfFrames=2), "2 frames"),
    ("for processing", "for_processing", make_dicom(PresentationIntentType="FOR PROCESSING"), "For Processing"),
    ("raw class", "for_processing", make_dicom(SOPClassUID="1.2.840.10008.5.1.4.1.1.1.1.1"), "For Processing"),
    ("colour object", "photometric", make_dicom(PhotometricInterpretation="RGB", SamplesPerPixel=3), "is RGB"),
    ("palette", "photometric", make_dicom(PhotometricInterpretation="PALETTE COLOR"), "PALETTE COLOR"),
    ("32 bits", "undecodable", make_dicom(np.zeros((9, 9), np.uint32), 32), "bits per pixel"),
    ("video", "undecodable", _compressed_in(MPEG2MPML), "MPEG2"),
    ("deflated", "undecodable", _deflated(), "deflated"),
    ("broken JPEG 2000", "truncated", _compressed_in(JPEG2000Lossless), "cannot be decoded"),
    ("black", "no_contrast", make_dicom(np.zeros((9, 9), np.uint16)), "no contrast"),
    ("white PNG", "no_contrast", make_file(np.full((9, 9), 255, np.uint8)), "no contrast"),
    ("photograph", "colour", make_file(PHOTO), "colour picture"),
    ("photograph as JPEG", "colour", make_file(PHOTO, "JPEG"), "colour picture"),
    ("turned photograph", "orientation", _oriented_jpeg(), "EXIF orientation 6"),
    ("huge object", "too_large", make_dicom(Rows=20000, Columns=20000), "100 megapixels"),
    ("huge PNG", "too_large", _huge_png(), "20000 x 20000"),
]


@pytest.mark.parametrize("reason, data, why", [case[1:] for case in REFUSED], ids=[case[0] for case in REFUSED])
def test_what_is_no_frontal_chest_radiograph_is_refused_in_one_line(reason: str, data: bytes, why: str) -> None:
    with pytest.raises(RadiographError, match=why) as caught:
        read_radiograph(data, SIZE)
    assert caught.value.reason == reason
    assert str(caught.value).startswith("the file ") and "\n" not in str(caught.value)


def test_a_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(RadiographError, match=r"none\.dcm does not exist") as caught:
        read_radiograph(tmp_path / "none.dcm", SIZE)
    assert caught.value.reason == "no_such_file"
    with pytest.raises(RadiographError, match="is not a file"):
        read_radiograph(tmp_path, SIZE)


def test_a_file_over_the_limit_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "huge").open("wb") as file:
        file.truncate(201 << 20)  # sparse: takes no room
    with pytest.raises(RadiographError, match="at most 200 MB") as caught:
        read_radiograph(tmp_path / "huge", SIZE)
    assert caught.value.reason == "too_large"


def test_any_damage_is_a_radiograph_error_or_an_image() -> None:
    rng = np.random.default_rng(1)
    for original in (DICOM, PNG, JPEG, _compressed_in(JPEG2000Lossless)):
        for _ in range(60):
            damaged = bytearray(original)
            for position in rng.integers(0, min(len(damaged), 700), 4):
                damaged[position] = int(rng.integers(256))
            try:
                assert read_radiograph(bytes(damaged), SIZE).pixels.shape == (SIZE, SIZE)
            except RadiographError as error:
                assert "\n" not in str(error)
