"""Who wrote reads the write: from any front, also when Redis was away, and comes back with what it had before."""

import asyncio
import os
import signal
import time
from typing import Any
from uuid import UUID

import aiohttp
import pytest

from embedded.stack import Stack
from tests.flows.clients import LIMIT, comes_again
from tests.flows.harness import System

pytestmark = pytest.mark.asyncio(loop_scope="session")

NOTE = {"kind": "note", "title": "first"}


class Client:
    """Each request over a connection of its own, so that all processes of a front are met."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}", "Prefer": "wait=30"}

    async def ask(self, method: str, path: str, **more: Any) -> tuple[int, Any]:
        async with (
            aiohttp.ClientSession(headers=self._headers, timeout=LIMIT, middlewares=(comes_again,)) as session,
            session.request(method, self._url + path, **more) as response,
        ):
            return response.status, (await response.json())["data"]

    async def raw(self, method: str, path: str, **more: Any) -> tuple[int, Any]:
        """The status, and the envelope if there is one."""
        async with (
            aiohttp.ClientSession(headers=self._headers, timeout=LIMIT, middlewares=(comes_again,)) as session,
            session.request(method, self._url + path, **more) as response,
        ):
            return response.status, await response.json() if response.status != 204 else None

    async def version(self, id: str) -> int:
        status, resource = await self.ask("GET", f"/resources/{id}")
        assert status == 200
        return int(resource["version"])

    async def reads_only(self, version: int, ids: list[str], for_s: float = 3.0) -> None:
        """Nobody who asks within this time after the return of Redis is shown another version."""
        end = time.monotonic() + for_s
        while time.monotonic() < end:
            assert set(await asyncio.gather(*map(self.version, ids))) == {version}


async def idle_reads(installation: System, version: int, ids: list[str]) -> None:
    """As a front that nobody asked anything while Redis was away."""
    for id in ids:
        view = await installation.stores.resources.get(UUID(id))
        assert view is not None
        assert view.version == version


async def test_after_an_outage_of_redis(installation: System, stack: Stack) -> None:
    client = Client(await installation.serve(), await installation.token())
    ids = [(await client.ask("POST", "/resources", json=NOTE))[1]["id"] for _ in range(8)]
    assert {await client.version(id) for id in ids} == {1}
    await stack.stop("valkey")
    try:
        changed = await asyncio.gather(
            *(client.ask("PUT", f"/resources/{id}", json=NOTE | {"title": "second"}) for id in ids)
        )
        assert [(status, resource["version"]) for status, resource in changed] == [(200, 2)] * len(ids)
    finally:
        await stack.start("valkey")
    await idle_reads(installation, 2, ids)
    await client.reads_only(2, ids)


async def test_after_redis_was_frozen(installation: System, stack: Stack) -> None:
    client = Client(await installation.serve(), await installation.token())
    ids = [(await client.ask("POST", "/resources", json=NOTE))[1]["id"] for _ in range(8)]
    os.kill(stack.pids["valkey"], signal.SIGSTOP)
    try:
        changed = await asyncio.gather(
            *(client.ask("PUT", f"/resources/{id}", json=NOTE | {"title": "second"}) for id in ids)
        )
        assert [(status, resource["version"]) for status, resource in changed] == [(200, 2)] * len(ids)
    finally:
        os.kill(stack.pids["valkey"], signal.SIGCONT)
    await idle_reads(installation, 2, ids)
    await client.reads_only(2, ids)
