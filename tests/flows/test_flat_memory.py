"""A worker's memory does not grow with what comes, however many groups there are; nor while PostgreSQL is away."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import psutil
import pytest
from aiokafka import AIOKafkaProducer

from embedded.stack import Stack
from tests.flows.counts import caught_up
from tests.flows.harness import Process, System, until

pytestmark = pytest.mark.asyncio(loop_scope="session")

DECLARED = """
[metrics.baskets]
events = ["basket.filled"]
group_by = ["subject"]
groups = 100000
windows = { hour = "2d" }
[metrics.baskets.measures]
revenue = { sum = "data.total" }
"""
HOURS = 2
"""Over which the events are spread."""
GROWTH = 1.2
"""The most that memory may be of what it was while the first third came."""
SAMPLE_S = 0.1


@dataclass
class Peak:
    """The most memory that a process had resident while it was watched, in bytes."""

    most: int = 0


@contextlib.asynccontextmanager
async def watched(worker: Process) -> AsyncIterator[Peak]:
    process, peak = psutil.Process(worker.pid), Peak()

    async def watch() -> None:
        while True:
            peak.most = max(peak.most, process.memory_info().rss)
            await asyncio.sleep(SAMPLE_S)

    watching = asyncio.create_task(watch())
    try:
        yield peak
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching


class Shop:
    """Sends events of every group in turn, each third in another order."""

    def __init__(self, installation: System, groups: int, count: int) -> None:
        """`count`: of all events that will be sent."""
        self._settings = installation.settings
        self._subjects = [f"customer-{number}" for number in range(groups)]
        self._begin = int(time.time()) // 3600 * 3600 - HOURS * 3600
        self._all = count
        self.sent = 0

    async def send(self, count: int) -> None:
        random.Random(count + self.sent).shuffle(self._subjects)
        async with AIOKafkaProducer(
            bootstrap_servers=self._settings.kafka_url, linger_ms=20, compression_type="lz4"
        ) as producer:
            topic = f"{self._settings.topic_prefix}.ingest"
            for begin in range(self.sent, self.sent + count, 1000):
                numbers = range(begin, min(begin + 1000, self.sent + count))
                await asyncio.gather(*[await producer.send(topic, *self._record(number)) for number in numbers])
        self.sent += count

    def _record(self, number: int) -> tuple[bytes, bytes]:
        subject = self._subjects[number % len(self._subjects)]
        at = self._begin + number * HOURS * 3600 // self._all
        event = {
            "specversion": "1.0", "id": str(number), "source": "/shop", "type": "basket.filled", "subject": subject,
            "time": datetime.fromtimestamp(at, UTC), "data": {"total": number % 1000},
        }  # fmt: skip
        return msgspec.json.encode(event), subject.encode()


async def flat(installation: System, stack: Stack, folder: Path, third: int, groups: int) -> dict[str, float]:
    """Three thirds, then a fourth while PostgreSQL is away; returns the most memory in MB of each."""
    file = folder / "metrics.toml"
    file.write_text(DECLARED)
    installation.settings = msgspec.structs.replace(installation.settings, metrics_file=file)
    worker = installation.worker("analytics")
    await worker.start()
    shop = Shop(installation, groups, 4 * third)
    peaks: dict[str, float] = {}
    for name in ("first", "second", "third"):
        async with watched(worker) as peak:
            await shop.send(third)
            await caught_up(installation, "ingest", 300 + third / 500)
        peaks[name] = peak.most / 1e6
    await stack.stop("postgres")
    try:
        async with watched(worker) as peak:
            await shop.send(third)

            async def waits() -> bool:
                return await worker.metric("yeoul_store_waits_total", group=GROUP.format(installation)) > 0

            await until(waits, 60, "the group waits for PostgreSQL")
        peaks["away"] = peak.most / 1e6
    finally:
        await stack.start("postgres")
    await caught_up(installation, "ingest", 300 + third / 500)
    row = await installation.stores.database.fetchrow(
        "SELECT sum(n) AS n, sum(total) AS total, count(DISTINCT grp) AS groups FROM metric_hours"
        " WHERE measure = 'revenue' AND grp NOT IN ('', '\"__other__\"')"
    )
    expected = sum(number % 1000 for number in range(shop.sent))
    assert (row["n"], row["total"], row["groups"]) == (shop.sent, expected, groups)
    for name, most in peaks.items():
        assert most <= GROWTH * peaks["first"], f"{name}: {peaks}"
    return peaks


GROUP = "{0.settings.topic_prefix}.analytics"


async def test_memory_is_flat(installation: System, stack: Stack, tmp_path: Path) -> None:
    await flat(installation, stack, tmp_path, 20_000, 5_000)


@pytest.mark.full
@pytest.mark.timeout(5400)
async def test_memory_is_flat_over_millions_of_events(installation: System, stack: Stack, tmp_path: Path) -> None:
    print(await flat(installation, stack, tmp_path, 1_000_000, 100_000))
