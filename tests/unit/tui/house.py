"""A daemon made of a script: it keeps sessions, tasks, journals and a numbered log, and does what a test
tells it.

It speaks the true frames over a true socket. Turns move only when the test says so: `run`, `say`, `call`,
`answer`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from websockets.exceptions import ConnectionClosed

from tests.unit.client.conftest import FakeDaemon, Peer, Refusal

NOW = 1_789_948_800_000
POLICY = "70185db11d334a111ed5203b8007e5d281ccbec0cabebbcc91c92ccd9a844b9b"


class QuickClock:
    """Stands still at three seconds past NOW; nobody who sleeps waits."""

    def __init__(self) -> None:
        self.now = NOW + 3_000

    def wall(self) -> int:
        return self.now

    def monotonic(self) -> int:
        return self.now

    async def sleep(self, ms: float) -> None:
        await asyncio.sleep(0)


class House:
    """`chats` gets every task id as it is submitted."""

    def __init__(self) -> None:
        self.daemon = FakeDaemon()
        self.agents: list[dict[str, Any]] = [_agent("default"), _agent("coder")]
        self.sessions: dict[str, dict[str, Any]] = {}
        self.tasks: dict[str, dict[str, Any]] = {}
        self.journals: dict[str, list[dict[str, Any]]] = {}
        self.items: list[dict[str, Any]] = []
        self.log: list[dict[str, Any]] = []
        self.chats: asyncio.Queue[str] = asyncio.Queue()
        self.aborted: asyncio.Queue[str] = asyncio.Queue()
        self.refusal: Refusal | None = None
        self.gap = False
        self.up = False
        self._readers: list[tuple[Peer, str]] = []
        self._serving = AsyncExitStack()
        self._seqs: dict[str, int] = {}
        self._port = 0
        for method, answer in {
            "system.status": self._status,
            "agent.list": self._agents,
            "tools.list": self._tools,
            "session.list": self._sessions,
            "session.get": self._session,
            "session.history": self._history,
            "session.events.subscribe": self._subscribe,
            "task.list": self._task_list,
            "task.get": self._task,
            "task.steps": self._steps,
            "agent.chat": self._chat,
            "agent.abort": self._abort,
        }.items():
            self.daemon.on(method, answer)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[None]:
        """Serve."""
        await self.start()
        try:
            yield
        finally:
            await self.stop()

    async def start(self) -> None:
        """Serve; the second time at the same address, as a daemon that was started again."""
        self._serving = AsyncExitStack()
        server = await self._serving.enter_async_context(self.daemon.run(self._port))
        self._port = server.sockets[0].getsockname()[1]
        self.up = True

    async def stop(self) -> None:
        """Be gone."""
        self.up = False
        await self.drop(self.deafen())
        await self._serving.aclose()

    def deafen(self) -> list[tuple[Peer, str]]:
        """Whoever reads hears nothing any more, and does not know it."""
        readers, self._readers = self._readers, []
        return readers

    async def drop(self, readers: list[tuple[Peer, str]]) -> None:
        """Cut readers off."""
        for peer, _ in readers:
            await peer.drop()

    # What happens to a turn

    async def submit(self, content: str, session_id: str, agent_id: str = "default", key: str | None = None) -> str:
        """A turn is stored; its task id."""
        task_id = self._add_task(content, session_id, agent_id, key)
        self._add_item(task_id, "user", content)
        await self.event("task.enqueued", task_id, to="QUEUED", kind="chat")
        return task_id

    def _add_task(self, content: str, session_id: str, agent_id: str, key: str | None) -> str:
        task_id = f"task-{len(self.tasks) + 1}"
        if session_id not in self.sessions:
            self.sessions[session_id] = {
                "id": session_id,
                "agent_id": agent_id,
                "created_at": NOW,
                "updated_at": NOW,
            }
        self.tasks[task_id] = {
            "id": task_id,
            "kind": "chat",
            "session_id": session_id,
            "agent_id": agent_id,
            "state": "QUEUED",
            "payload": {"content": content},
            "idempotency_key": key or f"key-{task_id}",
            "created_at": NOW + len(self.tasks),
            "updated_at": NOW,
        }
        self.journals[task_id] = []
        return task_id

    def add_done(self, content: str, answer: str, session_id: str) -> None:
        """A turn that ended before anybody looked."""
        task_id = self._add_task(content, session_id, "default", None)
        self._add_item(task_id, "user", content)
        self._add_item(task_id, "assistant", answer)
        self.tasks[task_id]["state"] = "SUCCEEDED"

    async def run(self, task_id: str) -> None:
        """A worker takes the turn."""
        self._seqs[task_id] = 0
        await self.event("task.claimed", task_id, to="CLAIMED")
        await self.event("task.running", task_id, to="RUNNING")
        await self.ask(task_id)

    async def ask(self, task_id: str) -> None:
        """The model is asked once more."""
        rounds = sum(1 for step in self.journals[task_id] if step["kind"] == "llm")
        await self._begin_step(task_id, f"llm:{rounds}", "llm")

    async def say(self, task_id: str, *pieces: str, reset: bool = False) -> None:
        """Pieces of the answer, as deltas."""
        for piece in pieces:
            self._seqs[task_id] += 1
            await self.delta(task_id, self._seqs[task_id], piece, reset)

    async def delta(self, task_id: str, seq: int, content: str, reset: bool = False) -> None:
        """One delta."""
        session_id = self.tasks[task_id]["session_id"]
        told = {"task_id": task_id, "session_id": session_id, "seq": seq, "content": content}
        await self._tell("agent.delta", session_id, told | ({"reset": True} if reset else {}))

    async def replied(self, task_id: str, text: str, *calls: tuple[str, dict[str, Any]]) -> list[str]:
        """The model's reply is in the journal; the keys of the calls, which begin at once."""
        blocks: list[dict[str, Any]] = [{"type": "text", "text": text}] if text else []
        blocks += [
            {"type": "tool_call", "id": f"c{n}", "name": call[0], "arguments": call[1]} for n, call in enumerate(calls)
        ]
        llm = next(step for step in reversed(self.journals[task_id]) if step["kind"] == "llm")
        await self._end_step(task_id, llm, "done", {"blocks": blocks, "provider": "mock", "model": "mock-1"})
        keys = []
        for tool, _ in calls:
            keys.append(f"{tool}-{len(self.journals[task_id])}")
            await self._begin_step(task_id, keys[-1], "tool", tool)
        return keys

    async def called(self, task_id: str, key: str, state: str, text: str, code: str | None = None) -> None:
        """A call ended."""
        step = next(step for step in self.journals[task_id] if step["key"] == key)
        await self._end_step(task_id, step, state, {"text": text, "is_error": state != "done", "code": code})

    async def answer(self, task_id: str, text: str) -> None:
        """The turn ends well."""
        await self.replied(task_id, text)
        self._add_item(task_id, "assistant", text)
        self.tasks[task_id]["result"] = {"text": text, "model": "mock-1", "provider": "mock"}
        await self.event("task.succeeded", task_id, to="SUCCEEDED")

    async def fail(self, task_id: str, code: str, error: str) -> None:
        """The turn fails for good."""
        self.tasks[task_id] |= {"error": error, "error_code": code}
        await self.event("task.failed", task_id, to="FAILED", error=error, error_code=code)

    async def event(self, event_type: str, task_id: str | None, /, to: str | None = None, **payload: Any) -> None:
        """Append to the log, and tell who reads it."""
        task = self.tasks.get(task_id or "", {})
        if to is not None:
            task["state"] = to
        self.log.append(
            {
                "event_id": len(self.log) + 1,
                "event_type": event_type,
                "task_id": task_id,
                "session_id": task.get("session_id"),
                "state_from": None,
                "state_to": to,
                "run_id": None,
                "trace_id": None,
                "payload": payload,
                "created_at": NOW,
            }
        )
        await self._tell("session.event", task.get("session_id"), self.log[-1])

    async def _begin_step(self, task_id: str, key: str, kind: str, tool: str | None = None) -> None:
        step = {
            "key": key,
            "seq": len(self.journals[task_id]) + 1,
            "kind": kind,
            "state": "running",
            "tool": tool,
        }
        self.journals[task_id].append(step)
        told: dict[str, Any] = {name: step[name] for name in ("key", "seq", "kind", "tool")}
        await self.event("step.intended", task_id, **told)
        await self.event("step.running", task_id, **told)

    async def _end_step(self, task_id: str, step: dict[str, Any], state: str, result: Mapping[str, Any]) -> None:
        step |= {"state": state, "result": result}
        await self.event(f"step.{state}", task_id, **{name: step[name] for name in ("key", "seq", "kind", "tool")})

    def _add_item(self, task_id: str, role: str, text: str) -> None:
        task = self.tasks[task_id]
        self.items.append(
            {
                "id": len(self.items) + 1,
                "session_id": task["session_id"],
                "agent_id": task["agent_id"],
                "role": role,
                "text": text,
                "content": [{"type": "text", "text": text}],
                "task_id": task_id,
                "created_at": NOW,
            }
        )

    async def _tell(self, method: str, session_id: str | None, params: dict[str, Any]) -> None:
        for peer, wanted in tuple(self._readers):
            if wanted == session_id:
                try:
                    await peer.notify(method, params)
                except ConnectionClosed:
                    self._readers.remove((peer, wanted))

    # What it answers

    async def _status(self, _: Peer, __: dict[str, Any]) -> Any:
        return {"policy_version": POLICY, "db": {"latest_event_id": len(self.log)}}

    async def _agents(self, _: Peer, __: dict[str, Any]) -> Any:
        return {"agents": self.agents}

    async def _tools(self, _: Peer, __: dict[str, Any]) -> Any:
        return {"tools": [{"name": "read_file"}, {"name": "exec"}]}

    async def _sessions(self, _: Peer, __: dict[str, Any]) -> Any:
        return {"sessions": list(reversed(self.sessions.values()))}

    async def _session(self, _: Peer, params: dict[str, Any]) -> Any:
        return self._known(self.sessions, params["session_id"])

    async def _history(self, _: Peer, params: dict[str, Any]) -> Any:
        self._known(self.sessions, params["session_id"])
        mine = [item for item in self.items if item["session_id"] == params["session_id"]]
        return {"items": mine[-params["limit"] :]}

    async def _subscribe(self, peer: Peer, params: dict[str, Any]) -> Any:
        if self.gap:
            self.gap = False
            raise Refusal(4100, "the cursor belongs to another log", code="REPLAY_GAP", resume_from=0)
        after = [event for event in self.log if event["event_id"] > params["from_event_id"]]
        mine = [event for event in after if event["session_id"] == params["session_id"]]
        for event in mine:
            await peer.notify("session.event", event)
        self._readers.append((peer, params["session_id"]))
        return {"subscribed": True, "replayed": len(mine), "latest_event_id": len(self.log)}

    async def _task_list(self, _: Peer, params: dict[str, Any]) -> Any:
        mine = [task for task in self.tasks.values() if task["session_id"] == params["session_id"]]
        return {"tasks": list(reversed(mine))[: params["limit"]]}

    async def _task(self, _: Peer, params: dict[str, Any]) -> Any:
        return self._known(self.tasks, params["task_id"])

    async def _steps(self, _: Peer, params: dict[str, Any]) -> Any:
        return {"steps": self._known(self.journals, params["task_id"])}

    async def _chat(self, _: Peer, params: dict[str, Any]) -> Any:
        if self.refusal is not None:
            raise self.refusal
        key = params["idempotency_key"]
        known = [task for task in self.tasks.values() if task["idempotency_key"] == key]
        task_id = known[0]["id"] if known else ""
        if not known:
            task_id = await self.submit(params["content"], params["session_id"], params["agent_id"], key)
            self.chats.put_nowait(task_id)
        return {"task_id": task_id, "session_id": params["session_id"], "deduplicated": bool(known)}

    async def _abort(self, _: Peer, params: dict[str, Any]) -> Any:
        task_id = params["task_id"]
        await self.event("task.canceled", task_id, to="CANCELED", error_code="CANCELED", reason="aborted by the client")
        self.aborted.put_nowait(task_id)
        return {"aborted": True}

    def _known(self, kept: Mapping[str, Any], name: str) -> Any:
        if name not in kept:
            raise Refusal(4040, f"there is no {name}", code="NOT_FOUND", retryable=False)
        return kept[name]


def _agent(name: str) -> dict[str, Any]:
    return {"agent_id": name, "display_name": name.title(), "providers": ["mock"], "model": None, "tools": []}
