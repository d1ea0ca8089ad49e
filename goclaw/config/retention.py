"""The section `retention` of config.yaml: how long what is kept."""

from __future__ import annotations

from dataclasses import dataclass, field

from goclaw.config.kinds import Kind, Place, Unfit, key, section, shown

FOREVER = 0
DAY_MS = 86_400_000


def _until(high: int) -> Kind[int]:
    """A number up to `high`, or `forever` (also written 0)."""
    says = f"integer 1 to {high:,}, or forever"

    def read(value: object, _place: Place) -> int:
        if isinstance(value, str) and value.lower() == "forever":
            return FOREVER
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= high:
            return value
        raise Unfit(f"is {shown(value)}; expected an {says}")

    return Kind(says, read)


_DAYS = _until(36_500)
_ROWS = _until(1_000_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptTasks:
    """Tasks that are over. 0 is forever, here and below."""

    days: int = field(default=90, metadata=key(_DAYS, "Days a task is kept after its end."))
    rows: int = field(default=1_000_000, metadata=key(_ROWS, "How many of the newest tasks are kept at most."))


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptEvents:
    """Events of no task."""

    days: int = field(default=90, metadata=key(_DAYS, "Days an event of no task is kept."))
    rows: int = field(
        default=5_000_000, metadata=key(_ROWS, "How far back from the newest event, in events, they are kept at most.")
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptOccurrences:
    """What became of the instants of schedules."""

    days: int = field(default=90, metadata=key(_DAYS, "Days an instant that led to no task is kept."))
    rows: int = field(default=1_000, metadata=key(_ROWS, "How many of the newest instants of a schedule are kept."))


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptAudit:
    """Decisions."""

    days: int = field(default=365, metadata=key(_DAYS, "Days a decision is kept."))
    rows: int = field(default=1_000_000, metadata=key(_ROWS, "How many of the newest decisions are kept at most."))


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptSessions:
    """Conversations."""

    days: int = field(
        default=FOREVER,
        metadata=key(
            _DAYS,
            "Days a conversation is kept after its last message; it goes with all its messages.",
            shown_default="forever",
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptPolicies:
    """Versions of the policy that are not in force."""

    days: int = field(default=365, metadata=key(_DAYS, "Days a replaced version of the policy is kept, at least."))


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptArtifacts:
    """Files that nothing refers to."""

    days: int = field(
        default=7, metadata=key(_DAYS, "Days an artifact, or a part of a prompt, is kept that nothing refers to.")
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionSettings:
    """How long what is kept, table by table."""

    tasks: KeptTasks = field(
        default=KeptTasks(),
        metadata=key(
            section(KeptTasks), "Tasks that are over, with journal and events.", shown_default="the keys below"
        ),
    )
    events: KeptEvents = field(
        default=KeptEvents(), metadata=key(section(KeptEvents), "Events of no task.", shown_default="the keys below")
    )
    occurrences: KeptOccurrences = field(
        default=KeptOccurrences(),
        metadata=key(section(KeptOccurrences), "What became of schedules.", shown_default="the keys below"),
    )
    audit: KeptAudit = field(
        default=KeptAudit(),
        metadata=key(section(KeptAudit), "Who was allowed or refused what.", shown_default="the keys below"),
    )
    sessions: KeptSessions = field(
        default=KeptSessions(), metadata=key(section(KeptSessions), "Conversations.", shown_default="the keys below")
    )
    policies: KeptPolicies = field(
        default=KeptPolicies(),
        metadata=key(section(KeptPolicies), "Versions of the policy.", shown_default="the keys below"),
    )
    artifacts: KeptArtifacts = field(
        default=KeptArtifacts(),
        metadata=key(section(KeptArtifacts), "Files that nothing refers to.", shown_default="the keys below"),
    )
