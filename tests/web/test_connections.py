"""Those who are slow, and those who are many: cut, or told that there is no room, and nobody else has to wait."""

import asyncio
import contextlib
import json
import resource
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import psutil
import pytest
from aiohttp import web
from prometheus_client import REGISTRY

from config.shields import networks
from domain.access import Role
from tests.web.conftest import OWNER
from tests.web.fakes import SETTINGS, Fakes
from web import crowd
from web.app import create
from web.clients import Clients
from web.connections import MOST_HEAD
from web.crowd import CROWD, Crowd
from web.unreadable import Runner

LIST = b"GET /api/v1/resources?limit=100 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\n\r\n"
CREATE = (
    b"POST /api/v1/resources HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
    b"Authorization: Bearer %b\r\nContent-Length: %d\r\n\r\n"
)
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
LOGIN = b"POST /api/v2/auth/login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


class Front:
    """A front on a socket, and connections to it."""

    def __init__(self, runner: Runner, app: web.Application) -> None:
        self.port: int = runner.addresses[0][1]
        self.crowd: Crowd = app[CROWD]
        self._opened: list[asyncio.StreamWriter] = []

    async def connect(self, said: bytes = b"", source: str = "127.0.0.1") -> Streams:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(source, 0))
        self._opened.append(writer)
        writer.write(said)
        await writer.drain()
        return reader, writer

    async def ask(self, path: str, source: str = "127.0.0.1") -> int:
        """The status of a request on a connection of its own; 0 if it is ended without an answer."""
        request = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
        try:
            reader, writer = await self.connect(request, source)
            answer = await asyncio.wait_for(reader.read(), 20)
        except ConnectionError:
            return 0
        writer.close()
        return int(answer[9:12] or 0)

    def close(self) -> None:
        for writer in self._opened:
            writer.transport.abort()


@asynccontextmanager
async def front(fakes: Fakes, **changes: Any) -> AsyncIterator[Front]:
    settings = fakes.settings = msgspec.structs.replace(SETTINGS, **changes)
    app = create(settings, fakes.open)
    runner = Runner(app, access_log=None, keepalive_timeout=settings.idle_timeout_s, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, backlog=1024).start()
    opened = Front(runner, app)
    try:
        yield opened
    finally:
        opened.close()
        await runner.cleanup()


async def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.02)


async def end_of(streams: Streams) -> bytes:
    """All that still comes, until the other side ends it."""
    answer = b""
    # Who still sends may be reset after the answer has come.
    with contextlib.suppress(ConnectionResetError):
        async with asyncio.timeout(30):
            while part := await streams[0].read(65_536):
                answer += part
    return answer


def cut(reason: str) -> float:
    return REGISTRY.get_sample_value("yeoul_connections_cut_total", {"reason": reason}) or 0.0


async def drip(streams: Streams, data: bytes, pause: float) -> None:
    """Sends byte by byte, for as long as anybody listens."""
    with contextlib.suppress(ConnectionError):
        for byte in data:
            streams[1].write(bytes([byte]))
            await streams[1].drain()
            await asyncio.sleep(pause)


async def test_a_head_that_comes_byte_by_byte_is_not_waited_for(fakes: Fakes) -> None:
    before = cut("slow_head")
    async with front(fakes, header_timeout_s=1.0) as opened:
        slow = await opened.connect(b"GET /livez HTTP/1.1\r\n")
        dripping = asyncio.create_task(drip(slow, b"X: " + b"a" * 5_000, 0.1))
        answer = await end_of(slow)
        dripping.cancel()
        assert answer[9:13] == b"408 "
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == "REQUEST_TIMEOUT"
        assert await opened.ask("/livez") == 200
    assert cut("slow_head") == before + 1


async def test_who_says_nothing_is_answered_nothing(fakes: Fakes) -> None:
    async with front(fakes, header_timeout_s=1.0) as opened:
        assert await end_of(await opened.connect()) == b""


