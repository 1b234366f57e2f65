"""How a model in Triton says no: one JSON object as the error text, the same for every model of the repository.

Triton puts the text of an escaped exception, with the path of our source, into its answer; so nothing escapes.
"""

import json
import logging
import traceback
from pathlib import Path
from typing import Literal

from model.errors import ConfigError, DataError, RadiographError

log = logging.getLogger(__name__)

INTERNAL = "internal"
NO_MODEL = "no_model"
Code = Literal["INVALID_ARG", "UNAVAILABLE", "INTERNAL"]  # names of Triton's codes: 400, 503 and 500 over HTTP


class NoModelError(ConfigError):
    """The server runs, but no model version was put into service."""


def refusal(error: Exception) -> tuple[Code, str]:
    """Triton's code and the JSON text {"reason", "message"} to answer with."""
    if isinstance(error, NoModelError):
        return "UNAVAILABLE", _text(NO_MODEL, str(error))
    if isinstance(error, DataError):
        return "INVALID_ARG", _text(error.reason if isinstance(error, RadiographError) else "bad_input", str(error))
    # Where, but not what: the message of a foreign exception may quote the file, and so a patient.
    frame = traceback.extract_tb(error.__traceback__)[-1]
    log.error("event=model_failed error=%s at=%s:%s", type(error).__name__, Path(frame.filename).name, frame.lineno)
    return "INTERNAL", _text(INTERNAL, "the model failed on this input; see the server's log")


def parse_refusal(text: str) -> tuple[str, str]:
    """Reason and message of an error text as Triton hands it on, with whatever an ensemble put around the JSON."""
    try:
        found, _ = json.JSONDecoder().raw_decode(text[text.index("{") :])
        return str(found["reason"]), str(found["message"])
    except (ValueError, KeyError, TypeError):
        return INTERNAL, "the inference server failed"


def _text(reason: str, message: str) -> str:
    return json.dumps({"reason": reason, "message": message})
