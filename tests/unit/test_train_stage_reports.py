"""How training is followed: the bar, the gauges, and the page with the curves."""

import re
import xml.etree.ElementTree as ElementTree
from typing import Any

import pytest

from components.train_stage.loss_plot import loss_plot
from components.train_stage.reports import GAUGES, Reports
from components.train_stage.tracking import Tracking
from model.checkpoint import CheckpointManifest
from model.config import load_preset
from model.progress import EpochReport, StepReport


def step_report(step: int) -> StepReport:
    return StepReport(
        stage="s1-s2", epoch=1, epochs=3, step=step, steps=30, loss=2.5, lr=1e-3, samples_per_s=40.0,
        tokens_per_s=2000.0, padding_share=0.0, memory_bytes=10**9, mfu=0.31,
    )  # fmt: skip


def epoch_report() -> EpochReport:
    return EpochReport(
        stage="s1-s2", epoch=1, epochs=3, step=10, train_loss=2.0, validation_loss=1.5, stage_loss=1.25, copy_gap=-0.25,
        lr=1e-3, best_epoch=1,
    )  # fmt: skip


@pytest.fixture
def tracked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[dict[str, float], int]]:
    rows: list[tuple[dict[str, float], int]] = []
    monkeypatch.setattr(Tracking, "log", lambda self, metrics, step: rows.append((dict(metrics), step)))
    return rows


def test_every_number_reaches_gauge_and_tracking(tracked: list[Any], capsys: pytest.CaptureFixture[str]) -> None:
    gauges: dict[str, float] = {}
    reports = Reports("s1-s2", Tracking("run", "key", {}), gauges.__setitem__)
    reports.progress(step_report(4))
    reports.epoch(epoch_report())
    reports.numbers({"checkpoint_stall_s": 0.25, "checkpoint_upload_s": 1.5}, 10)
    reports.close("FINISHED")
    assert gauges.keys() == GAUGES.keys()
    assert (gauges["loss"], gauges["mfu"], gauges["validation_loss"], gauges["checkpoint_stall_s"]) == (
        2.5,
        0.31,
        1.5,
        0.25,
    )
    assert [step for _, step in tracked] == [4, 10, 10]
    assert "epoch=1/3 train_loss=2.0000 validation_loss=1.5000 stage_loss=1.2500" in capsys.readouterr().out


def test_the_bar_shows_what_matters(
    tracked: list[Any], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from components.train_stage import reports as module

    class Bar(module.tqdm):  # type: ignore[misc]
        def __init__(self, **options: Any) -> None:
            super().__init__(**{**options, "mininterval": 0.0, "disable": False})

    monkeypatch.setattr(module, "tqdm", Bar)
    reports = Reports("s1-s2", Tracking("run", "key", {}), lambda name, value: None)
    reports.progress(step_report(10))  # a resumed stage begins here
    reports.progress(step_report(12))
    reports.close("FINISHED")
    out = capsys.readouterr().out
    assert re.search(r"12/30 .*epoch 1/3 loss 2\.5000 lr 1\.0e-03 2000 tokens/s MFU 31%", out), out
    assert "\r" not in out and "\x1b" not in out  # whole lines: Ray carries no others


def test_other_ranks_are_silent(capsys: pytest.CaptureFixture[str]) -> None:
    def gauge(name: str, value: float) -> None:
        raise AssertionError(name)

    reports = Reports("s1-s2", None, gauge)
    reports.progress(step_report(4))
    reports.epoch(epoch_report())
    reports.close("FINISHED")
    assert capsys.readouterr().out == ""


def manifest(**changes: Any) -> CheckpointManifest:
    rows = [
        {"epoch": e, "step": 10 * e, "train_loss": 3 / e, "validation_loss": 2 / e, "stage_loss": 1 / e} for e in (1, 2)
    ]
    about = {"stage": "s1-s2", "complete": True, "epochs": 2, "epoch": 2, "step": 20, "best_epoch": 2, "seed": 0}
    about |= {
        "preset": load_preset("tiny"),
        "frozen": {},
        "history": rows,
        "dataset_name": "a <b>&",
        "stopped": "epochs",
    }
    return CheckpointManifest(**{**about, **changes})  # type: ignore[arg-type]


def curve(steps: int) -> str:
    return "".join(
        f'{{"step": {s}, "epoch": 1, "loss": {3 - s / steps}, "lr": 0.001, "tokens": 9}}\n' for s in range(1, steps + 1)
    )


def test_the_page_stands_alone_and_shows_every_line() -> None:
    page = loss_plot(manifest(), curve(20))
    assert "<script" not in page and not re.search(r"(src|href)=|url\(|@import", page)
    assert "prefers-color-scheme: dark" in page and "a &lt;b&gt;&amp;" in page and "<b>&" not in page
    charts = [ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", page)]
    lines = [[line.attrib["class"] for line in chart.iter("polyline")] for chart in charts]
    assert lines == [["train", "image", "own"], ["train"]]
    points = {line.attrib["class"]: line.attrib["points"].split() for line in charts[0].iter("polyline")}
    assert (len(points["train"]), len(points["image"])) == (20, 2)
    heights = [float(point.split(",")[1]) for point in points["train"]]
    assert heights == sorted(heights) and len(set(heights)) == 20  # the loss falls: downwards on the page


def test_long_runs_are_thinned_and_short_ones_shown() -> None:
    assert len(loss_plot(manifest(), curve(100_000))) < 80_000
    assert "<polyline" in loss_plot(manifest(history=[]), curve(1))
    assert "nothing was recorded" in loss_plot(manifest(history=[]), "")
