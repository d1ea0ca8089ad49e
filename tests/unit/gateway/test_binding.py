from __future__ import annotations

import os
import socket
from contextlib import closing

import pytest

from goclaw.errors import BindFailed
from goclaw.gateway.binding import SEGMENT_BYTES, bind, port_holder


@pytest.mark.spec("GC-RUN-204")
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]"])
def test_port_0_takes_any_and_who_comes_second_is_told_who_has_it(host: str) -> None:
    try:
        first = bind(f"{host}:0")
    except BindFailed:
        pytest.skip(f"this machine has no {host}")
    with closing(first):
        port = first.getsockname()[1]
        assert port > 0
        with pytest.raises(BindFailed) as caught:
            bind(f"{host}:{port}")
        told = caught.value
        assert told.data["holder"]["pid"] == os.getpid()
        assert told.data["free_port"] != port
        assert f"process {os.getpid()} (" in told.message
        assert f"port {told.data['free_port']} is free" in told.message
    with closing(bind(f"{host}:{port}")):
        assert port_holder(port) is not None
    assert port_holder(port) is None


@pytest.mark.spec("GC-RUN-204")
@pytest.mark.parametrize("address", ["", "127.0.0.1", ":80", "127.0.0.1:http", "127.0.0.1:-1", "127.0.0.1:65536"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(BindFailed, match="not HOST:PORT"):
        bind(address)


@pytest.mark.spec("GC-RUN-204")
def test_an_address_of_another_machine_is_refused_without_a_holder() -> None:
    with pytest.raises(BindFailed) as caught:
        bind("192.0.2.1:0")
    assert "holder" not in caught.value.data


def test_a_client_of_a_port_is_not_its_holder() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        port = server.getsockname()[1]
        with closing(socket.create_connection(("127.0.0.1", port))) as client:
            assert port_holder(client.getsockname()[1]) is None


@pytest.mark.spec("GC-PERF-208")
def test_segments_on_loopback_are_small_enough_for_a_new_readers_window() -> None:
    with closing(bind("127.0.0.1:0")) as listener:
        listener.setblocking(True)
        with socket.create_connection(listener.getsockname()) as client, listener.accept()[0] as accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) <= SEGMENT_BYTES
            assert client.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG) <= SEGMENT_BYTES
