"""What surrounds a refinement: settings, pool, tuples, cache, and a model from a folder."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from transformers import LlamaConfig, LlamaForCausalLM

from components.key_phrases.compose import compose, group_entities
from components.key_phrases.refine import POOL, RefineSettings, not_refined, refine
from components.key_phrases.refine.cache import Cache
from components.key_phrases.refine.finding import Finding, finding_of
from components.key_phrases.refine.guard import refusal, tidy
from components.key_phrases.refine.pool import Example, read_pool
from components.key_phrases.refine.prompt import phrases_in
from components.key_phrases.verbalise import verbalise
from components.preprocess.phantom.grammar import write_report
from components.preprocess.phantom.patients import sample_patients
from model import foundation
from model.errors import ConfigError
from model.records import KeyPhrase, Polarity

STUDIES = {
    "s1": (KeyPhrase(text="small right pleural effusion", polarity="present"),),
    "s2": (KeyPhrase(text="no edema", polarity="absent"), KeyPhrase(text="clear lungs", polarity="present")),
}


@pytest.mark.parametrize(
    "given, why",
    [
        ({}, "either an endpoint or a model folder"),
        ({"endpoint": "http://host/v1", "model": "m", "model_path": "m"}, "either an endpoint or a model folder"),
        ({"endpoint": "http://host/v1"}, "name the model"),
        ({"endpoint": "host:8000", "model": "m"}, "write http://HOST"),
        ({"endpoint": "http://user:word@host/v1", "model": "m"}, "without user"),
        ({"endpoint": "http://host?key=word", "model": "m"}, "without user"),
        ({"endpoint": "http://host/v1?key=word", "model": "m"}, "without user"),
        ({"model_path": "m", "examples": -1}, "greater than"),
        ({"model_path": "m", "timeout_s": 0}, "greater than"),
        ({"model_path": "m", "modle": "m"}, "modle"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(given: dict[str, Any], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        RefineSettings(cache="answers.jsonl", **given)


def test_an_address_that_cannot_be_one_is_said_before_anything_is_asked(tmp_path: Path) -> None:
    settings = RefineSettings(endpoint="http://host:port/v1", model="m", cache=tmp_path / "answers.jsonl")
    with pytest.raises(ConfigError, match="http://host:port/v1 is not an address"):
        refine(STUDIES, settings)


@pytest.mark.parametrize(
    "phrase, polarity, finding",
    [
        (
            "possible small right pleural effusion",
            "uncertain",
            Finding(observation="effusion", status="uncertain", modifiers=("small",), location=("right pleural",)),
        ),
        (
            "patchy opacities at the left base and in the right upper lobe, suggestive of edema or pneumonia",
            "present",
            Finding(
                observation="opacities",
                status="present",
                modifiers=("patchy",),
                location=("left base", "right upper lobe"),
                suggestive=("edema", "pneumonia"),
            ),
        ),
        (
            "round nodule in the lingula measuring 1.5 cm by 8 mm",
            "present",
            Finding(
                observation="nodule",
                status="present",
                modifiers=("round",),
                location=("lingula",),
                measurement="1.5 cm by 8 mm",
            ),
        ),
        ("clear lungs", "present", Finding(observation="clear", status="present", location=("lungs",))),
        ("no edema", "absent", Finding(observation="edema", status="absent")),
    ],
)
def test_a_phrase_is_taken_apart_into_its_tuple(phrase: str, polarity: Polarity, finding: Finding) -> None:
    assert finding_of(KeyPhrase(text=phrase, polarity=polarity)) == finding


def test_tuples_of_phantom_phrases_hold_the_words_of_the_graph_where_they_belong() -> None:
    seen = 0
    for studies in sample_patients(40, 7):
        for state in studies:
            graph = write_report(state).graph
            groups = {frozenset(_ids(group)): group for group in group_entities(graph).values()}
            for phrase in compose(graph, policy="all", keep_bare=True):
                group, finding = groups[frozenset(phrase.entities)], finding_of(phrase)
                places = {word for place in group.anatomies for entity in place for word in entity.words}
                observed = {word for entity in group.members for word in entity.words}
                assert finding.status == group.status
                assert {*" ".join(finding.location).split()} >= places - observed
                assert {finding.observation, *finding.modifiers} <= observed
                seen += 1
    assert seen > 200


def _ids(group: Any) -> list[str]:
    return [e.id for e in group.members] + [e.id for place in group.anatomies for e in place]


def test_the_shipped_pool_is_labelled_and_passes_its_own_guard() -> None:
    pool = read_pool(POOL)
    assert len(pool.examples) >= 30
    assert all("non_expert" in name and "SYNTHETIC" in name for name in pool.annotators)
    assert POOL.stem == "non_expert"
    for example in pool.examples:
        assert refusal(composed(example), example.finding.status, tidy(example.phrase)) is None, example
        assert example.phrase == tidy(example.phrase)


def composed(example: Example) -> str:
    """The rule-composed phrase of an example's tuple, from the composer itself."""
    given = example.finding
    return verbalise(
        [given.observation],
        given.modifiers,
        [],
        status=given.status,
        anatomies=[place.split() for place in given.location],
        suggestive=given.suggestive,
        measures=[given.measurement] if given.measurement else [],
    )


