"""A chat turn: ask the model, carry out its calls, until it answers. Every step is in the journal.

A reply is committed before it is used, so it is never paid twice; only the call in flight at a crash is made again.
What the model is told is pinned when the turn begins (system text, tools, bounds of the history) and made from what is
recorded alone, so with equal outcomes the prompt after a recovery is byte-identical; a recorded step whose request
differs is refused, never used.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from goclaw.brain.calls import Calls
from goclaw.core.agent import Agent
from goclaw.core.canonical import canonical_json, digest
from goclaw.core.chat import (
    Block,
    ChatRequest,
    Message,
    NewMessage,
    Reply,
    TextChunk,
    ToolCall,
    ToolResult,
    ToolSpec,
    Usage,
    decode_reply,
    encode_reply,
)
from goclaw.core.outcome import Closing, Failed, Outcome, Succeeded, failure
from goclaw.core.ports import Attempt, Handler, Provider, Toolbox
from goclaw.core.step import ENDED, End, Intend, JournalEntry, Start, StepState, open_key
from goclaw.errors import JournalMismatch, NotFound, ProviderError, ProviderUnavailable

TURN_KEY = "turn"


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnParts:
    """What turns are made of; given by the composition root."""

    agents: Callable[[], Mapping[str, Agent]]
    provider_for: Callable[[Agent, str], Provider]
    """The agent's chain for a task of this id."""
    toolbox: Toolbox
    system_text: Callable[[Agent], str]


def chat_handler(parts: TurnParts) -> Handler:
    """A handler of the kind `chat`."""

    async def handle(attempt: Attempt) -> Outcome:
        agent = parts.agents().get(attempt.task.agent_id)
        if agent is None:
            raise NotFound(f"agent {attempt.task.agent_id} is no longer configured")
        return await _Turn(attempt, agent, parts).run()

    return handle


