"""The whole demo, small, with the real processes; then what a person does with the platform it leaves.

    pytest tests/e2e/test_first_light.py

One epoch a stage on thirty patients teaches nothing, so the release gate records its verdict instead of stopping.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.uid import CTImageStorage
from safetensors.torch import load_file, save_file

from components.preprocess.phantom.make import make_phantom
from local import object_store, platform
from local.demo import DemoSizes, held_out_study, run_demo
from model import checkpoint
from model.radiograph import read_radiograph
from model.records import Report
from pipelines.local_run import run_locally, run_name

pytestmark = pytest.mark.e2e

SIZES = DemoSizes(patients=40, stage1_epochs=1, stage2_epochs=1, stage3_epochs=1, release_gate="record")


@dataclass
class Demo:
    """A demo that has run, and the platform that is still up."""

    home: Path
    results: Path

    @property
    def data(self) -> Path:
        return self.home / "data" / f"phantom-{SIZES.patients}-{SIZES.data_seed}"

    def again(self) -> Path:
        return run_demo(self.home, make_phantom=make_phantom, run_pipeline=run_locally, name_run=run_name, sizes=SIZES)

    def s2d(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        return self.run(Path(sys.executable).with_name("s2d"), *arguments)

    def step(self, name: str, *arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.run(sys.executable, "-m", f"components.{name}", *arguments, **environment)

    def run(self, *command: object, **environment: str) -> subprocess.CompletedProcess[str]:
        settings = {**os.environ, **platform.platform_environment(self.home), **environment}
        return subprocess.run(
            [str(part) for part in command], capture_output=True, text=True, env=settings, timeout=120, check=False
        )


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    before = dict(os.environ)
    made = Demo(tmp_path_factory.mktemp("s2d"), Path())
    try:
        made.results = made.again()
        yield made
    finally:
        platform.down(made.home)
        os.environ.clear()
        os.environ.update(before)


def test_the_demo_leaves_a_report_a_picture_a_table_and_its_costs(demo: Demo) -> None:
    report = Report.model_validate_json((demo.results / "report.json").read_text())
    assert report.status == "draft"
    assert report.model.trained_on == "phantom"
    assert any("synthetic phantoms" in warning for warning in report.warnings)
    with Image.open(demo.results / "evidence.png") as picture:
        assert picture.width > 200
    table = (demo.results / "table.md").read_text()
    for row in ("full curriculum", "another patient's image", "copy of the prior report", "best constant report"):
        assert row in table
    timings = json.loads((demo.results / "timings.json").read_text())
    assert 5e8 < timings["peak_memory_bytes"] < 10e9
    assert len(timings["pipeline_s"]) == 9


def test_the_model_version_says_what_it_is(demo: Demo) -> None:
    (folder,) = (demo.home / "models").iterdir()
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["synthetic"] is True
    assert manifest["gate"]["passed"] == (manifest["gate"]["lost"] == [])
    assert "draft" in (folder / "model_card.md").read_text()
    assert manifest["version"] == folder.name


def test_a_second_run_reuses_data_phrases_and_checkpoints(demo: Demo) -> None:
    assert demo.again() == demo.results
    timings = json.loads((demo.results / "timings.json").read_text())
    assert timings["pipeline_s"]["preprocess"] == timings["pipeline_s"]["key-phrases"] == 0
    for log in (demo.home / "pipeline" / "logs").glob("train-stage*.log"):
        assert "train_loss=" not in log.read_text(), log.name


def test_status_names_the_deployed_model(demo: Demo) -> None:
    status = demo.s2d("status")
    assert status.returncode == 0, status.stdout + status.stderr
    assert status.stdout.count("ready") == 4
    assert next((demo.home / "models").iterdir()).name in status.stdout


def test_the_same_film_as_dicom_png_and_jpeg_gets_a_report(demo: Demo, tmp_path: Path) -> None:
    dicom = held_out_study(demo.data).dicom
    pixels = read_radiograph(dicom, 224).pixels
    files = [dicom, tmp_path / "film.png", tmp_path / "film.jpg"]
    for file in files[1:]:
        Image.fromarray(pixels).save(file)
    answers = []
    for file in files:
        done = demo.s2d("report", file, "--json", "--out", tmp_path / "evidence.png")
        assert done.returncode == 0, done.stderr
        answers.append(Report.model_validate_json(done.stdout))
        assert (tmp_path / "evidence.png").stat().st_size > 1000
    assert answers[0].findings == answers[1].findings  # the PNG holds exactly the pixels that the DICOM became
    assert demo.s2d("report", dicom).stdout.startswith("DRAFT by s2d-align")


def test_an_image_unlike_the_training_data_gets_an_answer_that_says_so(
    demo: Demo, tmp_path: Path, repository: Path
) -> None:
    noise = tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 200)).astype(np.uint8)).save(noise)
    assert_one_line(demo.s2d("report", noise), "too unlike the training images")
    real = sorted((repository.parent / "shared" / "data" / "radiographs").glob("*.png"))  # where the data are at hand
    for file in real:  # warned about or refused: with so few validation films the limits are rough
        done = demo.s2d("report", file)
        assert "unlike the training" in done.stdout + done.stderr, file.name


def bad_inputs(demo: Demo, folder: Path) -> dict[str, tuple[Path, str]]:
    """What is wrong -> (file, a word that the error must hold)."""
    dicom = held_out_study(demo.data).dicom
    (folder / "text.dcm").write_text("this is a letter")
    (folder / "half.dcm").write_bytes(dicom.read_bytes()[: dicom.stat().st_size // 2])
    (folder / "half.png").write_bytes((demo.results / "evidence.png").read_bytes()[:900])
    ct = pydicom.dcmread(dicom)
    ct.SOPClassUID = ct.file_meta.MediaStorageSOPClassUID = CTImageStorage
    ct.Modality = "CT"
    ct.save_as(folder / "ct.dcm")
    return {
        "no such file": (folder / "nothing.dcm", "no file"),
        "not an image": (folder / "text.dcm", "not"),
        "a truncated DICOM": (folder / "half.dcm", ""),
        "a truncated PNG": (folder / "half.png", ""),
        "a CT": (folder / "ct.dcm", "CT"),
    }


def assert_one_line(done: subprocess.CompletedProcess[str], word: str) -> None:
    assert done.returncode == 2, done.stdout + done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ") and word in lines[0], done.stderr


def test_bad_files_get_one_line_and_a_status(demo: Demo, tmp_path: Path) -> None:
    for what, (file, word) in bad_inputs(demo, tmp_path).items():
        done = demo.s2d("report", file)
        assert done.returncode == 2, what
        assert_one_line(done, word)


def broken_checkpoint(demo: Demo, folder: Path) -> str:
    """Put a copy of the checkpoint of s1, without its memory, into the object store."""
    store, runs = object_store.client(demo.home), f"s3://{object_store.bucket_name()}/runs"
    store.get_tree(f"{runs}/{demo.results.name}/s1", folder)
    tensors = load_file(folder / checkpoint.WEIGHTS)
    del tensors["memory_bank.queries"]
    save_file(tensors, folder / checkpoint.WEIGHTS)
    store.put_tree(f"{runs}/broken/s1", folder)
    return f"{runs}/broken"


def test_a_checkpoint_with_a_missing_key_gets_one_line_and_a_status(demo: Demo, tmp_path: Path) -> None:
    run = broken_checkpoint(demo, tmp_path)
    dataset = checkpoint.read_manifest(tmp_path).dataset
    addresses = ("--dataset-uri", dataset, "--parent-uri", f"{run}/s1", "--run-uri", run)
    done = demo.step("train_stage", "--stage", "s1-s2", "--epochs", 1, *addresses)
    assert_one_line(done, "memory_bank.queries is missing")


def test_bad_settings_get_one_line_and_a_status(demo: Demo) -> None:
    arguments = ("--dataset-uri", "s3://s2d/datasets/none/000", "--out-prefix", "s3://s2d")
    assert_one_line(demo.step("key_phrases", *arguments), "manifest.json is missing")
    deploy = ("--model-uri", "s3://s2d/models/s2d-align/none")
    assert_one_line(demo.step("deploy", *deploy), "manifest.json is missing")
    assert_one_line(demo.step("deploy", *deploy, AWS_S3_ENDPOINT="http://127.0.0.1:9"), "does not answer")
    assert_one_line(demo.step("deploy", *deploy, AWS_SECRET_ACCESS_KEY="wrong"), "refused")
    assert_one_line(demo.s2d("pipeline", "submit", "--host", "http://127.0.0.1:9"), "no Kubeflow Pipelines server")


def test_down_stops_everything_and_up_serves_the_same_model_again(demo: Demo) -> None:
    dicom = held_out_study(demo.data).dicom
    assert demo.s2d("down").returncode == 0
    assert demo.s2d("status").returncode == 1
    assert_one_line(demo.s2d("report", dicom), "s2d up")
    up = demo.s2d("up")
    assert up.returncode == 0, up.stderr
    report = json.loads(demo.s2d("report", dicom, "--json").stdout)
    assert report["findings"] == json.loads((demo.results / "report.json").read_text())["findings"]
