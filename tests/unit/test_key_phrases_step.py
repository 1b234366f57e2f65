"""The key-phrase step from data set to data set, over a real S3 API in this process."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from components.key_phrases import main as step
from components.key_phrases.__main__ import key_phrases
from components.key_phrases.graphs import Extraction, extract
from components.key_phrases.main import run
from components.key_phrases.refine import Refined, RefineSettings, not_refined
from components.shared.dataset import read_exclusions, read_manifest, read_studies, write_dataset
from components.shared.excluded import ExcludedStudy
from components.shared.radgraph.extractor import Graph, RadGraphExtractor
from components.shared.storage import ObjectStore
from model.config import PhraseNoise
from model.errors import ConfigError
from model.records import KeyPhrase, Study

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


def test_manifest_names_the_model_and_says_that_nobody_refined(store: ObjectStore, dataset_uri: str) -> None:
    about = read_manifest(store, run(dataset_uri, "s3://s2d", "positive")).config["key_phrases"]
    assert about["extractor"] == RadGraphExtractor().name and about["stand_in"] is True
    assert (about["given_graphs"], about["extracted_graphs"]) == (0, 2)
    assert about["noise"] == {}
    assert about["refinement"] == not_refined()


def test_noise_spoils_the_phrases_and_is_recorded(store: ObjectStore, dataset_uri: str) -> None:
    uri = run(dataset_uri, "s3://s2d", "positive", noise=PhraseNoise(side_swap=1), seed=5)
    assert [phrase.text for phrase in read_studies(store, uri)[1].key_phrases] == ["large left pleural effusion"]
    noise = read_manifest(store, uri).config["key_phrases"]["noise"]
    assert (noise["side_swap"], noise["seed"], noise["changed"]) == (1.0, 5, 1)


def test_refined_phrases_take_the_place_of_the_rules(
    store: ObjectStore, dataset_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The refinement itself is tested beside its guards; here it capitalises."""

    def louder(studies: Mapping[str, Sequence[KeyPhrase]], settings: RefineSettings) -> Refined:
        new = {
            key: tuple(phrase.model_copy(update={"text": phrase.text.upper()}) for phrase in phrases)
            for key, phrases in studies.items()
        }
        return Refined(new, {"model": settings.model}, ({"written": "A"},))

    monkeypatch.setattr(step, "refine", louder)
    settings = RefineSettings(endpoint="http://127.0.0.1:1/v1", model="loud", cache=tmp_path / "c")
    uri = run(dataset_uri, "s3://s2d", "positive", refine=settings)
    assert [phrase.text for phrase in read_studies(store, uri)[1].key_phrases] == ["LARGE RIGHT PLEURAL EFFUSION"]
    assert read_manifest(store, uri).config["key_phrases"]["refinement"] == {"model": "loud"}
    assert store.get_bytes(f"{uri}/refined_sample.jsonl") == b'{"written": "A"}\n'


def test_every_phrase_is_traced_to_its_report(store: ObjectStore, dataset_uri: str) -> None:
    uri = run(dataset_uri, "s3://s2d", "positive", noise=PhraseNoise(side_swap=1))
    normal, sick = map(json.loads, store.get_bytes(f"{uri}/key_phrases.jsonl").decode().splitlines())
    assert (normal["study_id"], normal["phrases"]) == ("a", [])
    (phrase,) = sick["phrases"]
    start, end = phrase["span"]
    graph = read_studies(store, uri)[1].radgraph
    assert graph is not None and graph["text"][start:end] == "large right pleural effusion"
    assert phrase["rule_text"] == "large right pleural effusion" and phrase["side"] == "right"


def test_known_graphs_are_not_asked_for_again(
    dataset_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    how = Extraction(cache=tmp_path / "new" / "graphs.sqlite")
    first = run(dataset_uri, "s3://s2d", "all", extraction=how)

    def asked(self: RadGraphExtractor, texts: Sequence[str]) -> Iterator[Graph | None]:
        assert not texts
        return iter(())

    monkeypatch.setattr(RadGraphExtractor, "each", asked)
    assert run(dataset_uri, "s3://s2d", "all", extraction=how) == first


def test_what_an_interrupted_run_has_read_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    extractor, reading = RadGraphExtractor(), RadGraphExtractor.each

    def breaks_off(self: RadGraphExtractor, texts: Sequence[str]) -> Iterator[Graph | None]:
        yield from reading(self, texts[:1])
        raise KeyboardInterrupt

    monkeypatch.setattr(RadGraphExtractor, "each", breaks_off)
    with pytest.raises(KeyboardInterrupt):
        extract(extractor, [SICK, NORMAL], tmp_path / "graphs.sqlite")
    rest = list[str]()
    monkeypatch.setattr(RadGraphExtractor, "each", lambda self, texts: rest.extend(texts) or reading(self, texts))
    graphs = extract(extractor, [SICK, NORMAL], tmp_path / "graphs.sqlite")
    assert rest == [NORMAL]
    assert graphs == extractor.extract([SICK, NORMAL])


def test_a_cache_that_is_none_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "graphs.sqlite").write_text("notes of somebody else, longer than a header of the format is " * 20)
    with pytest.raises(ConfigError, match="name another folder"):
        extract(RadGraphExtractor(), [SICK], tmp_path / "graphs.sqlite")


