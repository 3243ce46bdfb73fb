"""Metrics over real events: the tables are what a plain script comes to, however the batches were divided."""

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio

import topics
from config import Settings
from domain import reports, windows
from stores.reports import Reports
from streams.groups import Connections
from tests.contracts.harness import until
from tests.delivery.counting import counting, opened

pytestmark = pytest.mark.asyncio(loop_scope="session")

DECLARED = """
[metrics.orders]
events = ["order.*"]
where = { "data.test" = [false] }
group_by = ["data.shop", "type"]
lateness = "10m"
groups = 4
windows = { minute = "2d", hour = "90d", "10m/5m" = "2d", month = "5y" }
[metrics.orders.measures]
revenue = { sum = "data.total" }
least = { min = "data.total" }
most = { max = "data.total" }
mean = { mean = "data.total" }
buyers = { distinct = "subject" }
size = { percentiles = "data.total" }
pages = { top = "data.page", most = 2 }
"""


@pytest_asyncio.fixture(loop_scope="session")
async def connections(own_settings: Settings, tmp_path: Path) -> AsyncIterator[Connections]:
    async with opened(own_settings, tmp_path, DECLARED) as made:
        yield made


class Shop:
    """Events of one partition, in order, and what a plain script makes of them."""

    def __init__(self, seed: int, now: int) -> None:
        self.random = random.Random(seed)
        self.now = now
        self.watermark = 0
        self.groups: dict[int, list[str]] = defaultdict(list)
        self.counts: Counter[tuple[int, str]] = Counter()
        self.sums: dict[tuple[int, str], Decimal] = defaultdict(Decimal)
        self.late = 0

    def event(self, number: int) -> dict[str, Any]:
        at = self.now - 1800 + number // 4 - (1500 if self.random.random() < 0.02 else self.random.randrange(60))
        event: dict[str, Any] = {
            "specversion": "1.0", "id": str(number), "source": "/shop",
            "type": self.random.choice(("order.placed", "order.paid", "other")),
            "subject": f"buyer-{self.random.randrange(40)}", "time": datetime.fromtimestamp(at, UTC).isoformat(),
            "data": {
                "shop": self.random.choice("abcde"), "test": self.random.random() < 0.1,
                "total": self.random.choice([round(self.random.uniform(0, 500), 2), 7, "nothing"]),
                "page": f"/{self.random.randrange(5)}",
            },
        }  # fmt: skip
        self.counted(at, event)
        return event

    def counted(self, at: int, event: dict[str, Any]) -> None:
        late = at + 600 < self.watermark
        self.watermark = max(self.watermark, at)
        data = event["data"]
        if event["type"] == "other":
            return
        if late:
            self.late += 1
            return
        if data["test"]:
            return
        start = at - at % 60
        group = msgspec.json.encode([data["shop"], event["type"]]).decode()
        if group not in self.groups[start]:
            if len(self.groups[start]) >= 4:
                group = '["__other__","__other__"]'
            else:
                self.groups[start].append(group)
        self.counts[start, group] += 1
        if data["total"] != "nothing":
            self.sums[start, group] += Decimal(str(data["total"]))


async def test_the_tables_are_what_a_plain_script_comes_to(connections: Connections) -> None:
    shop = Shop(3, int(time.time()))
    topic = topics.INGEST.full_name(connections.settings.topic_prefix)
    producer = connections.broker.producer
    assert producer is not None
    async with counting(connections):
        for chunk in range(0, 4000, 500):
            batch = [msgspec.json.encode(shop.event(number)) for number in range(chunk, chunk + 500)]
            await asyncio.gather(*[await producer.send(topic, value, b"one", partition=0) for value in batch])

        async def done() -> bool:
            lives = await connections.progress.lives(f"{connections.settings.topic_prefix}.analytics", 0)
            return any(life.next_offset == 4000 for life in lives)

        await until(done)
    read = Reports(connections.database)
    table = (await read.tables())["orders"]
    kept = table.metric.window("minute")
    assert kept is not None
    since, later = shop.now - 7200, shop.now + 600
    parts = await read.parts(table, kept.window, since, later)
    lines = reports.lines(table.metric, reports.gathered(kept.window, parts, since, later))
    found = {(line.start, line.group): line.values for line in lines}
    assert {key: values["count"] for key, values in found.items()} == dict(shop.counts)
    assert {key: values["revenue"] for key, values in found.items() if values["revenue"]} == {
        key: total for key, total in shop.sums.items() if total
    }
    assert sum(each.count for each in await read.dropped(table, since, later)) == shop.late > 0
    hour = windows.parse("hour")
    of_hours = reports.lines(
        table.metric,
        reports.gathered(hour, await read.parts(table, hour, since - 3600, later), since - 3600, later),
    )
    assert sum(line.values["count"] for line in of_hours) == sum(shop.counts.values())
