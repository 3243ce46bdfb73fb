"""A front over the fakes, on a real socket."""

import asyncio
import contextlib
import io
import logging
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from uuid import UUID

import msgspec
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from domain.access import Role
from domain.tables import Table
from telemetry.logs import Json
from tests.web import watching
from tests.web.fakes import SETTINGS, Fakes
from web import watchers
from web.app import create
from web.unreadable import Runner

OWNER = UUID("0190aaaa-0000-7000-8000-000000000001")
OTHER = UUID("0190aaaa-0000-7000-8000-000000000002")
ADMIN = UUID("0190aaaa-0000-7000-8000-00000000000a")


Client = TestClient[web.Request, web.Application]
Bearer = Callable[..., dict[str, str]]
"""Headers of an account with a role."""
PASSWORD = "rapids of a river"


def bearing(tokens: Any, **more: str) -> dict[str, str]:
    """Headers of who was given these tokens."""
    return {"Authorization": f"Bearer {tokens['access_token']}", **more}


async def registered(client: Client, address: str = "han", /, **more: Any) -> dict[str, Any]:
    """What somebody new is given: tokens, and the account. `more`: of the body, or instead of what is in it."""
    body = {"email": f"{address}@example.org", "password": PASSWORD, **more}
    answer = await client.post("/api/v1/auth/register", json=body)
    assert answer.status == 201, await answer.text()
    return dict((await answer.json())["data"])


async def ask(client: Client, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any, Any]:
    """Status, data (or code), and headers."""
    answer = await client.request(method, path, json=body, headers=headers)
    text = await answer.text()
    shown = msgspec.json.decode(text) if text else {}
    return answer.status, shown.get("data", shown.get("error", {}).get("code")), answer.headers


@pytest.fixture
def fakes() -> Fakes:
    return Fakes()


@pytest.fixture
async def client(fakes: Fakes) -> AsyncIterator[Client]:
    async with TestClient(TestServer(create(SETTINGS, fakes.open))) as opened:
        yield opened


@pytest.fixture
async def private(fakes: Fakes) -> AsyncIterator[Client]:
    """A front that tells nobody whether an address is taken."""
    settings = msgspec.structs.replace(SETTINGS, registration="private")
    async with TestClient(TestServer(create(settings, fakes.open))) as opened:
        yield opened


@pytest.fixture
async def port(fakes: Fakes) -> AsyncIterator[int]:
    """Of a front with a runner as its processes have it; a connection that asks nothing more is ended soon."""
    runner = Runner(create(SETTINGS, fakes.open), access_log=None, keepalive_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield runner.addresses[0][1]
    await runner.cleanup()


async def asking(port: int, start: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to a front in this loop, and the beginning of what is asked on it, a kilobyte or less."""
    # Sent before the front can take the connection: it never finds one that says nothing, which it would soon end.
    opened = socket.create_connection(("127.0.0.1", port))
    opened.sendall(start)
    return await asyncio.open_connection(sock=opened)


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """The lines of requests, as JSON."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(Json("web"))
    handler.addFilter(logging.Filter("yeoul.web"))
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    caplog.set_level(logging.INFO, "yeoul.web")
    return stream


@pytest.fixture
def nothing_gets_through(fakes: Fakes) -> Iterator[None]:
    """Nothing that a test asks is on its way to a topic."""
    yield
    assert fakes.commands.submitted == []


@pytest.fixture
def bearer(fakes: Fakes) -> Bearer:
    def make(account: UUID = OWNER, role: Role = Role.USER, **more: str) -> dict[str, str]:
        return {"Authorization": f"Bearer {fakes.tokens.issue(account, role, time.time())}", **more}

    return make


@pytest.fixture
def watched(client: Client, fakes: Fakes, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Opens the stream of a metric that is there."""
    monkeypatch.setattr(watchers, "EVERY_S", 0.01)
    monkeypatch.setattr(fakes.live, "clock", lambda: watching.NOW)  # however long the other tests took since
    fakes.stores.watching.serving.setdefault("orders", Table(1, watching.metric()))

    @contextlib.asynccontextmanager
    async def opened(query: str = "", **headers: str) -> AsyncIterator[watching.Stream]:
        async with client.get(watching.PATH + query, headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            yield watching.Stream(answer)

    return opened
