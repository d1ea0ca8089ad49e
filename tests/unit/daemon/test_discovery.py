"""A model server on this machine is found when it answers like one."""

from __future__ import annotations

import json

import pytest

from goclaw.daemon.discovery import ollama_models
from tests.mock_llm.faulty import Answer, faulty

NOBODY = "http://127.0.0.1:1"


def _tags(*names: str) -> Answer:
    body = json.dumps({"models": [{"name": name} for name in names]})
    return Answer(200, {"content-type": "application/json"}, (body,))


@pytest.mark.spec("GC-BRN-140")
async def test_an_ollama_that_answers_on_this_machine_is_found() -> None:
    async with faulty(_tags("qwen", "llama")) as server:
        assert await ollama_models(server.url) == ("qwen", "llama")
        assert server.requests[0][0] == "/api/tags"


@pytest.mark.spec("GC-BRN-140")
@pytest.mark.parametrize(
    "answer",
    [
        _tags(),
        Answer(404, {}, ("{}",)),
        Answer(200, {}, ("<html>",)),
        Answer(200, {}, ('{"models": 5}',)),
        Answer(200, {}, ("[]",)),
        Answer(then="hang"),
        Answer(then="cut"),
    ],
)
async def test_what_is_no_ollama_with_a_model_is_passed_over(answer: Answer) -> None:
    async with faulty(answer) as server:
        assert await ollama_models(server.url) == ()


@pytest.mark.spec("GC-BRN-140")
async def test_nobody_there_is_no_error() -> None:
    assert await ollama_models(NOBODY) == ()