class _Turn:
    """One attempt at one turn."""

    def __init__(self, attempt: Attempt, agent: Agent, parts: TurnParts) -> None:
        self._attempt = attempt
        self._agent = agent
        self._parts = parts
        self._calls = Calls(attempt, parts.toolbox)
        self._usage = Usage()
        self._again = TURN_KEY in attempt.journal.steps

    async def run(self) -> Outcome:
        """Until the model answers, or the rounds are used up."""
        base, entries = await self._begin()
        said: list[Message] = []
        for number in range(self._agent.max_rounds):
            request = replace(base, messages=(*base.messages, *said))
            key = open_key(f"llm:{number}", self._attempt.journal.steps)
            try:
                reply, lead = await self._ask(key, number, request, entries)
            except ProviderError as error:
                told = End(key, StepState.FAILED, {"code": error.code, "error": error.message})
                return failure(error, self._usage.as_json(), Closing((told,)))
            self._usage = self._usage.plus(reply.usage)
            said.append(Message("assistant", reply.blocks))
            calls = said[-1].calls
            if not calls:
                return self._answered(reply, said, lead)
            done, entries = await self._calls.perform(calls, f"round:{number}", lead)
            results = [
                ToolResult(call.id, finished.output.text, finished.output.is_error)
                for call, finished in zip(calls, done, strict=True)
            ]
            said.append(Message("tool", tuple(results)))
        text = f"the turn was stopped after {self._agent.max_rounds} rounds of tool calls"
        return Failed("MAX_ROUNDS", text, permanent=True, usage=self._usage.as_json(), closing=Closing(tuple(entries)))

    async def _begin(self) -> tuple[ChatRequest, list[JournalEntry]]:
        """The request without what is said in this turn, pinned or as it was pinned; and entries to commit first."""
        pinned = self._attempt.journal.steps.get(TURN_KEY)
        if pinned is not None:
            return await self._restore(pinned.request), []
        system = self._parts.system_text(self._agent)
        tools = canonical_json([asdict(tool) for tool in self._parts.toolbox.specs(self._agent)])
        bounds = await self._attempt.conversation.bounds()
        request = {
            "agent": self._agent.id,
            "system": self._pin(system),
            "tools": self._pin(tools),
            "model": self._attempt.task.payload.get("model"),
            "max_tokens": self._agent.max_tokens,
            "history": list(bounds),
        }
        entries: list[JournalEntry] = [
            Intend(key=TURN_KEY, kind="turn", request=request, request_hash=digest(request)),
            End(TURN_KEY, StepState.DONE),
        ]
        return await self._request(request, system, tools), entries

    def _pin(self, body: str) -> str:
        part = digest(body)
        self._attempt.conversation.pin(part, body)
        return part

    async def _restore(self, request: Mapping[str, Any]) -> ChatRequest:
        parts = [await self._attempt.conversation.part(request[name]) for name in ("system", "tools")]
        if None in parts:
            raise JournalMismatch("a pinned part of this turn's prompt is missing")
        system, tools = parts
        return await self._request(request, system or "", tools or "[]")

    async def _request(self, pinned: Mapping[str, Any], system: str, tools: str) -> ChatRequest:
        """Made of the pinned texts alone, also the first time: an equal digest is not yet equal bytes."""
        history = await self._attempt.conversation.history((pinned["history"][0], pinned["history"][1]))
        return ChatRequest(
            system=system,
            messages=history,
            tools=tuple(ToolSpec(**tool) for tool in json.loads(tools)),
            model=pinned["model"],
            max_tokens=pinned["max_tokens"],
        )

    async def _ask(
        self, key: str, number: int, request: ChatRequest, entries: list[JournalEntry]
    ) -> tuple[Reply, list[JournalEntry]]:
        """The recorded reply, or a new one with the entry that records it."""
        wanted = request.digest
        step = self._attempt.journal.steps.get(key)
        if step is not None and step.request_hash != wanted:
            raise JournalMismatch(f"round {number} of this turn would ask something else than what is recorded")
        if step is not None and step.state in ENDED:
            return decode_reply(step.result), entries
        begin: JournalEntry = Start(key)  # asked before, and no answer was recorded
        if step is None:
            begin = Intend(key=key, kind="llm", request=None, request_hash=wanted, running=True)
        await self._attempt.journal.commit([*entries, begin])
        reply = _as_recorded(_with_our_ids(await self._stream(request), number))
        return reply, [End(key, StepState.DONE, encode_reply(reply))]

    async def _stream(self, request: ChatRequest) -> Reply:
        provider = self._parts.provider_for(self._agent, self._attempt.task.id)
        async for chunk in provider.stream(request):
            if isinstance(chunk, Reply):
                return chunk
            if isinstance(chunk, TextChunk):
                # What an attempt before this one showed is void.
                self._attempt.delta(chunk.text, reset=chunk.reset or self._again)
                self._again = False
        raise ProviderUnavailable("the provider's stream ended without an answer")

    def _answered(self, reply: Reply, said: list[Message], lead: list[JournalEntry]) -> Outcome:
        usage = self._usage.as_json()
        messages = tuple(NewMessage(role=one.role, blocks=one.blocks) for one in said[:-1])
        last = NewMessage(role="assistant", blocks=reply.blocks, tokens=self._usage.output or None)
        result = {
            "text": said[-1].text,
            "stop_reason": reply.stop_reason,
            "provider": reply.provider,
            "model": reply.model,
        }
        return Succeeded(result, usage, Closing(tuple(lead), (*messages, last)))


def _with_our_ids(reply: Reply, number: int) -> Reply:
    """Call ids of our own: a provider's may repeat, be missing, or not fit another provider's rules."""
    blocks: list[Block] = []
    count = 0
    for block in reply.blocks:
        if isinstance(block, ToolCall):
            blocks.append(replace(block, id=f"call_{number}_{count}"))
            count += 1
        else:
            blocks.append(block)
    return replace(reply, blocks=tuple(blocks))


def _as_recorded(reply: Reply) -> Reply:
    """The reply as a recovery will read it, so that what follows from it is the same, byte for byte."""
    return decode_reply(json.loads(canonical_json(encode_reply(reply))))
