"""DICOMweb against Orthanc, another project's archive: what comes over the network equals what lies in a folder."""

import csv
import json
import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from base64 import b64encode
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, RLELossless

from components.preprocess.readers import dicom_web
from components.preprocess.readers.dicom_folder import DicomFolder
from components.preprocess.readers.dicom_web import DicomWeb
from components.preprocess.readers.pseudonyms import Pseudonyms
from components.preprocess.source import Exclusion, SourceImage, SourceStudy
from model.errors import ConfigError, DataError, RadiographError, StoreDenied, StoreError, StoreUnreachable
from model.radiograph import read_radiograph

pytestmark = pytest.mark.contract

ORTHANC = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin")
PLUGIN = next(Path("/usr/share/orthanc/plugins").glob("libOrthancDicomWeb.so*"), None)
USER, PASSWORD = "ci", "ci-password"
KEY = b"a key of the tests, long enough"
STUDIES = ("1.2.777.1", "1.2.777.2", "1.2.777.3")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def invented(study: str, number: int, **more: Any) -> FileDataset:
    """An invented radiograph with an identity."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPInstanceUID = ExplicitVRLittleEndian, f"{study}.{number}"
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    dicom = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    values: dict[str, Any] = {
        "SpecificCharacterSet": "ISO_IR 192",
        "SOPClassUID": DigitalXRayImageStorageForPresentation,
        "SOPInstanceUID": f"{study}.{number}",
        "StudyInstanceUID": study,
        "SeriesInstanceUID": f"{study}.0",
        "Modality": "DX",
        "ViewPosition": "PA",
        "BodyPartExamined": "CHEST",
        "PatientID": f"MARKID{study[-1]}",
        "PatientName": "Märkerson^Jane",
        "PatientBirthDate": "19770707",
        "ReferringPhysicianName": "Markstaff^Joe",
        "AccessionNumber": f"MARKACC{study[-1]}",
        "StudyDate": f"2020010{study[-1]}",
        "StudyTime": "093244.5",
        "SamplesPerPixel": 1,
        "Rows": 32,
        "Columns": 24,
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        "PhotometricInterpretation": "MONOCHROME1",
    }
    for keyword, value in (values | more).items():
        setattr(dicom, keyword, value)
    pixels = np.random.default_rng(number).integers(0, 4096, (32, 24)).astype("<u2")
    dicom.add_new("PixelData", "OW", pixels.tobytes())
    return dicom


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three studies of radiographs, one of them with two images and a compressed one, and a CT."""
    root = tmp_path_factory.mktemp("export")
    images = [
        invented(STUDIES[0], 1),
        invented(STUDIES[0], 2, ViewPosition="LL"),
        invented(STUDIES[1], 1, Modality="CR"),
        invented(STUDIES[2], 1, ViewPosition="AP"),
        invented("1.2.777.4", 1, Modality="CT"),
    ]
    images[3].compress(RLELossless, generate_instance_uid=False)
    for number, dicom in enumerate(images):
        dicom.save_as(root / f"{number}.dcm", enforce_file_format=True)
    rows = [(study, "", "", f"FINDINGS: Clear. Jane Märkerson, MARKID{study[-1]}.\n") for study in STUDIES]
    with (root / "reports.csv").open("w", newline="", encoding="utf-8") as file:
        columns = ("study_instance_uid", "accession_number", "patient_id", "report")
        csv.writer(file).writerows([columns, *rows])
    return root


