"""`goclaw verify`: is everything in the database explained?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from goclaw.cli import exits, screen
from goclaw.cli.app import JsonFlag, place, single
from goclaw.cli.background import daemon_pid
from goclaw.cli.place import Place
from goclaw.config.home import locate_home

app = single("Replay every task from its events and walk both logs; exit code 1 when something is not explained.")


@app.command()
def verify(
    ctx: typer.Context,
    home: Annotated[str | None, typer.Option("--home", metavar="DIR", help="Another home.")] = None,
    backup: Annotated[Path | None, typer.Option("--backup", metavar="FILE", help="A backup instead.")] = None,
    as_json: JsonFlag = False,
) -> int:
    """Replay every task from its events and walk both logs, beside a running daemon or without one."""
    from goclaw.kernel.keeper import verify_stopped
    from goclaw.kernel.restore import check_backup

    here = place(ctx)
    if home is not None:
        here = replace(here, home=locate_home(here.environ, home))
    if backup is not None:
        checked = check_backup(backup.absolute(), here.clock)
        report = checked.as_json()["report"] if checked.report is not None else _damaged(checked.damage)
    elif served(here):
        report = here.call("system.verify")
    else:
        report = verify_stopped(here.home).as_json()
    screen.data(report) if as_json else show_report(report)
    return exits.OK if report["ok"] else exits.FAILURE


def show_report(report: Mapping[str, Any]) -> None:
    """What was found to stdout, one a line; what was looked at to stderr."""
    for one in report["findings"]:
        screen.text(f"{one['table']} {one['row']}: {one['what']}")
    more = report["found"] - len(report["findings"])
    if more:
        screen.say(f"and {more} more")
    looked = f"{report['events']} events, {report['audit_rows']} audit rows, {report['tasks']} tasks"
    screen.say(f"{looked}: " + ("all explained" if report["ok"] else f"{report['found']} findings"))


def served(here: Place) -> bool:
    """Whether a daemon is to be asked: one was named, or this home is served."""
    return here.bind is not None or daemon_pid(here.home) is not None


def _damaged(damage: tuple[str, ...]) -> dict[str, Any]:
    findings = [{"table": "file", "row": "backup", "what": one} for one in damage]
    return {"ok": False, "events": 0, "audit_rows": 0, "tasks": 0, "found": len(findings), "findings": findings}
