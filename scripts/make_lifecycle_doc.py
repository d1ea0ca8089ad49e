"""Writes docs/lifecycle.md from the states and the graph in goclaw.core.task. Run it after either has changed."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

from goclaw.core import task
from goclaw.core.task import HELD, TERMINAL, TRANSITIONS, TaskState

PAGE = Path(__file__).resolve().parent.parent / "docs" / "lifecycle.md"

_HEAD = """# The life of a task

<!-- Made by scripts/make_lifecycle_doc.py from goclaw/core/task.py; a test compares the two. -->

A task is in one of eight states. Every arrow below commits together with the event that tells of it, so the log of
events explains every row; the schema refuses a row whose state and columns contradict each other. Which arrow is taken
at the end of an attempt is decided by one pure function, `goclaw.core.settle.settle`. The rules stand in SPEC.md,
domain STM; the words in the [glossary](glossary.md).
"""


def lifecycle_page() -> str:
    """The page as Markdown."""
    return "\n".join([_HEAD, *_diagram(), "", *_states(), "", *_edges(), ""])


def _diagram() -> Iterator[str]:
    yield from ("```mermaid", "stateDiagram-v2")
    for source, target in _graph():
        yield f"    {source or '[*]'} --> {target}"
    yield from (f"    {state} --> [*]" for state in TaskState if not TRANSITIONS[state])
    yield "```"


def _states() -> Iterator[str]:
    yield from ("## The states", "", "| state | in | out | |", "|---|---|---|---|")
    for state, note in notes().items():
        way_in, _, way_out = note.removeprefix("In: ").partition(" Out: ")
        kind = "held by a worker" if state in HELD else "terminal" if state in TERMINAL else "waits"
        yield f"| {state} | {way_in} | {way_out} | {kind} |"


def _edges() -> Iterator[str]:
    yield from ("## The graph", "", "| from | to |", "|---|---|")
    for source in TRANSITIONS:
        targets = [target for target in TaskState if target in TRANSITIONS[source]]
        yield f"| {source or '(new)'} | {', '.join(targets) or '(none)'} |"


def _graph() -> Iterator[tuple[TaskState | None, TaskState]]:
    for source, targets in TRANSITIONS.items():
        yield from ((source, target) for target in TaskState if target in targets)


def notes() -> dict[TaskState, str]:
    """The comment under each state, which only the source keeps."""
    body = ast.parse(inspect.getsource(task))
    enum = next(node for node in body.body if isinstance(node, ast.ClassDef) and node.name == "TaskState")
    found: dict[TaskState, str] = {}
    for member, note in zip(enum.body[1::2], enum.body[2::2], strict=True):
        match member, note:
            case ast.Assign(targets=[ast.Name(id=name)]), ast.Expr(value=ast.Constant(value=str(text))):
                found[TaskState(name)] = " ".join(text.split())
            case _:
                raise ValueError("each state is followed by its comment")
    return found


if __name__ == "__main__":
    PAGE.write_text(lifecycle_page(), encoding="utf-8")
    print(f"wrote {PAGE}")
