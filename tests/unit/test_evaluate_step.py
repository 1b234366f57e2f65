"""The step as a whole, with a small generator that looks at the image and one that does not."""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from components.evaluate import baselines
from components.evaluate.__main__ import main as command_line
from components.evaluate.artifacts import write_artifacts
from components.evaluate.checkpoints import fetch
from components.evaluate.clinical import micro_f1
from components.evaluate.evaluation import Data
from components.evaluate.evaluation import evaluate as judge
from components.evaluate.generate import other_patients, prior_of
from components.evaluate.main import run
from components.evaluate.table import format_table
from components.shared import base_models
from components.shared.dataset import read_manifest, write_dataset
from components.shared.labeler import label, split_sentences
from components.shared.storage import ObjectStore
from model.config import Preset, load_preset
from model.errors import ConfigError, DataError, ManifestError
from model.generation import Draft, DraftSentence
from model.manifest import CheckpointManifest
from model.radiograph import encode_png
from model.records import Region, Study

SIZE, GRID = 64, 8
CHECKPOINT = "s3://s2d/evaluate/checkpoint"
KINDS = {
    "Small right pleural effusion. No pneumothorax.": (5, 1, "Pleural Effusion", "right"),
    "Small left pleural effusion. No pneumothorax.": (5, 5, "Pleural Effusion", "left"),
    "Left pneumothorax. No pleural effusion.": (1, 5, "Pneumothorax", "left"),
    "The lungs are clear. No pleural effusion.": (-1, -1, "", ""),
}


