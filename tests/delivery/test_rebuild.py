"""A metric built anew is the table that counted all along, to the bit, whatever happened meanwhile."""

import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete
from aiokafka.admin.client import AIOKafkaAdminClient

import topics
from agents import analytics, rebuild
from config import Settings
from config.metrics import load
from domain.metrics import Metric
from stores import metrics, migrations
from stores.metrics import Gone, Metrics
from streams.admin import ensure_topics
from streams.envelope import Unreadable
from streams.groups import Connections
from streams.runtime import Running
from tests.contracts.harness import until

pytestmark = pytest.mark.asyncio(loop_scope="session")

ROOT = Path(__file__).resolve().parents[2]
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


@pytest_asyncio.fixture(loop_scope="session")
async def connections(own_settings: Settings, tmp_path: Path) -> AsyncIterator[Connections]:
    own = msgspec.structs.replace(own_settings, metrics_file=tmp_path / "metrics.toml")
    declare(own, "orders", "twin")
    await migrations.apply(own.postgres_url)
    await ensure_topics(own)
    connections = Connections(own, "tests")
    await connections.broker.start()
    yield connections
    await connections.close()


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


async def test_while_events_flow(connections: Connections) -> None:
    shops = Shops(connections)
    running = Running(connections, analytics.GROUP)
    running.start()
    try:
        await shops.send(6000)
        flowing = asyncio.create_task(shops.send(10_000))
        said: list[str] = []
        await build(connections, said=said).run()
        await flowing
        await shops.send(3000)
        await shops.handled()
    finally:
        await running.stop()
    assert await states(connections) == ["retired", "serving"]
    assert "the topics still keep all" in said[0]
    new, twin = await rows(connections, "orders"), await rows(connections, "twin")
    assert len(twin) > 500
    assert any(row[3].startswith("#dropped.") for row in twin)
    assert new == twin
    left = await connections.database.fetch("SELECT 1 FROM progress WHERE consumer_group LIKE '%rebuild%'")
    assert left == []


async def test_while_no_worker_runs(connections: Connections) -> None:
    shops = Shops(connections)
    running = Running(connections, analytics.GROUP)
    running.start()
    try:
        await shops.send(4000)
        await shops.handled()
    finally:
        await running.stop()
    await shops.send(2000)  # not ours to count: the live group goes on with them
    await build(connections).run()
    assert await rows(connections, "orders") == await rows(connections, "twin")
    running = Running(connections, analytics.GROUP)
    running.start()
    try:
        await shops.handled()
    finally:
        await running.stop()
    assert await rows(connections, "orders") == await rows(connections, "twin")


async def rebuilding(settings: Settings) -> "asyncio.subprocess.Process":
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "cli", "metrics", "rebuild", "orders", cwd=ROOT,
        env=os.environ | settings.environ() | {"PYTHONUNBUFFERED": "1"},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip


async def test_a_kill_in_the_middle(connections: Connections) -> None:
    shops = Shops(connections)
    running = Running(connections, analytics.GROUP)
    running.start()
    try:
        await shops.send(60_000)
        await shops.handled()
        process = await rebuilding(connections.settings)
        group = f"{connections.settings.topic_prefix}.analytics-rebuild-orders-2"

        async def begun() -> bool:
            row = await connections.database.fetchrow(
                "SELECT sum(next_offset) AS at FROM progress WHERE consumer_group = $1", group
            )
            return bool(row["at"])

        await until(begun)
        process.send_signal(signal.SIGKILL)
        await process.wait()
        assert await states(connections) == ["serving", "building"]
        at = await connections.database.fetchrow(
            "SELECT sum(next_offset) AS at FROM progress WHERE consumer_group = $1", group
        )
        assert 0 < at["at"] < 60_000
        await shops.send(2000)
        process = await rebuilding(connections.settings)
        out, _ = await process.communicate()
        assert process.returncode == 0, out.decode()
        assert "goes on with version 2" in out.decode()
        assert "version 2 serves from now on" in out.decode()
        await shops.send(1000)
        await shops.handled()
    finally:
        await running.stop()
    assert await states(connections) == ["retired", "serving"]
    assert await rows(connections, "orders") == await rows(connections, "twin")


