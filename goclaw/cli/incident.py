"""`goclaw incident`: everything there is about a task, a session or a span of time, in one file."""

from __future__ import annotations

import re
import shutil
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from goclaw import __version__
from goclaw.cli import exits, screen
from goclaw.cli.app import JsonFlag, group, place
from goclaw.cli.checks import all_checks
from goclaw.cli.place import Place
from goclaw.clock import new_id
from goclaw.errors import BadRequest, ConfigInvalid, NotFound, Unreachable

_AGO = re.compile(r"(\d{1,6})\s*([smhd])")
_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
app = group("Collect what is known of an incident, for somebody else to look at.")


@app.command()
def export(  # noqa: PLR0913 - each is an option
    ctx: typer.Context,
    task_id: Annotated[str | None, typer.Argument(metavar="[TASK_ID]", help="The task it is about.")] = None,
    output: Annotated[Path | None, typer.Argument(metavar="[PATH]", help="Where the file is to go.")] = None,
    session: Annotated[str | None, typer.Option("--session", help="A session instead of a task.")] = None,
    since: Annotated[
        str | None, typer.Option("--since", help="A time instead: 90m, 2h, 1d ago, or 2026-09-21T08:00.")
    ] = None,
    until: Annotated[str | None, typer.Option("--until", help="With --since: the end of the time.")] = None,
    with_content: Annotated[
        bool, typer.Option("--with-content", help="With what was said and done, not only that it was.")
    ] = False,
    as_json: JsonFlag = False,
) -> int:
    """Write a bundle (zip, mode 0600) of tasks, steps, events, decisions, log lines, status and doctor's findings.

    Secrets are taken out, and what was said and done too unless --with-content is given. Works without a daemon.
    """
    here = place(ctx)
    if output is None and task_id is not None and (session or since):
        output, task_id = Path(task_id), None
    now = here.clock.wall()
    asked: dict[str, Any] = {"task_id": task_id, "session_id": session}
    asked |= {"since": since and instant(since, now), "until": until and instant(until, now)}
    asked = {name: value for name, value in asked.items() if value is not None}
    doctor = [asdict(check) for check in all_checks(here)]
    try:
        told = here.call("incident.export", {**asked, "with_content": with_content, "doctor": doctor})
    except Unreachable:
        told = _offline(here, asked, with_content, doctor)
    if output is not None:
        told["path"] = str(shutil.move(told["path"], output))
    if as_json:
        screen.data(told)
    else:
        rows = [(one["name"], one["rows"], one["bytes"]) for one in told["manifest"]["files"]]
        screen.table(("file", "rows", "bytes"), rows)
        screen.say("secrets are taken out; look through it before you hand it on")
        screen.text(told["path"])
    return exits.OK


def instant(text: str, now: int) -> int:
    """`2h` ago, or an ISO date and time (local unless it names a zone), in milliseconds since 1970 UTC."""
    ago = _AGO.fullmatch(text.strip())
    if ago:
        return now - int(ago.group(1)) * _MS[ago.group(2)]
    try:
        return round(datetime.fromisoformat(text.strip()).astimezone(UTC).timestamp() * 1000)
    except ValueError:
        raise BadRequest(f"{text!r} is no time: write 90m, 2h, 1d or 2026-09-21T08:00") from None


def _offline(here: Place, asked: dict[str, Any], with_content: bool, doctor: list[dict[str, Any]]) -> dict[str, Any]:
    """The same from the files of a home that nobody serves."""
    from goclaw.db.backup import open_read_only
    from goclaw.log.bundle import Lines, pack, pick_lines, thin_out
    from goclaw.store import incident

    if not here.home.database.exists():
        raise NotFound(f"there is no database in {here.home.root}")
    query = incident.query_of(asked.get("task_id"), asked.get("session_id"), asked.get("since"), asked.get("until"))
    now = here.clock.wall()
    with open_read_only(here.home.database) as conn:
        found = incident.collect(conn, query, now, content=with_content)
    ids = found.task_ids | ({query.session_id} if query.session_id else set())
    lines = pick_lines(here.home.logs, Lines(ids=ids, since=found.since, until=found.until))
    path = here.home.incidents / f"incident-{new_id(here.clock)}.zip"
    redactor, settings = _secrets(here)
    facts = {**incident.facts(query, found, now, with_content), "server": f"goclaw/{__version__}", "daemon": "none"}
    manifest = pack(path, {**found.rows, "log": lines, "doctor": doctor}, facts | settings, redactor.json)
    thin_out(here.home.incidents)
    return {"path": str(path), "bytes": path.stat().st_size, "manifest": manifest}


def _secrets(here: Place) -> tuple[Any, dict[str, str]]:
    """What takes the known secrets out, and the hash of the settings, as far as they can be read."""
    from goclaw.config.load import load_settings
    from goclaw.errors import AuthToken
    from goclaw.secrets.redact import Redactor
    from goclaw.secrets.token import read_token

    redactor = Redactor()
    facts = {}
    try:
        redactor.add(read_token(here.home.token, here.environ).value)
        settings = load_settings(here.home, here.environ)
        redactor.add(*settings.secrets)
        facts["config_hash"] = settings.config_hash
    except (AuthToken, ConfigInvalid) as error:
        facts["config_hash"] = f"unknown: {error.message}"
    return redactor, facts
