"""The system text of an agent: who it is, where it works, what it must keep to."""

from __future__ import annotations

from goclaw.core.agent import Agent

HOUSE_RULES = """\
You act through tools. Each call is checked by the user's policy; a refused call comes back as a result that says why:
do not try to get around it, tell the user what is missing. When the outcome of a call is unknown, look at the state of
things before you repeat it. Relative paths start in the workspace: {workspace}"""


def system_text(agent: Agent, conventions: str, workspace: str) -> str:
    """The parts in a fixed order, so that equal settings give equal bytes and provider caches hold."""
    parts = [agent.soul.strip(), HOUSE_RULES.format(workspace=workspace)]
    if conventions.strip():
        parts.append(f"Conventions of this project (from AGENTS.md):\n{conventions.strip()}")
    return "\n\n".join(part for part in parts if part)
