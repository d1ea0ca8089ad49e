"""The root of the command line: which words there are, and how every ending becomes an exit code.

Words are looked up when they are used, so a command loads its own module and no other.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Annotated, Any

import typer
from typer._click.exceptions import ClickException
from typer.core import TyperGroup

from goclaw import __version__
from goclaw.cli import exits, screen
from goclaw.cli.place import Place, here
from goclaw.errors import GoclawError

WORDS = (
    "serve",
    "daemon",
    "tui",
    "init",
    "ask",
    "task",
    "pause",
    "resume",
    "session",
    "agent",
    "tools",
    "skill",
    "cron",
    "policy",
    "audit",
    "backup",
    "verify",
    "incident",
    "compact",
    "config",
    "status",
    "doctor",
    "logs",
    "bench",
    "demo",
)
"""Every word after `goclaw`; each is a module of this package with an `app`."""


class Words(TyperGroup):
    """A group whose unknown word is a usage error that names the nearest known one."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command, or a usage error."""
        name = args[0]
        if not name.startswith("-") and not ctx.resilient_parsing and name not in self.list_commands(ctx):
            near = get_close_matches(name, self.list_commands(ctx), n=1, cutoff=0.0)
            ctx.fail(f"There is no {ctx.command_path} {name!r}; the nearest is {near[0]!r}.")
        return super().resolve_command(ctx, args)


class Root(Words):
    """The root group: its commands are modules that are loaded when they are named."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Every word, in the order of the help."""
        return list(WORDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Load one."""
        if cmd_name not in WORDS:
            return None
        return typer.main.get_command(import_module(f"goclaw.cli.{cmd_name}").app)


def group(help_text: str) -> typer.Typer:
    """A group of commands below a word of the root."""
    made = typer.Typer(cls=Words, help=help_text, no_args_is_help=True, add_completion=False, rich_markup_mode=None)
    made.callback(help=help_text)(_nothing)  # without it a group of one command would become that command
    return made


def single(help_text: str) -> typer.Typer:
    """A word that is itself the command."""
    return typer.Typer(help=help_text, add_completion=False, rich_markup_mode=None)


app = typer.Typer(
    cls=Root,
    help="A durable local kernel for AI agents. Alone on a terminal it opens the chat, otherwise it serves.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["--help", "-h"]},
)

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON, one document a line.")]


def _nothing() -> None:
    """A group does nothing by itself."""


def _version(wanted: bool) -> None:
    if wanted:
        screen.text(f"goclaw {__version__}")
        raise typer.Exit


@app.callback()
def root(
    ctx: typer.Context,
    home: Annotated[str | None, typer.Option("--home", metavar="DIR", help="The home (GOCLAW_HOME).")] = None,
    bind: Annotated[
        str | None,
        typer.Option("--bind", metavar="HOST:PORT", help="The daemon's address (GOCLAW_BIND_ADDR)."),
    ] = None,
    version: Annotated[
        bool, typer.Option("--version", "-V", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Remember what the command is about."""
    ctx.obj = here(home, bind)


def place(ctx: typer.Context) -> Place:
    """What the command is about."""
    found = ctx.find_root().obj
    assert isinstance(found, Place)  # noqa: S101  (set by `root`, which runs before every command)
    return found


def run(arguments: Sequence[str]) -> int:
    """Do what `arguments` say; the exit code. The one place of the command line that catches everything."""
    try:
        ended = typer.main.get_command(app).main(args=list(arguments), prog_name="goclaw", standalone_mode=False)
        return ended if isinstance(ended, int) else exits.OK
    except ClickException as error:
        error.show()
        return error.exit_code
    except (KeyboardInterrupt, asyncio.CancelledError, typer.Abort):
        return exits.INTERRUPTED
    except Exception as error:
        return _ended_by(error)
    finally:
        _flush()


def _ended_by(error: BaseException) -> int:
    """Tell of an error in one line; the exit code."""
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    if isinstance(error, GoclawError):
        screen.say(f"goclaw: {error.message}")
        return exits.of_error(error)
    words = " ".join(str(error).split())
    screen.say(f"goclaw: {type(error).__name__}: {words}" if words else f"goclaw: {type(error).__name__}")
    return exits.FAILURE


def _flush() -> None:
    """Whoever read our output may have left; that is no error, and Python must not tell of it at its end."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        import os

        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
