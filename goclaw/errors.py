"""Every error goclaw raises on purpose, on one screen.

A class is a decision for the catcher: `code` is the same stable word in the task row, the log line, `error.data.code`
on the wire and the metric label; `retryable` says whether the same request may succeed later without a change. The
docstring is the default message, so text and documentation cannot drift apart.

    GoclawError
    |- StartupError         HomeLocked ConfigInvalid PolicyInvalid StoreOpen StoreForeign StoreCorrupt SchemaNewer
    |                       SchemaChecksum AuthToken BindFailed RecoveryFailed HomeUnwritable
    |- StoreError           StoreFull StoreFailed StoreDamaged StoreClosed
    |- RequestError         BadRequest NotFound Conflict TooLarge Saturated WaitTimeout HelloRequired
    |                       MethodNotFound ParseFailed ReplayGap ShuttingDown BackupDamaged
    |- AccessError          Denied
    |- TaskError            LeaseLost OutcomeUnknown JournalMismatch
    |- ToolError            BadArguments ToolFailed SkillFault SkillQuarantined SkillRejected
    |- ClientError          Unreachable NotAuthorized RpcError
    '- ProviderError        ProviderUnavailable RateLimited ProviderRefused ProviderAuth ContextOverflow NoProvider
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

RESTORE = (
    "`goclaw backup list` names the backups, `goclaw backup verify FILE` tells whether one is whole, "
    "`goclaw backup restore FILE` puts it into a fresh home"
)
"""How to go on after damage, for the messages that tell of it."""


class GoclawError(Exception):
    """Something went wrong inside goclaw."""

    code: ClassVar[str] = "INTERNAL"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str | None = None, **data: Any) -> None:
        super().__init__(message or (type(self).__doc__ or "").strip())
        self.data = data

    @property
    def message(self) -> str:
        """One sentence for a person, without a traceback and without secrets."""
        return str(self.args[0])


class StartupError(GoclawError):
    """goclaw cannot start."""

    code = "E_STARTUP"


class HomeLocked(StartupError):
    """Another goclaw daemon is serving this home; stop it first or choose another GOCLAW_HOME."""

    code = "E_HOME_LOCKED"


class HomeUnwritable(StartupError):
    """GOCLAW_HOME cannot be created or written; check its owner and mode."""

    code = "E_HOME_UNWRITABLE"


class ConfigInvalid(StartupError):
    """config.yaml is not valid."""

    code = "E_CONFIG_LOAD"


class PolicyInvalid(StartupError):
    """policy.yaml is not valid."""

    code = "E_POLICY_LOAD"


class StoreOpen(StartupError):
    """The database cannot be opened."""

    code = "E_STORE_OPEN"


class StoreForeign(StartupError):
    """goclaw.db belongs to another program; it was left untouched. Move it away or choose another GOCLAW_HOME."""

    code = "E_STORE_FOREIGN"


class StoreCorrupt(StartupError):
    """goclaw.db is damaged and was not opened for writing; restore a backup into a fresh GOCLAW_HOME."""

    code = "E_STORE_CORRUPT"


class SchemaNewer(StartupError):
    """goclaw.db was written by a newer goclaw; it was left untouched. Install that version or a later one."""

    code = "E_SCHEMA_NEWER"


class SchemaChecksum(StartupError):
    """A migration recorded in goclaw.db differs from the one this goclaw ships; the database was left untouched."""

    code = "E_SCHEMA_CHECKSUM"


class AuthToken(StartupError):
    """The bearer token cannot be read or is too weak; without a token nothing is served."""

    code = "E_AUTH_TOKEN"


class BindFailed(StartupError):
    """The address cannot be bound."""

    code = "E_BIND"


class RecoveryFailed(StartupError):
    """A process left behind by an earlier daemon could not be killed within five seconds."""

    code = "E_RECOVERY"


class StoreError(GoclawError):
    """The database refused an operation."""

    code = "STORE_ERROR"


class StoreFull(StoreError):
    """The disk is full; nothing was stored. Free some space and send it again."""

    code = "STORE_FULL"
    retryable = True


class StoreFailed(StoreError):
    """The database could not make a commit durable; the daemon stops, because what is on disk is unknown."""

    code = "STORE_FAILED"


class StoreDamaged(StoreError):
    """goclaw.db is damaged; the daemon stops at once and does not start again on this file."""

    code = "E_STORE_CORRUPT"


class StoreClosed(StoreError):
    """The database is closed."""

    code = "STORE_CLOSED"
    retryable = True


class RequestError(GoclawError):
    """The request cannot be served."""

    code = "BAD_REQUEST"


class BadRequest(RequestError):
    """The request is not valid."""

    code = "INVALID_PARAMS"


class ParseFailed(RequestError):
    """The frame is not valid JSON."""

    code = "PARSE_ERROR"


class InvalidFrame(RequestError):
    """The frame is not a JSON-RPC 2.0 request object."""

    code = "INVALID_REQUEST"


class BackupDamaged(RequestError):
    """The backup is damaged, or is no backup of goclaw."""

    code = "BACKUP_DAMAGED"


class MethodNotFound(RequestError):
    """There is no such method."""

    code = "METHOD_NOT_FOUND"


class NotFound(RequestError):
    """There is no such thing."""

    code = "NOT_FOUND"


class Conflict(RequestError):
    """The request contradicts the present state."""

    code = "CONFLICT"


class TooLarge(RequestError):
    """The request is larger than its limit."""

    code = "TOO_LARGE"


class Saturated(RequestError):
    """The queue of this agent is full; send it again later."""

    code = "SATURATED"
    retryable = True


class ShuttingDown(RequestError):
    """The daemon is stopping and takes no new work; send it again after the restart."""

    code = "SHUTTING_DOWN"
    retryable = True


class WaitTimeout(RequestError):
    """The time to wait is over; the task goes on."""

    code = "TIMEOUT"
    retryable = True


class HelloRequired(RequestError):
    """Call system.hello with a supported version first."""

    code = "HELLO_REQUIRED"


class ReplayGap(RequestError):
    """The cursor lies outside the events that are kept; resume from `resume_from`."""

    code = "REPLAY_GAP"


class AccessError(GoclawError):
    """Access was refused."""

    code = "POLICY_DENIED"


class Denied(AccessError):
    """The policy denies this."""


class TaskError(GoclawError):
    """A task cannot go on."""

    code = "TASK_ERROR"


class LeaseLost(TaskError):
    """The lease of this attempt is gone; its result is dropped."""

    code = "LEASE_LOST"


class OutcomeUnknown(TaskError):
    """An effect that must not be repeated had begun, and how it ended is not known."""

    code = "OUTCOME_UNKNOWN"


class JournalMismatch(TaskError):
    """The journal of this turn does not match the request that is to be made again."""

    code = "JOURNAL_MISMATCH"


class ToolError(GoclawError):
    """A tool failed."""

    code = "TOOL_FAILED"


class ToolFailed(ToolError):
    """The tool could not do what it was asked."""


class BadArguments(ToolError):
    """The arguments do not match the tool's parameters."""

    code = "BAD_ARGUMENTS"


