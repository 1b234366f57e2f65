"""An OpenAI-compatible endpoint: vLLM, KServe's Hugging Face runtime, or any other that has /chat/completions."""

import json
import logging
import os
import random
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed

import httpx

from components.key_phrases.refine.questions import Question
from components.key_phrases.refine.settings import RefineSettings
from model.errors import ConfigError, PlatformError

logger = logging.getLogger(__name__)
logging.getLogger("httpx").setLevel(logging.WARNING)  # it has a line for every request

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 15.0
NOBODY_PATIENCE_S = 10.0  # for an address at which nobody has answered yet: most often it is the wrong one
LARGEST_ANSWER = 1 << 20
REFUSALS = 8  # so many refused questions and not one answered: the questions are not at fault
_AGAIN = (408, 425, 429)
_ABOUT_THE_QUESTION = (400, 413, 422)  # too long for the model, for instance
_MEANINGS = {401: "the key is refused", 403: "the key is refused", 404: "no such model or path"}


class _Busy(Exception):
    """The endpoint may answer later; `pause_s` when it said how much later."""

    def __init__(self, why: str, pause_s: float = 0.0) -> None:
        super().__init__(why)
        self.pause_s = pause_s


class Endpoint:
    """Asks several questions at a time. Threads share one client; the first that gives up stops the others."""

    def __init__(self, settings: RefineSettings) -> None:
        self.settings = settings
        self.identity = settings.model
        self._url = f"{settings.address}/chat/completions"
        try:
            httpx.URL(self._url)
        except httpx.InvalidURL as error:
            raise ConfigError(f"{settings.endpoint} is not an address ({error}); write http://HOST:PORT/v1") from error
        self._key = os.environ.get(settings.api_key_env, "").strip()
        self._answered = self._reached = False
        self._refused = 0
        self._stop = threading.Event()

    def answers(self, questions: Sequence[Question]) -> Iterator[tuple[int, str | None]]:
        """See Model. Raises ConfigError and PlatformError; questions under way are then given up."""
        key = self._key
        if not key.isascii() or not key.isprintable():
            raise ConfigError(f"{self.settings.api_key_env} holds characters that cannot be sent; set the key again")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        size = self.settings.concurrency
        limits = httpx.Limits(max_connections=size, max_keepalive_connections=size)
        with (
            httpx.Client(headers=headers, timeout=self.settings.timeout_s, limits=limits) as client,
            ThreadPoolExecutor(size) as pool,
        ):
            asked = {pool.submit(self._answer, client, question): i for i, question in enumerate(questions)}
            try:
                for done in as_completed(asked):
                    yield asked[done], done.result()
            finally:
                self._stop.set()
                pool.shutdown(wait=False, cancel_futures=True)
        if questions and not self._answered:
            raise self._refused_all("")

    def _answer(self, client: httpx.Client, question: Question) -> str | None:
        """Ask until there is an answer or patience ends, with growing pauses."""
        failed_at, pause = 0.0, FIRST_PAUSE_S
        while not self._stop.is_set():
            try:
                return self._ask(client, question)
            except (httpx.RequestError, _Busy) as error:
                now, why = time.monotonic(), str(error) or type(error).__name__
                if not failed_at:
                    failed_at = now
                    logger.warning("endpoint=%s not answering: %s", self._url, why)
                patience = self.settings.patience_s
                if isinstance(error, httpx.ConnectError) and not self._reached:
                    patience = min(patience, NOBODY_PATIENCE_S)
                wait = max(pause * random.uniform(0.8, 1.2), getattr(error, "pause_s", 0.0))
                if now + wait > failed_at + patience:
                    raise PlatformError(
                        f"{self._url} does not answer ({why}), tried for {now - failed_at:.0f} s; start the server or"
                        " correct the endpoint, then run again: answers until here are kept in the cache"
                    ) from error
                self._stop.wait(wait)
                pause = min(2 * pause, LONGEST_PAUSE_S)
        return None

    def _ask(self, client: httpx.Client, question: Question) -> str | None:
        """Ask once. None when this question is refused."""
        body = {
            "model": self.settings.model,
            "messages": question.messages,
            "max_tokens": question.max_tokens,
            "temperature": 0,
            "seed": self.settings.seed,
        }
        with client.stream("POST", self._url, json=body) as response:
            content = self._read(response)
        self._reached = True
        status = response.status_code
        if status in _AGAIN or status >= 500:
            raise _Busy(f"status {status}", _seconds(response.headers.get("Retry-After", "")))
        if status in _ABOUT_THE_QUESTION:
            self._refused += 1
            if not self._answered and self._refused >= REFUSALS:
                raise self._refused_all(_said(content, self._key))
            logger.warning("endpoint refused a question: status %d %s", status, _said(content, self._key))
            return None
        if status != httpx.codes.OK:
            meaning = _MEANINGS.get(status, "not an endpoint for chat completions")
            raise ConfigError(
                f"{self._url} answers {status} ({meaning}) {_said(content, self._key)}; check the endpoint, the model"
                f" {self.settings.model!r} and the key in {self.settings.api_key_env}"
            )
        text = self._text(content)
        self._answered = True
        return text

    def _read(self, response: httpx.Response) -> bytes:
        """Read the body within the time limit, also from a server that sends it drop by drop."""
        end, content = time.monotonic() + self.settings.timeout_s, b""
        for chunk in response.iter_bytes():
            content += chunk
            if len(content) > LARGEST_ANSWER:
                raise ConfigError(f"{self._url} sends more than {LARGEST_ANSWER} bytes; is it the right endpoint?")
            if time.monotonic() > end:
                raise httpx.ReadTimeout("answer not complete in time")
        return content

    def _text(self, content: bytes) -> str:
        """The model's words in an answer; none in an answer that holds only a refusal or a tool call."""
        try:
            message = json.loads(content)["choices"][0]["message"]
            return str(message.get("content") or "")
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, RecursionError) as error:
            raise ConfigError(
                f"{self._url} does not answer with a chat completion; the endpoint is the part before"
                " /chat/completions, such as http://host:8000/v1"
            ) from error

    def _refused_all(self, said: str) -> PlatformError:
        return PlatformError(
            f"{self._url} refuses every question {said}; look into the server's log".replace("  ", " ")
        )


def _seconds(retry_after: str) -> float:
    return float(retry_after) if retry_after.isdecimal() else 0.0


def _said(content: bytes, key: str) -> str:
    """The server's own message on one line, without the key. Nothing else of its answer: it may repeat the report."""
    try:
        answer = json.loads(content)
        said = next(answer[name] for name in ("error", "message", "detail") if name in answer)
        said = said["message"] if isinstance(said, dict) else said
    except (ValueError, KeyError, TypeError, StopIteration, RecursionError):
        return ""
    if not isinstance(said, str):
        return ""
    said = said.replace(key, "***") if key else said
    return f"({' '.join(said.split())[:300]})"
