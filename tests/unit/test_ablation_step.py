"""The comparison as a whole, with small generators: what is kept, what is refused, what the table says."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from components.evaluate.ablation.artifacts import write_artifacts
from components.evaluate.ablation.main import run
from components.evaluate.ablation.rows import read_comparison
from components.evaluate.ablation.table import format_comparison
from components.shared.dataset import read_manifest, write_dataset
from components.shared.storage import ObjectStore
from model.checkpoint import MANIFEST, CheckpointManifest
from model.config import load_preset
from model.errors import ConfigError, ManifestError
from model.generation import Draft, ReportGenerator
from model.radiograph import encode_png
from model.records import Study
from model.s2d_align import S2DAlign

SIZE = 32
TEXTS = ("Small right pleural effusion. No pneumothorax.", "The lungs are clear. No pleural effusion.")
ROOT = "s3://s2d/ablation"


class Reader:
    """Writes what the brightness of the image means; `blind` ones write the second text always."""

    image_size = SIZE

    def __init__(self, blind: bool = False) -> None:
        self.blind = blind
        self.shown: list[np.ndarray] = []

    def draft(self, images: np.ndarray, *, evidence: bool = False) -> list[Draft]:
        assert not evidence, "maps cost time and no row needs them"
        self.shown.extend(images)
        bright = [not self.blind and image.mean() > 100 for image in images]
        return [Draft(TEXTS[0] if each else TEXTS[1], [], np.zeros(2), None) for each in bright]

    def embed(self, images: np.ndarray) -> np.ndarray:
        raise AssertionError("no row needs embeddings")


class Loader:
    """Loads a Reader for every checkpoint and remembers which were asked for."""

    def __init__(self, blind: Sequence[str] = ()) -> None:
        self.blind = blind
        self.readers: list[Reader] = []

    def __call__(self, folder: Path) -> Reader:
        stage = json.loads((folder / MANIFEST).read_text())["stage"]
        self.readers.append(Reader(blind=stage in self.blind))
        return self.readers[-1]


def studies() -> list[Study]:
    found = []
    for split, patients in (("train", 2), ("validate", 2), ("test", 24)):
        for patient in range(patients):
            bright = patient % 2 == 0
            found.append(
                Study(
                    study_id=f"{split}{patient:02}",
                    patient_id=f"{split}{patient:02}",
                    split=split,
                    view="PA",
                    taken_at=None,
                    image=encode_png(np.full((SIZE, SIZE), 200 if bright else 20, dtype=np.uint8)),
                    findings=TEXTS[0 if bright else 1],
                    synthetic=True,
                )
            )
    return found


@pytest.fixture(scope="module")
def dataset_uri(store: ObjectStore) -> str:
    return write_dataset(store, ROOT, "squares", studies(), source="test", config={}, image_size=SIZE)


def put_checkpoint(store: ObjectStore, folder: str, digest: str, **changes: object) -> None:
    manifest = CheckpointManifest(
        stage=folder.rpartition("/")[2],
        complete=True,
        stopped="converged",
        step=120,
        epoch=3,
        best_epoch=2,
        epochs=4,
        seed=0,
        preset=load_preset("tiny"),
        frozen={},
        dataset_digest=digest,
        metrics={"copy_gap": -0.25},
    )
    store.put_bytes(f"{ROOT}/{folder}/{MANIFEST}", manifest.model_copy(update=changes).model_dump_json().encode())


@pytest.fixture
def trained(store: ObjectStore, dataset_uri: str) -> Callable[..., None]:
    """Put every checkpoint of a run; its name makes its predictions its own."""
    digest = read_manifest(store, dataset_uri).digest

    def put(run_name: str, **changes: object) -> None:
        for seed in (0, 1):
            for stage in ("s1", "s1-s2-s3"):
                put_checkpoint(store, f"{run_name}/seed{seed}/base/{stage}", digest, seed=seed, **changes)

    return put


def rows(**full: object) -> str:
    s1, all_stages = (
        {seed: [f"seed{seed}/base/{stage}" for stage in path] for seed in (0, 1)}
        for path in (["s1"], ["s1", "s1-s2-s3"])
    )
    found = [
        {"id": "s1", "label": "S1", "checkpoints": s1,
         "paper": {"bleu1": 0.3, "bleu4": 0.1, "rouge_l": 0.2, "f1": 0.4}},
        {"id": "full", "label": "full", "checkpoints": all_stages,
         "paper": {"bleu1": 0.4, "bleu4": 0.2, "rouge_l": 0.3, "f1": 0.6}, **full},
        {"id": "other", "label": "full, other image", "checkpoints": all_stages, "images": "other", "control": True},
        {"id": "blank", "label": "full, nothing to see", "checkpoints": {0: all_stages[0]}, "images": "blank",
         "control": True, "note": "shows what is known without an image"},
        {"id": "normal", "label": "all-normal template", "control": True},
    ]  # fmt: skip
    return json.dumps({"name": "some", "title": "Some table", "full": "full", "rows": found})


def compare(store: ObjectStore, dataset_uri: str, name: str, load: Loader, asked: str = "") -> dict:
    return run(dataset_uri, f"{ROOT}/{name}", asked or rows(), f"{ROOT}/{name}/compare", store=store, load=load)


@pytest.fixture(scope="module")
def result(store: ObjectStore, dataset_uri: str) -> dict:
    digest = read_manifest(store, dataset_uri).digest
    for seed in (0, 1):
        for stage in ("s1", "s1-s2-s3"):
            put_checkpoint(store, f"whole/seed{seed}/base/{stage}", digest, seed=seed)
    return compare(store, dataset_uri, "whole", Loader(blind=["s1"]))


def test_every_row_is_scored_and_compared(result: dict) -> None:
    by_id = {entry["id"]: entry for entry in result["rows"]}
    assert by_id["full"]["values"]["f1"] == {"value": 1.0, "low": 1.0, "high": 1.0}
    for name in ("s1", "other", "blank", "normal"):
        assert by_id[name]["delta"]["f1"]["high"] < 0, name
    assert by_id["blank"]["seeds"] == [0] and by_id["normal"]["seeds"] == []
    assert by_id["full"]["training"][0][1]["copy_gap"] == -0.25


def test_the_table_says_what_a_reader_must_not_overlook(result: dict) -> None:
    text = format_comparison(result)
    assert text.startswith("SYNTHETIC")
    for said in (
        "training seeds 0, 1",
        "preset tiny, at most 4 + 4 epochs",
        "full, nothing to see (blank images at test, seed 0 alone)",
        "all-normal template |",
        "paper F1",
        "paper delta F1",
        "| -0.200 |",  # the paper's own distance
        "| S1 | yes (paper -0.100)",
        "- full, nothing to see: shows what is known without an image.",
        "| full | 120 early + 120 early; 120 early + 120 early | -0.250 |",
        "each taking patients and seeds with replacement",
    ):
        assert said in text, said
    controls = text.partition("Controls:")[2]
    assert "paper" not in controls.partition("\n\n- ")[0], "the paper has no controls"


def test_results_lie_in_the_store_with_the_numbers_behind_the_page(store: ObjectStore, result: dict) -> None:
    kept = json.loads(store.get_bytes(f"{ROOT}/whole/compare/comparison.json"))
    assert kept["rows"][0]["values"] == result["rows"][0]["values"]
    assert store.get_bytes(f"{ROOT}/whole/compare/table.md").decode() == format_comparison(result)
    page = store.get_bytes(f"{ROOT}/whole/compare/page.html").decode()
    assert page.count("<svg") == 1 and "http" not in page
    assert page.count("<tr>") == page.count("</tr>") > 10


def test_nothing_is_written_twice(store: ObjectStore, dataset_uri: str, trained: Callable[..., None]) -> None:
    trained("twice")
    first, again = Loader(), Loader()
    compare(store, dataset_uri, "twice", first)
    assert len(first.readers) == 2 + 2 + 2 + 1  # s1, full, other image, and blank for one seed
    found = compare(store, dataset_uri, "twice", again)
    assert again.readers == []
    assert found["rows"][1]["values"]["f1"]["value"] == 1.0


def test_a_checkpoint_that_was_trained_anew_is_asked_anew(
    store: ObjectStore, dataset_uri: str, trained: Callable[..., None]
) -> None:
    trained("anew")
    compare(store, dataset_uri, "anew", Loader())
    trained("anew", step=121)
    again = Loader()
    compare(store, dataset_uri, "anew", again)
    assert len(again.readers) == 7


def test_each_row_is_shown_its_own_images(store: ObjectStore, dataset_uri: str, trained: Callable[..., None]) -> None:
    trained("shown")
    load = Loader()
    compare(store, dataset_uri, "shown", load)
    own, other, blank = (load.readers[i].shown for i in (2, 4, 6))
    assert {image.mean() for image in own} == {200, 20}
    assert len(other) == len(own) and any((a != b).any() for a, b in zip(own, other, strict=True))
    assert all(image.max() == 0 for image in blank)


@pytest.mark.parametrize(
    "changes, why",
    [({"dataset_digest": "another"}, "was trained on .*all rows share one"), ({"complete": False}, "is not complete")],
)
def test_checkpoints_that_cannot_be_compared_are_refused(
    store: ObjectStore, dataset_uri: str, trained: Callable[..., None], changes: dict, why: str
) -> None:
    trained("refused", **changes)
    with pytest.raises(ManifestError, match=why):
        compare(store, dataset_uri, "refused", Loader())


def test_a_missing_checkpoint_and_a_misspelt_row_are_one_line(store: ObjectStore, dataset_uri: str) -> None:
    with pytest.raises(ManifestError, match="is not a checkpoint"):
        compare(store, dataset_uri, "nowhere", Loader())
    with pytest.raises(ConfigError, match=r"the rows to compare: rows\.1\.colour") as caught:
        compare(store, dataset_uri, "nowhere", Loader(), rows(colour="red"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "full, why",
    [
        ({"id": "best"}, "no row 'full', with which all are compared"),
        ({"id": "s1"}, "the row 's1' stands there twice"),
        ({"checkpoints": {}}, "the row 'full' has no checkpoints"),
        ({"checkpoints": {0: ["seed0/base/s1"]}}, r"the row 's1' has the seed 1, the row 'full' has not"),
        ({"checkpoints": {0: [], 1: ["seed1/base/s1"]}}, "the row 'full' has no stage for seed 0"),
    ],
)
def test_rows_that_cannot_be_compared_are_one_line(full: dict, why: str) -> None:
    with pytest.raises(ConfigError, match=f"^the rows to compare: .*{why}") as caught:
        read_comparison(rows(**full))
    assert "\n" not in str(caught.value)


def test_a_manifest_of_another_form_is_one_line(
    store: ObjectStore, dataset_uri: str, trained: Callable[..., None]
) -> None:
    trained("odd")
    store.put_bytes(f"{ROOT}/odd/seed0/base/s1/{MANIFEST}", b'{"stage": "s1"}')
    with pytest.raises(ManifestError, match=r"odd/seed0/base/s1/manifest\.json: \w+: Field required") as caught:
        compare(store, dataset_uri, "odd", Loader())
    assert "\n" not in str(caught.value)


class Artifact:
    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.logged: dict[str, float] = {}

    def log_metric(self, metric: str, value: float) -> None:
        self.logged[metric] = value


def test_artifacts_show_the_headline_of_every_row(
    result: dict, tmp_path: Path, store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ObjectStore, "from_env", classmethod(lambda cls: store))
    metrics, page, table = (Artifact(tmp_path / name) for name in ("metrics", "page", "table"))
    write_artifacts(result, f"{ROOT}/whole/compare", metrics, page, table)
    assert metrics.logged["full_f1"] == 1.0 and metrics.logged["s1_delta_f1"] < 0
    assert json.loads(Path(metrics.path).read_text()) == metrics.logged
    assert "<svg" in Path(page.path).read_text() and "Controls:" in Path(table.path).read_text()


def test_a_model_that_was_trained_blind_sees_nothing_at_test(new_model: Callable[[], S2DAlign]) -> None:
    """Training replaces its image features by zeros; a black film's features would be something else."""
    model = new_model()
    images = np.random.default_rng(0).integers(0, 255, (2, 224, 224)).astype(np.uint8)
    seeing = ReportGenerator(model, {}, None)
    assert seeing.patches(images).abs().sum() > 0
    model.preset = load_preset("tiny,experiment.images=blank")
    blind = ReportGenerator(model, {}, None)
    assert blind.patches(images).shape == (2, model.preset.vision.grid**2, model.vision.width)
    assert not blind.patches(images).any()
    assert len({draft.findings for draft in blind.draft(images)}) == 1
