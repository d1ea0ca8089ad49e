"""One module per namespace, each with one table: name -> parameters, capability, function."""

from __future__ import annotations

from collections.abc import Mapping

from goclaw.gateway.methods import agent, session, subtask, system, task, tools
from goclaw.gateway.rpc import Method


def all_methods(more: tuple[Method, ...] = ()) -> Mapping[str, Method]:
    """Every method by name. Raises ValueError when two share a name."""
    table: dict[str, Method] = {}
    for method in (*agent.TABLE, *session.TABLE, *subtask.TABLE, *system.TABLE, *task.TABLE, *tools.TABLE, *more):
        if method.name in table:
            raise ValueError(f"two methods are named {method.name}")
        table[method.name] = method
    return table
