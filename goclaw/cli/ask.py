"""`goclaw ask`: one durable turn, the answer on stdout."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Annotated, Any

import typer

from goclaw.cli import exits, screen
from goclaw.cli.app import JsonFlag, place, single
from goclaw.cli.ensure import ensure_daemon
from goclaw.cli.results import result_text, why
from goclaw.cli.telling import told_while
from goclaw.client import ChatEnd, Client
from goclaw.clock import new_id
from goclaw.core.ports import Clock
from goclaw.errors import BadRequest, WaitTimeout

FILE_BYTES = 1024 * 1024
app = single("Ask an agent one thing; the answer goes to stdout.")


@app.command()
def ask(  # noqa: PLR0913 - each is an option
    ctx: typer.Context,
    prompt: Annotated[list[str] | None, typer.Argument(help="What to ask; - or nothing reads stdin.")] = None,
    agent: Annotated[str | None, typer.Option("-a", "--agent", help="The agent.")] = None,
    session: Annotated[str | None, typer.Option("-s", "--session", help="Go on in this session.")] = None,
    model: Annotated[str | None, typer.Option("-m", "--model", help="The model.")] = None,
    file: Annotated[list[Path] | None, typer.Option("--file", help="Append the text of this file.")] = None,
    stream: Annotated[bool, typer.Option("--stream", help="Print the answer while it is written.")] = False,
    timeout: Annotated[float | None, typer.Option("--timeout", min=0, help="Seconds to wait for it.")] = None,
    as_json: JsonFlag = False,
) -> int:
    """Ask an agent one thing; the answer goes to stdout.

    The turn is durable: it goes on when this command is interrupted or the daemon is killed.
    """
    here = place(ctx)
    params = {
        "content": _content(prompt or [], file or []),
        "agent_id": agent,
        "session_id": session,
        "model": model,
        "idempotency_key": f"ask-{new_id(here.clock)}",
    }
    ensure_daemon(here)
    turn = _Turn(params, None if timeout is None else round(timeout * 1000), here.clock)
    task = here.run(turn.streamed if stream and not as_json else turn.waited)
    return _show(task, as_json, turn.printed)


class _Turn:
    """One turn, told while it runs. `printed` is what of the answer stands on stdout already."""

    def __init__(self, params: Mapping[str, Any], timeout_ms: int | None, clock: Clock) -> None:
        self._params = params
        self._timeout_ms = timeout_ms
        self._clock = clock
        self.printed = ""

    async def waited(self, client: Client) -> Mapping[str, Any]:
        """Submit, wait, and tell of tool calls in between."""
        begun = await client.call("agent.chat", self._params)
        return await told_while(client, begun["task_id"], client.wait(begun["task_id"], self._timeout_ms))

    async def streamed(self, client: Client) -> Mapping[str, Any]:
        """Submit and print the deltas."""
        task_id = ""
        try:
            async with asyncio.timeout(None if self._timeout_ms is None else self._timeout_ms / 1000):
                async with aclosing(client.chat_stream(self._params)) as stream:
                    async for item in stream:
                        if isinstance(item, ChatEnd):
                            task_id = item.task_id
                        else:
                            self._print(item.content, item.reset)
        except TimeoutError:
            raise WaitTimeout("the time to wait is over; the turn goes on") from None
        task: Mapping[str, Any] = await client.call("task.get", {"task_id": task_id})
        return task

    def _print(self, content: str, reset: bool) -> None:
        if reset and self.printed:
            screen.say("\n[the answer starts over]")
            self.printed = ""
        self.printed += content
        sys.stdout.write(screen.safe(content))
        sys.stdout.flush()


def _show(task: Mapping[str, Any], as_json: bool, printed: str) -> int:
    code = exits.of_task(task)
    if as_json:
        screen.data(task)
    elif code == exits.OK:
        _answer(result_text(task), printed)
    if code != exits.OK:
        screen.say(f"goclaw: {why(task)}")
    return code


def _answer(answer: str, printed: str) -> None:
    if not printed:
        screen.text(answer)
    elif printed.endswith(answer):
        sys.stdout.write("" if answer.endswith("\n") else "\n")
    elif answer.startswith(printed):  # the tail of it was lost on the way
        screen.text(answer[len(printed) :])
    else:
        screen.say("")
        screen.text(answer)


def _content(prompt: list[str], files: list[Path]) -> str:
    words = " ".join(prompt)
    if words in ("", "-"):
        if words == "" and (files or sys.stdin.isatty()):
            if not files:
                raise BadRequest("there is nothing to ask; give a prompt, or - to read stdin")
        else:
            words = sys.stdin.read()
    parts = [words.rstrip("\n")] if words.strip() else []
    parts += [_attached(path) for path in files]
    if not parts:
        raise BadRequest("the prompt is empty")
    return "\n\n".join(parts)


def _attached(path: Path) -> str:
    try:
        raw = path.read_bytes() if path.stat().st_size <= FILE_BYTES else None
        text = raw.decode("utf-8") if raw is not None else ""
    except OSError as error:
        raise BadRequest(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise BadRequest(f"{path} is not UTF-8 text") from None
    if raw is None:
        raise BadRequest(f"{path} is larger than {FILE_BYTES} bytes")
    return f"--- file: {path} ---\n{text.rstrip()}\n--- end of file: {path} ---"
