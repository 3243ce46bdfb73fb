"""PostgreSQL is restored to an older state, and Kafka has the commands since: what comes back, and what can't."""

import asyncio
import re
import signal
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import msgspec
import pytest
import redis.asyncio

from config import Settings
from domain.refusals import Code, Refusal
from stores import migrations
from streams import admin
from streams.publish import Answer
from tests.flows.clients import WAIT, comes_again
from tests.flows.harness import Process, System, own_port, until

pytestmark = pytest.mark.asyncio(loop_scope="session")

PASSWORD = "correct horse"


class Installation:
    """A worker and a front, stopped and started around what is done to their database."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        port = own_port()
        self._settings = settings
        state = str(folder / "state")
        self._worker = Process(settings, ["-m", "cli", "worker"], folder / "worker.log", YEOUL_STATE_DIR=state)
        self._front = Process(
            settings, ["-m", "cli", "web"], folder / "front.log",
            YEOUL_STATE_DIR=state, YEOUL_WEB_PORT=str(port), YEOUL_WEB_PROCESSES="1",
        )  # fmt: skip
        self._url = f"http://127.0.0.1:{port}/api/v1"

    async def start(self) -> None:
        await asyncio.gather(self._worker.start(), self._front.start())

    async def stop(self) -> None:
        for process in (self._worker, self._front):
            process.signal(signal.SIGTERM)
        await asyncio.gather(self._worker.ended(), self._front.ended())

    async def kill(self) -> None:
        await asyncio.gather(self._worker.kill(), self._front.kill())

    async def post(self, path: str, body: Any, token: str = "") -> tuple[int, Any]:
        headers = WAIT | ({"Authorization": f"Bearer {token}"} if token else {})
        async with (
            aiohttp.ClientSession(middlewares=(comes_again,)) as session,
            session.post(self._url + path, json=body, headers=headers) as answer,
        ):
            return answer.status, await answer.json()

    async def reads(self, resource: str, token: str) -> bool:
        async with (
            aiohttp.ClientSession(headers={"Authorization": f"Bearer {token}"}) as session,
            session.get(f"{self._url}/resources/{resource}") as answer,
        ):
            return answer.status == 200

    async def register(self, email: str) -> tuple[int, Any]:
        return await self.post("/auth/register", {"email": email, "password": PASSWORD})

    async def login(self, email: str) -> int:
        return (await self.post("/auth/login", {"email": email, "password": PASSWORD}))[0]

    async def outcomes(self) -> dict[str, int]:
        """How many commands of accounts came to what."""
        connection = await asyncpg.connect(self._settings.postgres_url)
        try:
            rows = await connection.fetch(
                "SELECT outcome, count(*) FROM operations WHERE noun = 'accounts' GROUP BY outcome"
            )
        finally:
            await connection.close()
        return {row["outcome"]: row["count"] for row in rows}


async def test_accounts_since_the_backup_are_refused_and_their_addresses_free(
    own_settings: Settings, tmp_path: Path
) -> None:
    await migrations.apply(own_settings.postgres_url)
    await admin.ensure_topics(own_settings)
    found = re.search(r"/([^/?]+)\?", own_settings.postgres_url)
    assert found is not None
    own = found[1]
    server = await asyncpg.connect(re.sub(r"/[^/?]+\?", "/postgres?", own_settings.postgres_url))
    installation = Installation(own_settings, tmp_path)
    try:
        await installation.start()
        assert (await installation.register("before@example.com"))[0] == 201
        await installation.stop()
        await server.execute(f'CREATE DATABASE "{own}_backup" TEMPLATE "{own}"')
        await installation.start()
        status, registered = await installation.register("lost@example.com")
        assert status == 201
        token = registered["data"]["access_token"]
        status, created = await installation.post("/resources", {"kind": "note", "title": "mine"}, token)
        assert status == 201
        await installation.stop()

        await server.execute(f'DROP DATABASE "{own}"')
        await server.execute(f'CREATE DATABASE "{own}" TEMPLATE "{own}_backup"')
        async with redis.asyncio.from_url(own_settings.redis_url) as client:
            await client.flushdb()
        await installation.start()

        async def read_again() -> bool:
            return sum((await installation.outcomes()).values()) == 2

        await until(read_again, 60, "the command since the backup is read again")
        assert await installation.outcomes() == {"succeeded": 1, "refused": 1}
        # What was made by it comes back.
        await until(lambda: installation.reads(created["data"]["id"], token), 60, "the resource is there again")
        assert await installation.login("before@example.com") == 200
        assert await installation.login("lost@example.com") == 401
        status, again = await installation.register("lost@example.com")
        assert status == 201
        assert again["data"]["user"]["id"] != registered["data"]["user"]["id"]
        assert await installation.login("lost@example.com") == 200
        assert (await installation.register("before@example.com"))[0] == 409
    finally:
        await installation.kill()
        await server.execute(f'DROP DATABASE IF EXISTS "{own}_backup"')
        await server.close()


async def test_an_account_without_its_key_takes_its_address_from_nobody(installation: System) -> None:
    await installation.worker("accounts").start()
    lost, late, other = [await installation.register(number, keyed=number > 0) for number in (0, 1, 2)]
    # Another account has asked for the same address right behind it.
    late = msgspec.structs.replace(late, data=lost.data)
    answers = await asyncio.gather(*(installation.submit(order, wait=20) for order in (lost, late, other)))
    found = {answer.operation: answer for answer in answers if isinstance(answer, Answer)}
    assert found[lost.operation].refusal == Refusal(Code.ACCOUNT_ERASED)
    assert found[late.operation].outcome == found[other.operation].outcome == "succeeded"
    # Erased, and its command read once more.
    await installation.stores.database.execute("DELETE FROM operations")
    await installation.stores.database.execute("DELETE FROM account_keys WHERE account_id = $1", other.aggregate_id)
    again = await installation.submit(other, wait=20)
    assert isinstance(again, Answer)
    assert again.refusal == Refusal(Code.ACCOUNT_ERASED)
