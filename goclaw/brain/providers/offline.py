"""No model at all: directives run tools through the same turn as a model's answer would."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

from goclaw.brain.providers.directives import Directive, DirectiveError, parse_directives
from goclaw.core.chat import Block, ChatRequest, Chunk, Message, Reply, Text, TextChunk, ToolCall, ToolResult
from goclaw.errors import NoProvider


class OfflineProvider:
    """Answers `/tool key=value ...` and `/tool {json}` lines with tool calls, then shows what came of them.

    It never pretends to understand: a plain prompt is NoProvider, with what to configure. It counts no
    tokens.
    """

    def __init__(self, name: str = "offline") -> None:
        self._name = name

    @property
    def name(self) -> str:
        """As configured."""
        return self._name

    async def stream(self, request: ChatRequest) -> AsyncIterator[Chunk]:
        """See `Provider.stream`. A bad directive is answered in words, and none of its neighbours runs
        either.
        """
        blocks = _answer(request)
        for block in blocks:
            if isinstance(block, Text):
                yield TextChunk(block.text)
        calls = any(isinstance(block, ToolCall) for block in blocks)
        yield Reply(
            blocks=blocks,
            stop_reason="tool_use" if calls else "end_turn",
            provider=self._name,
            model=self._name,
        )

    async def aclose(self) -> None:
        """Nothing is held."""


def _answer(request: ChatRequest) -> tuple[Block, ...]:
    prompt, since = _last_prompt(request.messages)
    try:
        directives = parse_directives(prompt, request.tools)
    except DirectiveError as error:
        return (Text(str(error)),)
    if not directives:
        raise NoProvider(_no_model([tool.name for tool in request.tools]))
    results = [block for message in since for block in message.blocks if isinstance(block, ToolResult)]
    if results:
        return (Text(_report(directives, results)),)
    return tuple(
        ToolCall(f"call_{number}", directive.tool, directive.arguments)
        for number, directive in enumerate(directives, start=1)
    )


def _last_prompt(messages: Sequence[Message]) -> tuple[str, Sequence[Message]]:
    """What the user said last, and what happened since."""
    for index in range(len(messages) - 1, -1, -1):
        if messages[index].role == "user":
            return messages[index].text, messages[index + 1 :]
    return "", ()


def _report(directives: Sequence[Directive], results: Sequence[ToolResult]) -> str:
    """One result is the answer itself, so it can be piped; of several each stands below its directive."""
    if len(results) == 1:
        return _shown(directives[0].tool, results[0])
    return "\n\n".join(
        f"{directive.line}\n{_shown(directive.tool, result)}"
        for directive, result in zip(directives, results, strict=False)
    )


def _shown(tool: str, result: ToolResult) -> str:
    return f"{tool} failed: {result.text}" if result.is_error else result.text


def _no_model(tools: Sequence[str]) -> str:
    hint = f" Without a model, directives still run tools, for example: /{tools[0]} key=value" if tools else ""
    return (
        "No model is configured, so a plain prompt cannot be answered. Set ANTHROPIC_API_KEY, OPENAI_API_KEY "
        "or OPENROUTER_API_KEY, or start Ollama, then restart goclaw; or name a provider in config.yaml." + hint
    )
