"""Anybody's events: every one counted once, through repeats, poison and kills; the rejected ones can be found."""

import asyncio
import random
from collections import Counter
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from aiokafka import AIOKafkaProducer

from tests.flows.counts import caught_up, counted, events
from tests.flows.harness import System, until

pytestmark = pytest.mark.asyncio(loop_scope="session")

SPREAD_S = 3000
"""Less than the lateness of the metric `events`: none of these is late, whatever the order."""
CODECS = (None, "gzip", "snappy", "lz4", "zstd")


class Source:
    """A producer of another system, and what it knows that it sent."""

    def __init__(self, number: int, count: int, start: datetime) -> None:
        self.counts: Counter[tuple[int, str, str]] = Counter()
        self.poison = 0
        self._number = number
        self._count = count
        self._random = random.Random(number)
        self._start = start

    async def produce(self, installation: System) -> None:
        producer = AIOKafkaProducer(
            bootstrap_servers=installation.settings.kafka_url, compression_type=CODECS[self._number % 5], linger_ms=5
        )
        await producer.start()
        topic = f"{installation.settings.topic_prefix}.ingest"
        sent = []
        try:
            for number in range(self._count):
                for key, value, headers in self._records(number):
                    sent.append(await producer.send(topic, value, key, headers=headers))
            await asyncio.gather(*sent)
        finally:
            await producer.stop()

    def _records(self, number: int) -> list[tuple[bytes, bytes, list[tuple[str, bytes]]]]:
        source, kind = f"/shop/{self._number}", self._random.choice(("order.placed", "order.paid", "order.sent"))
        time = self._start + timedelta(seconds=self._random.randrange(SPREAD_S))
        key = str(self._random.randrange(50)).encode()
        if self._random.random() < 0.005:
            self.poison += 1
            return [(key, self._random.choice((b"rubbish", b"{}", b'{"id": 7}', b"\xff\xfe")), [])]
        second = int(time.timestamp())
        self.counts[second - second % 60, source, kind] += 1
        event = {"specversion": "1.0", "id": f"{self._number}-{number}", "source": source, "type": kind, "time": time}
        if number % 2:
            headers = [(f"ce_{name}", str(value).encode()) for name, value in event.items() if name != "time"]
            record = (key, b'{"amount": 3}', [*headers, ("ce_time", time.isoformat().encode())])
        else:
            headers = [("content-type", b"application/cloudevents+json")]
            record = (key, msgspec.json.encode({**event, "data": {"amount": 3}}), headers)
        return [record, record] if self._random.random() < 0.01 else [record]


async def test_every_event_is_counted_once(installation: System, full: bool) -> None:
    each, kills = (50_000, 10) if full else (5_000, 2)
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=SPREAD_S)
    sources = [Source(number, each, start) for number in range(4)]
    worker = installation.worker("analytics")
    await worker.start()
    producing = [asyncio.create_task(source.produce(installation)) for source in sources]
    for _ in range(kills):
        await asyncio.sleep(random.uniform(0.2, 1.0))  # a random moment is the point here, nothing is waited for
        await worker.kill()
        await worker.start(ready=False)
    await asyncio.gather(*producing)
    await caught_up(installation, "ingest")
    everything = await events(installation, start - timedelta(minutes=1))
    # Beside them, the dead letters are events, too.
    found = Counter({key: count for key, count in everything.items() if key[1].startswith("/shop/")})
    assert found == sum((source.counts for source in sources), Counter())
    letters = await installation.stores.database.fetch("SELECT code FROM dead_letters")
    assert len(letters) == sum(source.poison for source in sources)


async def test_our_own_events_are_counted_and_not_believed_of_strangers(installation: System) -> None:
    worker = installation.worker()
    await worker.start()
    await installation.send([installation.create(number) for number in range(50)])
    producer = AIOKafkaProducer(bootstrap_servers=installation.settings.kafka_url)
    await producer.start()
    try:
        for source, kind in (
            ("/yeoul/resources", "something.else"), ("/shop", "resource.created"), ("/shop", "create_resource"),
            ("/shop", "dead_letter.parked"),
        ):  # fmt: skip
            value = msgspec.json.encode({"specversion": "1.0", "id": kind, "source": source, "type": kind})
            await producer.send_and_wait(f"{installation.settings.topic_prefix}.ingest", value, b"key")
    finally:
        await producer.stop()
    await installation.until_done(50, 30)
    await installation.until_published()

    assert await counted(installation, "resource.created") == 50

    async def refused() -> bool:
        rows = await installation.stores.database.fetch("SELECT code FROM dead_letters")
        return [row["code"] for row in rows] == ["reserved"] * 4

    await until(refused, 30, "strangers that speak in our name are dead letters")
