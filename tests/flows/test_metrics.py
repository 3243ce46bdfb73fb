"""Metrics under faults: every count, sum and distinct is what a plain script makes of the same log, to the last one."""

import asyncio
import random
from collections import Counter, defaultdict
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.structs import ConsumerRecord

import stores
from domain import sketches
from embedded.stack import Stack
from stores.reports import Reports
from tests.flows.harness import System, until

pytestmark = pytest.mark.asyncio(loop_scope="session")

DECLARED = """
[metrics.orders]
events = ["order.*"]
group_by = ["type", "data.shop"]
lateness = "10m"
windows = { minute = "7d", hour = "90d" }
[metrics.orders.measures]
revenue = { sum = "data.total" }
least = { min = "data.total" }
most = { max = "data.total" }
buyers = { distinct = "subject" }
size = { percentiles = "data.total" }
"""
LATENESS, PARTITIONS = 600, 4
POISON = (b"rubbish", b"{}", b'{"id": 7}', b"\xff\xfe")


class Source:
    """A producer of another system."""

    def __init__(self, number: int, count: int, now: int) -> None:
        self.poison = 0
        self._number = number
        self._count = count
        self._now = now
        self._random = random.Random(number)

    async def produce(self, installation: System) -> None:
        """Send everything; the keys spread it over the partitions."""
        producer = AIOKafkaProducer(bootstrap_servers=installation.settings.kafka_url, linger_ms=20)
        await producer.start()
        topic = f"{installation.settings.topic_prefix}.ingest"
        try:
            for begin in range(0, self._count, 500):
                sent = []
                for number in range(begin, min(begin + 500, self._count)):
                    for key, value in self._records(number):
                        sent.append(await producer.send(topic, value, key))
                await asyncio.gather(*sent)
        finally:
            await producer.stop()

    def _records(self, number: int) -> list[tuple[bytes, bytes]]:
        chance, key = self._random.random(), str(self._random.randrange(50)).encode()
        if chance < 0.005:
            self.poison += 1
            return [(key, self._random.choice(POISON))]
        at = self._now - 3600 + number * 3600 // self._count
        at -= 1200 + self._random.randrange(600) if chance < 0.015 else self._random.randrange(30)
        event = {
            "specversion": "1.0", "id": f"{self._number}-{number}", "source": f"/shop/{self._number}",
            "type": self._random.choice(("order.placed", "order.paid", "order.sent")),
            "time": datetime.fromtimestamp(at, UTC).isoformat(), "subject": f"buyer-{self._random.randrange(2000)}",
            "data": {"shop": self._random.randrange(5), "total": self._random.randrange(10**6) / 100},
        }  # fmt: skip
        record = (key, msgspec.json.encode(event))
        return [record, record] if self._random.random() < 0.01 else [record]


