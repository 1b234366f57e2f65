"""What the model is asked, and how its answer is read."""

import hashlib
import json
import re
from collections.abc import Sequence

from components.key_phrases.refine.finding import Finding
from components.key_phrases.refine.pool import Example

INSTRUCTION = """\
You word findings of chest radiographs. Each numbered line below is one finding as JSON: observation, status (present, \
absent or uncertain), modifiers, location, measurement, and what it is suggestive of.
Write one short English noun phrase for each line, as a radiologist would say it in a report.
Rules: exactly one phrase for each line, in the same order. Keep every observation, side, place, severity, number and \
word of change, and the status: an absent finding begins with "no", an uncertain one with "possible". Add nothing: no \
other finding, no place, no comparison with earlier studies, no word about the patient or a date.
Answer with a JSON list of strings and nothing else.
"""
PROMPT_SHA256 = hashlib.sha256(INSTRUCTION.encode()).hexdigest()
_THOUGHTS = re.compile(r"\A.*</think>", re.DOTALL)
# Not json.JSONDecoder at every bracket: an answer of 50,000 brackets would keep it busy for half a minute.
_STRING = r'"(?:[^"\\]|\\.)*+"'
_LIST = re.compile(rf"\[\s*+(?:{_STRING}\s*+(?:,\s*+{_STRING}\s*+)*+)?\]")
_LONGEST_ANSWER = 50_000  # characters
_TOKENS_PER_PHRASE, _TOKENS_MORE = 60, 60

# One message of the user: some chat templates refuse a system message.
Messages = list[dict[str, str]]


def messages_of(findings: Sequence[Finding], examples: Sequence[Example]) -> Messages:
    """The conversation for one study."""
    parts = [INSTRUCTION]
    if examples:
        shown = _numbered([example.finding for example in examples])
        answer = json.dumps([example.phrase for example in examples])
        parts.append(f"Example:\n{shown}\nAnswer:\n{answer}\n")
    parts.append(f"Now these {len(findings)}:\n{_numbered(findings)}\nAnswer:")
    return [{"role": "user", "content": "\n".join(parts)}]


def answer_tokens(findings: Sequence[Finding]) -> int:
    """How many tokens an answer may have."""
    return _TOKENS_MORE + _TOKENS_PER_PHRASE * len(findings)


def phrases_in(reply: str) -> list[str] | None:
    """The one JSON list of strings in an answer, with or without prose around it; None when there is not just one."""
    found = _LIST.findall(_THOUGHTS.sub("", reply[:_LONGEST_ANSWER]))
    if len(found) != 1:
        return None
    try:
        phrases: list[str] = json.loads(found[0])
    except ValueError:  # a line break inside a string, an escape that JSON does not have
        return None
    return phrases


def _numbered(findings: Sequence[Finding]) -> str:
    return "\n".join(f"{number}. {_line(finding)}" for number, finding in enumerate(findings, 1))


def _line(finding: Finding) -> str:
    return finding.model_dump_json(exclude_defaults=True)
