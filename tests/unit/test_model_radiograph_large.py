"""Full-size files take fast ways; what they give is compared with the plain way, and what they refuse is refused."""

from io import BytesIO

import imagecodecs
import numpy as np
import pytest
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLossless,
    JPEGLosslessSV1,
    RLELossless,
)

from model.errors import RadiographError
from model.radiograph import decode_png, encode_png, fit_to_square, read_radiograph

SIZE = 32
SHAPE = (403, 357)  # odd, and more than ten times the square


def film(bits: int = 12, shape: tuple[int, int] = SHAPE) -> np.ndarray:
    """Soft shapes with noise, one bright marker with hard edges; no value at the very ends of the range."""
    ys, xs = np.mgrid[0 : shape[0], 0 : shape[1]]
    noise = np.random.default_rng(0).standard_normal(shape)
    values = 0.45 + 0.25 * np.sin(xs / 31) * np.cos(ys / 43) + 0.01 * noise
    values[8:60, 8:40] = 0.95
    return np.rint(values.clip(0.02, 0.98) * (2**bits - 1)).astype(np.uint8 if bits == 8 else np.uint16)


def make_dicom(pixels: np.ndarray, frame: bytes = b"", syntax: str = ExplicitVRLittleEndian, **others: object) -> bytes:
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    bits = 8 if pixels.dtype.itemsize == 1 else 12
    values = {
        "SOPClassUID": DigitalXRayImageStorageForPresentation,
        "SOPInstanceUID": "1.2.3",
        "Modality": "DX",
        "BodyPartExamined": "CHEST",
        "ViewPosition": "PA",
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "BitsAllocated": 8 * pixels.dtype.itemsize,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": int(pixels.dtype.kind == "i"),
        "PixelData": encapsulate([frame]) if frame else pixels.tobytes(),
    }
    for keyword, value in (values | others).items():
        setattr(dataset, keyword, value)
    dataset["PixelData"].VR = "OB" if frame else "OW"
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def lossless_jpeg(pixels: np.ndarray, predictor: int = 1) -> bytes:
    bits = 8 if pixels.dtype == np.uint8 else 12
    return imagecodecs.jpeg8_encode(pixels, lossless=True, predictor=predictor, bitspersample=bits)


def jpeg_2000(pixels: np.ndarray, bits: int = 12) -> bytes:
    return imagecodecs.jpeg2k_encode(pixels, level=0, reversible=True, codecformat="j2k", bitspersample=bits)


def rle(pixels: np.ndarray) -> bytes:
    from pydicom.pixels.encoders import RLELosslessEncoder

    return RLELosslessEncoder.encode(
        pixels,
        rows=pixels.shape[0],
        columns=pixels.shape[1],
        samples_per_pixel=1,
        number_of_frames=1,
        bits_allocated=8 * pixels.dtype.itemsize,
        bits_stored=8 * pixels.dtype.itemsize,
        pixel_representation=int(pixels.dtype.kind == "i"),
        photometric_interpretation="MONOCHROME2",
    )


def plain(values: np.ndarray, size: int = SIZE) -> np.ndarray:
    """Grey values 0..1 at full size through one triangle filter in float."""
    return np.rint(fit_to_square(values.astype(np.float32), size) * 255)


def assert_nearly_equal(found: np.ndarray, expected: np.ndarray) -> None:
    """Within one grey level; at hard edges, which take few pixels, within three."""
    difference = np.abs(found - expected)
    assert difference.max() <= 3 and (difference > 1).mean() < 0.05


WINDOW = {"WindowCenter": 2048, "WindowWidth": 4096}
FRAMES = {
    "12-bit lossless JPEG": (film(), lossless_jpeg(film()), JPEGLosslessSV1),
    "12-bit lossless JPEG, another predictor": (film(), lossless_jpeg(film(), 6), JPEGLossless),
    "8-bit lossless JPEG": (film(8), lossless_jpeg(film(8)), JPEGLosslessSV1),
    "12-bit RLE": (film(), rle(film()), RLELossless),
    "8-bit RLE": (film(8), rle(film(8)), RLELossless),
    "signed RLE": (film().astype(np.int16) - 2000, rle(film().astype(np.int16) - 2000), RLELossless),
    "JPEG 2000": (film(), jpeg_2000(film()), JPEG2000Lossless),
    "8-bit JPEG 2000": (film(8), jpeg_2000(film(8), 8), JPEG2000Lossless),
}


@pytest.mark.parametrize("size", [SIZE, 300], ids=["fast way", "exact way"])
@pytest.mark.parametrize("form", FRAMES)
def test_a_compressed_object_gives_the_pixels_of_the_uncompressed_one(form: str, size: int) -> None:
    pixels, frame, syntax = FRAMES[form]
    expected = read_radiograph(make_dicom(pixels), size).pixels
    assert np.array_equal(read_radiograph(make_dicom(pixels, frame, syntax), size).pixels, expected)


@pytest.mark.parametrize("shape", [(403, 357), (357, 403), (400, 400), (1201, 90), (3000, 7)])
@pytest.mark.parametrize("size", [16, 31, 64, 110, 133])
def test_the_fast_way_nearly_gives_the_exact_pixels(shape: tuple[int, int], size: int) -> None:
    pixels = film(shape=shape)
    assert_nearly_equal(read_radiograph(make_dicom(pixels, **WINDOW), size).pixels, plain(pixels / 4095, size))


