"""One release after another, as the pipeline does it: evaluate, register, deploy. Small generators stand in for models.

A radiograph here is one grey level that says which report is true of it, so a generator is a table of four texts.
"""

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from safetensors.numpy import load_file

from components.deploy import main as deploy
from components.evaluate.baselines import ALL_NORMAL
from components.evaluate.main import run as evaluate
from components.evaluate.serving import Served, find_served
from components.evaluate.texts import read_predictions
from components.register import main as registry
from components.shared.dataset import read_manifest, write_dataset
from components.shared.model_versions import NAME, move_pointer, read_pointer
from components.shared.storage import ObjectStore, join_uri
from model.checkpoint import MANIFEST, WEIGHTS, CheckpointManifest
from model.checkpoint import read_manifest as read_checkpoint
from model.config import load_preset
from model.decode.drafts import DRAFTS, Drafts
from model.errors import ManifestError, PlatformError
from model.generation import Draft, DraftSentence
from model.in_distribution import IN_DISTRIBUTION
from model.manifest import check_files
from model.radiograph import encode_png
from model.records import Study

SIZE, STEP = 16, 50
TRUTH = (
    "The lungs are clear. No pleural effusion.",
    "Small right pleural effusion. No pneumothorax.",
    "Left pneumothorax. Mild cardiomegaly.",
    "Moderate pulmonary edema. Right lower lobe consolidation.",
)
GOOD = (*TRUTH[:3], "Moderate pulmonary edema.")  # misses the consolidation
POOR = (*TRUTH[:2], ALL_NORMAL, TRUTH[1])
NORMAL = (ALL_NORMAL,) * 4