@dataclass(frozen=True)
class Archive:
    address: str
    url: str  # of its DICOMweb service

    def request(self, path: str, data: bytes | None = None) -> bytes:
        token = b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        request = urllib.request.Request(f"{self.address}{path}", data, {"Authorization": f"Basic {token}"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return bytes(answer.read())


@pytest.fixture(scope="module")
def archive(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Archive]:
    """An Orthanc of the tests' own with the folder's files, in a process group that is ended afterwards."""
    if ORTHANC is None or PLUGIN is None:
        pytest.skip("Orthanc with its DICOMweb plugin is not installed (Debian: orthanc orthanc-dicomweb)")
    home = tmp_path_factory.mktemp("orthanc")
    port = free_port()
    settings = {
        "Name": "ci",
        "StorageDirectory": str(home),
        "IndexDirectory": str(home),
        "HttpPort": port,
        "DicomServerEnabled": False,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {USER: PASSWORD},
        "Plugins": [str(PLUGIN)],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
    }
    (home / "orthanc.json").write_text(json.dumps(settings))
    with (home / "orthanc.log").open("wb") as log:
        process = subprocess.Popen(
            [ORTHANC, str(home / "orthanc.json")], stdout=log, stderr=log, cwd=home, start_new_session=True
        )
    found = Archive(f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port}/dicom-web")
    try:
        _wait(found, process, home / "orthanc.log")
        for path in sorted(folder.glob("*.dcm")):
            found.request("/instances", path.read_bytes())
        yield found
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(5)


def _wait(archive: Archive, process: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(150):
        assert process.poll() is None, log.read_text()[-2000:]
        try:
            archive.request("/system")
            return
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"Orthanc does not answer: {log.read_text()[-2000:]}")


@pytest.fixture(autouse=True)
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("S2D_DICOMWEB_USER", USER)
    monkeypatch.setenv("S2D_DICOMWEB_PASSWORD", PASSWORD)


def sources(archive: Archive, folder: Path, key: bytes | None) -> tuple[DicomWeb, DicomFolder]:
    return DicomWeb(archive.url, str(folder / "reports.csv"), key), DicomFolder(str(folder), "reports.csv", key)


def studies(source: DicomWeb | DicomFolder) -> list[SourceStudy]:
    return [study for study in source.studies() if isinstance(study, SourceStudy)]


def without_paths(found: list[SourceStudy]) -> list[SourceStudy]:
    return [replace(each, images=tuple(replace(image, path="") for image in each.images)) for each in found]


@pytest.mark.parametrize("key", [None, KEY])
def test_the_archive_gives_the_studies_of_the_folder(archive: Archive, folder: Path, key: bytes | None) -> None:
    web, disk = sources(archive, folder, key)
    assert len(studies(web)) == 3
    assert without_paths(studies(web)) == without_paths(studies(disk))
    assert web.about().config["de_identification"] == disk.about().config["de_identification"]


@pytest.mark.parametrize("key", [None, KEY])
def test_the_archive_gives_the_pictures_of_the_folder(archive: Archive, folder: Path, key: bytes | None) -> None:
    web, disk = sources(archive, folder, key)
    for far, near in zip(studies(web), studies(disk), strict=True):
        for one, other in zip(far.images, near.images, strict=True):
            fetched, read = web.load(one), disk.load(other)
            if key:
                assert fetched == read
            first, second = (pydicom.dcmread(BytesIO(each)) for each in (fetched, read))
            assert first.file_meta.TransferSyntaxUID == second.file_meta.TransferSyntaxUID
            assert np.array_equal(first.pixel_array, second.pixel_array)
            if one.view != "LATERAL":
                assert np.array_equal(read_radiograph(fetched, 32).pixels, read_radiograph(read, 32).pixels)


@pytest.mark.parametrize("obeys_offset", [True, False])
def test_a_server_that_limits_its_answers_is_asked_for_the_rest(
    monkeypatch: pytest.MonkeyPatch, obeys_offset: bool
) -> None:
    class Limited:
        def search_for_studies(self, *, search_filters: dict[str, str], offset: int | None, **_: Any) -> list[Any]:
            has = [f"1.{number}" for number in range(5)] if search_filters == {"ModalitiesInStudy": "DX"} else []
            first = (offset or 0) if obeys_offset else 0
            return [{"0020000D": {"vr": "UI", "Value": [uid]}} for uid in has[first : first + 2]]

    monkeypatch.setattr(dicom_web, "_client", lambda url: nullcontext(Limited()))
    found = DicomWeb("http://127.0.0.1/x", "reports.csv", None)._search()
    assert found == ({"1.0", "1.1", "1.2", "1.3", "1.4"} if obeys_offset else {"1.0", "1.1"})


def test_no_identity_leaves_the_reader(archive: Archive, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    web = sources(archive, folder, KEY)[0]
    with caplog.at_level("DEBUG"):
        found = list(web.studies())
        data = [web.load(image) for study in found if isinstance(study, SourceStudy) for image in study.images]
        gone = SourceImage(image_id="i1", path=Pseudonyms(KEY).seal("1.2.777.1/1.2.777.1.0/1.2.777.1.9"), view="PA")
        with pytest.raises(RadiographError, match="image i1 is not on the server any more") as caught:
            web.load(gone)
    shown = " ".join(
        [repr(found), repr(web), caplog.text, str(caught.value), *(each.decode("latin-1") for each in data)]
    )
    marks = ("MARKID", "MARKACC", "rkerson", "Markstaff", "19770707", "1.2.777", PASSWORD)
    assert [mark for mark in marks if mark.lower() in shown.lower()] == []
    assert all("___" in (study.findings or "") for study in found if isinstance(study, SourceStudy))


def test_what_is_larger_than_any_radiograph_is_not_fetched(
    archive: Archive, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    web = sources(archive, folder, None)[0]
    (image,) = studies(web)[-1].images
    monkeypatch.setattr(dicom_web, "MAX_BYTES", 100)
    with pytest.raises(RadiographError, match=f"image {image.image_id} has more than 0 MB"):
        web.load(image)


def test_a_report_of_another_modality_is_left_out_by_rule(archive: Archive, folder: Path, tmp_path: Path) -> None:
    text = (folder / "reports.csv").read_text(encoding="utf-8") + "1.2.777.4,,,FINDINGS: CT.\n"
    (tmp_path / "reports.csv").write_text(text, encoding="utf-8")
    found = list(DicomWeb(archive.url, str(tmp_path / "reports.csv"), None).studies())
    assert [(each.reason, each.cause) for each in found if isinstance(each, Exclusion)] == [("no_images", "rule")]


@pytest.mark.parametrize("variable", ["S2D_DICOMWEB_PASSWORD", "S2D_DICOMWEB_TOKEN"])
def test_a_wrong_password_is_one_line(
    archive: Archive, folder: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "wrong-secret")
    with pytest.raises(StoreDenied, match=r"refused the credentials \(401\); check S2D_DICOMWEB_USER") as caught:
        list(sources(archive, folder, None)[0].studies())
    assert "wrong-secret" not in str(caught.value) and "\n" not in str(caught.value)


def test_a_server_that_is_away_is_asked_for_a_while(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert 55 <= sum(dicom_web.WAITS_S) <= 75
    monkeypatch.setattr(dicom_web, "WAITS_S", (0.01, 0.01))
    address = f"http://127.0.0.1:{free_port()}/dicom-web"
    with pytest.raises(StoreUnreachable, match=r"does not answer \(ConnectionError\)") as caught:
        list(DicomWeb(address, str(folder / "reports.csv"), None).studies())
    assert "\n" not in str(caught.value)


def test_what_is_no_dicomweb_server_is_said(archive: Archive, folder: Path) -> None:
    with pytest.raises(StoreError, match=r"no such study or service|no DICOMweb server"):
        list(DicomWeb(f"{archive.address}/app", str(folder / "reports.csv"), None).studies())


def test_an_archive_without_radiographs_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DicomWeb, "_search", lambda self: set())
    with pytest.raises(DataError, match="lists no study with the modality CR, DX, RG"):
        list(DicomWeb("http://127.0.0.1/x", str(folder / "reports.csv"), None).studies())


@pytest.mark.parametrize(
    "address", ["http://user:secret@host/x", "ftp://host/x", "host:8042", "http://host/x?token=secret"]
)
def test_credentials_do_not_belong_into_the_address(address: str) -> None:
    with pytest.raises(ConfigError, match="S2D_DICOMWEB_TOKEN") as caught:
        DicomWeb(address, "reports.csv", None)
    assert "secret" not in str(caught.value)
