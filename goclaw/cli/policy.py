"""`goclaw policy`: what is allowed. Works on the file and needs no daemon."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
import yaml

from goclaw.cli import exits, screen
from goclaw.cli.app import JsonFlag, group, place
from goclaw.config.home import Home
from goclaw.errors import BadRequest, NotFound, PolicyInvalid

app = group("Look at policy.yaml, check it, ask it.")


@app.command()
def show(ctx: typer.Context, as_json: JsonFlag = False) -> int:
    """Show the rules of policy.yaml as they are understood, with their version."""
    from goclaw.policy.rules import parse

    home = place(ctx).home
    rules = parse(_text(home.policy), str(home.root))
    if as_json:
        screen.data({"version": rules.version, "rules": rules.document})
        return exits.OK
    screen.text(f"# {home.policy}, version {rules.version}")
    screen.text(yaml.safe_dump(dict(rules.document), sort_keys=False, default_flow_style=None, width=110).rstrip())
    return exits.OK


@app.command()
def check(
    ctx: typer.Context,
    file: Annotated[Path | None, typer.Argument(metavar="[FILE]", help="Another file than the home's.")] = None,
    as_json: JsonFlag = False,
) -> int:
    """Check a policy before it is saved; exit code 1 when it would be refused."""
    from goclaw.policy.rules import parse

    home = place(ctx).home
    path = file or home.policy
    try:
        rules = parse(_text(path), str(home.root))
    except PolicyInvalid as error:
        told = {"valid": False, "path": str(path), "error": error.message}
        screen.data(told) if as_json else screen.say(f"goclaw: {path}: {error.message}")
        return exits.FAILURE
    if as_json:
        screen.data({"valid": True, "path": str(path), "version": rules.version})
    else:
        screen.say(f"{path} is in order, version {rules.version[:12]}")
    return exits.OK


@app.command()
def explain(
    ctx: typer.Context,
    capability: Annotated[str, typer.Argument(metavar="CAPABILITY", help="For example tools.read_file.")],
    resource: Annotated[
        list[str] | None, typer.Argument(metavar="[RESOURCE...]", help="A path, a host, or after -- an argv.")
    ] = None,
    subject: Annotated[str, typer.Option("--subject", help="agent:NAME, skill:NAME or client.")] = "agent:default",
    cwd: Annotated[Path | None, typer.Option("--cwd", help="For tools.exec; workspace/ by default.")] = None,
    as_json: JsonFlag = False,
) -> int:
    """Say what the policy decides and why; exit code 5 when it denies."""
    from goclaw.core.access import CAPABILITIES, Access, Verdict
    from goclaw.policy.rules import parse

    if capability not in CAPABILITIES:
        raise BadRequest(f"unknown capability {capability!r}; they are {', '.join(sorted(CAPABILITIES))}")
    home = place(ctx).home
    words = tuple(resource or ())
    base = str(cwd.absolute()) if cwd else str(home.workspace)
    executes = capability == "tools.exec"
    access = Access(
        subject,
        capability,
        words[0] if executes and words else _object(capability, words, base),
        argv=words if executes else (),
        argv_paths=tuple(_resolved(word, base) for word in words) if executes else (),
        cwd=_resolved(base, base) if executes else "",
    )
    rules = parse(_text(home.policy), str(home.root))
    verdict, reason = rules.decide(access)
    if as_json:
        screen.data({"verdict": verdict, "reason": reason, "policy_version": rules.version})
    else:
        screen.text(f"{verdict}: {reason}")
    return exits.DENIED if verdict is Verdict.DENY else exits.OK


def _object(capability: str, words: tuple[str, ...], base: str) -> str:
    if len(words) > 1:
        raise BadRequest(f"{capability} is about one thing; several words are for tools.exec")
    word = words[0] if words else ""
    files = capability in ("tools.read_file", "tools.write_file")
    return _resolved(word, base) if files and word else word


def _resolved(path: str, base: str) -> str:
    return os.path.realpath(os.path.join(base, path))


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise NotFound(f"there is no {path}; the first `goclaw serve` writes one") from None
    except UnicodeDecodeError:
        raise PolicyInvalid(f"{path} is not UTF-8 text") from None
    except OSError as error:
        raise PolicyInvalid(f"{path}: {error.strerror}") from None


def policy_problem(home: Home) -> str | None:
    """What is wrong with the policy of a home, in one sentence; None when it is in order or not there yet."""
    from goclaw.policy.rules import parse

    try:
        parse(_text(home.policy), str(home.root))
    except NotFound:
        return None
    except PolicyInvalid as error:
        return error.message
    return None
