"""`/v1/models` and `/v1/chat/completions`: the OpenAI dialect on top of submit and stream.

Agent mode: one durable task, our tools run inside, the client sees the text; a client that leaves detaches. Pass-through
(`goclaw/raw`, or the client brings tools): one provider call, no task; the client's tools come back as calls; a client
that leaves cancels.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from goclaw.bus import Subscription
from goclaw.core.access import Access
from goclaw.core.chat import ChatRequest, NewMessage, Reply, TextChunk
from goclaw.core.task import NewTask, Task, TaskState
from goclaw.errors import (
    BadRequest,
    Denied,
    GoclawError,
    NoProvider,
    ProviderUnavailable,
    RateLimited,
    TooLarge,
)
from goclaw.gateway.house import House
from goclaw.gateway.openai_wire import (
    FINISH,
    HOUSE_MODEL,
    RAW_MODEL,
    ChatCompletion,
    Chunks,
    ModelNotFound,
    agent_of,
    completion,
    error_body,
    finish_reason,
    read_request,
    usage_object,
)
from goclaw.wire.frames import FRAME_BYTES, dump

DONE = "data: [DONE]\n\n"
_TASK_ERRORS: dict[str, type[GoclawError]] = {
    "NO_PROVIDER": NoProvider,
    "RATE_LIMITED": RateLimited,
    "PROVIDER_UNAVAILABLE": ProviderUnavailable,
    "POLICY_DENIED": Denied,
}


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
        try:
            wanted = read_request(await _read(request), request.headers.get("x-goclaw-session"))
            self._check_model(wanted.model)
            decision = self._house.authorize(Access("client", "acp.mutate", "chat.completions"))
            if not decision.allowed:
                raise Denied(f"policy denies acp.mutate: {decision.reason}")
            if wanted.raw:
                return await self._pass_through(wanted)
            return await self._agent(wanted, request.headers.get("idempotency-key"))
        except GoclawError as error:
            return _error(error)
        except Exception as error:
            self._house.report("http /v1/chat/completions", error)
            return _error(GoclawError("an internal error; see the log"))

    def _check_model(self, name: str) -> None:
        if name != RAW_MODEL and agent_of(name) not in self._house.agents():
            raise ModelNotFound(f"the model {name!r} does not exist; ask /v1/models", model=name)

    def _model(self, name: str) -> dict[str, Any]:
        created = self._house.identity.started_at // 1000
        return {"id": name, "object": "model", "created": created, "owned_by": "goclaw"}

    async def _agent(self, wanted: ChatCompletion, key: str | None) -> Response:
        done = await self._house.tasks.submit(_as_task(wanted, key))
        task = done.task
        created = task.created_at // 1000
        if wanted.stream:
            chunks = Chunks(f"chatcmpl-{task.id}", created, wanted.model)
            return _stream(self._agent_stream(wanted, task, chunks))
        final = await self._house.waiters.wait(task.id, None)
        _raise_unless_succeeded(final)
        rest = {
            "finish_reason": FINISH[final.result["stop_reason"]],
            "usage": usage_object(final.usage),
        }
        body = completion(f"chatcmpl-{task.id}", created, wanted.model, (), rest)
        body["choices"][0]["message"]["content"] = final.result["text"]
        return JSONResponse(body)

    async def _agent_stream(self, wanted: ChatCompletion, task: Task, chunks: Chunks) -> AsyncIterator[str]:
        yield chunks.delta({"role": "assistant", "content": ""})
        shown = ""
        with self._house.bus.subscribe(lambda delta: delta.task_id == task.id) as reader:
            waiting = asyncio.ensure_future(self._house.waiters.wait(task.id, None))
            try:
                while not waiting.done():
                    bell = asyncio.ensure_future(reader.wait())
                    await asyncio.wait({bell, waiting}, return_when=asyncio.FIRST_COMPLETED)
                    bell.cancel()
                    for text in _texts(reader):
                        shown += text
                        yield chunks.delta({"content": text})
                final = await waiting
                for text in _texts(reader):
                    shown += text
                    yield chunks.delta({"content": text})
            finally:
                waiting.cancel()
        try:
            _raise_unless_succeeded(final)
        except GoclawError as error:
            yield f"data: {dump(error_body(error)[1])}\n\n"
            return
        # Deltas may be lost; the answer may not: what was not shown of it is sent now.
        rest = final.result["text"]
        if not shown.endswith(rest):
            yield chunks.delta({"content": rest if not rest.startswith(shown) else rest[len(shown) :]})
        yield chunks.delta({}, FINISH[final.result["stop_reason"]])
        if wanted.include_usage:
            yield chunks.usage(usage_object(final.usage))
        yield DONE

    async def _pass_through(self, wanted: ChatCompletion) -> Response:
        agent = self._house.agents()[wanted.agent_id]
        stream = self._house.provider_for(agent).stream(_as_request(wanted))
        created = self._house.clock.wall() // 1000
        completion_id = f"chatcmpl-raw-{self._house.clock.monotonic()}"
        if wanted.stream:
            # The first chunk decides the status: an error before it is an HTTP error, not a broken stream.
            first = await anext(aiter(stream))
            return _stream(_raw_stream(wanted, first, stream, Chunks(completion_id, created, wanted.model)))
        async for chunk in stream:
            if isinstance(chunk, Reply):
                rest = {"finish_reason": finish_reason(chunk), "usage": usage_object(chunk.usage.as_json())}
                return JSONResponse(completion(completion_id, created, wanted.model, chunk.blocks, rest))
        raise ProviderUnavailable("the provider's stream ended without an answer")


async def _raw_stream(
    wanted: ChatCompletion, first: TextChunk | Reply, rest: AsyncIterator[TextChunk | Reply], chunks: Chunks
) -> AsyncIterator[str]:
    yield chunks.delta({"role": "assistant", "content": ""})
    chunk: TextChunk | Reply | None = first
    try:
        while chunk is not None:
            if isinstance(chunk, Reply):
                for frame in chunks.calls(chunk.blocks):
                    yield frame
                yield chunks.delta({}, finish_reason(chunk))
                if wanted.include_usage:
                    yield chunks.usage(usage_object(chunk.usage.as_json()))
                yield DONE
                return
            if chunk.text:
                yield chunks.delta({"content": chunk.text})
            chunk = await anext(rest, None)
    except GoclawError as error:
        yield f"data: {dump(error_body(error)[1])}\n\n"


def _texts(reader: Subscription) -> list[str]:
    texts = []
    while reader.deltas:
        texts.append(reader.deltas.popleft().content)
    return [text for text in texts if text]


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
    kind = _TASK_ERRORS.get(task.error_code or "", GoclawError)
    raise kind(task.error or f"the task ended as {task.state}")


async def _read(request: Request) -> bytes:
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > FRAME_BYTES:
            raise TooLarge("a request has at most 4 MiB", limit=FRAME_BYTES)
        chunks.append(chunk)
    return b"".join(chunks)


def _stream(frames: AsyncIterator[str]) -> Response:
    return StreamingResponse(frames, media_type="text/event-stream", headers={"cache-control": "no-cache"})


def _error(error: GoclawError) -> Response:
    status, body = error_body(error)
    headers = {}
    if status == 429:
        headers["retry-after"] = str(max(1, int(error.data.get("retry_after_ms") or 1000) // 1000))
    return JSONResponse(body, status, headers)