async def test_a_second_head_is_timed_as_the_first(fakes: Fakes) -> None:
    async with front(fakes, header_timeout_s=1.0, idle_timeout_s=60.0) as opened:
        streams = await opened.connect(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.wait_for(streams[0].readuntil(b"}"), 10)
        streams[1].write(b"GET /livez HT")
        assert (await end_of(streams))[9:13] == b"408 "


async def test_a_connection_that_asks_nothing_more_is_closed(fakes: Fakes) -> None:
    async with front(fakes, idle_timeout_s=1.0) as opened:
        streams = await opened.connect(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await end_of(streams)).endswith(b'{"live":true}')


@pytest.mark.parametrize(("pause", "size"), [(100.0, 2), (0.2, 400)], ids=["stands still", "drips"])
async def test_a_body_that_is_too_slow_is_not_waited_for(fakes: Fakes, pause: float, size: int) -> None:
    before = cut("slow_body")
    async with front(fakes, body_timeout_s=1.5) as opened:
        slow = await opened.connect(LOGIN + b"Content-Length: 4000\r\n\r\n")
        dripping = asyncio.create_task(drip(slow, b"{" + b" " * size, pause))
        answer = await end_of(slow)
        dripping.cancel()
        assert answer[9:13] == b"408 "
        assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "REQUEST_TIMEOUT"
    assert cut("slow_body") == before + 1


async def test_extensions_of_a_chunk_do_not_come_for_ever(fakes: Fakes) -> None:
    async with front(fakes, body_timeout_s=1.0, body_limit=1024) as opened:
        endless = await opened.connect(LOGIN + b"Transfer-Encoding: chunked\r\n\r\n2;a=")
        sending = asyncio.create_task(_flow(endless))
        # Nothing: who still sends may be reset before it has read the answer.
        assert (await end_of(endless))[9:13] in (b"408 ", b"400 ", b"")
        sending.cancel()


async def _flow(streams: Streams) -> None:
    """Sends about 40 KiB a second, for as long as anybody listens."""
    with contextlib.suppress(ConnectionError):
        while True:
            streams[1].write(b"a" * 2_000)
            await streams[1].drain()
            await asyncio.sleep(0.05)


async def test_a_body_that_is_large_and_steady_may_take_its_time(fakes: Fakes) -> None:
    async with front(fakes, body_timeout_s=3.0) as opened:
        body = b'{"email": "a@b.c", "password": "x"' + b" " * 20_000 + b"}"
        reader, writer = await opened.connect(LOGIN + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body))
        for start in range(0, len(body), 1_000):
            writer.write(body[start : start + 1_000])
            await writer.drain()
            await asyncio.sleep(0.2)
        assert (await end_of((reader, writer))).startswith(b"HTTP/1.1 401 ")


