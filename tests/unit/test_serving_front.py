"""A request's way through two models: options and ticket travel on, refusals come back, nothing waits for ever."""

import threading
import time
from queue import SimpleQueue

import numpy as np
import pytest

from model.errors import RadiographError
from serving import front
from serving.front import GENERATOR, READER, Front, Trip
from serving.options import Options, parse_inner_options, parse_options
from serving.refusal import Refused

READ = {"PIXELS": np.ones((2, 2), np.uint8), "INTAKE": np.array([b"{}"], dtype=object)}
TOLD = {"REPORT": np.array([b"{}"], dtype=object)}


class Models:
    """The reader and the generator. The generator answers when `go` is set, a dead one never."""

    def __init__(self) -> None:
        self.go, self.dead = threading.Event(), False
        self.go.set()
        self.asked: list[tuple[str, int, dict]] = []

    def __call__(self, model, inputs, options, request_id):
        self.asked.append((model, int(inputs["PIXELS"].size if model == GENERATOR else 0), dict(options)))
        if model == READER:
            if inputs["IMAGE"][0] == b"":
                raise RadiographError("is empty", reason="empty")
            return READ
        if inputs["PIXELS"].size == 0:
            if self.dead:
                raise Refused("model_down", "dead")
            return TOLD
        assert self.go.wait(20)
        return TOLD


@pytest.fixture
def models(monkeypatch):
    monkeypatch.setattr(front, "WATCH_S", 0.02)
    monkeypatch.setattr(front, "PULSE_S", 0.05)
    models = Models()
    yield models
    models.go.set()


@pytest.fixture
def line(models):
    line = Front(models, max_queue=2)
    yield line
    line.close()


def send(line: Front, image: bytes = b"x", *, late_s: float = 20.0, gone=lambda: False, **options) -> SimpleQueue:
    answers: SimpleQueue = SimpleQueue()
    line.take(Trip(image, "q", Options(**options), answers.put, gone, time.monotonic() + late_s))
    return answers


def test_the_answer_holds_report_and_radiograph_and_the_options_travel_on(line, models):
    answer = send(line, seed=3, evidence=False).get(timeout=5)
    assert answer == READ | TOLD
    (_, _, options) = models.asked[1]
    assert options.pop("timeout_ms") == pytest.approx(20_000, abs=2_000)
    assert len(options.pop("ticket")) == 32
    assert options == {"seed": 3, "evidence": False}


def test_what_the_reader_refuses_goes_no_further(line, models):
    assert send(line, b"").get(timeout=5).reason == "empty"
    assert [model for model, *_ in models.asked] == [READER]


def test_what_is_late_before_it_is_written_is_not_written(line, models):
    assert send(line, late_s=0.0).get(timeout=5).reason == "timeout"
    time.sleep(0.1)
    assert [model for model, *_ in models.asked] == [READER]


@pytest.mark.parametrize(
    "how, reason", [({"gone": lambda: True}, "cancelled"), ({"late_s": 0.3}, "timeout")], ids=["cancelled", "late"]
)
def test_who_gives_up_is_called_off_at_the_generator_by_its_ticket(line, models, how, reason):
    models.go.clear()
    hung_up = threading.Event()
    answers = send(line, **(how | {"gone": hung_up.is_set} if "gone" in how else how))
    while len(models.asked) < 2:
        time.sleep(0.01)
    hung_up.set()
    assert answers.get(timeout=5).reason == reason
    ticket = models.asked[1][2]["ticket"]
    deadline = time.monotonic() + 5
    while (GENERATOR, 0, {"ticket": ticket}) not in models.asked:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    models.go.set()
    time.sleep(0.1)
    assert answers.empty()  # once


def test_a_generator_that_died_with_a_request_does_not_hold_its_caller(line, models):
    models.go.clear()
    answers = send(line)
    time.sleep(0.2)
    assert answers.empty()  # it lives, and may take its time
    models.dead = True
    assert answers.get(timeout=5).reason == "model_down"


def test_too_many_are_refused(line, models):
    models.go.clear()
    waiting = [send(line), send(line)]
    with pytest.raises(Refused, match="2 requests are under way"):
        send(line)
    models.go.set()
    assert all(answers.get(timeout=5) == READ | TOLD for answers in waiting)


@pytest.mark.parametrize(
    "text, message",
    [
        ('{"max_tokens": 3}', "there is no option 'max_tokens'; use max_new_tokens, evidence, seed, timeout_ms"),
        ('{"ticket": "mine"}', "there is no option 'ticket'"),
        ('{"max_new_tokens": 0}', "option max_new_tokens is 0: input should be greater than or equal to 1"),
        ('{"max_new_tokens": "7"}', "option max_new_tokens is '7': input should be a valid integer"),
        ('{"evidence": 1}', "option evidence is 1: input should be a valid boolean"),
        ('{"seed": -1}', "option seed is -1"),
        ('{"seed": true}', "option seed is True"),
        ('{"timeout_ms": 600001}', "option timeout_ms is 600001"),
        ('{"timeout_ms": 2.5}', "option timeout_ms is 2.5"),
        ('{"seed": "' + "9" * 90 + '"}', "..."),
    ],
)
def test_bad_options_are_one_line(text, message):
    with pytest.raises(Refused) as caught:
        parse_options(text)
    assert (caught.value.reason, caught.value.code) == ("bad_option", "INVALID_ARG")
    assert message in str(caught.value)
    assert len(str(caught.value)) < 150
    assert "\n" not in str(caught.value)


def test_no_options_are_the_defaults():
    assert parse_options("") == parse_options("{}") == Options()
    assert parse_inner_options('{"ticket": "a", "seed": 1}').ticket == "a"
