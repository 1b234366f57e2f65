"""How a model in Triton says no: one JSON object as the error text, the same for every model of the repository.

Triton puts the text of an escaped exception, with the path of our source, into its answer; so nothing escapes.
"""

import json
import logging
import traceback
from pathlib import Path
from typing import Literal

from model.errors import DataError, RadiographError, S2DError

log = logging.getLogger(__name__)

INTERNAL = "internal"
NO_MODEL = "no_model"
# Names of Triton's codes; over HTTP they are 400, 503, 500 and 400.
Code = Literal["INVALID_ARG", "UNAVAILABLE", "INTERNAL", "CANCELLED"]
Reason = Literal[
    "busy", "timeout", "cancelled", "no_model", "model_down", "out_of_distribution", "bad_option", "bad_input"
]
CODES: dict[Reason, Code] = {
    "busy": "UNAVAILABLE",
    "timeout": "UNAVAILABLE",
    "no_model": "UNAVAILABLE",
    "model_down": "UNAVAILABLE",
    "cancelled": "CANCELLED",
    "out_of_distribution": "INVALID_ARG",
    "bad_option": "INVALID_ARG",
    "bad_input": "INVALID_ARG",
}  # and every reason of a RadiographError is an INVALID_ARG


class Refused(S2DError):  # noqa: N818 - says what happened to the request
    """No report, for a reason that is no programming error here. `reason` is a stable word for machines."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(message)
        self.reason: str = reason
        self.code: Code = CODES[reason]


class PassedOn(Refused):
    """What another model of the server answered. Triton hands on its text and forgets its code."""

    def __init__(self, text: str) -> None:
        super().__init__("model_down", "the model is not in service; try again later")
        reason, message = parse_refusal(text)
        if "{" not in text:  # no refusal of ours: Triton speaks of a dead process, or of a model that is not loaded
            return
        self.args, self.reason = (message,), reason
        self.code = "INTERNAL" if reason == INTERNAL else dict[str, Code](CODES).get(reason, "INVALID_ARG")


def refusal(error: Exception) -> tuple[Code, str]:
    """Triton's code and the JSON text {"reason", "message"} to answer with."""
    if isinstance(error, Refused):
        return error.code, _text(error.reason, str(error))
    if isinstance(error, DataError):
        return "INVALID_ARG", _text(error.reason if isinstance(error, RadiographError) else "bad_input", str(error))
    # Where, but not what: the message of a foreign exception may quote the file, and so a patient.
    frame = traceback.extract_tb(error.__traceback__)[-1]
    log.error("event=model_failed error=%s at=%s:%s", type(error).__name__, Path(frame.filename).name, frame.lineno)
    return "INTERNAL", _text(INTERNAL, "the model failed on this input; see the server's log")


def parse_refusal(text: str) -> tuple[str, str]:
    """Reason and message of an error text as Triton hands it on, with whatever a server put around the JSON."""
    try:
        found, _ = json.JSONDecoder().raw_decode(text[text.index("{") :])
        return str(found["reason"]), str(found["message"])
    except (ValueError, KeyError, TypeError):
        return INTERNAL, "the inference server failed"


def _text(reason: str, message: str) -> str:
    return json.dumps({"reason": reason, "message": message})
