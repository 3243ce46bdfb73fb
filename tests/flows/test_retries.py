"""A retry over HTTP, through every process: the same key is one write, today and later."""

from typing import Any

import aiohttp
import pytest

from tests.flows.clients import LIMIT, comes_again
from tests.flows.harness import System

pytestmark = pytest.mark.asyncio(loop_scope="session")

KEY = {"Idempotency-Key": "one intent"}


class Caller:
    """Asks over a connection of its own each time, so that all processes of a front are met."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url
        self._headers = {"Authorization": f"Bearer {token}", "Prefer": "wait=30"}

    async def create(self, title: str) -> tuple[int, bool, Any]:
        """Status, whether it is a replay, and the resource or the code of the error."""
        async with (
            aiohttp.ClientSession(headers=self._headers | KEY, timeout=LIMIT, middlewares=(comes_again,)) as session,
            session.post(f"{self._url}/resources", json={"kind": "note", "title": title}) as response,
        ):
            body = await response.json()
            replayed = response.headers.get("Idempotency-Replayed") == "true"
            return response.status, replayed, body["data"] if body["success"] else body["error"]["code"]


async def test_one_key_is_one_write(installation: System) -> None:
    url = await installation.serve()
    mina, jun = [Caller(url, await installation.token(f"{name}@example.com")) for name in ("mina", "jun")]
    status, replayed, first = await mina.create("first")
    assert (status, replayed, first["title"]) == (201, False, "first")
    for _ in range(3):
        assert await mina.create("first") == (201, True, first)
        assert await mina.create("another") == (422, False, "KEY_REUSED")
    status, replayed, others = await jun.create("first")  # the key counts for whoever sends it
    assert (status, replayed) == (201, False)
    assert others["id"] != first["id"]

    # A day later: neither the table of operations nor Redis knows of them.
    await installation.stores.database.execute("UPDATE operations SET created_at = now() - interval '25 hours'")
    await installation.stores.operations.forget()
    async for key in installation.stores.redis.client.scan_iter(f"{installation.settings.topic_prefix}:op:*"):
        await installation.stores.redis.client.delete(key)
    assert await mina.create("first") == (409, False, "ALREADY_EXISTS")
    assert await installation.stores.database.fetch("SELECT 1 FROM resources OFFSET 2") == []