class Reader:
    """Writes what its table says of the grey level."""

    image_size = SIZE
    model = SimpleNamespace(decoder=SimpleNamespace(report_ids=lambda report: [*report.encode(), 0]))

    def __init__(self, table: Sequence[str]) -> None:
        self.table = table

    def draft(self, images: np.ndarray, *, evidence: bool = False) -> list[Draft]:
        texts = [self.table[int(image.mean()) // STEP] for image in images]
        return [Draft(text, [DraftSentence(text, 0.9, None)], np.zeros(2), None) for text in texts]

    def embed(self, images: np.ndarray) -> np.ndarray:
        return np.stack([[image.mean(), image.std()] for image in images]) + np.random.default_rng(0).normal(
            size=(len(images), 2)
        )


def studies(seed: int) -> Iterator[Study]:
    pick = random.Random(seed)
    for split, patients in (("train", 20), ("validate", 12), ("test", 60)):
        for patient in range(patients):
            kind = pick.randrange(4)
            yield Study(
                study_id=f"{split}{patient:03}",
                patient_id=f"{split}{patient:03}",
                split=split,
                view="PA",
                taken_at=None,
                image=encode_png(np.full((SIZE, SIZE), kind * STEP + 20, dtype=np.uint8)),
                findings=TRUTH[kind],
                synthetic=True,
            )


@dataclass
class Line:
    """A line of releases: one store prefix, one data set unless told otherwise."""

    store: ObjectStore
    prefix: str
    dataset_uri: str

    @property
    def models_uri(self) -> str:
        return join_uri(self.prefix, "models", NAME)

    def judge(self, name: str, table: Sequence[str], dataset_uri: str = "", *, models: bool = True) -> dict:
        """Put a checkpoint there and evaluate it."""
        data = dataset_uri or self.dataset_uri
        uri = join_uri(self.prefix, "runs", name, "s3")
        manifest = CheckpointManifest(
            stage="s1", complete=True, epochs=1, seed=0, preset=load_preset("tiny"), frozen={},
            dataset_digest=read_manifest(self.store, data).digest, parent=name,
        )  # fmt: skip
        self.store.put_bytes(join_uri(uri, WEIGHTS), json.dumps([name, table]).encode())
        self.store.put_bytes(join_uri(uri, MANIFEST), manifest.model_dump_json().encode())
        folder = join_uri(self.prefix, "runs", name, "evaluation")
        return evaluate(
            data, {"full": uri}, folder, models_uri=self.models_uri if models else "", store=self.store, load=load
        )

    def register(self, name: str, gate: str = "enforce", dataset_uri: str = "") -> dict:
        """Register a judged checkpoint; the version's manifest."""
        run = join_uri(self.prefix, "runs", name)
        data = dataset_uri or self.dataset_uri
        uri = registry.run(
            join_uri(run, "s3"), data, join_uri(run, "evaluation"), self.prefix, gate,
            store=self.store, load=load,
        )  # fmt: skip
        return {"uri": uri, **json.loads(self.store.get_bytes(join_uri(uri, "manifest.json")))}

    def release(self, name: str, table: Sequence[str]) -> dict:
        self.judge(name, table)
        version = self.register(name)
        deploy.run(version["uri"], "triton")
        return version


def load(folder: Path) -> Reader:
    read_checkpoint(folder)
    return Reader(json.loads((folder / WEIGHTS).read_text())[1])


@pytest.fixture
def line(store: ObjectStore, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Line:
    monkeypatch.setenv("S2D_GIT_COMMIT", "a" * 40)  # of code that may differ nothing is used again
    monkeypatch.setattr(deploy.ObjectStore, "from_env", classmethod(lambda cls: store))
    monkeypatch.setitem(deploy.TARGETS, "triton", lambda store, uri: "http://here")
    prefix = f"s3://s2d/line-{request.node.name}"
    uri = write_dataset(store, prefix, "grey", studies(0), source="test", config={}, image_size=SIZE)
    return Line(store, prefix, uri)


def test_a_first_release_says_so_and_becomes_what_the_next_is_compared_with(line: Line, tmp_path: Path) -> None:
    first = line.release("one", GOOD)
    assert first["gate"]["passed"]
    assert "first release" in first["gate"]["serving"]["why_not"]
    assert "first release" in line.store.get_bytes(join_uri(first["uri"], "model_card.md")).decode()
    pointer = read_pointer(line.store, line.models_uri)
    assert pointer is not None and pointer.model_uri == first["uri"]
    kept = line.store.get_file(join_uri(first["uri"], "predictions.jsonl"), tmp_path / "kept.jsonl")
    assert kept == first["predictions_sha256"]
    rows = [json.loads(text) for text in (tmp_path / "kept.jsonl").read_text().splitlines()]
    assert {frozenset(row) for row in rows} == {frozenset(("id", "patient", "text"))}  # no true report goes along
    assert len(read_predictions(tmp_path / "kept.jsonl").ids) == 60  # as `s2d evaluate` reads any system's


def test_a_version_names_its_files_and_keeps_phrases_of_training_reports_alone(line: Line, tmp_path: Path) -> None:
    version = line.release("one", GOOD)
    for name, sha256 in version["files"].items():
        assert line.store.get_file(join_uri(version["uri"], name), tmp_path / name) == sha256
    assert set(version["files"]) == {WEIGHTS, IN_DISTRIBUTION, DRAFTS}
    statistics = load_file(tmp_path / IN_DISTRIBUTION)
    assert 0 < statistics["limit"][0] <= statistics["far_limit"][0]
    train = [study for study in studies(0) if study.split == "train"]
    fitted = Drafts.fit((study.patient_id, [*study.findings.encode(), 0]) for study in train)
    assert Drafts.load(tmp_path / DRAFTS).likeliest == fitted.likeliest
    assert fitted.likeliest
    written = line.store.get_tree(version["uri"], tmp_path / "version")
    check_files(written)
    (written / DRAFTS).write_bytes((written / DRAFTS).read_bytes() + b" ")
    with pytest.raises(ManifestError, match=r"drafts\.safetensors is not the file that its manifest names") as caught:
        check_files(written)
    assert "\n" not in str(caught.value)
    (written / DRAFTS).unlink()
    with pytest.raises(ManifestError, match=r"drafts\.safetensors cannot be read"):
        check_files(written)


def test_a_worse_model_is_refused_with_the_numbers_and_the_served_one_stays(line: Line) -> None:
    first = line.release("one", GOOD)
    evaluation = line.judge("poor", POOR)
    own, served = (row["rule_micro_f1_14_u1"]["value"] for row in evaluation["rows"][:2])
    difference = evaluation["controls"]["full_vs_serving"]["difference"]
    assert difference["value"] == pytest.approx(own - served, abs=1e-4)
    assert difference["high"] < 0
    with pytest.raises(
        PlatformError, match=r"rule_micro_f1_14_u1 is significantly worse than that of the served 0\.2\.0"
    ):
        line.register("poor")
    pointer = read_pointer(line.store, line.models_uri)
    assert pointer is not None and pointer.model_uri == first["uri"]
    recorded = line.register("poor", "record")
    assert recorded["gate"]["passed"] is False
    assert recorded["gate"]["mode"] == "record"
    assert any("significantly worse" in clause for clause in recorded["gate"]["lost"])


def test_all_normal_texts_are_refused_by_controls_floors_and_the_served_version(line: Line) -> None:
    line.release("one", GOOD)
    line.judge("normal", NORMAL)
    with pytest.raises(PlatformError) as raised:
        line.register("normal")
    said = str(raised.value)
    assert "\n" not in said
    for clause in (
        "given another patient's image",
        "rule_micro_f1_14_u1 is 0.",
        "its floor 0.4",
        "significantly worse",
    ):
        assert clause in said


@pytest.mark.parametrize("table", [GOOD, TRUTH], ids=["equal", "better"])
def test_an_equal_and_a_better_model_pass_with_the_comparison_in_manifest_and_card(
    line: Line, table: Sequence[str]
) -> None:
    first = line.release("one", GOOD)
    second = line.release("two", table)
    serving = second["gate"]["serving"]
    assert (serving["version"], serving["compared"]) == (first["version"], True)
    signs = {np.sign(entry["difference"]) for entry in serving["metrics"]}
    assert signs == ({0} if table is GOOD else {1})
    card = line.store.get_bytes(join_uri(second["uri"], "model_card.md")).decode()
    assert f"not significantly worse than that of the served {first['version']}" in card
    kept = join_uri(line.prefix, "runs", "two", "evaluation", "evaluation.json")
    assert line.judge("two", table) == json.loads(line.store.get_bytes(kept))  # still that against the first version
    assert line.register("two")["uri"] == second["uri"]


def test_an_evaluation_is_made_again_when_another_version_serves(line: Line) -> None:
    first = line.release("one", GOOD)
    assert line.judge("two", GOOD)["serving"]["version"] == first["version"]
    line.register("two")  # and never deployed
    third = line.release("three", TRUTH)
    with pytest.raises(ManifestError, match=f"compared with {first['version']}; run evaluate again"):
        line.register("two")
    assert line.judge("two", GOOD)["serving"]["version"] == third["version"]


def test_other_test_studies_are_not_compared_and_the_manifest_says_which_rule_holds(line: Line) -> None:
    line.release("one", GOOD)
    other = write_dataset(line.store, line.prefix, "grey", studies(1), source="test", config={}, image_size=SIZE)
    evaluation = line.judge("two", GOOD, other)
    assert "full_vs_serving" not in evaluation["controls"]
    serving = line.register("two", dataset_uri=other)["gate"]["serving"]
    with pytest.raises(ManifestError, match=r"the checkpoint was trained on .*the same for all three"):
        line.register("two")  # with the first data set
    assert not serving["compared"]
    assert "other test studies" in serving["why_not"] and "floors and controls alone decide" in serving["why_not"]


def test_an_evaluation_that_does_not_know_the_served_version_releases_nothing(line: Line) -> None:
    line.release("one", GOOD)
    line.judge("two", TRUTH, models=False)
    with pytest.raises(ManifestError, match=r"is served now.*compared with no version; run evaluate again"):
        line.register("two")


def test_an_evaluation_of_another_checkpoint_or_with_changed_drafts_is_refused(line: Line) -> None:
    line.judge("one", GOOD)
    run = join_uri(line.prefix, "runs", "one")
    uris = (line.dataset_uri, join_uri(run, "evaluation"), line.prefix)
    with pytest.raises(ManifestError, match=r"judges .*/one/s3, not .*/two/s3"):
        registry.run(join_uri(line.prefix, "runs", "two", "s3"), *uris, store=line.store, load=load)
    line.store.put_bytes(join_uri(run, "evaluation", "predictions.jsonl"), b"")
    with pytest.raises(ManifestError, match=r"predictions\.jsonl is not what"):
        line.register("one")


@pytest.mark.parametrize(
    "content, why",
    [
        (b"{}", r"evaluation\.json: protocol: Field required; run evaluate again"),
        (b"[", r"evaluation\.json: the file: Invalid JSON"),
    ],
)
def test_an_evaluation_that_is_none_is_one_line(line: Line, content: bytes, why: str) -> None:
    folder = join_uri(line.prefix, "runs", "one", "evaluation")
    with pytest.raises(ManifestError, match="is not an evaluation"):
        line.register("one")
    for name in ("evaluation.json", "predictions.jsonl"):
        line.store.put_bytes(join_uri(folder, name), content)
    with pytest.raises(ManifestError, match=why) as raised:
        line.register("one")
    assert "\n" not in str(raised.value)


def test_a_version_whose_drafts_were_changed_is_no_measure(line: Line) -> None:
    first = line.release("one", GOOD)
    line.store.put_bytes(join_uri(first["uri"], "predictions.jsonl"), b"")
    with pytest.raises(ManifestError, match="not the file that its manifest names"):
        line.judge("two", TRUTH)


def served(store: ObjectStore, prefix: str, manifest: dict | None) -> Served:
    """What is found of a version that the pointer names."""
    models = join_uri(prefix, "models", NAME)
    uri = join_uri(models, "0.1.0-old")
    if manifest is not None:
        store.put_bytes(join_uri(uri, "manifest.json"), json.dumps(manifest).encode())
    move_pointer(store, uri, None)
    return find_served(store, models, f"{prefix}/runs/new/s3")


def test_a_version_that_keeps_no_drafts_or_is_gone_is_not_compared_in_words(store: ObjectStore) -> None:
    old = {"version": "0.1.0-old", "checkpoint_uri": "s3://s2d/runs/old/s3", "dataset_digest": "d", "metrics": {}}
    assert "keeps no drafts" in served(store, "s3://s2d/line-old", old).why_not
    assert "is gone from the store" in served(store, "s3://s2d/line-gone", None).why_not
    with pytest.raises(ManifestError, match=r"manifest\.json: checkpoint_uri: Field required; deploy another version"):
        served(store, "s3://s2d/line-broken", {"version": "0.1.0-old", "dataset_digest": "d"})
