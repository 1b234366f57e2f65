"""Every answer of a model in one file of JSON lines, by the content of the question.

Lines are only ever added. One that a kill has torn is passed over: its question is asked again.
"""

import hashlib
import json
import logging
from pathlib import Path
from typing import Any

from components.shared.scratch import full_disk_is_said
from model.errors import ConfigError

logger = logging.getLogger(__name__)


def key_of(question: dict[str, Any]) -> str:
    """The hash of everything that an answer depends on."""
    return hashlib.sha256(json.dumps(question, sort_keys=True).encode()).hexdigest()


class Cache:
    """Answers by key. Raises ConfigError when the file cannot be read or written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._replies: dict[str, str] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)  # answers repeat the words of reports
            self._file = path.open("ab+")
        except OSError as error:
            raise ConfigError(
                f"the cache {path} cannot be opened ({error}); name a file that can be written"
            ) from error
        self._file.seek(0)
        torn, line = 0, b"\n"
        for line in self._file:
            try:
                entry = json.loads(line)
                self._replies[entry["key"]] = str(entry["reply"])
            except (ValueError, KeyError, TypeError):
                torn += bool(line.strip())
        if torn:
            logger.warning("cache=%s unreadable_lines=%d; they are asked again", path.name, torn)
        if not line.endswith(b"\n"):
            self._file.write(b"\n")

    def get(self, key: str) -> str | None:
        return self._replies.get(key)

    def put(self, key: str, reply: str) -> None:
        self._replies[key] = reply
        with full_disk_is_said(self.path.parent):
            self._file.write(json.dumps({"key": key, "reply": reply}).encode() + b"\n")
            self._file.flush()

    def close(self) -> None:
        self._file.close()
