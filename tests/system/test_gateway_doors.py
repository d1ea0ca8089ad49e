"""Who may come in: token, Origin and Host are judged before a handshake or a body."""

from __future__ import annotations

import http.client
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus

from tests.system.running import RunningDaemon
from tests.system.speaking import Speaker


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningDaemon]:
    home: Path = tmp_path_factory.mktemp("doors") / "home"
    home.mkdir(mode=0o700)
    (home / "config.yaml").write_text("allowed_origins: ['https://app.example']\nallowed_hosts: [goclaw.example]\n")
    with RunningDaemon(home) as running:
        yield running


def get(daemon: RunningDaemon, path: str, headers: Mapping[str, str], method: str = "GET") -> tuple[int, Any, str]:
    """Status, headers and body of one request whose headers are ours alone."""
    connection = http.client.HTTPConnection(daemon.url.removeprefix("http://"), timeout=10)
    try:
        connection.request(method, path, headers=dict(headers))
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read().decode()
    finally:
        connection.close()


def bearer(daemon: RunningDaemon, token: str | None = None) -> dict[str, str]:
    return {"Authorization": f"Bearer {token or daemon.token}"}


@asynccontextmanager
async def knock(daemon: RunningDaemon, path: str = "/ws", **options: Any) -> AsyncIterator[ClientConnection]:
    url = daemon.url.replace("http", "ws", 1)
    async with connect(f"{url}{path}", proxy=None, close_timeout=1, **options) as connection:
        yield connection


async def refused(daemon: RunningDaemon, path: str = "/ws", **options: Any) -> tuple[int, dict[str, Any]]:
    """The HTTP status and error of a handshake that was turned away."""
    with pytest.raises(InvalidStatus) as caught:
        async with knock(daemon, path, **options):
            pass
    response = caught.value.response
    assert response.body is not None
    error: dict[str, Any] = json.loads(response.body)["error"]
    return response.status_code, error


@pytest.mark.spec("GC-SEC-201")
@pytest.mark.parametrize("given", ["", "Bearer", "Bearer wrong", "Basic Z29jbGF3", "Bearer \u00e9\u00ff"])
async def test_a_handshake_without_the_token_is_answered_401_and_not_upgraded(
    daemon: RunningDaemon, given: str
) -> None:
    status, error = await refused(daemon, additional_headers={"Authorization": given})
    assert (status, error["code"], error["retryable"]) == (401, "UNAUTHORIZED", False)


@pytest.mark.spec("GC-SEC-201")
@pytest.mark.parametrize(
    "path", ["/rpc", "/metrics", "/metrics/json", "/v1/models", "/v1/chat/completions", "/nowhere"]
)
def test_no_path_but_the_two_probes_is_open(daemon: RunningDaemon, path: str) -> None:
    for headers in ({}, bearer(daemon, "wrong")):
        status, told, _ = get(daemon, path, headers)
        assert status == 401
        assert told["www-authenticate"] == "Bearer"
    assert get(daemon, path, bearer(daemon))[0] != 401


@pytest.mark.spec("GC-SEC-201")
async def test_a_token_in_the_query_opens_nothing(daemon: RunningDaemon) -> None:
    for name in ("token", "access_token", "authorization"):
        assert (await refused(daemon, f"/ws?{name}={daemon.token}"))[0] == 401
        assert get(daemon, f"/metrics?{name}={daemon.token}", {})[0] == 401


@pytest.mark.spec("GC-SEC-202")
async def test_a_foreign_origin_is_refused_with_403_whatever_it_knows(daemon: RunningDaemon) -> None:
    for origin in ("https://evil.example", "null", "http://localhost:1", "https://app.example.evil.example"):
        status, error = await refused(daemon, additional_headers=bearer(daemon), origin=origin)
        assert (status, error["code"]) == (403, "ORIGIN_REFUSED")
        assert get(daemon, "/metrics", {**bearer(daemon), "Origin": origin})[0] == 403


@pytest.mark.spec("GC-SEC-202")
async def test_the_same_origin_and_a_listed_one_come_in(daemon: RunningDaemon) -> None:
    for origin in (daemon.url, "https://app.example"):
        async with knock(daemon, additional_headers=bearer(daemon), origin=origin) as connection:
            assert (await Speaker(connection).ask("system.ping"))["pong"]


