"""streams.fresh: how old an event is when whoever watches sees the row that counts it.

1,000 events a second go to `ingest` while one watcher reads `GET /api/v1/analytics/{metric}/live`. Events of a type are
in order, so the n-th of a minute is seen with the first row of that minute and type that counts n or more. Worker and
front are the product, with a broker's topics and a database of their own.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import aiohttp
import orjson
from aiokafka import AIOKafkaProducer

import topics
from bench.figures import FRESH, FRESH_P99, Figure
from bench.hour import EVENT, MINUTE, TYPES
from bench.processes import resident_mb
from bench.product import METRIC, environment
from bench.records import Record, Sample, compare
from bench.sides import Yeoul
from bench.stage import Stage

PER_SECOND = 1000
PORTION = 10
LAST_S = 30.0
"""How long the watcher may take to see the last event."""


class Fresh(Yeoul):
    """The product with the one metric, on topics and tables of its own."""

    def __init__(self, stage: Stage, postgres: str) -> None:
        super().__init__(stage)
        self.postgres = postgres
        self.prefix = f"fresh-{uuid4().hex[:8]}"
        """Of its own for each run: new tables begin with all that the topic has."""

    @property
    def environ(self) -> dict[str, str]:
        """Variables of its processes."""
        return {
            **super().environ,
            **environment(self.stage, self.postgres),
            "YEOUL_TOPIC_PREFIX": self.prefix,
            "YEOUL_WEB_PROCESSES": "1",
        }


class Ages:
    """When each event was sent, and how old it was when it was seen."""

    def __init__(self) -> None:
        self._sent: dict[tuple[int, str], list[float]] = defaultdict(list)
        self._seen: dict[tuple[int, str], int] = defaultdict(int)
        self.waiting = 0
        self.ms: list[float] = []

    def sent(self, minute: int, kind: str, at: float) -> None:
        """An event goes out now."""
        self._sent[minute, kind].append(at)
        self.waiting += 1

    def counted(self, minute: int, kind: str, number: int, at: float) -> None:
        """A row says that so many are counted. Raises `SystemExit` if it says more than were sent."""
        key = (minute, kind)
        if number > len(self._sent[key]):
            raise SystemExit(f"{kind} of {minute}: {number} counted, {len(self._sent[key])} sent")
        new = self._sent[key][self._seen[key] : number]
        self.ms += [(at - sent) * 1000 for sent in new]
        self._seen[key] += len(new)
        self.waiting -= len(new)

    def percentile(self, share: float) -> float:
        """The age, milliseconds, that `share` of the events had at most."""
        ordered = sorted(self.ms)
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)]


async def send(producer: AIOKafkaProducer, topic: str, ages: Ages, seconds: float) -> None:
    """Send the events evenly, ten each hundredth of a second, and wait until the broker has them."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    run, flying = uuid4().int % 10**8, []
    for portion in range(int(seconds * PER_SECOND / PORTION)):
        await asyncio.sleep(max(0.0, began + portion * PORTION / PER_SECOND - loop.time()))
        for number in range(portion * PORTION, (portion + 1) * PORTION):
            now, at = datetime.now(UTC), time.monotonic()
            kind = TYPES[number % len(TYPES)]
            second = f"{now:%Y-%m-%dT%H:%M:%S}".encode()
            value = EVENT % (run * 10**6 + number, kind, number, second, now.microsecond // 1000, number)
            ages.sent(int(now.timestamp()) // MINUTE * MINUTE, kind.decode(), at)
            flying.append(await producer.send(topic, value, kind))
    await asyncio.gather(*flying)


async def watch(session: aiohttp.ClientSession, ages: Ages, opened: asyncio.Event, sent: asyncio.Event) -> None:
    """Read the stream until everything that was sent is seen. Raises `SystemExit` when the stream ends before."""
    since = (datetime.now(UTC) - timedelta(minutes=2)).isoformat()
    async with session.get(f"/api/v1/analytics/{METRIC}/live", params={"window": "minute", "since": since}) as answer:
        if answer.status != 200:
            raise SystemExit(f"the stream answers {answer.status}: {await answer.text()}")
        kind = ""
        async for line in answer.content:
            field, _, value = line.decode().rstrip("\n").partition(": ")
            if field == "event":
                kind = value
            elif field == "data" and kind in ("snapshot", "rows"):
                at = time.monotonic()
                for row in orjson.loads(value)["rows"]:
                    minute = int(datetime.fromisoformat(row["start"]).timestamp())
                    ages.counted(minute, row["group"]["type"], row["count"], at)
                opened.set()
                if sent.is_set() and not ages.waiting:
                    return
            elif field == "data":
                raise SystemExit(f"the stream ended by itself: {kind}")
    raise SystemExit("the stream ended before everything was seen")


async def one_run(stage: Stage) -> Sample:
    """Worker, front, a watcher, and the events."""
    yeoul = Fresh(stage, await stage.database("bench_fresh"))
    producer = AIOKafkaProducer(bootstrap_servers=stage.kafka, enable_idempotence=True)
    await producer.start()
    try:
        await yeoul.start()
        costs = stage.costs(yeoul.pids)
        ages, opened, sent = Ages(), asyncio.Event(), asyncio.Event()
        seconds = stage.options.seconds
        timeout = aiohttp.ClientTimeout(total=seconds + LAST_S)
        async with (
            aiohttp.ClientSession(f"http://127.0.0.1:{yeoul.port}", timeout=timeout, read_bufsize=1 << 20) as session,
            asyncio.TaskGroup() as group,
        ):
            group.create_task(watch(session, ages, opened, sent))
            await opened.wait()
            await send(producer, topics.INGEST.full_name(yeoul.prefix), ages, seconds)
            sent.set()
        sample = Sample(
            value=ages.percentile(0.5),
            cpu=1_000_000 * costs.seconds() / len(ages.ms),
            resident_mb=resident_mb(yeoul.pids),
            p50_ms=ages.percentile(0.5),
            p99_ms=ages.percentile(0.99),
        )
        stage.say(f"{FRESH.id:16} {sample.p50_ms:.0f} / {sample.p99_ms:.0f} ms, p50 / p99, of {len(ages.ms):,} events")
        return sample
    finally:
        await yeoul.stop()
        await producer.stop()


async def measure(stage: Stage, wanted: Sequence[Figure]) -> list[Record]:
    """Runs one after the other."""
    samples = [await one_run(stage) for _ in range(stage.options.runs)]
    values = {FRESH: samples, FRESH_P99: [Sample(value=sample.p99_ms or 0.0) for sample in samples]}
    return [compare(figure, {"yeoul": values[figure]}) for figure in wanted]
