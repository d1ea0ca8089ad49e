"""The language between a turn and its providers: messages of ordered blocks, requests, chunks, usage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from goclaw.core.canonical import digest

Role = Literal["user", "assistant", "tool", "system"]
StopReason = Literal["end_turn", "tool_use", "max_tokens", "stop_sequence", "refusal"]


@dataclass(frozen=True, slots=True)
class Text:
    """Plain text."""

    text: str


@dataclass(frozen=True, slots=True)
class Opaque:
    """A provider's own block (thinking, encrypted reasoning), given back only to the provider it came from."""

    provider: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """The model asks for a tool. `id` pairs call and result inside one conversation; it is ours, not the provider's."""

    id: str
    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ToolResult:
    """What the model is told of a call."""

    call_id: str
    text: str
    is_error: bool = False


Block = Text | Opaque | ToolCall | ToolResult
_BLOCKS: dict[str, type[Block]] = {
    "text": Text,
    "opaque": Opaque,
    "tool_call": ToolCall,
    "tool_result": ToolResult,
}
_NAMES = {kind: name for name, kind in _BLOCKS.items()}


@dataclass(frozen=True, slots=True)
class Message:
    """One message. Each tool call of an assistant message has exactly one result in the tool message after it."""

    role: Role
    blocks: tuple[Block, ...]

    @property
    def text(self) -> str:
        """All text of the message, and nothing else."""
        return "".join(block.text for block in self.blocks if isinstance(block, Text))

    @property
    def calls(self) -> tuple[ToolCall, ...]:
        """The tool calls in their order."""
        return tuple(block for block in self.blocks if isinstance(block, ToolCall))


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMessage:
    """A message about to be stored in a session."""

    role: Role
    blocks: tuple[Block, ...]
    tokens: int | None = None


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """What a model is told of a tool; `parameters` is a JSON Schema object."""

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one or more calls, as the provider counted them.

    The counts are disjoint: `input` is what was neither read from nor written to the provider's cache.
    """

    input: int = 0
    output: int = 0
    cache_read: int = 0
    cache_write: int = 0
    calls: int = 0

    def plus(self, other: Usage) -> Usage:
        """The sum of both."""
        return Usage(
            self.input + other.input,
            self.output + other.output,
            self.cache_read + other.cache_read,
            self.cache_write + other.cache_write,
            self.calls + other.calls,
        )

    def as_json(self) -> dict[str, int]:
        """The five counts by name."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """One call of a model. Equal requests have equal digests, whatever provider serves them."""

    system: str
    messages: tuple[Message, ...]
    tools: tuple[ToolSpec, ...] = ()
    model: str | None = None
    """The model the user chose; None leaves it to each provider's configured model."""
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    stop: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """SHA-256 over everything that reaches the model."""
        return digest(
            {
                "system": self.system,
                "messages": [encode_message(message) for message in self.messages],
                "tools": [[tool.name, tool.description, tool.parameters] for tool in self.tools],
                "model": self.model,
                "limits": [self.max_tokens, self.temperature, self.top_p, list(self.stop)],
            }
        )


@dataclass(frozen=True, slots=True)
class TextChunk:
    """A piece of the answer. `reset` comes first when a later candidate starts over after text was shown."""

    text: str
    reset: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The end of a stream: the whole answer, normalised. The last chunk of every successful stream."""

    blocks: tuple[Block, ...]
    stop_reason: StopReason
    usage: Usage = field(default_factory=Usage)
    provider: str
    model: str


Chunk = TextChunk | Reply


def encode_block(block: Block) -> dict[str, Any]:
    """A block as JSON, with its `type`."""
    return {"type": _NAMES[type(block)], **asdict(block)}


def decode_block(data: Mapping[str, Any]) -> Block:
    """The inverse of `encode_block`."""
    fields = dict(data)
    return _BLOCKS[fields.pop("type")](**fields)


def encode_message(message: Message) -> dict[str, Any]:
    """A message as JSON."""
    return {"role": message.role, "blocks": [encode_block(block) for block in message.blocks]}


def decode_message(data: Mapping[str, Any]) -> Message:
    """The inverse of `encode_message`."""
    return Message(data["role"], tuple(decode_block(block) for block in data["blocks"]))


def encode_reply(reply: Reply) -> dict[str, Any]:
    """A reply as JSON, for the journal."""
    return {
        "blocks": [encode_block(block) for block in reply.blocks],
        "stop_reason": reply.stop_reason,
        "usage": reply.usage.as_json(),
        "provider": reply.provider,
        "model": reply.model,
    }


def decode_reply(data: Mapping[str, Any]) -> Reply:
    """The inverse of `encode_reply`."""
    return Reply(
        blocks=tuple(decode_block(block) for block in data["blocks"]),
        stop_reason=data["stop_reason"],
        usage=Usage(**data["usage"]),
        provider=data["provider"],
        model=data["model"],
    )
