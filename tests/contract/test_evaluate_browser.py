"""The pages of the evaluation in a real browser: from a file, and in a sandboxed frame as Kubeflow shows them."""

import html
import json
import os
import shutil
import signal
import subprocess
import time
import urllib.request
from base64 import b64decode
from collections.abc import Iterator
from datetime import datetime
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pytest
import websocket
from click.testing import CliRunner
from PIL import Image

from components.evaluate.command import evaluate as command
from components.evaluate.evaluation import Data
from components.evaluate.evaluation import evaluate as evaluate_step
from components.evaluate.report_html import render_page
from components.preprocess.phantom.grammar import write_report
from components.preprocess.phantom.patients import sample_patients
from model.generation import Draft, DraftSentence
from model.radiograph import encode_png
from model.records import OBSERVATIONS, Study

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.contract, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the path")]

STUDIES = 500
BAR = (127, 176, 211)
START_S = ANSWER_S = 60
PAINT_S = 20
# What a report may say, and a page must not do.
HOSTILE = 'The heart is enlarged. <img src="http://198.51.100.1/x.png"><script>document.title="run"</script>'


class Browser:
    """One headless browser over its debugging protocol, with one page and a profile of its own."""

    def __init__(self, folder: Path) -> None:
        assert CHROMIUM is not None
        self.events: list[dict[str, Any]] = []
        self._number = 0
        profile = folder / "profile"
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--no-first-run"]
        flags += ["--disable-background-networking", "--window-size=1200,2400", f"--user-data-dir={profile}"]
        with (folder / "browser.log").open("wb") as log:
            self._process = subprocess.Popen(
                [CHROMIUM, *flags, "about:blank"],
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=os.environ | {"HOME": str(folder)},
            )
        try:
            port = self._port(profile / "DevToolsActivePort")
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=ANSWER_S) as answer:
                pages = [target for target in json.load(answer) if target["type"] == "page"]
            url = pages[0]["webSocketDebuggerUrl"]
            self._socket = websocket.create_connection(url, timeout=ANSWER_S, suppress_origin=True)
        except BaseException:  # also KeyboardInterrupt: the browser must not outlive a start that was given up
            self._stop()
            raise
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close()
        self._stop()

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Ask, and wait for the answer; events that come before it are kept."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while (message := self._receive()).get("id") != self._number:
            pass
        assert "error" not in message, message
        result: dict[str, Any] = message["result"]
        return result

    def open(self, path: Path) -> None:
        """Load a file and wait until all of it is there."""
        self.events.clear()
        self.call("Page.navigate", url=path.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self._receive()

    def evaluate(self, script: str) -> Any:
        """The value of a JavaScript expression in the page."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def requests(self) -> list[str]:
        """Every address that was asked for, except data that lie in the page itself."""
        sent = [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]
        return [url for url in sent if not url.startswith("data:")]

    def complaints(self) -> list[str]:
        """Errors and warnings of the console, and exceptions."""
        logged = [e["params"]["entry"] for e in self.events if e["method"] == "Log.entryAdded"]
        thrown = [str(e["params"]) for e in self.events if e["method"] == "Runtime.exceptionThrown"]
        said = [str(e["params"]) for e in self.events if e["method"] == "Runtime.consoleAPICalled"]
        return [entry["text"] for entry in logged if entry["level"] in ("error", "warning")] + thrown + said

    def colours(self) -> dict[tuple[int, int, int], int]:
        """How many pixels of each colour the window shows."""
        data = self.call("Page.captureScreenshot", format="png")["data"]
        with Image.open(BytesIO(b64decode(data))) as image:
            counted = image.convert("RGB").getcolors(image.width * image.height)
        return {colour: n for n, colour in counted or []}

    def _receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._socket.recv())
        if "method" in message:
            self.events.append(message)
        return message

    def _port(self, file: Path) -> str:
        until = time.monotonic() + START_S
        while time.monotonic() < until:
            if file.is_file() and (lines := file.read_text().splitlines()):
                return lines[0]
            assert self._process.poll() is None, f"the browser ended with status {self._process.returncode}"
            time.sleep(0.05)
        raise AssertionError(f"the browser did not open its port in {START_S} s")

    def _stop(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)  # its own session: nobody else's browser
        self._process.wait()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("browser")) as started:
        yield started


@pytest.fixture(scope="module")
def system_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """500 phantom reports, every other one given to the next study, with large radiographs of all."""
    folder = tmp_path_factory.mktemp("system")
    states = [state for studies in sample_patients(STUDIES, 31) for state in studies][:STUDIES]
    texts = [write_report(state).findings for state in states]
    written = [texts[(i + i % 2) % STUDIES] for i in range(STUDIES)]
    written[3] = HOSTILE
    for name, some in (("true", texts), ("ours", written)):
        rows = [
            {"id": s.study_id, "patient": s.patient_id, "text": t, "synthetic": True}
            for s, t in zip(states, some, strict=True)
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "png").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (900, 700), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "png" / "one.png")
    for state in states:
        (folder / "png" / f"{state.study_id}.png").hardlink_to(folder / "png" / "one.png")
    page = folder / "out.html"
    arguments = ["--predictions", "ours.jsonl", "--references", "true.jsonl", "--html", "out.html", "--images", "png"]
    paths = [str(folder / part) if "." in part or part == "png" else part for part in arguments]
    result = CliRunner().invoke(command, paths)
    assert result.exit_code == 0, result.stderr
    return page


@pytest.fixture(scope="module")
def step_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the pipeline step, with an evidence map for every sentence."""
    states = [state for studies in sample_patients(40, 32) for state in studies][:60]
    image = encode_png(np.tile(np.arange(64, dtype=np.uint8), (64, 1)))
    studies = [
        Study(
            study_id=state.study_id, patient_id=state.patient_id, split="test", view="PA", image=image,
            taken_at=datetime(2100, 1, 1), findings=write_report(state).findings, synthetic=True,
        )
        for state in states
    ]  # fmt: skip
    drafts = []
    for study in studies[1:] + studies[:1]:
        grid = np.random.default_rng(len(drafts)).dirichlet(np.ones(64)).reshape(8, 8)
        sentences = [DraftSentence(text + ".", 0.9, grid) for text in study.findings.rstrip(".").split(". ")]
        drafts.append(Draft(study.findings, sentences, np.zeros(2), None))
    texts = {"full": [draft.findings for draft in drafts], "all_normal": ["The lungs are clear."] * len(studies)}
    texts["best_constant"] = texts["all_normal"]
    data = Data(train=studies[:10], validate=studies[10:20], test=studies)
    page = tmp_path_factory.mktemp("step") / "report.html"
    page.write_text(render_page(evaluate_step(data, texts, drafts), studies, drafts))
    return page


@pytest.fixture(params=["system_page", "step_page"])
def page(request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue(request.param)
    return found


def test_the_browser_would_notice(browser: Browser, tmp_path: Path) -> None:
    bad = tmp_path / "bad.html"
    bad.write_text('<!doctype html><img src="http://127.0.0.1:9/x.png"><script>missing()</script>')
    browser.open(bad)
    assert "http://127.0.0.1:9/x.png" in browser.requests()
    assert len(browser.complaints()) >= 2


def test_nothing_is_asked_for_and_nothing_complains(browser: Browser, page: Path) -> None:
    browser.open(page)
    assert browser.requests() == [page.as_uri()]
    assert browser.complaints() == []
    assert browser.evaluate("document.title") != "run"
    assert browser.evaluate("document.querySelectorAll('script').length") == 0


def test_bars_and_pictures_have_sizes(browser: Browser, page: Path) -> None:
    browser.open(page)
    boxes = "[...document.querySelectorAll('%s')].map(e => e.getBoundingClientRect()).map(b => [b.width, b.height])"
    bars = browser.evaluate(boxes % "rect.bar")
    assert 5 <= len(bars) <= len(OBSERVATIONS)
    assert all(width > 1 and height > 5 for width, height in bars)
    assert max(width for width, _ in bars) > 50
    pictures = browser.evaluate(boxes % "img")
    assert len(pictures) >= 12 and all(width > 100 and height > 100 for width, height in pictures)
    assert browser.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    assert browser.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    assert browser.evaluate("document.querySelectorAll('.case').length") == 12
    assert browser.evaluate("document.querySelectorAll('mark.missed, mark.invented').length") > 3
    assert "SYNTHETIC" in browser.evaluate("document.querySelector('.banner').textContent")


def test_a_sandboxed_frame_shows_the_same(browser: Browser, page: Path, tmp_path: Path) -> None:
    # Kubeflow's visualisation of an HTML artifact: the whole page in `srcdoc` of a frame without rights
    outer = tmp_path / "outer.html"
    outer.write_text(
        '<!doctype html><meta charset=utf-8><link rel=icon href="data:,">'
        f'<iframe sandbox srcdoc="{html.escape(page.read_text())}" style="width:1180px;height:2200px"></iframe>'
    )
    browser.open(outer)
    assert [url for url in browser.requests() if url != "about:srcdoc"] == [outer.as_uri()]
    assert browser.complaints() == []
    until = time.monotonic() + PAINT_S
    while (painted := browser.colours().get(BAR, 0)) < 1000 and time.monotonic() < until:
        time.sleep(0.1)  # the frame has a process of its own, which paints when it comes to it
    assert painted > 1000


def test_the_page_of_500_studies_is_small(system_page: Path) -> None:
    assert system_page.stat().st_size < 5_000_000
