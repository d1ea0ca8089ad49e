"""Frames in, frames out, whatever a method does."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from goclaw.core.access import Decision, Verdict
from goclaw.errors import NotFound
from goclaw.gateway.methods import all_methods
from goclaw.gateway.rpc import Call, Dispatcher, Method
from goclaw.wire.params import Nothing, TaskId

SECRET = "sk-ant-0123456789"


class Kitchen:
    """A house that allows everything and notes what is asked and reported."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.reported: list[str] = []
        self.house: Any = SimpleNamespace(authorize=self._authorize, report=self._report)

    def _authorize(self, access: Any) -> Decision:
        self.asked.append((access.capability, access.resource))
        return Decision(Verdict.ALLOW, "test", "v")

    def _report(self, where: str, error: BaseException) -> None:
        self.reported.append(f"{where}: {error}")


async def _break(_: Call, __: Nothing) -> Any:
    raise RuntimeError(f"the key is {SECRET}")


async def _miss(_: Call, params: TaskId) -> Any:
    raise NotFound("no such task", id="not the id of the frame", task_id=params.task_id)


METHODS = {
    "x.break": Method("x.break", Nothing, "acp.read", _break),
    "x.miss": Method("x.miss", TaskId, "acp.mutate", _miss),
}


async def answer(kitchen: Kitchen, method: str, *, notify: bool = False, **params: Any) -> Any:
    frame = {"jsonrpc": "2.0", "method": method, "params": params} | ({} if notify else {"id": 7})
    text, then = await Dispatcher(kitchen.house, METHODS).answer(json.dumps(frame))
    assert then is None
    return None if text is None else json.loads(text)


@pytest.mark.spec("GC-ACP-211")
async def test_an_unforeseen_error_is_32603_reported_inside_and_told_outside_without_its_text() -> None:
    kitchen = Kitchen()
    told = await answer(kitchen, "x.break")
    assert (told["id"], told["error"]["code"]) == (7, -32603)
    assert told["error"]["data"] == {"code": "INTERNAL", "retryable": False}
    assert SECRET not in json.dumps(told)
    assert kitchen.reported == [f"rpc x.break: the key is {SECRET}"]


@pytest.mark.spec("GC-ACP-206")
async def test_a_notification_is_not_answered_however_it_ends() -> None:
    kitchen = Kitchen()
    for method, params in (("x.break", {}), ("x.miss", {"task_id": "t"}), ("x.none", {}), ("x.miss", {})):
        assert await answer(kitchen, method, notify=True, **params) is None
    assert len(kitchen.reported) == 1


@pytest.mark.spec("GC-ACP-205")
async def test_what_an_error_knows_stands_in_its_data() -> None:
    told = await answer(Kitchen(), "x.miss", task_id="t")
    assert told["id"] == 7
    assert told["error"]["data"] == {"code": "NOT_FOUND", "retryable": False, "task_id": "t"}


@pytest.mark.spec("GC-SEC-204")
async def test_a_method_is_authorized_by_its_own_capability_after_its_parameters_were_read() -> None:
    kitchen = Kitchen()
    await answer(kitchen, "x.miss", task_id="t")
    assert kitchen.asked == [("acp.mutate", "x.miss")]
    await answer(kitchen, "x.miss", wrong="t")
    assert len(kitchen.asked) == 1


@pytest.mark.spec("GC-SEC-204")
def test_every_method_has_one_capability_and_its_name_once() -> None:
    methods = all_methods()
    assert {method.capability for method in methods.values()} == {"acp.read", "acp.mutate"}
    assert [method.name for method in methods.values() if method.needs_socket] == [
        "agent.chat.stream",
        "session.events.subscribe",
        "session.events.unsubscribe",
    ]
    with pytest.raises(ValueError, match=r"task\.get"):
        all_methods((methods["task.get"],))
