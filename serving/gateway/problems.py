"""Everything that the gateway refuses, as problem documents (RFC 9457, `application/problem+json`).

`reason` is a stable word for machines, `detail` one line for people. Texts of Triton or of a library never appear.
"""

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

log = logging.getLogger(__name__)

RETRY_AFTER_S = 5
TITLES = {
    400: "Bad request",
    404: "Not found",
    405: "Method not allowed",
    413: "Too large",
    415: "Unsupported media type",
    422: "Refused by the input gate",
    500: "Internal error",
    503: "Not available now",
}


class Problem(Exception):  # noqa: N818 - the word of the standard
    """Ends a request with a problem document."""

    def __init__(self, status: int, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.status, self.reason, self.detail = status, reason, detail

    def response(self, request: Request) -> JSONResponse:
        """The document; 503 says when to come again."""
        body: dict[str, Any] = {
            "type": f"urn:s2d:problem:{self.reason}",
            "title": TITLES.get(self.status, "Error"),
            "status": self.status,
            "reason": self.reason,
            "detail": self.detail,
            "request_id": request.state.request_id,
        }
        headers = {"Retry-After": str(RETRY_AFTER_S)} if self.status == 503 else None
        return JSONResponse(body, self.status, headers, media_type="application/problem+json")


def install(app: FastAPI) -> None:
    """Turn every error of a request into a problem document."""

    @app.exception_handler(Problem)
    async def refused(request: Request, problem: Problem) -> JSONResponse:
        request.state.outcome = problem.reason
        return problem.response(request)

    @app.exception_handler(HTTPException)  # the router's own: no such path, no such method
    async def unroutable(request: Request, error: HTTPException) -> JSONResponse:
        reason = {404: "no_such_path", 405: "method_not_allowed"}.get(error.status_code, "bad_request")
        return await refused(request, Problem(error.status_code, reason, str(error.detail)))
