"""A third-party mock LLM server (aimock) on loopback, for the tests of everything that talks to a model.

    with mock_llm(read_the_file("notes.txt", answer="It says hello.")) as server:
        env = {"ANTHROPIC_BASE_URL": server.url, "OPENAI_BASE_URL": server.url + "/v1", ...}
        ...
        assert server.journal()[0]["body"]["stream"]

It speaks the true wire formats and was written by others, so that our own misreading of a format cannot pass
by being made twice. What it cannot do (cuts, garbage, silence) `faulty` does.
"""

from __future__ import annotations

from tests.mock_llm.faulty import Answer, FaultyServer, faulty
from tests.mock_llm.server import MockLLM, mock_llm, read_the_file

__all__ = ["Answer", "FaultyServer", "MockLLM", "faulty", "mock_llm", "read_the_file"]
