"""What a caller may ask for besides the report: request parameters of the Open Inference Protocol."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from serving.refusal import Refused

MAX_TIMEOUT_MS = 600_000


class Options(BaseModel):
    """The options of one request. Values keep their types: "true" is not true, and 1.0 is not 1."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    max_new_tokens: int | None = Field(default=None, ge=1)  # None: what the model version says
    evidence: bool = True  # maps cost more than the words
    seed: int | None = Field(default=None, ge=0, lt=2**63)  # draw the words with it; None: the likeliest, always
    timeout_ms: int | None = Field(default=None, ge=1, le=MAX_TIMEOUT_MS)  # None: what the server says


class InnerOptions(Options):
    """What `s2d_align` adds for `report_generator`: the name under which it may give the request up."""

    ticket: str = ""


def parse_options(text: str) -> Options:
    """The options in the JSON text of a request's parameters. Raises Refused (bad_option)."""
    return _parsed(Options, text)


def parse_inner_options(text: str) -> InnerOptions:
    """The same, as one model of the server sends them to another."""
    found = _parsed(InnerOptions, text)
    assert isinstance(found, InnerOptions)
    return found


def _parsed(kind: type[Options], text: str) -> Options:
    try:
        return kind.model_validate_json(text or "{}")
    except ValidationError as error:
        raise Refused("bad_option", _one_line(error)) from error


def _one_line(error: ValidationError) -> str:
    first = error.errors(include_url=False)[0]
    name = ".".join(str(part) for part in first["loc"]) or "the parameters"
    if first["type"] == "extra_forbidden":
        return f"there is no option {name[:40]!r}; use {', '.join(Options.model_fields)}"
    return f"option {name} is {_short(first['input'])}: {first['msg'][0].lower()}{first['msg'][1:]}"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
