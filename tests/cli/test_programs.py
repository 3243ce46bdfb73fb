"""Where our own processes are asked whether they are ready, whatever address they listen on."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from cli.programs import Program, address, reachable
from cli.status import status
from embedded.state import State, obstacle


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8080"),
        ("0.0.0.0", "http://127.0.0.1:8080"),  # noqa: S104 - nobody listens
        ("localhost", "http://127.0.0.1:8080"),
        ("::1", "http://[::1]:8080"),
        ("::", "http://[::1]:8080"),
        ("fd00::7", "http://[fd00::7]:8080"),
    ],
)
def test_an_address_is_one_that_clients_take(host: str, url: str) -> None:
    assert address(reachable(host), 8080) == url


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "::"])
async def test_status_asks_where_a_process_listens(host: str, tmp_path: Path) -> None:
    if obstacle(0, host) is not None:
        pytest.skip(f"this machine has no {host}")
    heard: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        writer.close()

    state = State(tmp_path / "state")
    state.take()
    async with await asyncio.start_server(answer, host, 0) as server:
        port = server.sockets[0].getsockname()[1]
        front = Program("web", ["web"], {}, reachable(host), port)
        processes = [{"name": "web", "pid": os.getpid(), "state": "ready"}]
        run = {"ready": True, "pid": os.getpid(), "health": {"web": front.health}, "processes": processes}
        state.write("run", run)
        assert (await status(state))["ready"] is True
        await front.check()
    state.release()
    assert len(heard) == 2
    assert all(f"Host: {front.url.removeprefix('http://')}\r\n".encode() in request for request in heard)
