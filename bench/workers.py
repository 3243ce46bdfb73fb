"""worker.start, worker.recovery, worker.memory: how soon a worker works, again after kill -9, and what it holds."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from uuid import uuid4

import aiohttp
from aiokafka import AIOKafkaConsumer, TopicPartition

import config
import topics
from bench.feed import feeding
from bench.figures import MEMORY, RECOVERY, START, Figure
from bench.processes import Child, resident_mb
from bench.records import Record, Sample, compare
from bench.sides import BODIES, Yeoul
from bench.stage import Stage

PREFIX = "yeoul"
FIRST_EVENT_S = 90.0
PORTIONS = 10


class Watch:
    """Waits for the event of one resource on `events.resources`, from now on."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self.consumer = consumer

    async def event_of(self, marker: str) -> float:
        """The monotonic second at which the event that holds `marker` was read; repeats of older ones don't count."""
        sought = marker.encode()
        async with asyncio.timeout(FIRST_EVENT_S):
            async for record in self.consumer:
                if record.value and sought in record.value:
                    return time.monotonic()
        raise AssertionError("the consumer was stopped")


@asynccontextmanager
async def watching(stage: Stage) -> AsyncIterator[Watch]:
    """A plain consumer without a group at the end of `events.resources`."""
    topic = topics.EVENTS_RESOURCES
    name = topic.full_name(PREFIX)
    consumer = AIOKafkaConsumer(bootstrap_servers=stage.kafka, enable_auto_commit=False, fetch_max_wait_ms=10)
    await consumer.start()
    try:
        consumer.assign([TopicPartition(name, partition) for partition in range(topic.partitions)])
        await consumer.seek_to_end()
        yield Watch(consumer)
    finally:
        await consumer.stop()


@asynccontextmanager
async def create(yeoul: Yeoul) -> AsyncIterator[str]:
    """A create that is on its way while the block runs; yields what its event holds. 201 and 202 are both fine."""
    marker = uuid4().hex
    headers = await yeoul.headers()

    async def post() -> None:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{yeoul.port}") as session:
            body = {"title": marker, "kind": "note", "visibility": "private"}
            async with session.post(yeoul.path, json=body, headers=headers) as response:
                if response.status not in (201, 202):
                    raise SystemExit(f"a create is answered with {response.status}: {await response.text()}")

    async with asyncio.TaskGroup() as group:
        group.create_task(post())
        yield marker


async def one_start(stage: Stage, yeoul: Yeoul, watch: Watch, figure: Figure) -> tuple[Child, Sample]:
    """A create while no worker runs; then a worker, until the event of that create."""
    async with create(yeoul) as marker:
        began = time.monotonic()
        worker = await yeoul.start_worker(wait=False)
        try:
            seconds = await watch.event_of(marker) - began
        except TimeoutError:
            raise worker.failure(f"no event within {FIRST_EVENT_S:.0f} s") from None
    stage.say(f"{figure.id:16} {seconds:.2f} s to the first event")
    return worker, Sample(value=seconds, resident_mb=resident_mb([worker.pid]))


async def start_and_recover(stage: Stage, yeoul: Yeoul) -> dict[str, list[Sample]]:
    """Rounds of: start, kill -9, start again, stop."""
    samples: dict[str, list[Sample]] = {START.id: [], RECOVERY.id: []}
    async with watching(stage) as watch:
        for _ in range(stage.options.runs):
            worker, sample = await one_start(stage, yeoul, watch, START)
            samples[START.id].append(sample)
            await worker.kill()
            yeoul.children.remove(worker)
            worker, sample = await one_start(stage, yeoul, watch, RECOVERY)
            samples[RECOVERY.id].append(sample)
            await worker.stop()
            yeoul.children.remove(worker)
    return samples


async def memory(stage: Stage, yeoul: Yeoul) -> Record:
    """Creates in ten portions; the worker's resident memory after each, when its events are published.

    What is read is the memory after the commands, not in the middle of a backlog.
    """
    worker = await yeoul.start_worker()
    portion = max(stage.options.commands // PORTIONS, 1)
    curve: list[float] = []
    async with feeding(config.load(yeoul.environ), BODIES) as feed:
        before = await feed.events()
        for number in range(1, PORTIONS + 1):
            began = time.monotonic()
            await feed.send(portion)
            try:
                await feed.until_events(before + number * portion, FIRST_EVENT_S)
            except TimeoutError as reason:
                raise worker.failure(str(reason)) from None
            curve.append(resident_mb([worker.pid]))
            rate = portion / (time.monotonic() - began)
            stage.say(f"{MEMORY.id:16} {curve[-1]:.0f} MB after {number * portion:,} commands, {rate:,.0f}/s")
    sides = {"yeoul": [Sample(value=curve[-1])], "baseline": [Sample(value=curve[0])]}
    course = ", ".join(f"{megabytes:.0f}" for megabytes in curve)
    return compare(MEMORY, sides, note=f"MB after each {portion:,} commands: {course}")


async def measure(stage: Stage, wanted: Sequence[Figure]) -> list[Record]:
    """A front of two processes, and workers that come and go."""
    yeoul = Yeoul(stage)
    records = []
    try:
        await yeoul.prepare()
        await yeoul.start_front()
        await first_worker(yeoul)
        if START in wanted or RECOVERY in wanted:
            samples = await start_and_recover(stage, yeoul)
            records += [compare(figure, {"yeoul": samples[figure.id]}) for figure in wanted if figure.id in samples]
        if MEMORY in wanted:
            records.append(await memory(stage, yeoul))
    finally:
        await yeoul.stop()
    return records


async def first_worker(yeoul: Yeoul) -> None:
    """Register the bench's account, for which a worker must run; it is stopped again."""
    worker = await yeoul.start_worker()
    await yeoul.token()
    await worker.stop()
    yeoul.children.remove(worker)
