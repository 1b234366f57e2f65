"""Refinement against a real HTTP server that speaks the chat completions protocol, kindly and otherwise."""

import contextlib
import json
import logging
import re
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from components.key_phrases.__main__ import key_phrases
from components.key_phrases.refine import RefineSettings, endpoint, refine
from components.shared.dataset import read_manifest, read_studies, write_dataset
from components.shared.storage import ObjectStore
from model.errors import ConfigError, PlatformError
from model.records import KeyPhrase, Study

Reply = tuple[int, dict[str, str], bytes]
Behaviour = Callable[[dict[str, Any]], Reply]

STUDIES = {
    "s1": (
        KeyPhrase(text="small right pleural effusion", polarity="present", entities=("1", "2")),
        KeyPhrase(text="no pneumothorax", polarity="absent", entities=("3",)),
    ),
    "s2": (
        KeyPhrase(text="nodule in the left upper lobe measuring 1.5 cm", polarity="present"),
        KeyPhrase(text="opacity at the left base, suggestive of pneumonia", polarity="present"),
        KeyPhrase(text="possible pneumonia", polarity="uncertain"),
    ),
    "s3": (),
    "s4": (KeyPhrase(text="severe cardiomegaly", polarity="present"),),
}
GOOD = {
    "effusion": "Small right-sided pleural effusion.",
    "pneumothorax": "no evidence of pneumothorax",
    "nodule": "1.5 cm nodule in the left upper lobe",
    "opacity": "left basilar opacity suggestive of pneumonia",
    "pneumonia": "suspected pneumonia",
    "cardiomegaly": "severe enlargement of the heart",
}
HOSTILE = {
    "effusion": "small left pleural effusion",
    "pneumothorax": "pneumothorax",
    "nodule": "15 cm nodule in the left upper lobe",
    "opacity": "left basilar opacity and effusion suggestive of pneumonia",
    "pneumonia": "possible pneumonia in the lingula",
    "cardiomegaly": "worsening severe cardiomegaly",
}


