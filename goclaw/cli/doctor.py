"""`goclaw doctor`: is this machine and this home in order?"""

from __future__ import annotations

from dataclasses import asdict

import typer

from goclaw.cli import exits, screen
from goclaw.cli.app import JsonFlag, place, single
from goclaw.cli.checks import FAIL, all_checks

app = single("Check this machine and this home, and say what to do about it.")


@app.command()
def doctor(ctx: typer.Context, as_json: JsonFlag = False) -> int:
    """Check this machine and this home, and say what to do about it. Exit code 1 when a check fails."""
    checks = all_checks(place(ctx))
    failed = [check for check in checks if check.status == FAIL]
    if as_json:
        screen.data({"ok": not failed, "checks": [asdict(check) for check in checks]})
    else:
        screen.table(("check", "status", "what was found"), [(one.name, one.status, one.detail) for one in checks])
        for check in checks:
            if check.fix:
                screen.say(f"{check.name}: {check.fix}")
    return exits.FAILURE if failed else exits.OK
