"""The files that the data bench reads: full-size films, made here, because no patient's may be.

A phantom of 512 x 512 is enlarged to 3056 x 2544 and gets detector noise in every pixel, so that the files compress
about as clinical ones do: JPEG at quality 95 to 1.5-2 MB, lossless to about half.
"""

from dataclasses import dataclass
from io import BytesIO

import imagecodecs
import numpy as np
import numpy.typing as npt
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DigitalXRayImageStorageForPresentation,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    RLELossless,
)

from components.preprocess.phantom.patients import sample_patients
from components.preprocess.phantom.render import render

ROWS, COLUMNS = 3056, 2544
BITS, TOP = 12, 4095
NOISE = 32  # standard deviation of the detector noise in stored values
CENTER, WIDTH = 2048, 3600

Film = npt.NDArray[np.uint16]


@dataclass(frozen=True)
class DicomForm:
    """One way to store a film."""

    name: str
    transfer_syntax: str
    windowed: bool = True
    films: int = 2


FORMS = (
    DicomForm("dicom_raw", ExplicitVRLittleEndian),
    DicomForm("dicom_raw_no_window", ExplicitVRLittleEndian, windowed=False),
    DicomForm("dicom_rle", RLELossless),
    DicomForm("dicom_jpeg_lossless", JPEGLosslessSV1),
    DicomForm("dicom_jpeg_2000", JPEG2000Lossless, films=1),  # a second or more each
    DicomForm("dicom_jpeg_2000_no_window", JPEG2000Lossless, windowed=False, films=1),
)


def make_films(count: int, seed: int = 0) -> list[Film]:
    """Films as a detector hands them out: 12 bits, bone bright."""
    states = [study for patient in sample_patients(count, seed) for study in patient][:count]
    rng = np.random.default_rng(seed)
    films = []
    for state in states:
        small = Image.fromarray(render(state, 512).image.astype(np.float32))
        left = (ROWS - COLUMNS) // 2
        large = np.asarray(small.resize((ROWS, ROWS), Image.Resampling.BICUBIC))[:, left : left + COLUMNS]
        noise = NOISE * rng.standard_normal(large.shape, dtype=np.float32)
        films.append(np.rint(np.clip(large + noise, 0, TOP)).astype(np.uint16))
    return films


def to_jpeg(film: Film) -> bytes:
    """As in MIMIC-CXR-JPG: 8 bits, histogram equalised, quality 95."""
    counts = np.bincount((film >> (BITS - 8)).ravel(), minlength=256)
    equal = np.rint(255 * np.cumsum(counts) / film.size).astype(np.uint8)
    buffer = BytesIO()
    Image.fromarray(equal[film >> (BITS - 8)]).save(buffer, format="JPEG", quality=95)
    return buffer.getvalue()


def to_dicom(film: Film, form: DicomForm) -> bytes:
    """A DX object, MONOCHROME1."""
    stored = (TOP - film).astype("<u2")
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID, dataset.SOPInstanceUID = DigitalXRayImageStorageForPresentation, "2.25.1"
    dataset.Modality, dataset.BodyPartExamined, dataset.ViewPosition = "DX", "CHEST", "PA"
    dataset.PhotometricInterpretation, dataset.SamplesPerPixel = "MONOCHROME1", 1
    dataset.Rows, dataset.Columns = stored.shape
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, BITS, BITS - 1, 0
    if form.windowed:
        dataset.WindowCenter, dataset.WindowWidth = CENTER, WIDTH
    dataset.PixelData = stored.tobytes()
    dataset["PixelData"].VR = "OW"
    if form.transfer_syntax == JPEGLosslessSV1:  # pydicom writes the others itself
        frame = bytes(imagecodecs.jpeg8_encode(stored, lossless=True, predictor=1, bitspersample=BITS))
        dataset.file_meta.TransferSyntaxUID = JPEGLosslessSV1
        dataset.PixelData = encapsulate([frame])
        dataset["PixelData"].VR = "OB"
    elif form.transfer_syntax != ExplicitVRLittleEndian:
        dataset.compress(form.transfer_syntax, generate_instance_uid=False)
    buffer = BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()