async def test_the_head_of_a_request_is_bounded_as_a_whole(fakes: Fakes) -> None:
    async with front(fakes) as opened:
        streams = await opened.connect(b"GET /livez HTTP/1.1\r\nHost: x\r\n")
        answer = asyncio.create_task(end_of(streams))
        with contextlib.suppress(ConnectionError):
            for number in range(2 * MOST_HEAD // 4_000):
                streams[1].write(b"X-%d: %b\r\n" % (number, b"a" * 4_000))
                await streams[1].drain()
                await asyncio.sleep(0.01)
        assert (await answer)[9:13] == b"431 "


async def test_who_takes_no_answer_keeps_it_not_in_memory(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowd, "STALL_S", 1.0)
    before = cut("slow_reader")
    async with front(fakes) as opened:
        token = fakes.tokens.issue(OWNER, Role.USER, time.time()).encode()
        await _preload(opened, token)
        reader, writer = await opened.connect()
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        for _ in range(20):
            writer.write(LIST % token)
        await until(lambda: cut("slow_reader") == before + 1)
        await until(lambda: len(opened.crowd) <= 1)


async def _preload(opened: Front, token: bytes) -> None:
    body = json.dumps({"kind": "note", "title": "t", "body": "x" * 90_000}).encode()
    for _ in range(60):
        answer = await end_of(await opened.connect(CREATE % (token, len(body)) + body))
        assert answer.startswith(b"HTTP/1.1 201 ")


async def test_answers_that_nobody_takes_are_bounded_together(fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crowd, "MOST_UNSENT", 1_000_000)
    before = cut("slow_reader")
    async with front(fakes) as opened:
        token = fakes.tokens.issue(OWNER, Role.USER, time.time()).encode()
        await _preload(opened, token)
        for _ in range(3):
            reader, writer = await opened.connect()
            reader._transport.pause_reading()  # type: ignore[attr-defined]
            writer.write(LIST % token)
        await until(lambda: cut("slow_reader") >= before + 2)
        assert await opened.ask("/livez") == 200


async def test_idle_connections_make_room_for_those_who_ask(fakes: Fakes) -> None:
    before = cut("crowded")
    async with front(fakes, connections=64) as opened:
        idle = [await opened.connect() for _ in range(64)]
        await asyncio.sleep(crowd.GRACE_S)
        for _ in range(5):
            assert await opened.ask("/livez") == 200
            assert await opened.ask("/api/v1/resources") == 200
        assert await end_of(idle[0]) == b""  # who waited longest went first
        assert len(opened.crowd) <= 64
    assert cut("crowded") > before


async def held(opened: Front, fakes: Fakes, number: int) -> tuple[list[Streams], asyncio.Event]:
    """So many connections whose requests are being answered, until the event is set."""
    release = asyncio.Event()
    running = 0

    async def wait(_: Any) -> None:
        nonlocal running
        running += 1
        await release.wait()

    fakes.stores.resources.get = wait  # type: ignore[method-assign,assignment]
    request = b"GET /api/v1/resources/01a20794-2388-7995-bed0-a71efe9c9182 HTTP/1.1\r\nHost: x\r\n\r\n"
    streams = [await opened.connect(request) for _ in range(number)]
    await until(lambda: running == number)
    return streams, release


async def test_when_all_are_being_served_others_are_told_and_health_answers(fakes: Fakes) -> None:
    async with front(fakes, connections=64) as opened:
        busy, release = await held(opened, fakes, 64)
        assert await opened.ask("/livez") == 200
        assert await opened.ask("/readyz") == 200
        assert await opened.ask("/api/v2/resources") == 503
        reserve = [await opened.connect() for _ in range(crowd.RESERVE + 64)]
        assert await opened.ask("/livez") == 200
        assert len(opened.crowd) <= 64 + crowd.RESERVE
        release.set()
        for streams in busy:  # nobody who was being served was cut for it
            assert (await asyncio.wait_for(streams[0].readuntil(b"\r\n"), 10)).startswith(b"HTTP/1.1 404 ")
        assert reserve


async def test_one_address_has_not_all_of_the_connections(fakes: Fakes, caplog: pytest.LogCaptureFixture) -> None:
    async with front(fakes, connections=64, connections_address=8) as opened:
        busy, release = await held(opened, fakes, 8)
        assert await opened.ask("/api/v1/resources") == 503
        assert await opened.ask("/livez") == 200
        assert await opened.ask("/api/v1/resources", source="127.0.0.2") == 200
        lines = [it.getMessage() for it in caplog.records if it.name == "yeoul.web.crowd"]
        assert len(lines) == 1
        assert "127.0.0.0/24" in lines[0]
        assert "YEOUL_TRUSTED_PROXIES" in lines[0]
        release.set()
        assert busy


async def test_a_proxy_of_ours_is_no_single_address(fakes: Fakes) -> None:
    async with front(fakes, connections_address=8, trusted_proxies=networks("127.0.0.1")) as opened:
        busy, release = await held(opened, fakes, 20)
        assert await opened.ask("/api/v1/resources") == 200
        release.set()
        assert busy


async def wave(opened: Front, number: int) -> None:
    """So many connections, a third each silent, with a slow head and with a slow body, opened 200 at a time."""
    said = (b"", b"GET /livez HTTP/1.1\r\nX: ", LOGIN + b"Content-Length: 1000\r\n\r\n{")

    async def one(n: int) -> None:
        with contextlib.suppress(ConnectionError):
            await opened.connect(said[n % 3])

    for start in range(0, number, 200):
        await asyncio.gather(*(one(n) for n in range(start, min(start + 200, number))))
        assert await opened.ask("/livez") == 200
        assert await opened.ask("/readyz") == 200


FULL = [pytest.param(5_000, room, marks=pytest.mark.full) for room in (500, 4_096)]


@pytest.mark.parametrize(("number", "room"), [(600, 200), *FULL])
async def test_a_wave_of_slow_connections_leaves_memory_bounded_and_health_answering(
    fakes: Fakes, number: int, room: int
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 3 * number), hard), hard))
    before = psutil.Process().memory_info().rss
    try:
        async with front(fakes, connections=room, header_timeout_s=3.0, body_timeout_s=3.0) as opened:
            await wave(opened, number)
            assert len(opened.crowd) <= room + crowd.RESERVE
            # The callers of the wave are in this process too, and take as much again.
            assert psutil.Process().memory_info().rss - before < 60_000_000 + number * 60_000
            await until(lambda: len(opened.crowd) == 0, 60)  # all of it is over by itself
            assert await opened.ask("/api/v1/resources") == 200
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


class Silent:
    """A connection that answers nobody, and counts how often it is asked."""

    address, crowded, unsent, unsent_since = "", False, 0, 0.0
    transport: asyncio.Transport | None = None
    asked = 0

    def __init__(self, since: float) -> None:
        self.since = since

    def waits_since(self) -> float:
        type(self).asked += 1
        return self.since

    def look(self, now: float) -> str:
        return ""

    def cut(self) -> None:
        pass


@pytest.mark.parametrize(("since", "most"), [(0.0, 600), (1e18, 700)])
async def test_a_flood_is_no_reason_to_look_at_all_of_them_again_and_again(
    monkeypatch: pytest.MonkeyPatch, since: float, most: int
) -> None:
    """All are being served, or have just come: nobody makes room."""
    monkeypatch.setattr(crowd, "FRUITLESS_S", 3600.0)
    settings = msgspec.structs.replace(SETTINGS, connections=500, connections_address=10_000)
    all_of_them = Crowd(settings, Clients(settings))
    Silent.asked = 0
    try:
        for _ in range(500 + crowd.RESERVE):
            assert all_of_them.enters(Silent(since), ("127.0.0.1", 1))
        let_in = [all_of_them.enters(Silent(since), ("127.0.0.1", 1)) for _ in range(100)]
        assert set(let_in) == {since != 0.0}  # the first in the reserve goes, unless it is being served
        assert len(all_of_them) == 500 + crowd.RESERVE
        # Once all of them, and then the first one of the reserve, or all that are served there.
        assert Silent.asked <= most + (100 * crowd.RESERVE if since == 0.0 else 0)
    finally:
        all_of_them.close()
