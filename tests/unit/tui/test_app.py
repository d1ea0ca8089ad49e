"""The chat against a scripted daemon, over a true socket."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from textual.notifications import Notification

from goclaw.client import Target
from goclaw.tui.blocks import Answer, PlainAnswer
from goclaw.tui.commands import COMMANDS, KEYS
from goclaw.tui.desk import Start
from goclaw.tui.prompt import PromptBox
from goclaw.tui.transcript import Transcript
from goclaw.tui.turn import TurnState
from tests.unit.client.conftest import Peer, Refusal
from tests.unit.tui.house import House, QuickClock
from tests.unit.tui.screens import Screen, screen


def chat(house: House, **given: Any) -> Any:
    return screen(house.daemon.target, QuickClock(), **given)


async def begun(shown: Screen, house: House, text: str) -> str:
    """A typed message whose turn runs."""
    await shown.type(text)
    task_id = await house.chats.get()
    await house.run(task_id)
    return task_id


@pytest.mark.spec("GC-TUI-001")
async def test_an_answer_is_shown_while_it_is_written_and_stays_as_it_was_told() -> None:
    house = House()
    async with house.open(), chat(house) as shown:
        task_id = await begun(shown, house, "How are you?")
        await shown.sees("How are you?", "working", "running 3 s")
        await house.say(task_id, "I am ", "**fine")
        await shown.sees("I am **fine")
        await house.say(task_id, "**, thank you.")
        await shown.sees("I am fine, thank you.")
        answer = shown.app.query_one(Answer)
        await house.answer(task_id, "I am **fine**, thank you.")
        await shown.until(lambda: "ready" in shown.status and "mock-1" in shown.status)
        assert shown.app.query_one(Answer) is answer, "a settled answer is not rendered again"
        assert shown.flat.count("I am fine, thank you.") == 1


@pytest.mark.spec("GC-TUI-002")
async def test_a_reset_takes_back_what_another_provider_had_said() -> None:
    house = House()
    async with house.open(), chat(house) as shown:
        task_id = await begun(shown, house, "Count")
        await house.say(task_id, "one two")
        await shown.sees("one two")
        await house.say(task_id, "Eins ", reset=True)
        await house.say(task_id, "zwei")
        await shown.sees("Eins zwei")
        assert "one two" not in shown.text
        await house.answer(task_id, "Eins zwei drei")
        await shown.sees("Eins zwei drei")
        assert shown.flat.count("Eins") == 1


@pytest.mark.spec("GC-TUI-003")
async def test_tool_calls_are_lines_with_their_state_and_a_short_result() -> None:
    house = House()
    async with house.open(), chat(house, size=(120, 40)) as shown:
        task_id = await begun(shown, house, "Look around")
        await house.say(task_id, "Let me look.")
        calls = (
            ("read_file", {"file_path": "a.txt"}),
            ("exec", {"argv": ["rm", "b c"]}),
            ("read_file", {"file_path": "z"}),
        )
        read, removed, missing = await house.replied(task_id, "Let me look.", *calls)
        await shown.sees("read_file a.txt running", "exec rm 'b c' running")
        await house.called(task_id, read, "done", "     1\thello\n     2\tyou\n     3\tall")
        await house.called(task_id, removed, "failed", "denied by policy: no pattern covers it", "POLICY_DENIED")
        await house.called(task_id, missing, "failed", "z does not exist", "TOOL_FAILED")
        await shown.sees(
            "\u2713 read_file a.txt 1 hello (+2 lines)",
            "\u2298 exec rm 'b c' denied: no pattern covers it",
            "\u2717 read_file z failed: z does not exist",
        )
        await house.ask(task_id)
        await house.say(task_id, "There.")
        await house.answer(task_id, "There.")
        await shown.sees("There.", "ready")
        order = [shown.flat.index(words) for words in ("Let me look.", "a.txt", "rm 'b c'", "read_file z", "There.")]
        assert order == sorted(order)


@pytest.mark.spec("GC-TUI-003")
async def test_a_call_of_unknown_outcome_says_so() -> None:
    house = House()
    async with house.open(), chat(house) as shown:
        task_id = await begun(shown, house, "Pay")
        (key,) = await house.replied(task_id, "", ("exec", {"argv": ["pay"]}))
        await house.called(task_id, key, "unknown", "The outcome of this call is unknown", "OUTCOME_UNKNOWN")
        await shown.sees("? exec pay unknown: it may or may not have happened")


@pytest.mark.spec("GC-TUI-004")
async def test_a_failed_turn_says_why_in_plain_words() -> None:
    house = House()
    async with house.open(), chat(house) as shown:
        task_id = await begun(shown, house, "Hello")
        await house.fail(task_id, "NO_PROVIDER", "No model is configured. Set ANTHROPIC_API_KEY.")
        await shown.sees("\u2717 No model is configured. Set ANTHROPIC_API_KEY.", "NO_PROVIDER", "ready")


@pytest.mark.spec("GC-TUI-005")
async def test_messages_typed_while_a_turn_runs_are_stored_at_once_and_shown_as_queued() -> None:
    house = House()
    async with house.open(), chat(house) as shown:
        first = await begun(shown, house, "first")
        await shown.type("second", "third")
        second, _ = await house.chats.get(), await house.chats.get()
        await shown.sees("running 3 s \u00b7 2 queued")
        assert [turn.state for turn in shown.turns] == [TurnState.RUNNING, TurnState.QUEUED, TurnState.QUEUED]
        await house.answer(first, "one")
        await house.run(second)
        await shown.sees("one", "running 3 s \u00b7 1 queued")


@pytest.mark.spec("GC-TUI-006")
async def test_escape_stops_the_turn_that_runs_and_leaves_the_next_one() -> None:
    house = House()
    async with house.open(), chat(house) as shown:
        first = await begun(shown, house, "first")
        await house.say(first, "half an ans")
        await shown.type("second")
        await house.chats.get()
        await shown.sees("half an ans")
        await shown.pilot.press("escape")
        assert await house.aborted.get() == first
        await shown.sees("half an ans", "canceled: aborted by the client")
        assert [turn.state for turn in shown.turns] == [TurnState.CANCELED, TurnState.QUEUED]


@pytest.mark.spec("GC-TUI-006")
async def test_cancel_all_stops_what_is_queued_too_the_last_first() -> None:
    house = House()
    async with house.open(), chat(house) as shown:
        first = await begun(shown, house, "first")
        await shown.type("second")
        second = await house.chats.get()
        await shown.sees("1 queued")
        await shown.type("/cancel all")
        assert [await house.aborted.get(), await house.aborted.get()] == [second, first]
        await shown.until(lambda: "ready" in shown.status)
        await shown.type("/cancel")
        await shown.sees("Nothing is running.")


@pytest.mark.spec("GC-TUI-007")
async def test_an_agent_is_switched_to_with_a_session_of_its_own_and_back_to_the_one_before() -> None:
    house = House()
    async with house.open(), chat(house) as shown:
        task_id = await begun(shown, house, "for the default one")
        await house.answer(task_id, "I am default")
        await shown.sees("I am default")
        home = shown.app.place.session_id
        await shown.type("/agent coder", "for the coder")
        coding = house.tasks[await house.chats.get()]
        assert (coding["agent_id"], coding["session_id"] == home) == ("coder", False)
        await shown.sees("You are talking to Coder", "for the coder", "queued")
        elsewhere = await house.submit("meanwhile at home", home)
        await house.run(coding["id"])
        await shown.sees("working")
        assert "I am default" not in shown.text
        assert "meanwhile at home" not in shown.text, elsewhere
        await shown.type("/agent DEFAULT")
        await shown.sees("for the default one", "I am default")
        assert shown.app.place.session_id == home
        await shown.type("/agent coder")
        await shown.sees("for the coder")


@pytest.mark.spec("GC-TUI-007")
async def test_an_unknown_agent_is_refused_with_the_nearest_name() -> None:
    house = House()
    async with house.open(), chat(house) as shown:
        await shown.type("/agent codr")
        await shown.sees("There is no agent 'codr'. Did you mean coder? Agents: coder, default.")
        assert shown.app.place.agent.id == "default"


@pytest.mark.spec("GC-TUI-007")
async def test_agents_are_listed() -> None:
    house = House()
    async with house.open(), chat(house) as shown:
        await shown.type("/agents")
        await shown.sees("\u25cf default", "coder Coder, mock")


@pytest.mark.spec("GC-TUI-008")
async def test_sessions_are_begun_and_gone_to() -> None:
    house = House()
    async with house.open(), chat(house, start=Start(session="mine")) as shown:
        task_id = await begun(shown, house, "remember this")
        await house.answer(task_id, "I do")
        await shown.sees("I do")
        await shown.type("/new")
        await shown.until(lambda: shown.app.place.session_id.startswith("tui-"))
        assert "remember this" not in shown.text
        await shown.type("/session mine")
        await shown.sees("remember this", "I do")
        await shown.type("/session no/such id")
        await shown.sees("session_id has 1 to 128 characters")
        assert shown.app.place.session_id == "mine"


@pytest.mark.spec("GC-TUI-008")
async def test_a_session_of_another_agent_brings_that_agent() -> None:
    house = House()
    async with house.open(), chat(house) as shown:
        await house.submit("by the coder", "coding", "coder")
        await shown.type("/session coding")
        await shown.sees("by the coder", "coder \u00b7")


@pytest.mark.spec("GC-TUI-009")
async def test_the_history_is_there_at_the_start_with_a_turn_that_still_runs() -> None:
    house = House()
    async with house.open():
        done = await house.submit("done one", "s")
        await house.run(done)
        await house.answer(done, "an *old* answer")
        running = await house.submit("running one", "s")
        await house.run(running)
        (key,) = await house.replied(running, "", ("read_file", {"file_path": "a"}))
        async with chat(house, start=Start(session="s")) as shown:
            await shown.sees("done one", "an old answer", "running one", "read_file a running")
            await house.called(running, key, "done", "found")
            await house.ask(running)
            await house.delta(running, 9, "the end of it")
            await shown.sees("\u2026 the end of it")
            await house.answer(running, "the beginning and the end of it")
            await shown.sees("the beginning and the end of it", "ready")
            assert "\u2026 the end" not in shown.text


@pytest.mark.spec("GC-TUI-010")
async def test_after_a_lost_connection_nothing_is_missing_and_nothing_is_there_twice() -> None:
    house = House()
    async with house.open(), chat(house) as shown:
        task_id = await begun(shown, house, "go on")
        await house.say(task_id, "The first half")
        await shown.sees("The first half")
        readers = house.deafen()
        await house.say(task_id, ", the lost part")
        await house.answer(task_id, "The first half, the lost part, the end.")
        await house.drop(readers)
        await shown.sees("The first half, the lost part, the end.", "ready")
        assert shown.flat.count("The first half") == 1
        assert shown.flat.count("go on") == 1
        asked = house.daemon.params_of("session.events.subscribe")
        assert len(asked) == 2
        assert asked[1]["from_event_id"] > asked[0]["from_event_id"], "it was taken up by the cursor"


@pytest.mark.spec("GC-TUI-010")
async def test_a_restarted_daemon_is_found_again_and_gets_what_was_typed_meanwhile() -> None:
    house = House()
    async with house.open(), chat(house) as shown:
        running = await begun(shown, house, "before")
        await house.say(running, "half")
        await shown.sees("half")
        await house.stop()
        await shown.sees("reconnecting", "The daemon does not answer")
        await shown.type("meanwhile")
        await shown.sees("meanwhile", "sending")
        await house.start()
        meanwhile = await house.chats.get()
        assert house.tasks[meanwhile]["payload"]["content"] == "meanwhile"
        await house.event("task.recovered", running, to="QUEUED")
        await shown.sees("taken up again", "connected")
        await house.run(running)
        await house.say(running, "whole")
        await house.answer(running, "whole")
        await shown.sees("whole")
        assert "half" not in shown.text
        assert shown.flat.count("meanwhile") == 1


@pytest.mark.spec("GC-TUI-010")
async def test_a_replaced_log_is_read_anew() -> None:
    house = House()
    async with house.open(), chat(house) as shown:
        task_id = await begun(shown, house, "hello")
        await house.answer(task_id, "hello yourself")
        await shown.sees("hello yourself")
        house.gap = True
        await house.drop(house.deafen())
        await shown.until(lambda: len(house.daemon.params_of("session.history")) == 2)
        await shown.sees("hello yourself", "connected")
        assert shown.flat.count("hello yourself") == 1


@pytest.mark.spec("GC-TUI-011")
async def test_a_home_that_nobody_serves_is_called_so_and_how_to_help_it() -> None:
    house = House()
    gone = Target("http://127.0.0.1:9", None, guessed=True)
    async with (
        house.open(),
        screen(lambda: house.daemon.target() if house.up else gone, QuickClock()) as shown,
    ):
        await house.stop()
        await shown.sees("daemon gone", "goclaw daemon start")
        await house.start()
        await shown.sees("connected")
        assert "No daemon serves" not in shown.text


@pytest.mark.spec("GC-TUI-012")
async def test_a_directive_goes_to_the_agent_as_it_was_typed() -> None:
    house = House()
    async with house.open(), chat(house) as shown:
        await shown.type('/read_file file_path="a b.txt"', "/agnet {}", " /help")
        typed = [house.tasks[await house.chats.get()]["payload"]["content"] for _ in range(3)]
        assert typed == ['/read_file file_path="a b.txt"', "/agnet {}", "/help"]


@pytest.mark.spec("GC-TUI-012")
async def test_a_slip_in_one_of_our_words_is_held_back() -> None:
    house = House()
    async with house.open(), chat(house) as shown:
        await shown.type("/agnet coder")
        await shown.sees("There is no /agnet; did you mean /agent?")
        assert house.tasks == {}


@pytest.mark.spec("GC-TUI-013")
async def test_what_a_model_writes_cannot_steer_the_terminal() -> None:
    house = House()
    async with house.open(), chat(house) as shown:
        task_id = await begun(shown, house, "attack")
        (key,) = await house.replied(task_id, "a\x1b]52;c;eA==\x07b", ("exec\x1b[2J", {"argv": ["\x1b[31m"]}))
        await house.called(task_id, key, "done", "out\x1b[?1049l")
        await house.fail(task_id, "BAD\x1b[A", "why\u202e\x9b1mnot")
        await shown.sees("a\ufffd]52", "out\ufffd[?1049l", "why\ufffd\ufffd1mnot")
        assert "\x1b" not in shown.text
        assert "\x9b" not in shown.text


@pytest.mark.spec("GC-TUI-013")
async def test_square_brackets_are_words_and_no_markup() -> None:
    house = House()
    async with house.open(), chat(house, size=(120, 30)) as shown:
        task_id = await begun(shown, house, "[bold]me[/bold] [/nothing]")
        await house.fail(task_id, "X", "[red]why[/red] [/]")
        await shown.sees("[bold]me[/bold] [/nothing]", "[red]why[/red] [/]")


@pytest.mark.spec("GC-TUI-014")
async def test_a_long_history_is_drawn_by_few_widgets_and_can_be_scrolled_through() -> None:
    house = House()
    for number in range(80):
        house.add_done(f"question {number}", "- point\n" * 40, "s")
    async with house.open(), chat(house, start=Start(session="s")) as shown:
        await shown.sees("point", "ready")
        prompts = [turn.prompt for turn in shown.turns]
        assert prompts == [f"question {number}" for number in range(30, 80)], "a page of 100 messages"
        assert _blocks(shown) < 700
        transcript = shown.app.query_one(Transcript)
        for _ in range(3):
            await shown.pilot.press("pageup")
        assert transcript.scroll_y < transcript.max_scroll_y
        transcript.scroll_home(animate=False)
        await shown.sees("Earlier messages are not shown here", "question 30")
        transcript.scroll_end(animate=False)
        await shown.type("one more")
        await house.chats.get()
        await shown.sees("one more", "queued")


def _blocks(shown: Screen) -> int:
    return sum(1 for _ in shown.app.query_one(Transcript).walk_children())


@pytest.mark.spec("GC-TUI-014")
async def test_a_very_long_answer_is_plain_text_and_its_end_is_shown() -> None:
    house = House()
    async with house.open(), chat(house) as shown:
        task_id = await begun(shown, house, "a lot")
        await house.answer(task_id, "- point\n" * 20_000 + "the end")
        await shown.sees("the end", "ready")
        assert len(shown.app.query(PlainAnswer)) == 1
        assert len(shown.app.query(Answer)) == 0
        assert _blocks(shown) < 20


@pytest.mark.spec("GC-TUI-015")
async def test_keys_begin_a_line_recall_clear_and_leave() -> None:
    house = House()
    async with house.open(), chat(house) as shown:
        box = shown.app.query_one(PromptBox)
        await shown.pilot.press("a", "ctrl+j", "b", "shift+enter", "c", "enter")
        assert house.tasks[await house.chats.get()]["payload"]["content"] == "a\nb\nc"
        await shown.type("again")
        await shown.pilot.press("d", "up", "up")
        assert box.text == "a\nb\nc"
        await shown.pilot.press("up")
        assert box.text == "a\nb\nc", "Up moves within the text first"
        await shown.pilot.press("down", "down")
        assert box.text == "again"
        await shown.pilot.press("down")
        assert box.text == "d", "what was being typed"
        await shown.pilot.press("ctrl+c")
        assert box.text == ""
        await shown.pilot.press("ctrl+c", "ctrl+c")
        assert shown.app.return_value == 0


@pytest.mark.spec("GC-TUI-016")
async def test_a_message_that_is_refused_says_why_and_comes_back_to_the_line() -> None:
    house = House()
    house.refusal = Refusal(4290, "the queue of agent default is full", code="SATURATED", retryable=True)
    async with house.open(), chat(house) as shown:
        await shown.type("too much")
        await shown.sees("the queue of agent default is full", "SATURATED")
        assert shown.app.query_one(PromptBox).text == "too much"
        assert shown.app.unsent == 0


@pytest.mark.spec("GC-TUI-017")
async def test_without_colour_no_colour_is_sent_and_every_state_has_a_word(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    house = House()
    async with house.open(), chat(house, color=False) as shown:
        task_id = await begun(shown, house, "look")
        (key,) = await house.replied(task_id, "", ("exec", {"argv": ["rm"]}))
        await house.called(task_id, key, "failed", "denied by policy: no", "POLICY_DENIED")
        await shown.sees("exec rm denied: no", "working", "connected")
        colours = set(re.findall(r"fill: ?#([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})", shown.app.export_screenshot()))
        assert all(max(int(one, 16) for one in c) - min(int(one, 16) for one in c) < 8 for c in colours), colours


@pytest.mark.spec("GC-TUI-018")
@pytest.mark.parametrize("size", [(80, 24), (40, 12), (200, 60)])
async def test_it_fits_the_terminal(size: tuple[int, int]) -> None:
    house = House()
    async with house.open(), chat(house, size=size) as shown:
        task_id = await begun(shown, house, "How long is a piece of string, and who measured it first?")
        await house.answer(task_id, "Twice **half** its length.")
        await shown.sees("Twice half its length.", "connected")
        assert "default" in shown.status
        assert all(len(row) <= size[0] + 2 for row in shown.text.splitlines())


@pytest.mark.spec("GC-TUI-018")
async def test_the_help_names_every_command_and_fits_a_small_terminal() -> None:
    house = House()
    async with house.open(), chat(house) as shown:
        await shown.type("/help")
        await shown.sees(*(usage for usage, _ in COMMANDS.values()), *(key for key, _ in KEYS))
        assert "Commands" in shown.text


async def test_a_turn_that_came_from_elsewhere_is_shown_too() -> None:
    house = House()
    async with house.open(), chat(house, start=Start(session="s")) as shown:
        task_id = await house.submit("from another terminal", "s")
        await shown.sees("from another terminal")
        await house.run(task_id)
        await house.answer(task_id, "seen here too")
        await shown.sees("seen here too")
        assert shown.flat.count("from another terminal") == 1


async def test_quitting_in_mid_answer_leaves_quietly() -> None:
    house = House()
    async with house.open(), chat(house) as shown:
        task_id = await begun(shown, house, "go")
        await house.say(task_id, "some ", "words ")
        await shown.sees("some words")
        await house.say(task_id, "more")
        await shown.type("/quit")
        assert shown.app.return_value == 0


async def test_words_that_come_before_the_call_they_follow_are_put_in_order() -> None:
    house, held = House(), asyncio.Event()
    true_answer = house.daemon.methods["task.steps"]

    async def late(peer: Peer, params: dict[str, Any]) -> Any:
        async with asyncio.timeout(20):
            await held.wait()
        return await true_answer(peer, params)

    house.daemon.on("task.steps", late)
    async with house.open(), chat(house) as shown:
        task_id = await begun(shown, house, "go")
        await house.say(task_id, "The file says hello.")
        await shown.sees("The file says hello.")
        (key,) = await house.replied(task_id, "", ("read_file", {"file_path": "a"}))
        await shown.sees("The file says hello. \u25b8 read_file running")
        held.set()
        await house.called(task_id, key, "done", "hello")
        await house.ask(task_id)
        await house.answer(task_id, "The file says hello.")
        await shown.sees("\u2713 read_file a hello The file says hello.", "ready")
        assert shown.flat.count("The file says hello.") == 1


@pytest.mark.spec("GC-TUI-010")
async def test_what_could_not_be_read_when_the_daemon_went_is_read_when_it_is_back() -> None:
    house = House()
    true_answer = house.daemon.methods["task.steps"]
    asked = asyncio.Event()

    async def dying(peer: Peer, params: dict[str, Any]) -> Any:
        if not asked.is_set():
            asked.set()
            await peer.drop()
            await asyncio.Event().wait()
        return await true_answer(peer, params)

    house.daemon.on("task.steps", dying)
    async with house.open(), chat(house) as shown:
        task_id = await begun(shown, house, "go")
        await house.answer(task_id, "The whole answer.")
        await asked.wait()
        await house.stop()
        await shown.sees("reconnecting")
        await house.start()
        await shown.sees("The whole answer.", "connected")


@pytest.mark.spec("GC-TUI-016")
async def test_a_message_on_its_way_stays_on_screen_when_the_conversation_is_read_anew() -> None:
    house, over = House(), asyncio.Event()

    async def slow(_: Peer, __: dict[str, Any]) -> Any:
        await over.wait()
        raise Refusal(4290, "too late", code="SATURATED")

    house.daemon.on("agent.chat", slow)
    async with house.open(), chat(house) as shown:
        await shown.type("on its way")
        await shown.sees("on its way", "sending")
        house.gap = True
        await house.drop(house.deafen())
        await shown.until(lambda: len(house.daemon.params_of("session.history")) == 2)
        await shown.sees("on its way", "sending", "connected")
        assert shown.app.unsent == 1
        await shown.pilot.press("escape")
        await shown.sees("canceled: taken back before it was sent")
        assert shown.app.unsent == 0
        over.set()


@pytest.mark.spec("GC-TUI-013")
async def test_a_link_that_a_model_wrote_is_shown_and_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    house = House()
    async with house.open(), chat(house) as shown:
        opened: list[str] = []
        monkeypatch.setattr(shown.app, "open_url", opened.append)
        task_id = await begun(shown, house, "a link, please")
        await house.answer(task_id, "[click](https://example.org/x)")
        await shown.sees("click", "ready")
        answer = shown.app.query_one(Answer)
        answer.post_message(Answer.LinkClicked(answer, "https://example.org/x"))
        await shown.pilot.pause()
        await shown.until(lambda: any("example.org/x" in one.message for one in _notices(shown)))
        assert opened == []


def _notices(shown: Screen) -> list[Notification]:
    return list(shown.app._notifications)  # noqa: SLF001 - textual shows them, and tells nobody what they are
