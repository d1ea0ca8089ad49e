"""A model that follows a script, on loopback, in the true wire format of OpenAI chat completions with streaming.

It answers by what the conversation already holds, as a model would, so the same request always gets the same answer; it
notes every request it was sent. Third-party mocks serve the other tests; this one exists because the kill matrix has to
count requests and compare their bytes.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

Script = Sequence[Sequence[tuple[str, dict[str, Any]]]]
"""One list of (tool, arguments) for each round; after the last round it answers with text."""


class ScriptedLLM:
    """The running server. `requests` are SHA-256 digests of the messages and tools sent, byte for byte, in order."""

    def __init__(self, script: Script, answer: str) -> None:
        self._script = script
        self._answer = answer
        self.requests: list[str] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                frames = outer.reply(body)
                self.send_response(200)
                self.send_header("content-type", "text/event-stream")
                self.send_header("connection", "close")
                self.end_headers()
                for frame in frames:
                    self.wfile.write(f"data: {frame}\n\n".encode())
                self.close_connection = True

            def log_message(self, *args: Any) -> None:
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """For OPENAI_BASE_URL."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def reply(self, body: dict[str, Any]) -> list[str]:
        """The frames of the answer to one request."""
        messages = body["messages"]
        with self._lock:
            told = json.dumps([messages, body.get("tools")])
            self.requests.append(hashlib.sha256(told.encode()).hexdigest())
        rounds = sum(1 for message in messages if message["role"] == "assistant" and message.get("tool_calls"))
        head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "scripted"}
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
        finish = "stop"
        if rounds < len(self._script):
            finish = "tool_calls"
            for index, (name, arguments) in enumerate(self._script[rounds]):
                function = {"name": name, "arguments": json.dumps(arguments)}
                call = {"index": index, "id": f"x{index}", "type": "function", "function": function}
                deltas.append({"tool_calls": [call]})
        else:
            deltas += [{"content": piece} for piece in re.findall(r"\S+\s*", self._answer)]
        chunks = [{**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
        chunks.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
        usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
        chunks.append({**head, "choices": [], "usage": usage})
        return [*(json.dumps(chunk) for chunk in chunks), "[DONE]"]
