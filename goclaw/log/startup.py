"""The phases of a start, as lines that a person or a program can wait for."""

from __future__ import annotations

from typing import Any

from goclaw.errors import StartupError
from goclaw.log.logger import Log, get_logger

COMPONENT = "startup"
PHASES = (
    "home_locked",
    "config_loaded",
    "schema_migrated",
    "recovery_scan_completed",
    "policy_loaded",
    "gateway_bound",
    "scheduler_started",
    "ready",
)


class StartupPhases:
    """Logs each phase once it is reached, in the one order there is. Shown at every log level."""

    def __init__(self) -> None:
        self._log: Log = get_logger(COMPONENT)
        self._reached = 0

    @property
    def complete(self) -> bool:
        """Whether the last phase has been reached."""
        return self._reached == len(PHASES)

    def reached(self, phase: str, **fields: Any) -> None:
        """Log `phase` with what is worth knowing of it. Raises ValueError when it is not the next one."""
        expected = PHASES[self._reached] if self._reached < len(PHASES) else "nothing more"
        if phase != expected:
            raise ValueError(f"the phase after {PHASES[: self._reached]} is {expected}, not {phase}")
        self._reached += 1
        self._log.info(phase, phase=phase, **fields)


def startup_failure(error: StartupError) -> None:
    """Log why goclaw does not start: one line, `reason_code` is the stable word."""
    get_logger(COMPONENT).error("startup failure", reason_code=error.code, error=error.message, details=error.data)