class SkillFault(ToolError):
    """The skill broke one of its limits or crashed."""

    code = "SKILL_FAULT"


class SkillQuarantined(ToolError):
    """The skill failed too often and is set aside until a person enables it again."""

    code = "SKILL_QUARANTINED"


class SkillRejected(ToolError):
    """The skill's folder is not in order."""

    code = "SKILL_REJECTED"


class ClientError(GoclawError):
    """The daemon could not be asked."""

    code = "CLIENT_ERROR"


class Unreachable(ClientError):
    """No goclaw daemon answers; start one with `goclaw daemon start`."""

    code = "UNREACHABLE"
    retryable = True


class NotAuthorized(ClientError):
    """The daemon does not accept this token."""

    code = "UNAUTHORIZED"


class RpcError(ClientError):
    """The daemon answered with an error: its JSON-RPC number, its sentence, and `data` as it came.

    `word` is the stable word in `data.code`.
    """

    code = "RPC_ERROR"

    def __init__(self, rpc_code: int, message: str, data: Mapping[str, Any] | None = None) -> None:
        super().__init__(message)
        self.data = dict(data or {})
        self.rpc_code = rpc_code

    @property
    def word(self) -> str:
        """The stable word of the error, as in the task row and the log."""
        return str(self.data.get("code", self.code))


class ProviderError(GoclawError):
    """The model provider failed."""

    code = "PROVIDER_ERROR"


class ProviderUnavailable(ProviderError):
    """The provider cannot be reached or is overloaded."""

    code = "PROVIDER_UNAVAILABLE"
    retryable = True


class RateLimited(ProviderError):
    """The provider limits the rate; `retry_after_ms` says how long, when it is known."""

    code = "RATE_LIMITED"
    retryable = True


class ProviderRefused(ProviderError):
    """The provider does not accept the request."""

    code = "PROVIDER_REFUSED"


class ProviderAuth(ProviderError):
    """The provider does not accept the key."""

    code = "PROVIDER_AUTH"


class ContextOverflow(ProviderError):
    """The conversation does not fit into the model's window."""

    code = "CONTEXT_OVERFLOW"


class NoProvider(ProviderError):
    """No model is configured; set ANTHROPIC_API_KEY or OPENAI_API_KEY, or name a provider in config.yaml."""

    code = "NO_PROVIDER"
