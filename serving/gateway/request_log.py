"""The outermost layer of the gateway: request id in and out, one log line per request, nothing foreign escapes.

The line holds an allow-list of fields. File names, query strings, headers and texts of exceptions may name a patient
and are never written.
"""

import logging
import re
import time
import uuid
from pathlib import Path
from traceback import extract_tb
from typing import Any

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.gateway.problems import Problem

log = logging.getLogger(__name__)
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")  # anything else could carry a name or forge a log line


class RequestLog:
    """ASGI middleware; pure, so that the body is not copied."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        request = Request(scope)
        request_id = _request_id(request)
        state: dict[str, Any] = scope.setdefault("state", {})
        state["request_id"] = request_id
        began, status = time.monotonic(), 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self.app(scope, receive, send_with_id)
        except Exception as error:
            log.error("request_id=%s error=%s at=%s", request_id, type(error).__name__, _place(error))
            if status:  # the answer has begun; the server will cut it off
                raise
            state["outcome"] = "internal"
            problem = Problem(500, "internal", "the gateway failed on this request; its log has the request id")
            await problem.response(request)(scope, receive, send_with_id)
        finally:
            route = getattr(scope.get("route"), "path", "none")  # the pattern, not what was asked
            outcome, ms = state.get("outcome", "ok"), round(1000 * (time.monotonic() - began))
            fields = (request_id, scope["method"], route, status, outcome, ms)
            log.info("request_id=%s method=%s route=%s status=%s outcome=%s ms=%s", *fields)


def _place(error: Exception) -> str:
    """Where an error came from. Not what it says: its text may quote the input."""
    frame = extract_tb(error.__traceback__)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}"


def _request_id(request: Request) -> str:
    given = request.headers.get("x-request-id", "")
    return given if REQUEST_ID.fullmatch(given) else str(uuid.uuid4())
