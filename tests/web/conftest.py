"""A front over the fakes, on a real socket."""

import contextlib
import time
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import UUID

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from domain.access import Role
from domain.tables import Table
from tests.web import watching
from tests.web.fakes import SETTINGS, Fakes
from web import watchers
from web.app import create

OWNER = UUID("0190aaaa-0000-7000-8000-000000000001")
OTHER = UUID("0190aaaa-0000-7000-8000-000000000002")
ADMIN = UUID("0190aaaa-0000-7000-8000-00000000000a")


Client = TestClient[web.Request, web.Application]


@pytest.fixture
def fakes() -> Fakes:
    return Fakes()


@pytest.fixture
async def client(fakes: Fakes) -> AsyncIterator[Client]:
    async with TestClient(TestServer(create(SETTINGS, fakes.open))) as opened:
        yield opened


@pytest.fixture
def bearer(fakes: Fakes) -> Callable[..., dict[str, str]]:
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