def asked(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The findings that a request asks for, without those of its examples."""
    lines = body["messages"][0]["content"].split("Now these")[1].splitlines()
    return [json.loads(match[1]) for line in lines if (match := re.match(r"\d+\. (\{.*\})", line))]


def said(content: Any) -> Reply:
    completion = {"choices": [{"index": 0, "message": {"role": "assistant", "content": content}}]}
    return 200, {}, json.dumps(completion).encode()


def worded(words: dict[str, str], around: str = "{}") -> Behaviour:
    def answer(body: dict[str, Any]) -> Reply:
        return said(around.replace("{}", json.dumps([words[finding["observation"]] for finding in asked(body)])))

    return answer


class Server(ThreadingHTTPServer):
    """Answers as `behaviour` says, and remembers what it was asked."""

    daemon_threads = True
    behaviour: Behaviour = staticmethod(worded(GOOD))
    piece, pause_s = 1 << 30, 0.0  # how an answer is sent

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.over = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append(body)
        self.server.keys.append(self.headers.get("Authorization"))
        is_known = self.path == "/v1/chat/completions"
        status, headers, content = self.server.behaviour(body) if is_known else (404, {}, b'{"detail":"Not Found"}')
        if status == 0:  # hang up without an answer
            self.close_connection = True
            return
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # the asker has lost its patience
            for at in range(0, len(content), self.server.piece):
                self.wfile.write(content[at : at + self.server.piece])
                self.server.over.wait(self.server.pause_s)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(endpoint, "FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr(endpoint, "NOBODY_PATIENCE_S", 0.1)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture
def settings(server: Server, tmp_path: Path) -> Callable[..., RefineSettings]:
    def make(**changes: Any) -> RefineSettings:
        given = {"endpoint": server.url, "model": "a-model", "cache": tmp_path / "answers.jsonl", "patience_s": 2.0}
        return RefineSettings(**{**given, **changes})

    return make


Make = Callable[..., RefineSettings]


def texts(phrases: dict[str, tuple[KeyPhrase, ...]]) -> dict[str, list[str]]:
    return {study: [phrase.text for phrase in each] for study, each in phrases.items()}


def test_good_phrases_are_taken_and_the_same_run_again_needs_no_server(server: Server, settings: Make) -> None:
    first = refine(STUDIES, settings())
    assert texts(first.phrases) == {
        "s1": ["small right-sided pleural effusion", "no evidence of pneumothorax"],
        "s2": [GOOD["nodule"], GOOD["opacity"], GOOD["pneumonia"]],
        "s3": [],
        "s4": ["severe enlargement of the heart"],
    }
    kept = [(p.polarity, p.entities) for p in first.phrases["s1"]]
    assert kept == [(p.polarity, p.entities) for p in STUDIES["s1"]]
    assert first.report["reworded"] == first.report["phrases"] == 6
    assert (first.report["refused"], first.report["refused_by_reason"]) == (0, {})
    assert json.loads(json.dumps(first.report)) == first.report
    body = server.bodies[0]
    assert (len(server.bodies), body["model"], body["temperature"]) == (3, "a-model", 0)  # s3 has nothing to ask

    assert (first.report["model"], first.report["endpoint"]) == ("a-model", server.url)

    again = refine(STUDIES, settings(endpoint=f"{server.url}/"))
    assert (again, len(server.bodies)) == (first, 3)
    refine(STUDIES, settings(model="another-model"))
    assert len(server.bodies) == 6


def test_another_server_with_a_model_of_the_same_name_is_asked_itself(server: Server, settings: Make) -> None:
    refine(STUDIES, settings())
    other = server.url.replace("127.0.0.1", "localhost")
    report = refine(STUDIES, settings(endpoint=other)).report
    assert (len(server.bodies), report["endpoint"]) == (6, other)


def test_examples_are_drawn_per_study_and_by_seed(server: Server, settings: Make) -> None:
    same = {f"s{number}": STUDIES["s4"] for number in range(6)}

    def shown(**changes: Any) -> set[str]:
        server.bodies.clear()
        refine(same, settings(**changes))
        return {body["messages"][0]["content"] for body in server.bodies}

    first = shown(concurrency=1)
    assert len(first) > 1
    assert shown(concurrency=1, cache=settings().cache.with_name("other.jsonl")) == first
    assert shown(seed=1) != first
    assert len(shown(examples=0)) == 1  # equal questions are asked once
    assert all("Example:" not in body["messages"][0]["content"] for body in server.bodies)


def test_phrases_that_say_something_else_are_refused_one_by_one(server: Server, settings: Make) -> None:
    server.behaviour = worded({**HOSTILE, "nodule": GOOD["nodule"]})
    refined = refine(STUDIES, settings())
    expected = texts(STUDIES)
    expected["s2"] = [GOOD["nodule"], *expected["s2"][1:]]
    assert texts(refined.phrases) == expected
    reasons = {"side": 1, "negation": 1, "observation": 1, "anatomy": 1, "change_word": 1}
    assert refined.report["refused_by_reason"] == dict(sorted(reasons.items()))
    assert (refined.report["refused"], refined.report["refused_share"]) == (5, 0.8333)
    assert {"composed": "no pneumothorax", "written": "pneumothorax", "verdict": "negation"} in refined.sample

    server.behaviour = worded(HOSTILE)
    assert refine(STUDIES, settings(seed=5)).report["refused_by_reason"]["number"] == 1


@pytest.mark.parametrize(
    "around", ["Here you are:\n```json\n{}\n```\nAnything else?", '<think>["a"] or [1]?</think>{}', " {} "]
)
def test_one_list_is_found_in_the_prose_around_it(around: str, server: Server, settings: Make) -> None:
    server.behaviour = worded(GOOD, around)
    assert refine(STUDIES, settings()).report["reworded"] == 6


@pytest.mark.parametrize(
    "content, reason",
    [
        ("small right effusion and no pneumothorax", "reply_not_json"),
        (None, "reply_not_json"),
        ("", "reply_not_json"),
        ('["a", "b"', "reply_not_json"),
        ('["a"] or ["b"]', "reply_not_json"),
        ('[{"phrase": "a"}]', "reply_not_json"),
        ("[" * 100_000, "reply_not_json"),
        ("[]", "reply_wrong_count"),
        ('["a", "b", "c", "d"]', "reply_wrong_count"),
    ],
)
def test_an_answer_that_cannot_be_assigned_leaves_the_whole_study_as_composed(
    content: str | None, reason: str, server: Server, settings: Make
) -> None:
    server.behaviour = lambda _: said(content)
    refined = refine(STUDIES, settings())
    assert texts(refined.phrases) == texts(STUDIES)
    assert (refined.report["refused_by_reason"], refined.report["studies_fallen_back"]) == ({reason: 6}, 3)
    assert refined.report["refused_share"] == 1.0


@pytest.mark.parametrize(
    "failure", [(500, {}, b"oops"), (429, {"Retry-After": "0"}, b""), (503, {}, b""), (0, {}, b"")]
)
def test_an_endpoint_that_recovers_is_asked_again(failure: Reply, server: Server, settings: Make) -> None:
    failures, good = iter([failure] * 4), worded(GOOD)
    server.behaviour = lambda body: next(failures, None) or good(body)
    assert refine(STUDIES, settings(concurrency=1)).report["reworded"] == 6
    assert len(server.bodies) == 3 + 4


def test_questions_are_asked_at_the_same_time(server: Server, settings: Make) -> None:
    together, good = threading.Barrier(3, timeout=20), worded(GOOD)

    def wait_for_the_others(body: dict[str, Any]) -> Reply:
        together.wait()
        return good(body)

    server.behaviour = wait_for_the_others
    assert refine(STUDIES, settings(concurrency=3)).report["reworded"] == 6


def test_an_absent_endpoint_is_said_in_one_line(settings: Make) -> None:
    with pytest.raises(PlatformError, match=r"127.0.0.1:9/v1/chat/completions does not answer") as error:
        refine(STUDIES, settings(endpoint="http://127.0.0.1:9/v1", patience_s=600.0))
    assert "\n" not in str(error.value)


def test_an_endpoint_that_is_too_slow_is_said_in_one_line(server: Server, settings: Make) -> None:
    def dawdle(_: dict[str, Any]) -> Reply:
        server.over.wait(20)
        return said("[]")

    server.behaviour = dawdle
    with pytest.raises(PlatformError, match="does not answer"):
        refine(STUDIES, settings(timeout_s=0.2, patience_s=0.1))
    server.over.set()


def test_an_answer_that_comes_drop_by_drop_is_not_waited_for(server: Server, settings: Make) -> None:
    server.piece, server.pause_s = 1, 0.05
    with pytest.raises(PlatformError, match="not complete in time"):
        refine(STUDIES, settings(timeout_s=0.3, patience_s=0.1))
    server.over.set()


def test_what_was_answered_before_a_failure_is_not_asked_again(server: Server, settings: Make) -> None:
    good = worded(GOOD)
    server.behaviour = lambda body: good(body) if len(server.bodies) < 3 else (503, {}, b"")
    with pytest.raises(PlatformError, match=r"status 503.*kept in the cache"):
        refine(STUDIES, settings(concurrency=1, patience_s=0.05))
    cache = settings().cache
    assert len(cache.read_text().splitlines()) == 2
    with cache.open("a") as file:
        file.write('{"key": "torn')
    server.bodies.clear()
    server.behaviour = good
    assert refine(STUDIES, settings()).report["reworded"] == 6
    assert len(server.bodies) == 1


def test_the_key_goes_to_the_endpoint_and_nowhere_else(
    server: Server, settings: Make, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("OTHER_KEY", "very-secret")
    given = settings(api_key_env="OTHER_KEY")
    refined = refine(STUDIES, given)
    assert set(server.keys) == {"Bearer very-secret"}
    server.behaviour = lambda _: (401, {}, b'{"error": {"message": "bad key\\nvery-secret"}}')
    with pytest.raises(ConfigError, match=r"key is refused.*bad key.*OTHER_KEY") as error:
        refine(STUDIES, settings(api_key_env="OTHER_KEY", seed=1))
    assert "\n" not in str(error.value)
    spoken = caplog.text + str(error.value) + json.dumps(refined.report) + given.cache.read_text() + repr(given)
    assert "very-secret" not in spoken


@pytest.mark.parametrize(
    "behaviour, line",
    [
        (lambda _: (404, {}, b'{"message": "The model `a-model` does not exist."}'), "no such model or path.*a-model"),
        (lambda _: (302, {"Location": "/login"}, b""), "302"),
        (lambda _: (200, {}, b"<html>Welcome</html>"), "does not answer with a chat completion"),
        (lambda _: (200, {}, b'{"choices": []}'), "does not answer with a chat completion"),
        (lambda _: (200, {}, b" " * (1 << 21)), "sends more than"),
    ],
)
def test_a_server_that_is_no_such_endpoint_is_said_in_one_line(
    behaviour: Behaviour, line: str, server: Server, settings: Make
) -> None:
    server.behaviour = behaviour
    with pytest.raises(ConfigError, match=line) as error:
        refine(STUDIES, settings())
    assert "\n" not in str(error.value)


def test_an_error_that_repeats_the_question_is_not_passed_on(server: Server, settings: Make) -> None:
    server.behaviour = lambda body: (422, {}, json.dumps({"detail": [{"msg": "too long", "input": body}]}).encode())
    with pytest.raises(PlatformError, match="refuses every question") as error:
        refine(STUDIES, settings())
    assert "effusion" not in str(error.value)


def test_one_refused_question_is_counted_but_all_refused_is_an_error(server: Server, settings: Make) -> None:
    good, too_long = worded(GOOD), (400, {}, b'{"message": "maximum context length is 2048 tokens"}')
    server.behaviour = lambda body: too_long if len(asked(body)) == 3 else good(body)
    report = refine(STUDIES, settings()).report
    assert (report["refused_by_reason"], report["reworded"]) == ({"question_refused": 3}, 3)
    server.behaviour = lambda _: too_long
    with pytest.raises(PlatformError, match="refuses every question"):
        refine(STUDIES, settings(seed=1))


def entity(tokens: str, label: str, at: int, relations: list[list[str]]) -> dict[str, Any]:
    return {"tokens": tokens, "label": label, "start_ix": at, "end_ix": at, "relations": relations}


def test_the_command_refines_a_data_set_and_says_so_in_its_manifest(
    server: Server, object_store_environment: dict[str, str], tmp_path: Path
) -> None:
    store = ObjectStore.from_env()
    study = Study(
        study_id="a",
        patient_id="p",
        split="train",
        view="PA",
        taken_at=None,
        image=b"png",
        findings="Small effusion. No pneumothorax.",
        radgraph={
            "text": "Small effusion . No pneumothorax .",
            "entities": {
                "1": entity("Small", "OBS-DP", 0, [["modify", "2"]]),
                "2": entity("effusion", "OBS-DP", 1, []),
                "3": entity("pneumothorax", "OBS-DA", 4, []),
            },
        },
        labels={},
        labeler="rules@1",
        synthetic=True,
    )
    given = write_dataset(store, "s3://refined", "phrases", [study], source="phantom", config={}, image_size=224)
    asked = ["--dataset-uri", given, "--out-prefix", "s3://refined", "--policy", "all", "--cache", str(tmp_path)]
    asked += ["--refine-endpoint", server.url, "--refine-model", "a-model"]
    result = CliRunner().invoke(key_phrases, asked)
    assert result.exit_code == 0, result.output
    uri = result.stdout.strip().splitlines()[-1]
    assert [phrase.text for phrase in read_studies(store, uri)[0].key_phrases] == [
        "small effusion",
        "no evidence of pneumothorax",
    ]
    about = read_manifest(store, uri).config["key_phrases"]["refinement"]
    assert (about["refined"], about["reworded"], about["refused_by_reason"]) == (True, 1, {"side": 1})

    absent = CliRunner().invoke(key_phrases, [*asked, "--refine-endpoint", "http://127.0.0.1:9/v1", "--seed", "1"])
    assert absent.exit_code == 2
    errors = [line for line in absent.stderr.splitlines() if line.startswith("error:")]
    assert len(errors) == 1 and "127.0.0.1:9/v1/chat/completions does not answer" in errors[0]
    assert "Traceback" not in absent.output
