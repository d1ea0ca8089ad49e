"""`goclaw`, which writes down the modules it has loaded: at `ready`, and again when it ends."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from goclaw.__main__ import main
from goclaw.log import StartupPhases


def _packages() -> list[str]:
    return sorted({name.partition(".")[0] for name in sys.modules})


def install(told: list[list[str]]) -> None:
    """Note what is loaded when the daemon is ready."""
    reached = StartupPhases.reached

    def noting(self: StartupPhases, phase: str, **fields: Any) -> None:
        reached(self, phase, **fields)
        if phase == "ready":
            told.append(_packages())

    StartupPhases.reached = noting  # type: ignore[method-assign]


if __name__ == "__main__":
    noted: list[list[str]] = []
    install(noted)
    code = main()
    noted.append(_packages())
    Path(os.environ["GOCLAW_MODULES_TO"]).write_text(json.dumps(noted))
    sys.exit(code)
