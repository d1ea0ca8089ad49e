"""`goclaw backup`: copies of everything that makes a home, and a home made of one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from goclaw.cli import exits, screen
from goclaw.cli.app import JsonFlag, Words, place
from goclaw.cli.place import Place
from goclaw.cli.verify import served, show_report
from goclaw.config.home import locate_home, lock_home

HELP = "Make backups, look whether one is whole, make a fresh home of one. `goclaw backup FILE` makes one."


class Files(Words):
    """A word that looks like a file stands for `create` with it."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command, or a usage error."""
        known = args[0] in self.list_commands(ctx)
        if not known and not args[0].startswith("-") and ("/" in args[0] or "." in args[0]):
            args = ["create", *args]
        return super().resolve_command(ctx, args)


app = typer.Typer(cls=Files, help=HELP, no_args_is_help=True, add_completion=False, rich_markup_mode=None)

FileName = Annotated[Path, typer.Argument(metavar="FILE", help="The backup.")]


@app.command()
def create(
    ctx: typer.Context,
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="A new file, or a folder; else in backups/ of the home.")
    ] = None,
    with_secrets: Annotated[bool, typer.Option("--with-secrets", help="Also .env, which is plain text.")] = False,
    as_json: JsonFlag = False,
) -> int:
    """Make a backup, beside a running daemon or without one; print where it is."""
    here = place(ctx)
    path = _target(here, file)
    if served(here):
        made = here.call("backup.create", {"path": path and str(path), "with_secrets": with_secrets})
    else:
        made = _create_here(here, path, with_secrets)
    if as_json:
        screen.data(made)
        return exits.OK
    screen.text(made["path"])
    screen.say(f"{made['bytes'] / 1e6:.1f} MB, {made['files']} files, up to event {made['event_id']}")
    for name in made["left_out"]:
        screen.say(f"left out: {name}")
    return exits.OK


@app.command("list")
def list_(ctx: typer.Context, as_json: JsonFlag = False) -> int:
    """List the backups in backups/ of the home, newest first."""
    from goclaw.kernel.backup import Backup, backups, last_backup

    here = place(ctx)
    found: dict[str, Any]
    if served(here):
        found = here.call("backup.list")
    else:
        shown = [
            one.as_json() if isinstance(one, Backup) else {"path": str(path), "error": one.message}
            for path, one in backups(here.home)
        ]
        found = {"backups": shown, "last": last_backup(here.home)}
    if as_json:
        screen.data(found)
        return exits.OK
    rows = [
        (screen.moment(one.get("created_at")), one.get("bytes"), one.get("event_id"), one["path"], one.get("error"))
        for one in found["backups"]
    ]
    screen.table(("made", "bytes", "event", "file", "trouble"), rows)
    return exits.OK


@app.command()
def verify(ctx: typer.Context, file: FileName, as_json: JsonFlag = False) -> int:
    """Look at all of a backup: every byte, the integrity check, both chains, every task. Needs no daemon."""
    from goclaw.kernel.restore import check_backup

    checked = check_backup(file.absolute(), place(ctx).clock)
    if as_json:
        screen.data(checked.as_json())
        return exits.OK if checked.ok else exits.FAILURE
    for problem in checked.damage:
        screen.text(problem)
    if checked.report is not None:
        show_report(checked.report.as_json())
    if checked.ok:
        screen.say(f"{file} is whole: {len(checked.backup.manifest.files)} files")
    return exits.OK if checked.ok else exits.FAILURE


@app.command()
def restore(
    ctx: typer.Context,
    file: FileName,
    home: Annotated[str | None, typer.Option("--home", metavar="DIR", help="The fresh home: absent or empty.")] = None,
    paused: Annotated[bool, typer.Option("--paused", help="Nothing runs until `system.resume`.")] = False,
    despite: Annotated[
        bool, typer.Option("--despite-findings", help="Also when the database has findings. Damage is never restored.")
    ] = False,
    as_json: JsonFlag = False,
) -> int:
    """Make a fresh home of a backup; everything is verified before anything is in its place."""
    from goclaw.kernel.restore import restore as make

    here = place(ctx)
    fresh = here.home if home is None else locate_home(here.environ, home)
    done = make(file.absolute(), fresh, here.clock, despite_findings=despite, paused=paused)
    if as_json:
        screen.data(done.as_json())
        return exits.OK
    screen.text(str(done.home))
    told = done.backup.manifest
    screen.say(f"restored as of {screen.moment(told.created_at)}, event {told.event.id}; the log has a new id")
    for line in done.next_steps():
        screen.say(f"  {line}")
    return exits.OK


def _target(here: Place, file: Path | None) -> Path | None:
    from goclaw.kernel.backup import default_path

    if file is None:
        return None
    path = file.absolute()
    return path / default_path(here.home, here.clock.wall()).name if path.is_dir() else path


def _create_here(here: Place, path: Path | None, secrets: bool) -> dict[str, Any]:
    from goclaw.kernel.backup import check_target, create, default_path

    now = here.clock.wall()
    target = path or default_path(here.home, now)
    check_target(here.home, target)
    with lock_home(here.home):
        return create(here.home, target, now, secrets=secrets).as_json()
