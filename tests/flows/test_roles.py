"""The table of tests/web/roles.py on a whole installation: a worker and real stores say the same."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from uuid import UUID

import aiohttp
import msgspec
import pytest
import pytest_asyncio

from cli.orders import order
from config import Settings
from domain.access import Role
from domain.accounts import ChangeRole
from domain.mail_texts import Kind
from stores.dead_letters import Letter, park
from stores.reports import Reports
from tests.flows.clients import LIMIT, WAIT, comes_again
from tests.flows.harness import System, system, unlimited, until
from tests.flows.mail_server import Server
from tests.web import roles
from tests.web.roles import OUTSIDE, TABLE, V1, Row, meet
from topics import INGEST

pytestmark = pytest.mark.asyncio(loop_scope="session")

METRICS = """
[metrics.orders]
events = ["order.*"]
windows = { minute = "2d" }
[metrics.sign_ups]
events = ["account.created"]
windows = { day = "5y" }
public = true
"""
SPENDING = {
    "POST /auth/logout", "POST /auth/logout-all", "DELETE /users/me", "PUT /users/me/password",
    "POST /users/me/second-factor", "DELETE /users/{id}", "PUT /users/{id}/role", "PUT /users/{id}/status",
}  # fmt: skip
"""After which the accounts of a world are not what they were."""


class World(roles.World):
    """As an operator and the mails of an installation make it."""

    def __init__(self, client: aiohttp.ClientSession, served: System, mails: Server) -> None:
        super().__init__(client, **WAIT)
        self._served, self._mails = served, mails

    async def open(self) -> None:
        await super().open()
        # Every process of the front has to know.
        await until(self._ended, 30, "the session of `ended` is refused by every process")

    async def _ended(self) -> bool:
        async def status() -> int:
            async with self.client.get(f"{V1}/users/me", headers=self.headers["ended"]) as answer:
                return answer.status

        return set(await asyncio.gather(*(status() for _ in range(24)))) == {401}

    async def promote(self, name: str) -> None:
        email = self.credentials(name)["email"]
        await order(self._served.settings, email, "accounts", "change_role", ChangeRole(Role.ADMIN))

    async def mailed(self, kind: Kind, address: str) -> str:
        return await self._mails.token(address, kind)

    async def letter(self) -> int:
        row = await self._served.stores.database.fetchrow("SELECT min(id) AS id FROM dead_letters")
        return int(row["id"])


class Worlds:
    """One world after the other: the next is made when rows have spent the one before."""

    def __init__(self, client: aiohttp.ClientSession, served: System, mails: Server) -> None:
        self._parts = (client, served, mails)
        self._world: World | None = None

    @contextlib.asynccontextmanager
    async def lent(self, row: Row) -> AsyncIterator[World]:
        """A world in which nobody has met a row that spends it; one in which a row failed is not used again."""
        world, self._world = self._world, None
        if world is None:
            world = World(*self._parts)
            await world.open()
        yield world
        if row.route not in SPENDING:
            self._world = world


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def mails() -> AsyncIterator[Server]:
    server = Server()
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def worlds(settings: Settings, mails: Server, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Worlds]:
    folder = tmp_path_factory.mktemp("roles")
    (folder / "metrics.toml").write_text(METRICS)
    changed = msgspec.structs.replace(
        unlimited(settings, "_ADDRESS"), metrics_file=folder / "metrics.toml", smtp_url=f"smtp://127.0.0.1:{mails.port}"
    )
    async with system(changed, folder) as served:
        url = await served.serve()
        # Else the admin of the table were the last one, whom nobody may take away (tests/flows/test_accounts.py).
        await served.token("another-admin@example.org", Role.ADMIN)
        await park_one(served)
        await until(lambda: both_serve(served), 30, "the metrics serve")
        # Each request over a connection of its own, so that all processes of the front are met.
        connector = aiohttp.TCPConnector(force_close=True)
        async with aiohttp.ClientSession(
            url.removesuffix(V1), connector=connector, timeout=LIMIT, middlewares=(comes_again,)
        ) as client:
            yield Worlds(client, served, mails)


async def park_one(served: System) -> None:
    prefix = served.settings.topic_prefix
    letter = Letter(
        group=f"{prefix}.analytics", topic=INGEST.full_name(prefix), topic_id=UUID(int=1), partition=0, offset=0,
        key=None, value=b"no event", headers=(), produced_at=None, code="not_json", error="", handler="analytics",
        attempts=1,
    )  # fmt: skip
    async with served.stores.database.connection() as connection:
        await park(connection, [letter])


async def both_serve(served: System) -> bool:
    return set(await Reports(served.stores.database).tables()) == {"orders", "sign_ups"}


@pytest.mark.parametrize("row", TABLE, ids=str)
async def test_everybody_meets_every_endpoint(worlds: Worlds, row: Row) -> None:
    async with worlds.lent(row) as world:
        await meet(world, row, V1)


@pytest.mark.parametrize("row", OUTSIDE, ids=str)
async def test_what_stands_outside_of_the_api_is_for_everybody(worlds: Worlds, row: Row) -> None:
    async with worlds.lent(row) as world:
        await meet(world, row, "")
