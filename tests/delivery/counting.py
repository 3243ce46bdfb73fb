"""Live metrics over a log of their own: a handler that runs, events of other systems, and what the tables have."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

import topics
from agents import analytics, rebuild
from config import Settings
from config.metrics import load
from domain.metrics import Metric
from stores import migrations
from stores.metrics import Metrics
from streams.admin import ensure_topics
from streams.groups import Connections
from streams.runtime import Running
from tests.contracts.harness import until

ALIKE = """
[metrics.{name}]
events = ["order.*"]
where = {{ "data.test" = [false] }}
group_by = ["data.shop", "type"]
lateness = "10m"
groups = 4
windows = {{ minute = "2d", hour = "90d", month = "5y" }}
[metrics.{name}.measures]
revenue = {{ sum = "data.total" }}
most = {{ max = "data.total" }}
buyers = {{ distinct = "subject" }}
size = {{ percentiles = "data.total" }}
pages = {{ top = "data.page", most = 2 }}
"""
TABLES = ("metric_minutes", "metric_hours", "metric_days")


def declare(settings: Settings, *names: str, text: str = ALIKE) -> None:
    settings.metrics_file.write_text("".join(text.format(name=name) for name in names))


@contextlib.asynccontextmanager
async def opened(settings: Settings, folder: Path, text: str) -> AsyncIterator[Connections]:
    """Migrated tables, topics, and a file that declares metrics."""
    own = msgspec.structs.replace(settings, metrics_file=folder / "metrics.toml")
    own.metrics_file.write_text(text)
    await migrations.apply(own.postgres_url)
    await ensure_topics(own)
    connections = Connections(own, "tests")
    await connections.broker.start()
    try:
        yield connections
    finally:
        await connections.close()


@contextlib.asynccontextmanager
async def counting(connections: Connections) -> AsyncIterator[Running]:
    """The live group runs."""
    running = Running(connections, analytics.GROUP)
    running.start()
    try:
        yield running
    finally:
        await running.stop()


class Shops:
    """Orders of four partitions, with repeats, late ones, and records that nobody can read."""

    def __init__(self, connections: Connections) -> None:
        self.random = random.Random(7)
        self.number = 0
        self.sent = 0
        self._connections = connections
        self.topic = topics.INGEST.full_name(connections.settings.topic_prefix)

    def _event(self) -> bytes:
        chance = self.random.random()
        if chance < 0.005:
            return b"no event"
        if chance > 0.02:
            self.number += 1
        at = (
            time.time() - 1800 + self.number / 20 - (1500 if self.random.random() < 0.02 else self.random.random() * 60)
        )
        seeded = random.Random(self.number)
        return msgspec.json.encode(
            {
                "specversion": "1.0", "id": str(self.number), "source": "/shop",
                "type": seeded.choice(("order.placed", "order.paid", "other")),
                "subject": f"buyer-{seeded.randrange(400)}", "time": datetime.fromtimestamp(at, UTC).isoformat(),
                "data": {
                    "shop": seeded.choice("abcde"), "test": seeded.random() < 0.1,
                    "total": seeded.choice([round(seeded.uniform(0, 500), 2), 7, "nothing"]),
                    "page": f"/{seeded.randrange(9)}",
                },
            }
        )  # fmt: skip

    async def send(self, count: int) -> None:
        producer = self._connections.broker.producer
        assert producer is not None
        for _ in range(0, count, 500):
            partition = self.random.randrange(4)
            events = [self._event() for _ in range(500)]
            await asyncio.gather(*[await producer.send(self.topic, event, partition=partition) for event in events])
            self.sent += 500

    async def handled(self) -> None:
        """Wait until the live group has handled all that was sent."""
        group = f"{self._connections.settings.topic_prefix}.analytics"

        async def done() -> bool:
            row = await self._connections.database.fetchrow(
                "SELECT sum(next_offset) AS at FROM progress WHERE consumer_group = $1 AND topic = $2",
                group,
                self.topic,
            )
            return bool(row["at"] == self.sent)

        await until(done)


async def rows(connections: Connections, name: str) -> list[tuple[Any, ...]]:
    """What the version of a metric that serves has, in all tables."""
    found = []
    for table in TABLES:
        found += await connections.database.fetch(
            f"""SELECT pane, start, grp, measure, feed, n, total, low, high, sketch FROM {table}
                WHERE metric = (SELECT id FROM metrics WHERE name = $1 AND state = 'serving') ORDER BY 1, 2, 3, 4, 5""",
            name,
        )
    return [tuple(row) for row in found]


def declared(connections: Connections, name: str) -> Metric:
    return next(metric for metric in load(connections.settings.metrics_file) if metric.name == name)


def build(connections: Connections, name: str = "orders", said: list[str] | None = None) -> rebuild.Rebuild:
    lines: list[str] = [] if said is None else said
    return rebuild.Rebuild(connections, declared(connections, name), lines.append)


async def states(connections: Connections, name: str = "orders") -> list[str]:
    return [found.state for found in await Metrics(connections.database).versions() if found.metric.name == name]