class SeeingGenerator:
    """Finds the bright square, knows what such a square means, and points at it."""

    image_size = SIZE

    def draft(self, images: np.ndarray, *, evidence: bool = False) -> list[Draft]:
        return [self._draft(image, evidence) for image in images]

    def embed(self, images: np.ndarray) -> np.ndarray:
        return images.reshape(len(images), -1).astype(float)

    def _draft(self, image: np.ndarray, evidence: bool) -> Draft:
        grid = image.reshape(GRID, SIZE // GRID, GRID, SIZE // GRID).mean(axis=(1, 3)) ** 2
        text = self.read(grid)
        values = grid / grid.sum() if evidence else None
        spans = [DraftSentence(text[a:b] + ".", 0.9, values) for a, b in split_sentences(text)]
        return Draft(text, spans, np.zeros(2), None)

    def read(self, grid: np.ndarray) -> str:
        if grid.max() < 150**2:
            return list(KINDS)[3]
        row, column = np.unravel_index(grid.argmax(), grid.shape)
        return list(KINDS)[2 if row < 4 else int(column >= 4)]


class BlindGenerator(SeeingGenerator):
    """Says what is frequent, whatever the image."""

    def read(self, grid: np.ndarray) -> str:
        return next(iter(KINDS))


def make_study(patient: int, number: int, split: str, pick: np.random.Generator) -> Study:
    text = list(KINDS)[int(pick.integers(len(KINDS)))]
    row, column, observation, side = KINDS[text]
    pixels = pick.integers(20, 60, size=(SIZE, SIZE)).astype(np.uint8)
    regions: tuple[Region, ...] = ()
    if observation:
        top, left = 8 * (row + int(pick.integers(0, 2))), 8 * (column + int(pick.integers(0, 3)))
        mask = np.zeros((SIZE, SIZE), dtype=bool)
        mask[top : top + 8, left : left + 8] = True
        pixels[mask] = 220
        sink = BytesIO()
        Image.fromarray(mask).convert("L").save(sink, "PNG")
        box = (left, top, left + 8, top + 8)
        regions = (Region(name="x", observation=observation, side=side, box=box, mask_png=sink.getvalue()),)
    return Study(
        study_id=f"{split}{patient:03}{number}",
        patient_id=f"{split}{patient:03}",
        split=split,
        view="PA",
        taken_at=datetime(2100, 1, 1) + timedelta(days=number),
        image=encode_png(pixels),
        findings=text,
        regions=regions,
        synthetic=True,
    )


@pytest.fixture(scope="module")
def studies() -> list[Study]:
    pick = np.random.default_rng(0)
    patients = {"train": 40, "validate": 15, "test": 30}
    return [make_study(p, n, split, pick) for split, count in patients.items() for p in range(count) for n in range(2)]


@pytest.fixture(scope="module")
def dataset_uri(store: ObjectStore, studies: list[Study]) -> str:
    uri = write_dataset(
        store, "s3://s2d/evaluate", "squares", studies, source="test", config={}, excluded={}, image_size=SIZE
    )
    put_checkpoint(store, CHECKPOINT, read_manifest(store, uri).digest)
    return uri


def put_checkpoint(store: ObjectStore, uri: str, dataset_digest: str, preset: Preset | None = None, **about) -> None:
    """A manifest without weights: the generators here need none."""
    manifest = CheckpointManifest(
        stage="s1", epochs=1, seed=0, preset=preset or load_preset("tiny"), frozen={}, dataset_digest=dataset_digest,
        **{"complete": True, **about},
    )  # fmt: skip
    store.put_bytes(f"{uri}/manifest.json", manifest.model_dump_json().encode())


def evaluate(store: ObjectStore, dataset_uri: str, load: Callable[[Path], SeeingGenerator], out: str) -> dict:
    checkpoints = dict.fromkeys(("full", "s1", "s1_lora"), CHECKPOINT)
    return run(dataset_uri, checkpoints, f"s3://s2d/evaluate/{out}", store=store, load=load)


@pytest.fixture(scope="module")
def seeing(store: ObjectStore, dataset_uri: str) -> dict:
    return evaluate(store, dataset_uri, lambda folder: SeeingGenerator(), "seeing")


@pytest.fixture(scope="module")
def blind(store: ObjectStore, dataset_uri: str) -> dict:
    return evaluate(store, dataset_uri, lambda folder: BlindGenerator(), "blind")


def test_a_model_that_looks_beats_every_control_that_does_not(seeing: dict) -> None:
    assert [row["arm"] for row in seeing["rows"]] == [
        "full", "s1_lora", "s1", "shuffled", "blank", "prior", "best_constant", "all_normal", "nearest"
    ]  # fmt: skip
    full = seeing["rows"][0]["rule_micro_f1_14_u1"]
    assert full == {"value": 1.0, "low": 1.0, "high": 1.0}
    for name in ("shuffled", "blank", "prior", "best_constant", "all_normal"):
        control = seeing["controls"][f"full_vs_{name}"]
        assert control["separated"]
        assert control["difference"]["low"] > 0
        assert control["p_holm"] < 0.01
    assert not seeing["controls"]["full_vs_s1"]["separated"]
    assert seeing["guards"]["same_as_blank_image_share"] < 0.5
    assert seeing["guards"]["studies_without_prior"] == 60  # the model is given none
    assert seeing["evidence"]["status"] == "validated"


def test_intervals_apart_are_more_than_another_value() -> None:
    """Ten more patients right of sixty: a higher value, and intervals that overlap."""
    pick = np.random.default_rng(6)
    test = [make_study(patient, 0, "test", pick) for patient in range(60)]
    written = {
        arm: [s.findings if i < right else baselines.ALL_NORMAL for i, s in enumerate(test)]
        for arm, right in (("full", 40), ("s1", 30))
    }
    texts = written | {"best_constant": [baselines.ALL_NORMAL] * 60}
    drafts = [Draft(text, [], np.zeros(2), None) for text in texts["full"]]
    found = judge(Data(train=test[:5], validate=test[:5], test=test), texts, drafts)
    control = found["controls"]["full_vs_s1"]
    assert control["difference"]["low"] > 0 and not control["separated"]
    assert found["controls"]["full_vs_best_constant"]["separated"]


def test_a_blind_model_is_exposed_in_words(blind: dict) -> None:
    assert not blind["controls"]["full_vs_shuffled"]["separated"]
    assert not blind["controls"]["full_vs_blank"]["separated"]
    assert blind["guards"]["same_as_blank_image_share"] == 1
    assert not blind["controls"]["full_vs_best_constant"]["separated"]
    assert "- NOT BEATEN: full, given another patient's image" in format_table(blind)
    assert "without looking" in format_table(blind)
    assert blind["guards"]["most_frequent_report_share"] == 1


def test_the_protocol_names_what_a_number_needs(seeing: dict, dataset_uri: str) -> None:
    protocol = seeing["protocol"]
    assert (protocol["n_studies"], protocol["n_patients"]) == (60, 30)
    assert protocol["labeler"].startswith("rules@")
    assert protocol["dataset_uri"] == dataset_uri
    assert "SYNTHETIC" in format_table(seeing)
    assert seeing["synthetic"] is True


def test_predictions_carry_every_arm_and_study(store: ObjectStore, seeing: dict) -> None:
    lines = [json.loads(line) for line in store.get_bytes("s3://s2d/evaluate/seeing/predictions.jsonl").splitlines()]
    assert len(lines) == 60 * 9
    assert set(lines[0]) == {"id", "patient", "arm", "text", "reference", "synthetic"}
    assert all(line["synthetic"] for line in lines)
    own = [line for line in lines if line["arm"] == "full"]
    truth, guess = ([label(line[key]) for line in own] for key in ("reference", "text"))
    assert micro_f1(truth, guess) == pytest.approx(seeing["rows"][0]["rule_micro_f1_14_u1"]["value"], abs=1e-4)


def test_the_page_stands_alone_and_says_what_it_is(store: ObjectStore, seeing: dict, blind: dict) -> None:
    page = store.get_bytes("s3://s2d/evaluate/seeing/report.html").decode()
    assert "SYNTHETIC" in page
    assert "not for clinical use" in page
    assert page.count('<div class="case">') == len(seeing["cases"]) == 12
    assert 'src="http' not in page and "<script" not in page
    assert "class=lost" in store.get_bytes("s3://s2d/evaluate/blind/report.html").decode()


def test_the_same_inputs_give_the_same_evaluation(store: ObjectStore, dataset_uri: str, seeing: dict) -> None:
    again = evaluate(store, dataset_uri, lambda folder: SeeingGenerator(), "again")
    assert again["rows"] == seeing["rows"]
    assert again["protocol"]["predictions_sha256"] == seeing["protocol"]["predictions_sha256"]


def test_only_an_evaluation_of_the_same_code_is_used_again(
    store: ObjectStore, dataset_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded: list[Path] = []

    def load(folder: Path) -> SeeingGenerator:
        loaded.append(folder)
        return SeeingGenerator()

    for commit, loads in (
        ("a" * 40, 3),
        ("a" * 40, 3),
        ("b" * 40, 6),
        ("b" * 40 + "-dirty", 9),
        ("b" * 40 + "-dirty", 12),
    ):
        monkeypatch.setenv("S2D_GIT_COMMIT", commit)
        evaluate(store, dataset_uri, load, "reuse")
        assert len(loaded) == loads, commit


def test_nobody_keeps_the_own_image_and_the_choice_is_repeatable(studies: list[Study]) -> None:
    patients = [s.patient_id for s in studies]
    chosen = other_patients(patients, seed=1)
    assert all(patients[i] != patients[j] for i, j in enumerate(chosen))
    assert len({patients[j] for j in chosen}) == len(set(patients))
    assert chosen == other_patients(patients, seed=1) != other_patients(patients, seed=2)
    with pytest.raises(DataError, match="one patient"):
        other_patients(["a", "a"], seed=0)


def test_the_prior_is_the_last_study_before_of_the_same_patient(studies: list[Study]) -> None:
    test = [s for s in studies if s.split == "test"]
    for study, text in zip(test, baselines.prior_reports(test), strict=True):
        before = [s.findings for s in test if s.patient_id == study.patient_id and s.study_id < study.study_id]
        assert text == (before[-1] if before else baselines.ALL_NORMAL)


def test_of_several_earlier_studies_the_latest_is_the_prior_whatever_their_order() -> None:
    pick = np.random.default_rng(5)
    third, first, second = (make_study(1, number, "test", pick) for number in (2, 0, 1))
    undated = make_study(1, 3, "test", pick).model_copy(update={"taken_at": None})
    other = make_study(2, 0, "test", pick)
    assert prior_of([third, first, second, undated, other]) == [second, None, first, None, None]


def test_the_best_constant_report_is_positive_where_most_studies_are() -> None:
    sick = [
        "Mild edema. Right effusion.",
        "Right effusion. No edema.",
        "Mild edema. Right effusion. The lungs are low.",
    ]
    constant = baselines.best_constant([*sick, "The lungs are clear."], [*sick, "The lungs are clear."])
    assert label(constant)["Pleural Effusion"] == 1
    assert label(constant)["Edema"] == 1
    assert baselines.best_constant(sick, ["The lungs are clear."] * 3) == baselines.ALL_NORMAL


def test_the_nearest_report_is_that_of_the_most_similar_image() -> None:
    train = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
    test = np.array([[0.1, 2.0], [3.0, 0.1]] * baselines.BLOCK)
    assert baselines.nearest_reports(train, ["a", "b", "c"], test) == ["b", "a"] * baselines.BLOCK


def test_wrong_requests_are_refused_in_one_line(store: ObjectStore, studies: list[Study], dataset_uri: str) -> None:
    with pytest.raises(ConfigError, match="full"):
        run(dataset_uri, {"s1": "s3://s2d/x"}, "s3://s2d/out", store=store)
    with pytest.raises(ConfigError, match="s3"):
        run(dataset_uri, {"full": "s3://s2d/x", "s3": "s3://s2d/x"}, "s3://s2d/out", store=store)
    untested = [s for s in studies if s.split != "test"]
    uri = write_dataset(store, "s3://s2d/e", "cut", untested, source="t", config={}, excluded={}, image_size=SIZE)
    with pytest.raises(DataError, match="no studies in test"):
        run(uri, {"full": CHECKPOINT}, "s3://s2d/out", store=store, accept="dataset")
    with pytest.raises(ConfigError, match="accept is 'frozen'"):
        run(dataset_uri, {"full": CHECKPOINT}, "s3://s2d/out", store=store, accept="frozen")


@pytest.mark.parametrize(
    "about, why",
    [
        ({"dataset_digest": "0" * 64}, r"wrong was trained on data set 000000000000, .*accept=dataset"),
        ({"complete": False}, "wrong is not complete"),
        ({"preset": "from the store"}, r"no model at s3://s2d/base-models/.*base-models put"),
        (None, r"wrong is not a checkpoint: manifest\.json is missing"),
    ],
)
def test_a_checkpoint_that_cannot_be_judged_is_refused_before_any_report(
    store: ObjectStore, dataset_uri: str, about: dict | None, why: str
) -> None:
    uri = "s3://s2d/evaluate/wrong"
    store.remove_tree(uri)
    if about is not None:
        if "preset" in about:
            about = {"preset": preset_of(f"s3://s2d/base-models/{'1' * 64}")}
        put_checkpoint(store, uri, **{"dataset_digest": read_manifest(store, dataset_uri).digest, **about})
    with pytest.raises((ManifestError, ConfigError), match=why) as raised:
        run(dataset_uri, {"full": CHECKPOINT, "s1": uri}, "s3://s2d/out", store=store, load=pytest.fail)
    assert len(str(raised.value).splitlines()) == 1


def preset_of(vision: str) -> Preset:
    """The tiny preset with another vision model."""
    tiny = load_preset("tiny")
    return tiny.model_copy(update={"vision": tiny.vision.model_copy(update={"source": vision})})


def test_the_command_line_reports_a_missing_store_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("AWS_S3_ENDPOINT", raising=False)
    assert command_line(["--dataset-uri", "s3://a/b", "--full-uri", "s3://a/c", "--out-uri", "s3://a/d"]) == 2
    assert capsys.readouterr().err.startswith("error: the object store is not set")


def test_every_kubeflow_artifact_has_a_file(
    seeing: dict, store: ObjectStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Recorder:
        def __init__(self, name: str) -> None:
            self.path = str(tmp_path / name)
            self.logged: dict = {}

        def log_metric(self, metric: str, value: float) -> None:
            self.logged[metric] = value

        def log_confusion_matrix(self, categories: list[str], matrix: list[list[int]]) -> None:
            self.logged = {"categories": categories, "matrix": matrix}

    monkeypatch.setenv("AWS_S3_ENDPOINT", store.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", store.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", store.secret_key)
    metrics, confusion, page, table = (Recorder(name) for name in ("m", "c", "p", "t"))
    write_artifacts(seeing, "s3://s2d/evaluate/seeing", metrics, confusion, page, table)
    assert metrics.logged["full_rule_micro_f1_14_u1"] == 1
    own, shuffled = (
        metrics.logged[f"{arm}_rule_micro_f1_14_u1_{end}"] for arm, end in (("full", "low"), ("shuffled", "high"))
    )
    assert shuffled < own == 1
    assert sum(map(sum, confusion.logged["matrix"])) == 60 * 14
    assert all(Path(a.path).stat().st_size > 0 for a in (metrics, confusion, page, table))
    written = Path(table.path).read_text()
    assert written.startswith(format_table(seeing))
    assert "not compared; the evaluation was not told where versions lie" in written


def test_base_models_in_the_store_come_to_the_node_before_the_checkpoint_is_loaded(
    store: ObjectStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("S2D_BASE_MODELS", str(tmp_path / "node"))
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    save_file({"weight": np.zeros(3, dtype=np.float32)}, model / "model.safetensors")
    address = base_models.put(store, model, "s2d")
    put_checkpoint(store, "s3://s2d/evaluate/based", "d", preset_of(address))

    def load(folder: Path) -> SeeingGenerator:
        assert (tmp_path / "node" / address.rpartition("/")[2] / "config.json").is_file()
        return SeeingGenerator()

    assert isinstance(fetch(store, "s3://s2d/evaluate/based", tmp_path / "checkpoint", load), SeeingGenerator)
