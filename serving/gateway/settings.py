"""The gateway's settings, read once from the environment at start."""

import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Where Triton answers and where reports are kept."""

    triton_address: str = "127.0.0.1:18000"
    store_path: Path = Path(".s2d/gateway/reports.sqlite")

    @classmethod
    def from_environment(cls) -> "Settings":
        """Read `S2D_TRITON_URL` (host:port) and `S2D_HOME`."""
        home = Path(os.environ.get("S2D_HOME", ".s2d"))
        return cls(
            triton_address=os.environ.get("S2D_TRITON_URL", cls.triton_address),
            store_path=home / "gateway" / "reports.sqlite",
        )
