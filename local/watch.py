"""What the watcher does: look at every process of the platform, and start again what died or stopped answering.

A process that is gone, or a Triton that lost one of its models' processes, is started again when two looks in a row
found it so. One that is there and does not answer may be busy: it gets two minutes. The lock is held only while
something is started, with the code of `s2d up`, which looks once more before it acts.
"""

import logging
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Literal

from local import object_store, platform, processes, triton_server, watcher
from model.errors import S2DError

log = logging.getLogger("watcher")

EVERY_S = 2.0
AGAIN_S = 0.5  # after a look that found something
SILENT_S = 120.0  # a reader with a full queue of large films does not answer for a while
AFTER_FAILURE_S = 15.0  # until a start that failed is tried again

State = Literal["well", "dead", "silent"]


@dataclass
class Watch:
    """What is known of the processes of one home, by their names."""

    home: Path
    since: dict[str, tuple[State, float]] = field(default_factory=dict)  # dead or silent from this time on
    owing: dict[str, float] = field(default_factory=dict)  # whose start failed, perhaps half way: when to try again

    def round(self) -> float:
        """Look at everything once, heal what needs it, and say after how many seconds to look again."""
        pause = EVERY_S
        for module in platform.MODULES:
            state = look(self.home, module)
            if self._needs_start(module.NAME, state):
                self._heal(module, state)
            elif state != "well":
                pause = AGAIN_S
        return pause

    def _needs_start(self, name: str, state: State) -> bool:
        if name in self.owing:
            return time.monotonic() > self.owing[name]
        if state == "well":
            self.since.pop(name, None)
            return False
        before, first = self.since.get(name, (None, 0.0))
        if before != state:
            self.since[name] = state, time.monotonic()
            return False
        return state == "dead" or time.monotonic() - first > SILENT_S

    def _heal(self, module: ModuleType, state: State) -> None:
        began = time.monotonic()
        log.warning("event=healing process=%s state=%s", module.NAME, state)
        self.since.pop(module.NAME, None)
        try:
            platform.heal(self.home, module)
        except (S2DError, OSError) as error:  # OSError: a full disk
            log.error("event=not_healed process=%s error=%s", module.NAME, error)
            self.owing[module.NAME] = time.monotonic() + AFTER_FAILURE_S
            return
        self.owing.pop(module.NAME, None)
        log.warning("event=healed process=%s seconds=%.1f", module.NAME, time.monotonic() - began)


def look(home: Path, module: ModuleType) -> State:
    """How one process is, by its record and by a real request."""
    child = processes.running(home, module.NAME)
    if child is None or (module is triton_server and triton_server.died_within(home, child)):
        return "dead"
    answers = object_store.answers if module is object_store else module.is_healthy
    return "well" if answers(home) else "silent"


def main() -> None:
    """Watch until stopped, or until the record of this process is gone, and with it perhaps the home."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stdout)
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    home = platform.home_folder()
    watch = Watch(home)
    while (child := processes.running(home, watcher.NAME)) is not None and child.pid == os.getpid():
        watcher.beat(home).touch()
        time.sleep(watch.round())


if __name__ == "__main__":
    main()
