"""Requests at the desk: written as the generator writes alone, answered exactly once, refused by reason, never lost."""

import copy
import json
import threading
import time
from queue import SimpleQueue

import numpy as np
import pytest

from model.config import load_preset
from model.decode.loop import Writing
from model.errors import ManifestError
from model.generation import ReportGenerator
from model.in_distribution import fit_in_distribution
from model.records import Report
from model.s2d_align import S2DAlign
from serving.desk import Desk, Job
from serving.options import InnerOptions
from serving.refusal import Refused
from serving.writer import ReportWriter

MANIFEST = {
    "name": "s2d-align",
    "version": "0.1.0-abc",
    "sha256": "f" * 64,
    "trained_on": "phantom",
    "synthetic": True,
    "evidence_status": "not validated",
}
INTAKE = json.dumps({"view": "PA", "warnings": ["note"], "meta": {}}).encode()
FILM = np.random.default_rng(1).integers(0, 255, (224, 224), dtype=np.uint8)


@pytest.fixture(scope="module")
def writer(frozen_parts) -> ReportWriter:
    rng = np.random.default_rng(0)
    near_all = fit_in_distribution(100 * rng.normal(size=(300, 128)), 100 * rng.normal(size=(100, 128)))
    model = S2DAlign(load_preset("tiny"), *copy.deepcopy(frozen_parts))
    return ReportWriter(ReportGenerator(model, dict(MANIFEST), near_all))


@pytest.fixture(scope="module")
def desk(writer):
    desk = Desk(writer, writer.loop(4), max_queue=16)
    yield desk
    desk.close()


class Caller:
    """Whoever asked: keeps the answers and may hang up."""

    def __init__(self, desk: Desk, pixels: np.ndarray = FILM, *, late_s: float = 60.0, **options) -> None:
        self.answers: SimpleQueue = SimpleQueue()
        self.gone, self.asked_too_late = False, False
        self.job = Job(
            pixels=pixels,
            intake=INTAKE,
            request_id="q1",
            options=InnerOptions(**options),
            answer=lambda code, text: self.answers.put((code, text)),
            is_cancelled=self._is_cancelled,
            late_at=time.monotonic() + late_s,
        )
        desk.take(self.job)

    def _is_cancelled(self) -> bool:
        self.asked_too_late |= self.job.over
        return self.gone

    def report(self) -> Report:
        code, text = self.answers.get(timeout=60)
        assert code is None, text
        return Report.model_validate_json(text)

    def refusal(self) -> tuple[str, str]:
        code, text = self.answers.get(timeout=60)
        return code, json.loads(text)["reason"]


class SlowLoop:
    """Writes nothing until `go` is set."""

    def __init__(self) -> None:
        self.rows: list[Writing] = []
        self.go, self.broken = threading.Event(), False

    def add(self, slots, wish) -> Writing:
        self.rows.append(Writing(ids=[5], log_probabilities=[-1.0]))
        return self.rows[-1]

    def cancel(self, writing) -> None:
        self.rows.remove(writing)

    def step(self) -> list[Writing]:
        if self.broken:
            raise RuntimeError("no memory")
        if not self.go.wait(0.01):
            return []
        ended, self.rows = self.rows, []
        for writing in ended:
            writing.done = True
        return ended

    @property
    def busy(self) -> int:
        return len(self.rows)


@pytest.fixture
def slow(writer):
    loop = SlowLoop()
    loop.go.set()  # for the warm-up
    desk = Desk(writer, loop, max_queue=3)
    loop.go.clear()
    yield desk
    desk.close()


def until(holds) -> None:
    deadline = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_report_says_what_the_generator_writes_alone(desk, writer):
    films = np.random.default_rng(2).integers(0, 255, (3, 224, 224), dtype=np.uint8)
    callers = [Caller(desk, film) for film in films]
    drafts = writer.generator.draft(films, evidence=True)
    for caller, draft in zip(callers, drafts, strict=True):
        report = caller.report()
        assert report.findings == draft.findings
        assert [s.confidence for s in report.sentences] == pytest.approx([s.confidence for s in draft.sentences])
        assert np.allclose(report.sentences[0].evidence.grid, draft.sentences[0].grid, atol=1e-4)
        assert report.model.sha256 == MANIFEST["sha256"]
        assert report.warnings[-1] == "note"
        assert report.request_id == "q1"
        assert not caller.asked_too_late


def test_options_change_what_is_written(desk):
    whole, again = Caller(desk, evidence=False).report(), Caller(desk, evidence=False).report()
    short = Caller(desk, max_new_tokens=3, evidence=False).report()
    drawn = [Caller(desk, seed=seed, evidence=False).report() for seed in (1, 1, 2)]
    assert whole == again
    assert whole.findings.startswith(short.findings)
    assert len(short.findings) < len(whole.findings)
    assert drawn[0] == drawn[1]
    assert len({report.findings for report in (whole, drawn[0], drawn[2])}) == 3
    assert len({report.report_id for report in (whole, short, drawn[0], drawn[2])}) == 4
    assert all(sentence.evidence is None for sentence in whole.sentences)


