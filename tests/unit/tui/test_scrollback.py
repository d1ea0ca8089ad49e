"""What has scrolled out of sight, and how much of it is kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from textual.app import App, ComposeResult
from textual.message import Message
from textual.pilot import Pilot

import goclaw.tui
from goclaw.tui.scrollback import LINES, Scrollback
from goclaw.tui.transcript import BLOCKS, Transcript, TurnView
from goclaw.tui.turn import Step, Turn, TurnState

ANSWER = "# Title\n\nSome **bold** words and `code`.\n\n- one\n- two\n\n```python\nprint()\n```\n"


class Bare(App[None]):
    """A transcript and nothing else."""

    CSS_PATH = Path(goclaw.tui.__file__).with_name("goclaw.tcss")

    def compose(self) -> ComposeResult:
        yield Transcript()


def turn(number: int, text: str = ANSWER, state: TurnState = TurnState.DONE, plain: bool = False) -> Turn:
    said = Step(key="llm:0", seq=1, kind="llm", state="done", text=text, told=True, plain=plain)
    call = Step(
        key="c",
        seq=2,
        kind="tool",
        state="failed",
        tool="exec",
        text="denied by policy: no",
        denied=True,
        told=True,
    )
    last = Step(key="llm:1", seq=3, kind="llm", state="done", text="The end.", told=True)
    return Turn(
        key=f"k{number}",
        prompt=f"question {number}",
        state=state,
        steps=(said, call, last),
        task_id=f"t{number}",
    )


@asynccontextmanager
async def bare(size: tuple[int, int] = (60, 20)) -> AsyncIterator[tuple[Transcript, Pilot[None], Until]]:
    stirred = asyncio.Event()

    def stir(_: Message) -> None:
        stirred.set()

    app = Bare()
    async with app.run_test(size=size, message_hook=stir) as pilot:
        yield app.query_one(Transcript), pilot, Until(pilot, stirred)


class Until:
    def __init__(self, pilot: Pilot[None], stirred: asyncio.Event) -> None:
        self._pilot, self._stirred = pilot, stirred

    async def __call__(self, met: Callable[[], object]) -> None:
        async with asyncio.timeout(30):
            while not met():
                self._stirred.clear()
                await self._pilot.pause()
                if not met():
                    await self._stirred.wait()


@pytest.mark.spec("GC-TUI-014")
async def test_no_more_than_the_limit_of_blocks_is_kept_the_newest_ones() -> None:
    async with bare() as (transcript, _, until):
        transcript.open([turn(number, "short") for number in range(1_000)], more=False)
        await until(lambda: transcript.blocks <= BLOCKS)
        assert transcript.turns[-1].prompt == "question 999"
        assert 400 < len(transcript.turns) < 520
        assert transcript.query_one("#older").display
        assert len(transcript.query("*")) < 100


@pytest.mark.spec("GC-TUI-014")
async def test_no_more_than_the_limit_of_lines_is_kept() -> None:
    async with bare() as (transcript, _, until):
        transcript.open([turn(number, "line\n" * 3_000, plain=True) for number in range(8)], more=False)
        scrollback = transcript.query_one(Scrollback)
        await until(lambda: scrollback.size.height > 0)
        transcript.show(turn(9, "short"))
        await until(lambda: transcript.turns[-1].key == "k9" and scrollback.text.count("\n") <= LINES)
        assert "question 0" not in scrollback.text


async def test_a_settled_turn_shows_what_it_showed_before() -> None:
    async with bare() as (transcript, _, until):
        scrollback = transcript.query_one(Scrollback)
        transcript.open([turn(number) for number in range(6)], more=False)
        await until(lambda: "question 0" in scrollback.text)
        lines = [line.strip() for line in scrollback.text.splitlines()]
        at = lines.index("\u258c question 0")
        shown = [line for line in lines[at : lines.index("\u258c question 1")] if line]
        assert shown == [
            "\u258c question 0",
            "Title",
            "Some bold words and code.",
            "\u2022 one",
            "\u2022 two",
            "print()",
            "\u2298 exec  denied: no",
            "The end.",
        ]


async def test_another_width_lays_the_lines_out_anew() -> None:
    async with bare((60, 20)) as (transcript, pilot, until):
        scrollback = transcript.query_one(Scrollback)
        transcript.open([turn(number, "word " * 60) for number in range(6)], more=False)
        await until(lambda: "question 0" in scrollback.text)
        wide = scrollback.text.count("\n")
        await pilot.resize_terminal(30, 20)
        await until(lambda: scrollback.text.count("\n") > wide)
        assert all(len(line) <= 30 for line in scrollback.text.splitlines())


async def test_a_settled_turn_that_changes_is_drawn_anew_in_its_place() -> None:
    async with bare() as (transcript, _, until):
        scrollback = transcript.query_one(Scrollback)
        transcript.open([turn(number) for number in range(6)], more=False)
        await until(lambda: "question 0" in scrollback.text)
        transcript.show(turn(0, "Another answer."))
        await until(lambda: "Another answer." in scrollback.text)
        assert [one.prompt for one in transcript.turns] == [f"question {number}" for number in range(6)]


async def test_turns_settle_when_they_are_over_and_out_of_sight_and_not_before() -> None:
    async with bare() as (transcript, _, until):
        scrollback = transcript.query_one(Scrollback)
        for number in range(4):
            transcript.show(turn(number, "word " * 200, TurnState.RUNNING if number == 1 else TurnState.DONE))
        await until(lambda: "question 0" in scrollback.text)
        transcript.show(turn(5))
        await until(lambda: transcript.turns[-1].key == "k5")
        assert "question 1" not in scrollback.text, "it runs"
        transcript.show(turn(1, "word " * 200))
        await until(lambda: "question 2" in scrollback.text)
        assert scrollback.text.index("question 1") < scrollback.text.index("question 2")


async def test_what_is_selected_can_be_copied() -> None:
    async with bare() as (transcript, pilot, until):
        scrollback = transcript.query_one(Scrollback)
        transcript.open([turn(number) for number in range(6)], more=False)
        await until(lambda: "question 0" in scrollback.text)
        transcript.scroll_home(animate=False)
        await pilot.pause()
        row = scrollback.text.splitlines().index("\u258c question 0")
        await pilot.mouse_down(scrollback, offset=(2, row))
        await pilot.hover(scrollback, offset=(10, row))
        await pilot.mouse_up(scrollback, offset=(10, row))
        await until(lambda: transcript.screen.get_selected_text())
        assert "question" in (transcript.screen.get_selected_text() or "")


async def test_an_empty_line_stands_below_every_turn_whatever_it_ends_in() -> None:
    async with bare((60, 40)) as (transcript, pilot, until):
        plain, call = turn(1, "out", plain=True), turn(2)
        ends = [replace(plain, steps=plain.steps[:1]), replace(call, steps=call.steps[1:2])]
        transcript.open([*ends, replace(turn(3), steps=())], more=False)
        await until(lambda: all(view.settled and view.blocks for view in transcript.query(TurnView)))
        await pilot.pause()
        views = list(transcript.query(TurnView))
        assert len(views) == 3
        for view in views:
            shown = [child for child in view.children if child.display]
            assert view.region.bottom > shown[-1].content_region.bottom, view.turn.prompt
