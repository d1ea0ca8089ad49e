"""`goclaw demo`: the promise of this program, tried out before your eyes."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from goclaw.cli import exits, screen
from goclaw.cli.app import JsonFlag, place, single
from goclaw.cli.demo_drill import Drill, run_drill
from goclaw.cli.demo_home import furnish
from goclaw.cli.demo_report import groups

app = single("Kill a daemon in the middle of real work and see that nothing is lost or done twice.")


@app.command()
def demo(
    ctx: typer.Context,
    keep: Annotated[bool, typer.Option("--keep", help="Leave the throw-away home for a look.")] = False,
    as_json: JsonFlag = False,
) -> int:
    """Kill a daemon in the middle of real work and see that nothing is lost or done twice.

    Works in a throw-away home, offline, and takes some seconds. Exit code 1 when the promise does not hold.
    """
    here = place(ctx)
    folder = Path(tempfile.mkdtemp(prefix="goclaw-demo-"))
    try:
        screen.say(f"1. a daemon in a throw-away home, {folder}")
        drill = asyncio.run(run_drill(furnish(folder), here.environ, here.clock))
    finally:
        if keep:
            screen.say(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    return _report(drill, as_json)


def _report(drill: Drill, as_json: bool) -> int:
    faults = [fault for one in drill.outcomes for fault in one.faults()]
    if drill.known_again != len(drill.outcomes):
        faults.append(f"{len(drill.outcomes) - drill.known_again} submissions were not known when sent again")
    if drill.left_alive:
        faults.append(f"{drill.left_alive} processes of the killed daemon were still alive beside its successor")
    table = groups(drill.outcomes)
    if as_json:
        screen.data(
            {
                "held": not faults,
                "faults": faults,
                "killed_at": asdict(drill.killed_at) | {"waiting": drill.killed_at.waiting},
                "restart_ms": drill.restart_ms,
                "known_again": drill.known_again,
                "groups": [asdict(group) for group in table],
            }
        )
        return exits.FAILURE if faults else exits.OK
    screen.say("6. what became of it, by the daemon and by a ledger file outside of it:\n")
    screen.table(
        ("work", "acknowledged", "ended", "effects begun", "right"),
        [(one.name, one.acknowledged, one.ended, one.effects, "yes" if one.right else "NO") for one in table],
    )
    _verdict(drill, faults)
    return exits.FAILURE if faults else exits.OK


def _verdict(drill: Drill, faults: list[str]) -> None:
    screen.text("")
    if faults:
        for fault in faults:
            screen.text(f"  {fault}")
        screen.text("VERDICT: the promise does NOT hold.")
        return
    screen.text(
        "The unsafe program that the kill met was not run again: nobody can know how it ended, so goclaw says\n"
        "OUTCOME_UNKNOWN and leaves it to you (goclaw task resolve). The harmless one simply ran again."
    )
    screen.text(
        f"VERDICT: all {len(drill.outcomes)} acknowledged pieces came to their end, none was lost, "
        "and no effect that must not be repeated was repeated."
    )