def test_more_words_than_the_version_writes_are_refused(desk):
    with pytest.raises(Refused, match=r"max_new_tokens is 111; this version writes 110"):
        Caller(desk, max_new_tokens=111)


def test_pixels_of_another_size_are_refused(desk):
    code, text = Caller(desk, FILM[:64, :64]).answers.get(timeout=10)
    assert code == "INVALID_ARG"
    assert "64x64, the model reads 224x224" in text


def test_an_image_far_outside_gets_a_reason_with_numbers_and_no_report(writer):
    narrow = writer.generator.statistics | {"far_limit": np.array([0.001], np.float32)}
    far = ReportWriter(ReportGenerator(writer.generator.model, dict(MANIFEST), narrow))
    desk = Desk(far, far.loop(1), max_queue=1)
    code, text = Caller(desk).answers.get(timeout=10)
    desk.close()
    assert (code, json.loads(text)["reason"]) == ("INVALID_ARG", "out_of_distribution")
    assert "s2d-align 0.1.0-abc" in text
    assert "limit 0.0)" in text


def test_a_version_without_statistics_is_refused(writer):
    with pytest.raises(ManifestError, match="in_distribution"):
        ReportWriter(ReportGenerator(writer.generator.model, dict(MANIFEST), None))


def test_a_full_desk_refuses_and_takes_again_when_one_has_gone(slow):
    callers = [Caller(slow, ticket=f"t{i}") for i in range(3)]
    with pytest.raises(Refused, match="3 reports are being written or waiting"):
        Caller(slow)
    until(lambda: slow.loop.busy == 3)
    slow.call_off("t1")
    assert callers[1].refusal() == ("CANCELLED", "cancelled")
    until(lambda: slow.loop.busy == 2)  # its row is free
    last = Caller(slow, evidence=False)
    slow.loop.go.set()
    for caller in (callers[0], callers[2], last):
        assert caller.report().model.version == MANIFEST["version"]
    load = json.loads(slow.describe())["load"]
    assert load == {"open": 0, "writing": 0, "ended": {"busy": 1, "cancelled": 1, "written": 3}}


def test_a_cancel_that_overtakes_its_request_holds(slow):
    slow.call_off("early")
    with pytest.raises(Refused, match="cancelled"):
        Caller(slow, ticket="early")
    slow.call_off("")  # the question which model this is
    Caller(slow)
    assert json.loads(slow.describe())["load"]["open"] == 1


def test_whoever_hangs_up_or_runs_out_of_time_stops_costing(slow):
    gone, late = Caller(slow), Caller(slow, late_s=0.3)
    gone.gone = True
    assert gone.refusal() == ("CANCELLED", "cancelled")
    assert late.refusal() == ("UNAVAILABLE", "timeout")
    until(lambda: slow.loop.busy == 0)
    slow.loop.go.set()
    time.sleep(0.3)
    assert gone.answers.empty()  # once
    assert late.answers.empty()
    assert not gone.asked_too_late


def test_who_wants_no_maps_does_not_wait_for_those_of_others(slow, monkeypatch):
    finish, maps_are_made = slow.writer.finish, threading.Event()

    def slow_maps(pixels, reading, writing, options, **rest):
        assert not options.evidence or maps_are_made.wait(20)
        return finish(pixels, reading, writing, options, **rest)

    monkeypatch.setattr(slow.writer, "finish", slow_maps)
    slow.loop.go.set()
    with_maps, without = Caller(slow), Caller(slow, evidence=False)
    assert without.report().status == "draft"
    assert with_maps.answers.empty()
    maps_are_made.set()
    assert with_maps.report().status == "draft"


def test_a_step_that_fails_is_answered_and_the_next_request_is_written(slow):
    first = Caller(slow)
    until(lambda: slow.loop.busy == 1)
    slow.loop.broken = True
    assert first.refusal() == ("INTERNAL", "internal")
    slow.loop.broken = False
    slow.loop.go.set()
    assert Caller(slow).report().status == "draft"


def test_who_waits_when_the_desk_closes_is_told(slow):
    caller = Caller(slow)
    slow.close()
    assert caller.refusal() == ("UNAVAILABLE", "model_down")


def test_a_version_with_beams_is_written_as_it_was_evaluated(frozen_parts, writer):
    preset = load_preset("tiny,assumed.decoding.beams=2,assumed.decoding.max_new_tokens=12")
    vision, text, decoder = copy.deepcopy(frozen_parts)
    decoder.assumed = preset.assumed
    model = S2DAlign(preset, vision, text, decoder)
    beams = ReportWriter(ReportGenerator(model, dict(MANIFEST), writer.generator.statistics))
    desk = Desk(beams, beams.loop(4), max_queue=4)
    callers = [Caller(desk, film, evidence=False) for film in (FILM, FILM[::-1])]
    drafts = beams.generator.draft(np.stack([FILM, FILM[::-1]]))
    for caller, draft in zip(callers, drafts, strict=True):
        report = caller.report()
        assert report.findings == draft.findings
        assert [s.confidence for s in report.sentences] == pytest.approx([s.confidence for s in draft.sentences])
    with pytest.raises(Refused, match="seed: this version decodes with beams"):
        Caller(desk, seed=1)
    desk.close()