def test_the_stand_in_is_not_asked_about_real_reports(store: ObjectStore, dataset_uri: str) -> None:
    about = {"source": "t", "config": {}, "image_size": 224}
    real = [s.model_copy(update={"synthetic": False}) for s in read_studies(store, dataset_uri)]
    uri = write_dataset(store, "s3://s2d", "real", real, **about)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"reads phantom reports only.*RRG_scorers.*--checkpoint"):
        run(uri, "s3://s2d", "positive")
    published = {"text": "edema", "entities": {}}
    some = [real[0].model_copy(update={"radgraph": published}), *real[1:]]
    uri = write_dataset(store, "s3://s2d", "some", some, **about)  # type: ignore[arg-type]
    assert [study.study_id for study in read_studies(store, run(uri, "s3://s2d", "positive"))] == ["a"]


def test_same_input_gives_the_same_address_and_another_policy_another(dataset_uri: str) -> None:
    first, again, other = (run(dataset_uri, "s3://s2d", policy) for policy in ("positive", "positive", "all"))
    assert first == again != other


def test_a_graph_that_came_with_the_data_is_kept(store: ObjectStore, dataset_uri: str) -> None:
    """Here it says something else than the text, so that an extraction would show."""
    entity = {"tokens": "edema", "label": "OBS-DP", "start_ix": 0, "end_ix": 0, "relations": []}
    published = {"text": "edema", "entities": {"1": entity}}
    studies = [s.model_copy(update={"radgraph": published}) for s in read_studies(store, dataset_uri)[1:2]]
    uri = write_dataset(store, "s3://s2d", "given", studies, source="t", config={}, excluded={}, image_size=224)
    enriched = run(uri, "s3://s2d", "positive")
    (study,) = read_studies(store, enriched)
    assert study.radgraph == published
    assert [phrase.text for phrase in study.key_phrases] == ["edema"]
    about = read_manifest(store, enriched).config["key_phrases"]  # the stand-in has read nothing
    assert about["extractor"].startswith("none") and not about["stand_in"] and about["checkpoint_digest"] is None


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


@pytest.mark.parametrize(
    "options, said",
    [
        (["--noise", "drop=2"], "write KIND=PROBABILITY from 0 to 1"),
        (["--refine-model", "m"], "refinement: name either an endpoint or a model folder"),
        (["--refine-endpoint", "host:8000", "--refine-model", "m"], "refinement: endpoint: write http://HOST:PORT/v1"),
        (["--refine-endpoint", "http://127.0.0.1:9/v1", "--refine-model", "m", "--pool", "./no"], "the pool no cannot"),
        (["--refine-model-path", "./nowhere"], "nowhere holds no model"),
        (["--pool", "mine.jsonl"], "the pool mine.jsonl is for a language model"),
        (["--checkpoint", "./nowhere"], "there is no RadGraph checkpoint ./nowhere; fetch radgraph-xl.tar.gz"),
        (["--model", "radgraph"], "has the labels of radgraph-xl, not of radgraph"),
    ],
)
def test_what_cannot_be_done_is_one_line(options: list[str], said: str, dataset_uri: str, tmp_path: Path) -> None:
    asked = ["--dataset-uri", dataset_uri, "--out-prefix", "s3://s2d", "--cache", str(tmp_path)]
    result = CliRunner().invoke(key_phrases, [*asked, *options])
    assert result.exit_code == 2, result.output
    assert said in result.stderr and result.stderr.strip().count("\n") == 0


def test_the_refinement_is_checked_before_any_report_is_read(dataset_uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_nothing(*_: object) -> None:
        raise AssertionError("read")

    monkeypatch.setattr("components.key_phrases.main.graphs_of", read_nothing)
    asked = ["--dataset-uri", dataset_uri, "--out-prefix", "s3://s2d", "--refine-model-path", "./nowhere"]
    assert CliRunner().invoke(key_phrases, asked).exit_code == 2