class Script:
    """What the log of one partition comes to, read from its beginning: no code of ours but the sketches."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[int, str]] = Counter()
        self.totals: dict[tuple[int, str], list[Decimal]] = defaultdict(list)
        self.buyers: dict[tuple[int, str], set[str]] = defaultdict(set)
        self.late = self.repeats = 0
        self.poison: list[int] = []
        self._watermark = 0
        self._seen: set[tuple[str, str]] = set()

    def record(self, record: ConsumerRecord) -> None:
        """Count a record as the declaration says."""
        try:
            event = msgspec.json.decode(record.value, type=dict[str, Any])
            name = (event["source"], event["id"])
        except (msgspec.DecodeError, UnicodeDecodeError, KeyError):
            self.poison.append(record.offset)
            return
        if name in self._seen:
            self.repeats += 1
            return
        self._seen.add(name)
        at = int(datetime.fromisoformat(event["time"]).timestamp())
        late = at + LATENESS < self._watermark
        self._watermark = max(self._watermark, at)
        if late:
            self.late += 1
            return
        group = msgspec.json.encode([event["type"], event["data"]["shop"]]).decode()
        for cell in ((at - at % 60, group), (at - at % 3600, group + "/hour")):
            self.counts[cell] += 1
            self.totals[cell].append(Decimal(repr(event["data"]["total"])))
            self.buyers[cell].add(msgspec.json.encode(event["subject"]).decode())


async def read_back(installation: System) -> dict[int, Script]:
    """The log of each partition, by the script."""
    topic = f"{installation.settings.topic_prefix}.ingest"
    consumer = AIOKafkaConsumer(bootstrap_servers=installation.settings.kafka_url, enable_auto_commit=False)
    await consumer.start()
    found = {number: Script() for number in range(PARTITIONS)}
    try:
        partitions = [TopicPartition(topic, number) for number in found]
        consumer.assign(partitions)
        await consumer.seek_to_beginning()
        ends = await consumer.end_offsets(partitions)
        while any([await consumer.position(partition) < ends[partition] for partition in partitions]):
            for partition, records in (await consumer.getmany(timeout_ms=500)).items():
                for record in records:
                    found[partition.partition].record(record)
    finally:
        await consumer.stop()
    return found


async def handled(installation: System, within_s: float) -> None:
    """Wait until the group has handled everything that the topic has now."""
    topic = f"{installation.settings.topic_prefix}.ingest"
    consumer = AIOKafkaConsumer(bootstrap_servers=installation.settings.kafka_url)
    await consumer.start()
    try:
        ends = await consumer.end_offsets([TopicPartition(topic, number) for number in range(PARTITIONS)])
    finally:
        await consumer.stop()

    async def there() -> bool:
        try:
            rows = await installation.stores.database.fetch(
                "SELECT partition, next_offset FROM progress WHERE topic = $1 AND consumer_group LIKE '%.analytics'",
                topic,
            )
        except stores.StoresAway:
            return False
        stands = {row["partition"]: row["next_offset"] for row in rows}
        return all(stands.get(key.partition, 0) >= end for key, end in ends.items())

    await until(there, within_s, "everything of ingest is handled")


async def check(installation: System, scripts: dict[int, Script], now: int) -> None:
    """Every row of every partition, to the bit; what is late; and the dead letters, one for one."""
    reports = Reports(installation.stores.database)
    table = (await reports.tables())["orders"]
    expected: dict[tuple[int, int, str, str], tuple[Any, ...]] = {}
    for number, script in scripts.items():
        for (start, group), count in script.counts.items():
            pane, name = (3600, group.removesuffix("/hour")) if group.endswith("/hour") else (60, group)
            totals, buyers = script.totals[start, group], script.buyers[start, group]
            sketch = sketches.distinct(sketches.hashes([buyer.encode() for buyer in buyers]))
            summed = (count, sum(totals), min(totals), max(totals), None)
            bins = sketches.percentiles(np.array([float(total) for total in totals]))
            for measure, row in (
                ("count", (count, None, None, None, None)), ("revenue", summed), ("least", summed), ("most", summed),
                ("buyers", (count, None, None, None, sketch)), ("size", (count, None, None, None, bins)),
            ):  # fmt: skip
                expected[number, pane * 10**12 + start, name, measure] = row
    found = {}
    for leaf in ("metric_minutes", "metric_hours"):
        for row in await installation.stores.database.fetch(
            f"SELECT * FROM {leaf} WHERE metric = $1 AND grp <> ''", table.id
        ):
            partition = int(row["feed"].rpartition("/")[2])
            place = row["pane"] * 10**12 + int(row["start"].timestamp())
            found[partition, place, row["grp"], row["measure"]] = (
                row["n"], row["total"], row["low"], row["high"], row["sketch"],
            )  # fmt: skip
    assert found == expected
    dropped = await reports.dropped(table, now - 7200, now + 7200)
    assert {each.reason for each in dropped} == {"late"}
    assert sum(each.count for each in dropped) == sum(script.late for script in scripts.values()) > 0
    letters = await installation.stores.database.fetch('SELECT partition, "offset" FROM dead_letters')
    assert sorted((row["partition"], row["offset"]) for row in letters) == sorted(
        (number, offset) for number, script in scripts.items() for offset in script.poison
    )


async def exactly(installation: System, stack: Stack, folder: Path, each: int, kills: int) -> None:
    """Four producers of `each` events; the worker is killed, PostgreSQL restarts, a second worker joins and leaves."""
    now = int(datetime.now(UTC).timestamp())
    file = folder / "metrics.toml"
    file.write_text(DECLARED)
    # Its processes get their settings from here.
    installation.settings = msgspec.structs.replace(installation.settings, metrics_file=file)
    sources = [Source(number, each, now) for number in range(4)]
    worker = installation.worker("analytics")
    await worker.start()
    producing = [asyncio.create_task(source.produce(installation)) for source in sources]
    for number in range(kills):
        await asyncio.sleep(random.uniform(0.2, 1.0))  # a random moment is the point here, nothing is waited for
        await worker.kill()
        if number == kills // 2:
            second = installation.worker("analytics", slots="second")
            await second.start()
            await worker.start(ready=False)
            await stack.stop("postgres")
            await stack.start("postgres")
            await second.stop()
        else:
            await worker.start(ready=False)
    await asyncio.gather(*producing)
    await handled(installation, 120 + each / 500)
    scripts = await read_back(installation)
    assert sum(len(script.poison) for script in scripts.values()) == sum(source.poison for source in sources)
    assert sum(script.repeats for script in scripts.values()) > 0
    await check(installation, scripts, now)


async def test_the_tables_are_exact_through_kills_and_restarts(
    installation: System, stack: Stack, tmp_path: Path
) -> None:
    await exactly(installation, stack, tmp_path, 5_000, 3)


@pytest.mark.full
@pytest.mark.timeout(5400)
async def test_a_million_events_are_exact_through_ten_kills(installation: System, stack: Stack, tmp_path: Path) -> None:
    await exactly(installation, stack, tmp_path, 250_000, 10)
