"""The key-phrase step from data set to data set, over a real S3 API in this process."""

from collections.abc import Iterator

import pytest
from click.testing import CliRunner

from components.key_phrases.__main__ import key_phrases
from components.key_phrases.main import run
from components.shared.dataset import read_exclusions, read_manifest, read_studies, write_dataset
from components.shared.excluded import ExcludedStudy
from components.shared.storage import ObjectStore
from model.errors import ConfigError
from model.records import Study

NORMAL = "No pleural effusion or pneumothorax."
SICK = "There is a large right pleural effusion."


@pytest.fixture
def environment(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("AWS_S3_ENDPOINT", s3_endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    yield


@pytest.fixture
def dataset_uri(store: ObjectStore, environment: None) -> str:
    texts = {"a": NORMAL, "b": SICK, "c": " "}
    studies = [
        Study(
            study_id=key,
            patient_id=f"p{key}",
            split="train",
            view="PA",
            taken_at=None,
            image=b"png",
            findings=text,
            labels={"Pneumothorax": 0},
            labeler="rules@1",
            synthetic=True,
        )
        for key, text in texts.items()
    ]
    about = {"source": "phantom", "config": {"seed": 1}, "excluded": {"lateral": 2}, "image_size": 224}
    return write_dataset(store, "s3://s2d", "phrases", studies, **about)  # type: ignore[arg-type]


def test_step_adds_graph_and_phrases_and_leaves_the_rest(store: ObjectStore, dataset_uri: str) -> None:
    uri = run(dataset_uri, "s3://s2d", "positive")
    normal, sick = read_studies(store, uri)
    assert (normal.study_id, normal.key_phrases) == ("a", ())
    assert normal.radgraph is not None
    assert [phrase.text for phrase in sick.key_phrases] == ["large right pleural effusion"]
    before = read_studies(store, dataset_uri)[1]
    assert sick.model_copy(update={"radgraph": None, "key_phrases": ()}) == before


def test_manifest_tells_how_the_phrases_were_made(store: ObjectStore, dataset_uri: str) -> None:
    manifest = read_manifest(store, run(dataset_uri, "s3://s2d", "positive"))
    about = manifest.config["key_phrases"]
    assert manifest.excluded == {"lateral": 2, "no_graph": 1}
    assert about["policy"] == "positive"
    assert about["empty_phrase_sets"] == {"train": 0.5}
    assert about["dataset_digest"] == read_manifest(store, dataset_uri).digest
    assert len(about["checkpoint_digest"]) == 64
    assert manifest.config["seed"] == 1


def test_same_input_gives_the_same_address_and_another_policy_another(dataset_uri: str) -> None:
    first, again, other = (run(dataset_uri, "s3://s2d", policy) for policy in ("positive", "positive", "all"))
    assert first == again != other


def test_a_graph_that_came_with_the_data_is_kept(store: ObjectStore, dataset_uri: str) -> None:
    """Here it says something else than the text, so that an extraction would show."""
    entity = {"tokens": "edema", "label": "OBS-DP", "start_ix": 0, "end_ix": 0, "relations": []}
    published = {"text": "edema", "entities": {"1": entity}}
    studies = [s.model_copy(update={"radgraph": published}) for s in read_studies(store, dataset_uri)[1:2]]
    uri = write_dataset(store, "s3://s2d", "given", studies, source="t", config={}, excluded={}, image_size=224)
    (study,) = read_studies(store, run(uri, "s3://s2d", "positive"))
    assert study.radgraph == published
    assert [phrase.text for phrase in study.key_phrases] == ["edema"]


def test_what_was_left_out_before_and_what_binds_the_data_travel_on(store: ObjectStore, dataset_uri: str) -> None:
    before = [ExcludedStudy("z", "problem", "no_report", "its file is missing")]
    about = {"source": "t", "config": {}, "image_size": 224, "use_agreement": "Agreement A", "notes": {"odd": 1}}
    studies = read_studies(store, dataset_uri)
    files = {"data_report.html": b"<html>"}
    uri = write_dataset(store, "s3://s2d", "travel", studies, exclusions=before, files=files, **about)  # type: ignore[arg-type]
    uri = run(uri, "s3://s2d", "positive")
    manifest = read_manifest(store, uri)
    assert [(e.study_id, e.reason) for e in read_exclusions(store, uri)] == [("c", "no_graph"), ("z", "no_report")]
    assert manifest.excluded == {"no_graph": 1, "no_report": 1}
    assert (manifest.use_agreement, manifest.notes) == ("Agreement A", {"odd": 1})
    assert store.get_bytes(f"{uri}/data_report.html") == b"<html>"


def test_unknown_policy_is_refused_before_any_work(dataset_uri: str) -> None:
    with pytest.raises(ConfigError, match="key-phrase policy"):
        run(dataset_uri, "s3://s2d", "negative")


def test_command_line_says_in_one_line_that_there_is_no_data_set(environment: None, store: ObjectStore) -> None:
    asked = ["--dataset-uri", "s3://s2d/nothing", "--out-prefix", "s3://s2d"]
    result = CliRunner().invoke(key_phrases, asked)
    assert result.exit_code == 2
    error = result.stderr.strip()
    assert error.startswith("error: s3://s2d/nothing is not a data set")
    assert "\n" not in error