@pytest.mark.spec("GC-SEC-202")
async def test_a_host_that_is_neither_loopback_nor_listed_is_refused_with_403(daemon: RunningDaemon) -> None:
    port = daemon.url.rpartition(":")[2]
    for host in (f"evil.example:{port}", "127.0.0.1.evil.example", "8.8.8.8", ""):
        for path in ("/metrics", "/healthz"):
            status, _, body = get(daemon, path, {**bearer(daemon), "Host": host})
            assert (status, json.loads(body)["error"]["code"]) == (403, "HOST_REFUSED")
    # The library writes the Host of its address: the name resolves to loopback, as in DNS rebinding.
    url = f"ws://evil.example:{port}/ws"
    with pytest.raises(InvalidStatus) as caught:
        async with connect(url, host="127.0.0.1", port=int(port), proxy=None, additional_headers=bearer(daemon)):
            pass
    assert caught.value.response.status_code == 403


@pytest.mark.spec("GC-SEC-202")
@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:9", "127.0.0.1:1", "127.9.9.9", "[::1]:5", "goclaw.example"])
def test_loopback_and_listed_hosts_come_in(daemon: RunningDaemon, host: str) -> None:
    assert get(daemon, "/metrics", {**bearer(daemon), "Host": host})[0] == 200


@pytest.mark.spec("GC-SEC-203")
async def test_a_browser_gives_its_token_as_a_subprotocol_and_is_answered_with_the_other(daemon: RunningDaemon) -> None:
    offered = ["goclaw.v1", f"goclaw.bearer.{daemon.token}"]
    async with knock(daemon, subprotocols=offered, origin=daemon.url) as connection:
        assert connection.subprotocol == "goclaw.v1"
        assert (await Speaker(connection).ask("system.ping"))["pong"]
    assert (await refused(daemon, subprotocols=["goclaw.v1", "goclaw.bearer.wrong"]))[0] == 401
    assert (await refused(daemon, subprotocols=["goclaw.v1"]))[0] == 401


@pytest.mark.spec("GC-ACP-201")
async def test_no_compression_is_agreed_upon(daemon: RunningDaemon) -> None:
    async with knock(daemon, additional_headers=bearer(daemon), compression="deflate") as connection:
        assert connection.protocol.extensions == []


@pytest.mark.spec("GC-SEC-203")
def test_the_key_header_of_the_other_dialect_opens_v1_alone(daemon: RunningDaemon) -> None:
    assert get(daemon, "/v1/models", {"x-api-key": daemon.token})[0] == 200
    assert get(daemon, "/v1/models", {"x-api-key": "wrong"})[0] == 401
    assert get(daemon, "/metrics", {"x-api-key": daemon.token})[0] == 401


@pytest.mark.spec("GC-OBS-201")
def test_health_and_readiness_are_open_and_give_reasons(daemon: RunningDaemon) -> None:
    status, _, body = get(daemon, "/healthz", {})
    assert status == 200
    assert json.loads(body)["healthy"] is True
    status, _, body = get(daemon, "/readyz", {})
    told = json.loads(body)
    assert status == 200
    assert told["ready"] is True
    assert {"db", "policy", "recovery", "skills", "providers", "loop"} <= set(told["checks"])
    assert all(check["ok"] for check in told["checks"].values())


@pytest.mark.spec("GC-OBS-202")
def test_the_metrics_are_prometheus_text_that_its_own_parser_reads(daemon: RunningDaemon) -> None:
    status, headers, body = get(daemon, "/metrics", bearer(daemon))
    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    families = {family.name: family for family in text_string_to_metric_families(body)}
    ours = {name for name in families if name.startswith("goclaw_")}
    assert {"goclaw_tasks_running", "goclaw_event_log_head", "goclaw_commits", "goclaw_workers"} <= ours
    assert all(family.documentation for name, family in families.items() if name in ours)
    as_json = json.loads(get(daemon, "/metrics/json", bearer(daemon))[2])
    assert "goclaw_workers" in json.dumps(as_json)


@pytest.mark.spec("GC-ACP-202")
def test_what_is_not_there_is_404_and_a_wrong_method_405(daemon: RunningDaemon) -> None:
    assert get(daemon, "/nowhere", bearer(daemon))[0] == 404
    assert get(daemon, "/rpc", bearer(daemon))[0] == 405
    assert get(daemon, "/v1/chat/completions", bearer(daemon))[0] == 405
