"""A typed client of the gateway.

with GatewayClient() as gateway:
    report = gateway.report(Path("film.dcm"))
    Path("evidence.png").write_bytes(gateway.evidence(report.report_id))
"""

import os
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx

from model.errors import S2DError
from model.records import Report

DEFAULT_URL = "http://127.0.0.1:18080"
TIMEOUT_S = 150.0  # longer than the gateway waits for the model, so that its answer explains a time-out


class GatewayError(S2DError):
    """The gateway refused, or does not answer. `reason` is its word for machines, `status` 0 when nobody answered."""

    def __init__(self, message: str, *, status: int, reason: str) -> None:
        super().__init__(message)
        self.status, self.reason = status, reason


class GatewayClient:
    """One gateway, at `url` or at S2D_GATEWAY_URL."""

    def __init__(self, url: str | None = None, *, transport: httpx.BaseTransport | None = None) -> None:
        self.url = (url or os.environ.get("S2D_GATEWAY_URL", DEFAULT_URL)).rstrip("/")
        is_local = httpx.URL(self.url).host in ("127.0.0.1", "localhost", "::1")  # a proxy is for others
        self._http = httpx.Client(base_url=self.url, timeout=TIMEOUT_S, transport=transport, trust_env=not is_local)

    def __enter__(self) -> "GatewayClient":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._http.close()

    def report(self, image: Path | bytes, *, request_id: str | None = None) -> Report:
        """The draft report on a DICOM, PNG or JPEG file, or on its bytes.

        Only the bytes travel: a file's name may be a patient's. Raises GatewayError, and OSError when the file cannot
        be read.
        """
        data = image.read_bytes() if isinstance(image, Path) else image
        headers = {"Content-Type": "application/octet-stream"}
        if request_id:
            headers["X-Request-ID"] = request_id
        return Report.model_validate_json(self._ask("POST", "/v1/reports", content=data, headers=headers).content)

    def get(self, report_id: str) -> Report:
        """A report that was written before."""
        return Report.model_validate_json(self._ask("GET", f"/v1/reports/{report_id}").content)

    def evidence(self, report_id: str) -> bytes:
        """The PNG with the evidence map of every sentence."""
        return self._ask("GET", f"/v1/reports/{report_id}/evidence.png").content

    def model(self) -> dict[str, Any]:
        """Which model version writes the reports now."""
        described: dict[str, Any] = self._ask("GET", "/v1/model").json()
        return described

    def _ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **options)
        except httpx.HTTPError as error:
            raise GatewayError(
                f"the gateway at {self.url} does not answer ({type(error).__name__}); start it with s2d up",
                status=0,
                reason="no_gateway",
            ) from error
        if response.is_success:
            return response
        raise _error(self.url, response)


def _error(url: str, response: httpx.Response) -> GatewayError:
    try:
        problem = response.json()
        detail, reason = str(problem["detail"]), str(problem["reason"])
    except (ValueError, KeyError, TypeError):
        detail, reason = "what answers there is not the gateway", "no_gateway"
    message = f"the gateway at {url} refused ({response.status_code}, {reason}): {' '.join(detail.split())}"
    return GatewayError(message, status=response.status_code, reason=reason)
