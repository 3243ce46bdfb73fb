"""A wave of connections against a front in a process of its own: what it costs that process, and that health answers.

Its dependencies are away, which a front has to bear. The wave is idle and slow in equal parts: silent, with a head that
does not end, with a body that does not come.
"""

import asyncio
import contextlib
import json
import resource
import signal
import socket
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from embedded.state import free_port
from tests.web.fakes import SETTINGS
from tests.web.test_processes import ROOT, RUN
from web.crowd import RESERVE

EACH = 20_000
"""Bytes that a connection may cost a front: its buffers, its parser, its numbers."""
BESIDE = 20_000_000
"""Bytes that a wave may cost besides, however large it is."""
AT_ONCE = 200
SAID = (
    b"",
    b"GET /api/v1/resources HTTP/1.1\r\nHost: x\r\nX-Slow: ",
    b"POST /api/v1/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 999\r\n\r\n{",
)
PATIENCE_S = 5.0
"""How long /livez may take at the worst moment of the wave."""


class Front:
    """A front of one process, as `./yeoul web` starts it, with what it said."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self.process = process
        self.port = port

    @property
    def child(self) -> psutil.Process:
        """The process that serves."""
        (child,) = psutil.Process(self.process.pid).children()
        return child

    def ask_now(self, path: str) -> int:
        """The status of a request on a connection of its own; 0 if there is no answer."""
        try:
            with socket.create_connection(("127.0.0.1", self.port), PATIENCE_S) as opened:
                opened.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
                return int(opened.recv(4096)[9:12] or 0)
        except OSError:
            return 0

    async def ask(self, path: str) -> int:
        """The same, while the loop goes on. Not on the loop, which comes late to its requests during a wave."""
        return await asyncio.to_thread(self.ask_now, path)

    async def said(self, text: str) -> str:
        """The line that has `text` in it, once it comes."""
        assert self.process.stderr is not None
        async with asyncio.timeout(20):
            while text not in (line := (await self.process.stderr.readline()).decode()):
                assert line, f"it ended without a word of {text!r}"
        return line


@asynccontextmanager
async def front(folder: Path, files: int | None = None, **changes: Any) -> AsyncIterator[Front]:
    """One that listens. `files`: how many it may have open at most."""
    nobody = free_port()
    port = free_port({nobody})
    settings = msgspec.structs.replace(
        SETTINGS,
        kafka_url=f"127.0.0.1:{nobody}", postgres_url=f"postgresql://u:p@127.0.0.1:{nobody}/d",
        redis_url=f"redis://127.0.0.1:{nobody}/0", web_port=port, web_processes=1,
        metrics_port=free_port({nobody, port}),
        state_dir=folder, **changes,
    )  # fmt: skip
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", RUN, cwd=ROOT, stdin=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    if files is not None:
        psutil.Process(process.pid).rlimit(resource.RLIMIT_NOFILE, (min(files, before[0]), files))
    assert process.stdin is not None
    process.stdin.write(json.dumps(settings.environ()).encode() + b"\n")
    opened = Front(process, port)
    try:
        async with asyncio.timeout(30):
            while await opened.ask("/livez") != 200:
                await asyncio.sleep(0.05)
        yield opened
    finally:
        process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(30):
            await process.communicate()


@pytest.fixture
def many_files() -> Iterator[None]:
    """This process may have as many files as it can."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (before[1], before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def connected(opened: Front, number: int) -> list[asyncio.StreamWriter]:
    """A wave; /livez answers all the while."""
    found = []
    coming = True

    def healthy() -> list[int]:
        answers = []
        while coming:
            answers.append(opened.ask_now("/livez"))
        return answers

    async def one(place: int) -> None:
        with contextlib.suppress(ConnectionError):
            _, writer = await asyncio.open_connection("127.0.0.1", opened.port)
            found.append(writer)
            writer.write(SAID[place % len(SAID)])

    asked = asyncio.create_task(asyncio.to_thread(healthy))
    for start in range(0, number, AT_ONCE):
        await asyncio.gather(*(one(place) for place in range(start, min(start + AT_ONCE, number))))
    coming = False
    answers = await asked
    assert set(answers) == {200}, answers
    return found


@pytest.mark.parametrize(
    ("waves", "number", "room"),
    [
        (1, 400, 150),
        pytest.param(2, 5_000, 4_096, marks=pytest.mark.full),
        pytest.param(2, 5_000, 500, marks=pytest.mark.full),
    ],
)
async def test_what_a_wave_costs_a_front_is_bounded(
    tmp_path: Path, many_files: None, waves: int, number: int, room: int
) -> None:
    timeouts: dict[str, Any] = {"header_timeout_s": 2.0, "body_timeout_s": 2.0}
    async with front(tmp_path, connections=room, connections_address=room, **timeouts) as opened:
        before, files = opened.child.memory_info().rss, opened.child.num_fds()
        for _ in range(waves):  # the second one costs nothing more than the first
            writers = await connected(opened, number)
            assert opened.child.memory_info().rss - before < BESIDE + EACH * min(number, room + RESERVE)
            assert opened.child.num_fds() - files <= room + RESERVE + 16
            async with asyncio.timeout(60):  # who is slow is cut
                while opened.child.num_fds() > files + 16:
                    assert await opened.ask("/livez") == 200
            for writer in writers:
                writer.transport.abort()
        assert await opened.ask("/.well-known/jwks.json") == 200


async def test_a_front_with_too_few_open_files_says_so_and_has_fewer_connections(tmp_path: Path) -> None:
    async with front(tmp_path, files=1_200, connections=4_096) as opened:
        line = await opened.said("ulimit -n")
        assert "1200 open files" in line
        assert "YEOUL_CONNECTIONS is 176 here" in line
        writers = await connected(opened, 2 * AT_ONCE)
        assert opened.child.num_fds() < 1_200
        assert await opened.ask("/livez") == 200
        for writer in writers:
            writer.transport.abort()