async def test_dead_letters_that_are_replayed_meanwhile_are_counted_once(
    connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What can be read by now, and was not then, is the live group's to replay; what it replayed is in both tables."""
    monkeypatch.setattr("streams.runtime.REPLAY_EVERY_S", 0.05)
    shops = Shops(connections)
    decode = analytics.Counting.decode

    def forgetful(self: analytics.Counting, record: Any) -> Any:
        if record.offset in {7, 8, 9} and record.topic == shops.topic:
            raise Unreadable("bad_name", "a version that could not read it")
        return decode(self, record)

    monkeypatch.setattr(analytics.Counting, "decode", forgetful)
    running = Running(connections, analytics.GROUP)
    running.start()
    try:
        await shops.send(4000)
        await shops.handled()
        monkeypatch.setattr(analytics.Counting, "decode", decode)
        letters = await connections.dead_letters.page(limit=1000)
        ours = [letter.id for letter in letters if letter.offset in {7, 8, 9} and letter.code == "bad_name"]
        assert len(ours) >= 6

        async def slow(connection: Any, version: Any) -> None:
            # The tables are about to change places: a replay that is asked for now must wait for it.
            await connections.dead_letters.settle(ours[1], "requested")
            await metrics.swap(connection, version)

        monkeypatch.setattr(rebuild, "swap", slow)
        look = rebuild.Rebuilt.look

        async def replays(self: rebuild.Rebuilt, connection: Any) -> None:
            await look(self, connection)
            await connections.dead_letters.settle(ours[0], "requested")

            async def done() -> bool:
                letter = await connections.dead_letters.get(ours[0])
                return letter is not None and letter.state == "replayed"

            monkeypatch.setattr(rebuild.Rebuilt, "look", look)
            await until(done)

        monkeypatch.setattr(rebuild.Rebuilt, "look", replays)
        await build(connections).run()

        async def both() -> bool:
            letter = await connections.dead_letters.get(ours[1])
            return letter is not None and letter.state == "replayed"

        await until(both)
    finally:
        await running.stop()
    assert await rows(connections, "orders") == await rows(connections, "twin")


async def test_what_the_topics_keep_no_longer(connections: Connections) -> None:
    shops = Shops(connections)
    running = Running(connections, analytics.GROUP)
    running.start()
    try:
        await shops.send(4000)
        await shops.handled()
    finally:
        await running.stop()
    admin = AIOKafkaAdminClient(bootstrap_servers=connections.settings.kafka_url)
    await admin.start()
    await admin.delete_records({TopicPartition(shops.topic, number): RecordsToDelete(400) for number in range(4)})
    await admin.close()
    with pytest.raises(rebuild.Refused, match="the topics keep events from"):
        await build(connections).run(datetime.now(UTC) - timedelta(days=1))
    assert await states(connections) == ["serving"]
    said: list[str] = []
    await build(connections, said=said).run()
    assert "as far as the topics keep" in said[0]
    counted = sum(row[5] for row in await rows(connections, "orders") if row[0] == 3600 and row[3] == "count")
    before = sum(row[5] for row in await rows(connections, "twin") if row[0] == 3600 and row[3] == "count")
    assert 0 < counted < before


async def test_from_a_time_on(connections: Connections) -> None:
    shops = Shops(connections)
    await shops.send(2000)
    middle = datetime.now(UTC)
    await shops.send(2000)
    running = Running(connections, analytics.GROUP)
    running.start()
    try:
        await shops.handled()
    finally:
        await running.stop()
    await build(connections).run(middle)
    row = await connections.database.fetchrow("SELECT count(*) AS n FROM metrics WHERE state = 'building'")
    assert row["n"] == 0
    counted = sum(row[5] for row in await rows(connections, "orders") if row[0] == 3600 and row[3] == "count")
    before = sum(row[5] for row in await rows(connections, "twin") if row[0] == 3600 and row[3] == "count")
    assert 0 < counted < 0.7 * before


async def test_what_is_taken_out_of_the_file_is_not_built(connections: Connections) -> None:
    versions = Metrics(connections.database)
    await versions.register(load(connections.settings.metrics_file))
    building = build(connections)
    version, _ = await versions.build(declared(connections, "orders"), anew=False)
    declare(connections.settings, "twin")
    await versions.register(load(connections.settings.metrics_file))
    assert await states(connections) == ["retired", "retired"]
    handler = rebuild.Rebuilt(connections, building._group(version), version, building._live)
    with pytest.raises(Gone):
        await handler.prepare()


async def test_a_metric_that_comes_back_begins_anew(connections: Connections) -> None:
    shops = Shops(connections)

    async def run_until_handled() -> None:
        running = Running(connections, analytics.GROUP)
        running.start()
        try:
            await shops.handled()
        finally:
            await running.stop()

    await shops.send(1000)
    await run_until_handled()
    declare(connections.settings, "twin")
    await shops.send(1000)
    await run_until_handled()
    assert await states(connections) == ["retired"]
    declare(connections.settings, "orders", "twin")
    await shops.send(1000)
    await run_until_handled()
    assert await states(connections) == ["retired", "serving"]
    assert 0 < len(await rows(connections, "orders")) < len(await rows(connections, "twin"))
    await build(connections).run()
    assert await rows(connections, "orders") == await rows(connections, "twin")