@pytest.mark.parametrize("bits", [8, 16])
def test_large_pictures_are_read_as_exactly(bits: int) -> None:
    pixels = film(bits)
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    values = pixels / 255 if bits == 8 else (pixels - pixels.min()) / np.ptp(pixels).astype(float)
    assert_nearly_equal(read_radiograph(buffer.getvalue(), SIZE).pixels, plain(values))


@pytest.mark.parametrize("size", [SIZE, 60, 90, 130])
def test_a_jpeg_decoded_at_a_part_of_its_size_is_in_its_place(size: int) -> None:
    buffer = BytesIO()
    Image.fromarray(film(8)).save(buffer, format="JPEG", quality=95)
    with Image.open(buffer) as image:
        expected = plain(np.asarray(image) / 255, size)
    radiograph = read_radiograph(buffer.getvalue(), size)
    difference = np.abs(radiograph.pixels - expected)
    assert difference.mean() < 0.5 and (difference > 3).mean() < 0.01  # at the marker's edge
    assert (radiograph.meta["rows"], radiograph.meta["columns"]) == SHAPE


def test_jpeg_2000_at_half_resolution_is_in_its_place() -> None:
    expected = plain(film() / 4095)
    pixels = read_radiograph(make_dicom(film(), jpeg_2000(film()), JPEG2000Lossless, **WINDOW), SIZE).pixels
    difference = np.abs(pixels - expected)
    assert 0 < difference.mean() < 0.8 and (difference > 6).mean() < 0.01  # 0: it was decoded in full


@pytest.mark.parametrize(
    "attributes", [{}, {"WindowCenter": 60000, "WindowWidth": 10}, WINDOW | {"PixelPaddingValue": 83}], ids=str
)
def test_half_resolution_is_not_taken_where_every_pixel_counts(attributes: dict[str, int]) -> None:
    pixels = film()
    pixels[5, 5] = 0  # a dead pixel: it decides where black is
    expected = read_radiograph(make_dicom(pixels, **attributes), SIZE).pixels
    compressed = make_dicom(pixels, jpeg_2000(pixels), JPEG2000Lossless, **attributes)
    assert np.array_equal(read_radiograph(compressed, SIZE).pixels, expected)


def _another_size(form: str) -> bytes:
    pixels, frame, syntax = FRAMES[form]
    return make_dicom(pixels, frame, syntax, Rows=SHAPE[0] - 1)


def _cut(form: str) -> bytes:
    pixels, frame, syntax = FRAMES[form]
    return make_dicom(pixels, frame[: len(frame) // 2], syntax, **WINDOW)


@pytest.mark.parametrize("form", FRAMES)
@pytest.mark.parametrize("damage", [_another_size, _cut])
def test_a_frame_that_is_not_what_the_object_says_is_refused(form: str, damage: object) -> None:
    with pytest.raises(RadiographError, match="cannot be decoded") as caught:
        read_radiograph(damage(form), SIZE)  # type: ignore[operator]
    assert caught.value.reason == "truncated"


@pytest.mark.parametrize(
    "form, mark, offset", [("12-bit lossless JPEG", b"\xff\xc3", 5), ("JPEG 2000", b"\xff\x51", 6)], ids=str
)
def test_a_frame_that_claims_to_be_huge_is_refused_before_it_is_decoded(form: str, mark: bytes, offset: int) -> None:
    pixels, frame, syntax = FRAMES[form]
    at = frame.index(mark) + offset
    huge = frame[:at] + b"\x7f" * 4 + frame[at + 4 :]
    with pytest.raises(RadiographError, match="cannot be decoded"):
        read_radiograph(make_dicom(pixels, huge, syntax), SIZE)


SQUARES = {
    "noise": np.random.default_rng(1).integers(0, 256, (40, 40)).astype(np.uint8),
    "mask": np.repeat(np.repeat(np.eye(5, dtype=np.uint8) * 255, 9, axis=0), 7, axis=1),
    "one pixel": np.full((1, 1), 7, np.uint8),
    "not contiguous": np.arange(200, dtype=np.uint8).reshape(10, 20)[:, ::3],
}


@pytest.mark.parametrize("name", SQUARES)
def test_png_is_lossless_deterministic_and_read_by_others(name: str) -> None:
    data = encode_png(SQUARES[name])
    assert data == encode_png(SQUARES[name].copy())
    assert np.array_equal(decode_png(data), SQUARES[name])
    with Image.open(BytesIO(data)) as image:
        assert image.mode == "L" and np.array_equal(np.asarray(image), SQUARES[name])


def test_png_of_other_origin_is_decoded() -> None:
    for options in ({}, {"compress_level": 0}, {"optimize": True}):
        buffer = BytesIO()
        Image.fromarray(SQUARES["noise"]).save(buffer, format="PNG", **options)
        assert np.array_equal(decode_png(buffer.getvalue()), SQUARES["noise"])


def test_damaged_png_is_not_taken_for_pixels() -> None:
    data = bytearray(encode_png(SQUARES["noise"]))
    data[len(data) // 2] ^= 4
    with pytest.raises((OSError, SyntaxError)):
        decode_png(bytes(data))