@pytest.mark.parametrize(
    "content, why",
    [
        ("", "no example"),
        ("{", "line 1 of the pool pool.jsonl is not JSON"),
        ('{"tuple": {"observation": "edema", "status": "gone"}, "phrase": "x", "annotator": "a"}', "tuple.status"),
        ('{"tuple": {"observation": "edema", "status": "absent"}, "annotator": "a"}', "phrase: Field required"),
        ("[1]", "line 1 of the pool pool.jsonl"),
    ],
)
def test_a_pool_of_another_format_is_refused_with_its_line(content: str, why: str, tmp_path: Path) -> None:
    path = tmp_path / "pool.jsonl"
    path.write_text(content)
    with pytest.raises(ConfigError, match=why):
        read_pool(path)


def test_a_pool_that_is_not_there_or_not_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_pool(tmp_path / "none.jsonl")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_pool(tmp_path / "binary")


@pytest.mark.parametrize("reply", ["[" * 50_000, '["a", ' * 9_000, '["' * 20_000, '["a\n"]', r'["\x"]', "[[[]]] []"])
def test_answers_made_to_confuse_are_no_list(reply: str) -> None:
    assert phrases_in(reply) is None


def test_a_torn_line_of_the_cache_costs_one_answer_only(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "new" / "answers.jsonl"
    cache = Cache(path)
    cache.put("a", "one")
    cache.put("b", "two")
    cache.close()
    path.write_bytes(path.read_bytes()[:-9])
    cache = Cache(path)
    assert (cache.get("a"), cache.get("b")) == ("one", None)
    assert "unreadable_lines=1" in caplog.text
    cache.put("b", "two")
    cache.close()
    with closing(Cache(path)) as cache:
        assert cache.get("b") == "two"


def test_a_cache_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be opened"):
        Cache(tmp_path)


def test_without_a_model_the_manifest_says_so() -> None:
    assert not_refined()["refined"] is False


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of random weights, as a folder: its answers are noise."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    torch.manual_seed(0)
    tokenizer = foundation.llama_tokenizer(['Write one short noun phrase for each line: ["no edema"] {0123456789}'] * 5)
    tokenizer.chat_template = "{% for m in messages %}USER: {{ m['content'] }}\n{% endfor %}ANSWER:"
    tokenizer.save_pretrained(folder)
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=8192,
            pad_token_id=0,
            bos_token_id=1,
            eos_token_id=2,
        )
    ).save_pretrained(folder)
    return folder


def test_the_noise_of_an_untrained_model_leaves_every_phrase_as_composed(tiny_model: Path, tmp_path: Path) -> None:
    settings = RefineSettings(model_path=tiny_model, cache=tmp_path / "answers.jsonl", batch_size=2, examples=1)
    refined = refine(STUDIES, settings)
    assert refined.phrases == STUDIES
    assert refined.report["refused"] == refined.report["phrases"] == 3
    assert refined.report["studies_fallen_back"] == 2
    assert (refined.report["through"], refined.report["model"].split(",")[0]) == ("local", "tiny")
    answers = settings.cache.read_text()
    assert len(answers.splitlines()) == 2
    assert refine(STUDIES, settings) == refined
    assert settings.cache.read_text() == answers


def test_answers_of_a_batch_are_those_of_one_by_one(tiny_model: Path, tmp_path: Path) -> None:
    def replies(size: int) -> dict[str, str]:
        settings = RefineSettings(model_path=tiny_model, cache=tmp_path / f"{size}.jsonl", batch_size=size, examples=1)
        refine(STUDIES, settings)
        return {e["key"]: e["reply"] for e in map(json.loads, settings.cache.read_text().splitlines())}

    assert replies(2) == replies(1)


def test_a_question_longer_than_the_context_is_refused_alone(tiny_model: Path, tmp_path: Path) -> None:
    long = tuple(KeyPhrase(text=f"nodule measuring {size} mm", polarity="present") for size in range(150))
    settings = RefineSettings(model_path=tiny_model, cache=tmp_path / "answers.jsonl", examples=0)
    report = refine({"s1": STUDIES["s1"], "long": long}, settings).report
    assert report["refused_by_reason"]["question_refused"] == 150


def test_a_folder_that_is_no_chat_model_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"config\.json is missing"):
        refine(STUDIES, RefineSettings(model_path=tmp_path, cache=tmp_path / "answers.jsonl"))
    for name in ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json"):
        (tmp_path / name).write_bytes((tiny_model / name).read_bytes())
    given = json.loads((tiny_model / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({k: v for k, v in given.items() if "chat" not in k}))
    with pytest.raises(ConfigError, match="no chat template"):
        refine(STUDIES, RefineSettings(model_path=tmp_path, cache=tmp_path / "answers.jsonl"))
