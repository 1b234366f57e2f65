"""When the watcher acts, and when it leaves a process alone. Real kills are in tests/contract/test_local_watch.py."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from local import platform, processes, watch
from model.errors import PlatformError

STORE = SimpleNamespace(NAME="store")


class Scene:
    """A platform of one process, whose states are told in advance."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
        self.state, self.now, self.healed, self.fails = "well", 0.0, 0, 0
        monkeypatch.setattr(platform, "MODULES", (STORE,))
        monkeypatch.setattr(platform, "heal", self.heal)
        monkeypatch.setattr(watch, "look", lambda home, module: self.state)
        monkeypatch.setattr(watch.time, "monotonic", lambda: self.now)
        self.watch = watch.Watch(home)

    def heal(self, home: Path, module: object) -> None:
        if self.fails:
            self.fails -= 1
            raise PlatformError("it does not start")
        self.healed += 1

    def rounds(self, *states: str, seconds: float = 2.0) -> list[int]:
        """How often it had healed after each of the rounds."""
        counts = []
        for state in states:
            self.state = state
            self.now += seconds
            self.watch.round()
            counts.append(self.healed)
        return counts


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Scene:
    return Scene(monkeypatch, tmp_path)


def test_what_is_dead_twice_in_a_row_is_started_again(scene: Scene) -> None:
    assert scene.rounds("well", "dead", "well", "dead", "dead", "well", "dead") == [0, 0, 0, 0, 1, 1, 1]


def test_what_is_silent_has_two_minutes(scene: Scene) -> None:
    assert scene.rounds("silent", "silent", "silent", seconds=60)[-1] == 0
    assert scene.rounds("silent", seconds=1) == [1]
    assert scene.rounds("silent", "well", "silent", seconds=100)[-1] == 1  # a word in between starts it anew


def test_silence_is_not_counted_as_death(scene: Scene) -> None:
    assert scene.rounds("silent", "dead", "silent", "dead") == [0, 0, 0, 0]


def test_a_start_that_failed_is_tried_again_later_though_the_process_answers(scene: Scene) -> None:
    """Triton may be up, and only its model version missing."""
    scene.fails = 2
    assert scene.rounds("dead", "dead") == [0, 0]
    assert scene.fails == 1
    assert scene.rounds("well", seconds=watch.AFTER_FAILURE_S - 1) == [0]
    assert scene.fails == 1  # not yet
    assert scene.rounds("well") == [0]
    assert scene.fails == 0
    assert scene.rounds("well", seconds=100) == [1]


def test_it_looks_sooner_after_a_bad_look(scene: Scene) -> None:
    assert scene.watch.round() == watch.EVERY_S
    scene.state = "dead"
    assert scene.watch.round() == watch.AGAIN_S


def test_looking_leaves_a_stale_record_to_whoever_holds_the_lock(tmp_path: Path) -> None:
    child = processes.start("x", ["sh", "-c", "sleep 60"], home=tmp_path, ready=lambda: True, timeout_s=5)
    assert processes.running(tmp_path, "x") == child
    record = processes.record_path(tmp_path, "x")
    text = record.read_text()
    processes.stop(child, home=tmp_path)
    record.write_text(text)
    assert processes.running(tmp_path, "x") is None
    assert record.exists()
    record.write_text("{")
    assert processes.running(tmp_path, "x") is None
    assert processes.running(tmp_path, "y") is None
