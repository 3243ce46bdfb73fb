"""From an event in the log to a row in front of somebody who watches, over everything that lies between."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from aiohttp import ClientResponse
from aiohttp.test_utils import TestClient, TestServer

import topics
from config import Settings
from stores.live import Live, RedisAway
from streams.groups import Connections
from tests.contracts.harness import HANG_S, until
from tests.delivery.counting import counting, opened
from web import watchers
from web.app import create

pytestmark = pytest.mark.asyncio(loop_scope="session")

DECLARED = """
[metrics.orders]
events = ["order.placed"]
group_by = ["data.shop", "data.floor"]
windows = { minute = "2d", "10m/5m" = "2d" }
public = true
[metrics.orders.measures]
revenue = { sum = "data.total" }
buyers = { distinct = "subject" }
"""
PATH = "/api/v1/analytics/orders/live"


@pytest_asyncio.fixture(loop_scope="session")
async def connections(own_settings: Settings, tmp_path: Path) -> AsyncIterator[Connections]:
    async with opened(own_settings, tmp_path, DECLARED) as made, counting(made):
        yield made


Client = TestClient[Any, Any]


@pytest_asyncio.fixture(loop_scope="session")
async def client(connections: Connections) -> AsyncIterator[Client]:
    async with TestClient(TestServer(create(connections.settings))) as client:

        async def there() -> bool:
            return (await client.head(PATH)).status == 200

        await until(there)
        yield client


class Shop:
    """A producer of another system, on two partitions."""

    def __init__(self, connections: Connections) -> None:
        self._topic = topics.INGEST.full_name(connections.settings.topic_prefix)
        self._producer: Any = connections.broker.producer
        self._sold = 0
        self._at = datetime.fromtimestamp(time.time() // 60 * 60, UTC).isoformat()  # the page shows the last hour only

    async def sell(self, total: Any, shop: str = "a", floor: int | None = 1, partition: int = 0) -> None:
        self._sold += 1
        event = {
            "specversion": "1.0", "id": str(self._sold), "source": "/shop", "type": "order.placed",
            "subject": f"buyer-{self._sold % 2}", "time": self._at,
            "data": {"shop": shop, "floor": floor, "total": total},
        }  # fmt: skip
        await self._producer.send_and_wait(self._topic, msgspec.json.encode(event), b"key", partition=partition)


async def event(answer: ClientResponse) -> tuple[str, Any]:
    """The next event that is not a comment."""
    fields: dict[str, str] = {}
    async with asyncio.timeout(HANG_S):
        async for line in answer.content:
            name, _, value = line.decode().rstrip("\n").partition(": ")
            if name == "" and value == "" and "data" in fields:
                return fields["event"], json.loads(fields["data"])
            fields[name] = value
    raise AssertionError("the stream has ended")


async def row(answer: ClientResponse, wanted: Callable[[dict[str, Any]], bool], name: str = "") -> dict[str, Any]:
    """The first row of this kind, whatever comes before it; `name`: in an event of this name."""
    while True:
        told, data = await event(answer)
        for each in data["rows"]:
            if wanted(each) and name in ("", told):
                found: dict[str, Any] = each
                return found


async def test_an_event_becomes_a_row_of_all_its_partitions(connections: Connections, client: Client) -> None:
    shop = Shop(connections)
    async with client.get(PATH) as answer, client.get(PATH, params={"window": "10m/5m"}) as sliding:
        assert (await event(answer))[0] == "snapshot"
        await shop.sell(10.5)
        await row(answer, lambda each: each["count"] == 1)
        await shop.sell(1, partition=1)
        found = await row(answer, lambda each: each["count"] == 2)
        assert found["group"] == {"data.shop": "a", "data.floor": 1}
        assert (found["revenue"], found["buyers"]) == (11.5, 2)
        counts: dict[str, int] = {}
        while sorted(counts.values()) != [2, 2]:
            counts |= {each["start"]: each["count"] for each in (await event(sliding))[1]["rows"]}


async def test_only_the_groups_that_are_asked_for(connections: Connections, client: Client) -> None:
    shop = Shop(connections)
    for name, floor in (("a", 1), ("a", None), ("b", 1), ('"', 2)):
        await shop.sell(1, name, floor)

    async def seen(**group: str) -> list[tuple[str, int | None]]:
        async with client.get(PATH, params={f"group[data.{name}]": value for name, value in group.items()}) as answer:
            _, data = await event(answer)
            return [(each["group"]["data.shop"], each["group"]["data.floor"]) for each in data["rows"]]

    async def all_there() -> bool:
        return len(await seen()) == 4

    await until(all_there)
    assert sorted(await seen(shop="a", floor="null")) == [("a", None)]
    assert sorted(await seen(floor="1")) == [("a", 1), ("b", 1)]
    assert await seen(shop='"') == [('"', 2)]
    assert await seen(shop="c") == []


async def test_a_channel_that_broke_is_followed_by_a_snapshot(connections: Connections, client: Client) -> None:
    shop = Shop(connections)
    await shop.sell(1)
    async with client.get(PATH) as answer:
        await row(answer, lambda each: each["count"] == 1)
        await connections.redis.client.client_kill_filter(_type="pubsub")
        assert (await row(answer, lambda each: each["count"] == 1, "snapshot"))["count"] == 1
        await shop.sell(1)
        await row(answer, lambda each: each["count"] == 2, "rows")


async def test_what_redis_lost_is_read_from_the_table(
    connections: Connections, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(self: Live, rows: Any) -> None:
        raise RedisAway("lost")

    monkeypatch.setattr(Live, "tell", lost)
    monkeypatch.setattr(watchers, "REFRESH_S", 0.1)
    async with client.get(PATH) as answer:
        assert (await event(answer))[0] == "snapshot"
        await Shop(connections).sell(3)
        assert (await row(answer, lambda each: each["count"] == 1))["revenue"] == 3
