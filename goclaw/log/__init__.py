"""Log lines: JSON, with the ids of the work they belong to, without secrets, and never in the way.

Promise: a call of a logger does no I/O, does not wait and does not raise, whatever becomes of disk and
terminal. A line that could not be kept is counted, and the count is a line of its own. It may import the
core.
"""

from goclaw.log.logger import Log, bound, get_logger
from goclaw.log.logs import Logs
from goclaw.log.startup import PHASES, StartupPhases, startup_failure
from goclaw.log.writer import AuditMirror

__all__ = [
    "PHASES",
    "AuditMirror",
    "Log",
    "Logs",
    "StartupPhases",
    "bound",
    "get_logger",
    "startup_failure",
]
