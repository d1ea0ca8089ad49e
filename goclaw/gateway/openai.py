"""`/v1/models` and `/v1/chat/completions`: the OpenAI dialect on top of submit and stream.

Agent mode: one durable task, our tools run inside, the client sees the text; a client that leaves detaches.
Pass-through (`goclaw/raw`, or the client brings tools): one provider call, no task; the client's tools come back as
calls; a client that leaves cancels.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from goclaw.clock import new_id
from goclaw.core.access import Access
from goclaw.core.chat import ChatRequest, NewMessage, Reply, Text
from goclaw.core.task import NewTask, Task, TaskState
from goclaw.errors import (
    BadRequest,
    Denied,
    GoclawError,
    ProviderUnavailable,
)
from goclaw.gateway.bodies import CLIENT_LEFT, EventStream, Write, read_body, unless_client_leaves
from goclaw.gateway.house import House
from goclaw.gateway.openai_stream import DONE, NO_ANSWER, ShownText, pass_deltas, stream_raw
from goclaw.gateway.openai_wire import (
    FINISH,
    HOUSE_MODEL,
    RAW_MODEL,
    ChatCompletion,
    Chunks,
    ModelNotFound,
    TurnFailed,
    agent_of,
    completion,
    error_body,
    finish_reason,
    read_request,
    usage_object,
)
from goclaw.wire.frames import dump


def openai_routes(house: House) -> list[Route]:
    """The three routes of the dialect."""
    door = _Door(house)
    return [
        Route("/v1/models", door.models),
        Route("/v1/models/{model:path}", door.model),
        Route("/v1/chat/completions", door.chat, methods=["POST"]),
    ]


class _Door:
    """Requests in, answers in the dialect's shapes; errors too."""

    def __init__(self, house: House) -> None:
        self._house = house

    async def models(self, _: Request) -> Response:
        names = [HOUSE_MODEL, RAW_MODEL, *(f"goclaw/{agent}" for agent in self._house.agents())]
        return JSONResponse({"object": "list", "data": [self._model(name) for name in names]})

    async def model(self, request: Request) -> Response:
        name = request.path_params["model"]
        try:
            self._check_model(name)
        except GoclawError as error:
            return _error(error)
        return JSONResponse(self._model(name))

    async def chat(self, request: Request) -> Response:
        return await self._answered(self._chat(request))

    async def _chat(self, request: Request) -> Response:
        wanted = read_request(await read_body(request), request.headers.get("x-goclaw-session"))
        self._check_model(wanted.model)
        decision = self._house.authorize(Access("client", "acp.mutate", "chat.completions"))
        if not decision.allowed:
            raise Denied(f"policy denies acp.mutate: {decision.reason}")
        if wanted.raw:
            return await self._while_there(request, self._pass_through(wanted))
        task = (await self._house.tasks.submit(_as_task(wanted, request.headers.get("idempotency-key")))).task
        if wanted.stream:
            chunks = Chunks(f"chatcmpl-{task.id}", task.created_at // 1000, wanted.model)
            return EventStream(lambda write: self._told(write, self._stream_turn(wanted, task, chunks, write)))
        return await self._while_there(request, self._turn(wanted, task))

    async def _answered(self, work: Awaitable[Response]) -> Response:
        """The answer, or the error in the dialect's shape: the one place of this door that catches everything."""
        try:
            return await work
        except GoclawError as error:
            return _error(error)
        except ClientDisconnect:
            return Response(status_code=CLIENT_LEFT)
        except Exception as error:
            return _error(self._internal(error))

    async def _while_there(self, request: Request, work: Awaitable[Response]) -> Response:
        """The answer; cancelled when the client leaves before it."""
        answer = await unless_client_leaves(request.receive, self._answered(work))
        return Response(status_code=CLIENT_LEFT) if answer is None else answer

    def _check_model(self, name: str) -> None:
        if name != RAW_MODEL and agent_of(name) not in self._house.agents():
            raise ModelNotFound(f"the model {name!r} does not exist; ask /v1/models", model=name)

    def _model(self, name: str) -> dict[str, Any]:
        created = self._house.identity.started_at // 1000
        return {"id": name, "object": "model", "created": created, "owned_by": "goclaw"}

    async def _turn(self, wanted: ChatCompletion, task: Task) -> Response:
        final = await self._house.waiters.wait(task.id, None)
        _raise_unless_succeeded(final)
        rest = {"finish_reason": FINISH[final.result["stop_reason"]], "usage": usage_object(final.usage)}
        created, text = task.created_at // 1000, (Text(final.result["text"]),)
        return JSONResponse(completion(f"chatcmpl-{task.id}", created, wanted.model, text, rest))

    async def _stream_turn(self, wanted: ChatCompletion, task: Task, chunks: Chunks, write: Write) -> None:
        """The text of a task as it is written. Deltas may be lost; the answer may not."""
        with self._house.bus.subscribe(lambda delta: delta.task_id == task.id) as reader:
            shown = ShownText(chunks, write)
            await write(chunks.delta({"role": "assistant", "content": ""}))
            async with asyncio.TaskGroup() as group:
                passing = group.create_task(pass_deltas(reader, shown))
                final = await self._ended(task.id)
                passing.cancel()
            await shown.pass_on(reader)
        if isinstance(final, GoclawError):
            raise final
        _raise_unless_succeeded(final)
        await shown.complete(final.result["text"])
        await write(chunks.delta({}, FINISH[final.result["stop_reason"]]))
        if wanted.include_usage:
            await write(chunks.usage(usage_object(final.usage)))
        await write(DONE)

    async def _ended(self, task_id: str) -> Task | GoclawError:
        """The ended task, or why it cannot be waited for: a value, so that it leaves a task group as it is."""
        try:
            return await self._house.waiters.wait(task_id, None)
        except GoclawError as error:
            return error

    async def _pass_through(self, wanted: ChatCompletion) -> Response:
        """One call of the provider."""
        stream = self._house.provider_for(self._house.agents()[wanted.agent_id]).stream(_as_request(wanted))
        created = self._house.clock.wall() // 1000
        completion_id = f"chatcmpl-{new_id(self._house.clock)}"
        if wanted.stream:
            # The first chunk decides the status: an error before it is an HTTP error, not a broken stream.
            first = await anext(aiter(stream), None)
            if first is None:
                raise ProviderUnavailable(NO_ANSWER)
            chunks = Chunks(completion_id, created, wanted.model)
            return EventStream(lambda write: self._told(write, stream_raw(wanted, first, stream, chunks, write)))
        async for chunk in stream:
            if isinstance(chunk, Reply):
                rest = {"finish_reason": finish_reason(chunk), "usage": usage_object(chunk.usage.as_json())}
                return JSONResponse(completion(completion_id, created, wanted.model, chunk.blocks, rest))
        raise ProviderUnavailable(NO_ANSWER)

    async def _told(self, write: Write, work: Awaitable[None]) -> None:
        """Do it; what goes wrong after the head was sent is the last item of the stream."""
        try:
            await work
        except GoclawError as error:
            await write(f"data: {dump(error_body(error)[1])}\n\n")
        except Exception as error:
            await write(f"data: {dump(error_body(self._internal(error))[1])}\n\n")

    def _internal(self, error: Exception) -> GoclawError:
        self._house.report("http /v1/chat/completions", error)
        return GoclawError("an internal error; see the log")


def _as_task(wanted: ChatCompletion, key: str | None) -> NewTask:
    """The turn: with a session only the last user message is new, without one all of them are."""
    last = wanted.messages[-1]
    if last.role != "user":
        raise BadRequest("the last message is the user's", field="messages")
    given = (last,) if wanted.session_id else wanted.messages
    return NewTask(
        kind="chat",
        payload={"content": last.text},
        agent_id=wanted.agent_id,
        session_id=wanted.session_id,
        idempotency_key=key,
        messages=tuple(NewMessage(role=one.role, blocks=one.blocks) for one in given if one.blocks),
    )


def _as_request(wanted: ChatCompletion) -> ChatRequest:
    system = "\n\n".join(message.text for message in wanted.messages if message.role == "system")
    return ChatRequest(
        system=system,
        messages=tuple(message for message in wanted.messages if message.role != "system"),
        tools=wanted.tools,
        max_tokens=wanted.max_tokens,
        temperature=wanted.temperature,
        top_p=wanted.top_p,
        stop=wanted.stop,
    )


def _raise_unless_succeeded(task: Task) -> None:
    if task.state is TaskState.SUCCEEDED:
        return
    raise TurnFailed(task.error or f"the task ended as {task.state}", error_code=task.error_code)


def _error(error: GoclawError) -> Response:
    status, body = error_body(error)
    headers = {}
    if status == 429 or error.retryable:
        headers["retry-after"] = str(max(1, int(error.data.get("retry_after_ms") or 1000) // 1000))
    return JSONResponse(body, status, headers)
