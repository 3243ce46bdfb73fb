"""Groups at work: a Faust app for each, started and stopped side by side, restarted alone when one crashes."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from time import monotonic
from typing import Any, Literal, Protocol

import faust
from aiokafka.errors import KafkaError
from faust.tables.manager import TableManager

import topics
from config import Settings
from stores import StoresAway
from stores.aggregates import Journal
from stores.cache import Cache
from stores.dead_letters import DeadLetters
from stores.postgres import Database, of
from stores.progress import ProgressStore
from stores.redis import Redis
from streams.batches import Batch
from streams.consumer import BatchConsumer, BatchTopic, BatchTransport
from streams.copies import Copies
from streams.decisions import Decisions, Noun
from streams.delivery import Delivery
from streams.producer import Broker
from streams.progress import Progress
from streams.publisher import Publisher
from streams.recent import LookBack
from streams.slots import Slot
from streams.work import Handler
from telemetry import metrics
from topics import Topic

log = logging.getLogger("yeoul.streams.runtime")

SESSION_S = 10.0
RESTART_S = 1.0
REPLAY_EVERY_S = 1.0
STOP_S = 20.0
LOOK_EVERY_S = 1.0
STRANDED_S = 60.0
"""A rebalance takes seconds; a group that waits longer than this for its partitions starts anew."""


class Stranded(Exception):
    """A group fell out of its consumer group and did not find back."""


class Connections:
    """What the groups of one process share."""

    def __init__(self, settings: Settings, process: str) -> None:
        self.settings = settings
        self.database: Database = of(settings, process, patience_s=30.0)
        self.redis = Redis(settings)
        self.cache = Cache(self.redis)
        self.progress = ProgressStore(self.database)
        self.dead_letters = DeadLetters(self.database)
        self.broker = Broker(settings, process, [topic.full_name(settings.topic_prefix) for topic in topics.TOPICS])

    async def close(self) -> None:
        """Close them all."""
        await self.broker.stop()
        await self.cache.close()
        await self.database.close()
        await self.redis.close()


class Group(Protocol):
    """A subscriber: what it reads, and the handler of its records."""

    name: str
    topics: tuple[Topic, ...]
    start: Literal["beginning", "end"]
    read_ahead: bool
    max_records: int
    gather_s: float

    def assemble(self, connections: Connections, full_name: str, named: Mapping[str, Topic]) -> "Assembly":
        """Progress, handler and publisher of this group."""


class Assembly:
    """The parts of a running group."""

    def __init__(self, progress: Progress, handler: Handler, publisher: Publisher | None) -> None:
        self.progress = progress
        self.handler = handler
        self.publisher = publisher


class CommandGroup:
    """The owner of a noun: its commands in, its events out."""

    start: Literal["beginning", "end"] = "beginning"
    read_ahead = False
    max_records = 1000
    """More would not commit faster, and whoever waits for an answer waits for the whole batch."""
    gather_s = 0.0

    def __init__(self, noun_name: str, noun: Noun, decisions: type[Decisions] = Decisions) -> None:
        self.name = noun_name
        self.topics: tuple[Topic, ...] = (topics.COMMANDS_OF[noun_name],)
        self._noun = noun
        self._decisions = decisions

    def assemble(self, connections: Connections, full_name: str, named: Mapping[str, Topic]) -> Assembly:
        """See Group.assemble."""
        settings = connections.settings
        events = topics.EVENTS_OF[self.name].full_name(settings.topic_prefix)
        journal = Journal(connections.database, self.name)
        publisher = Publisher(full_name, connections.broker, events, connections.progress, journal)
        progress = Progress(
            full_name,
            named,
            connections.progress,
            take_over=publisher.take_over,
            release=publisher.release,
        )
        decisions = self._decisions(
            self._noun, full_name, connections.database, connections.cache, progress, publisher, settings.command_key
        )
        return Assembly(progress, decisions, publisher)


class ReaderGroup:
    """A reader of events. `build` makes its handler from the database and the group's full name."""

    def __init__(
        self, name: str, read: tuple[Topic, ...], build: Callable[[Database, str], Handler], *,
        start: Literal["beginning", "end"] = "beginning", read_ahead: bool = True,
        max_records: int = 5000, gather_s: float = 0.05,
    ) -> None:  # fmt: skip
        """`gather_s`: how long a reader that has caught up lets events gather, seconds; nobody waits for its answer."""
        self.name = name
        self.topics = read
        self.start: Literal["beginning", "end"] = start
        self.read_ahead = read_ahead
        self.max_records = max_records
        self.gather_s = gather_s
        self._build = build

    def assemble(self, connections: Connections, full_name: str, named: Mapping[str, Topic]) -> Assembly:
        """See Group.assemble."""
        handler = self._build(connections.database, full_name)
        look_back = LookBack(connections.settings.kafka_url, full_name, handler.decode, connections.dead_letters)
        progress = Progress(full_name, named, connections.progress, look_back=look_back, start=self.start)
        return Assembly(progress, handler, None)


class NoTables(TableManager):
    """Faust waits a second for tables to be declared before it joins the group; there are none here."""

    async def on_start(self) -> None:
        """Called by Faust."""
        await self._update_channels()
        await self.recovery.start()


class GroupApp(faust.App):
    """A Faust app whose events are batches. The attributes are read by the batch transport."""

    positions: Progress
    read_ahead: bool
    gather_s: float
    batch_bytes = 16 << 20

    class BootStrategy(faust.App.BootStrategy):
        """No producer of Faust's (ours is idempotent and tells what arrived) and no web server."""

        enable_kafka_producer = False
        enable_web = False

    async def on_stop(self) -> None:
        """The batch in hand comes first."""
        consumer = self.batch_consumer
        if consumer is not None:
            await consumer.drain()
        await super().on_stop()

    @property
    def batch_consumer(self) -> BatchConsumer | None:
        """The consumer, once there is one."""
        return self._consumer if isinstance(self._consumer, BatchConsumer) else None


def build_app(settings: Settings, group: Group, full_name: str, instance: str, progress: Progress) -> GroupApp:
    """The Faust app of a group, without its agent."""
    app = GroupApp(
        full_name,
        broker=[f"kafka://{server}" for server in settings.kafka_url.split(",")],
        store="memory://",
        datadir=Path(settings.state_dir) / "faust",
        autodiscover=False,
        Topic=BatchTopic,
        TableManager=NoTables,
        web_enabled=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=0,
        consumer_group_instance_id=instance,
        broker_session_timeout=SESSION_S,
        broker_heartbeat_interval=2.0,
        broker_rebalance_timeout=30.0,
        broker_request_timeout=30.0,
        broker_commit_interval=2.0,
        broker_max_poll_records=group.max_records,
        consumer_max_fetch_size=4 << 20,
        # A topic that was deleted has no partitions: only a look at the metadata finds the one made in its place.
        consumer_metadata_max_age_ms=5000,
        producer_request_timeout=30.0,
        stream_wait_empty=False,
        worker_redirect_stdouts=False,
    )
    app.positions = progress
    app.read_ahead = group.read_ahead
    app.gather_s = group.gather_s
    app.transport = BatchTransport(app.conf.broker_consumer, app)
    return app


def _agent(app: GroupApp, group: Group, names: list[str], delivery: Delivery) -> None:
    @app.agent(app.topic(*names), name=group.name)  # type: ignore[untyped-decorator]
    async def consume(batches: Any) -> None:
        async for batch in batches.noack():
            await _deliver(delivery, batch)


async def _deliver(delivery: Delivery, batch: Batch) -> None:
    """A failure that is no record's (a defect of ours): say so, and read the batch again. Never acknowledge it."""
    try:
        await delivery.deliver(batch)
    except asyncio.CancelledError:
        raise
    except Exception:
        log.exception("%s: a batch failed as a whole; it is read again", delivery.group)
        await asyncio.sleep(RESTART_S)
        batch.consumer.rewind(batch)


class Running:
    """One group in this process: runs its app, and runs it anew after a crash."""

    def __init__(self, connections: Connections, group: Group) -> None:
        settings = connections.settings
        self.group = group
        self.full_name = f"{settings.topic_prefix}.{group.name}"
        self._connections = connections
        self._slot = Slot(Path(settings.state_dir) / "slots", self.full_name)
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()
        self.app: GroupApp | None = None
        self._publisher: Publisher | None = None
        self.trouble: str | None = "it has not started yet"

    def start(self) -> None:
        """Begin; the broker need not be there yet."""
        self._task = asyncio.create_task(self._run(), name=self.full_name)

    async def stop(self) -> None:
        """Finish the batch in hand or let it go, leave the group, publish what waits; STOP_S at most for all of it."""
        self._stopping.set()
        if self._task is not None:
            done, _pending = await asyncio.wait([self._task], timeout=STOP_S)
            if not done:
                log.warning("%s did not stop in order within %.0f s", self.full_name, STOP_S)
                self._task.cancel()
        self._slot.release()

    @property
    def consumer(self) -> BatchConsumer | None:
        """The consumer that runs now."""
        return self.app.batch_consumer if self.app is not None else None

    def state(self) -> str:
        """`ok`, or why the group can't work now."""
        consumer = self.consumer
        if self.trouble is not None:
            return self.trouble
        if consumer is None or consumer._located is None:
            return "waiting for partitions"
        if consumer.backing_off:
            return f"waiting for {consumer.backing_off}"
        stopped = len(self.app.positions.stopped) if self.app is not None else 0
        return f"ok, but {stopped} partitions are stopped: ./yeoul dead-letters stopped" if stopped else "ok"

    def work(self) -> dict[str, float]:
        """What there is to do that nothing away holds up, and when it last got further, monotonic seconds."""
        consumer, publisher = self.consumer, self._publisher
        if consumer is None or self.trouble is not None or self._connections.broker.away is not None:
            return {}
        work = {}
        if consumer.has_work and not consumer.backing_off:
            work["records to handle"] = consumer.progressed_at
        if publisher is not None and publisher.has_work and not publisher.backing_off:
            work["events to publish"] = publisher.progressed_at
        return work

    async def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                async with self._running() as publisher:
                    self.trouble = None
                    await self._until_stopped_or_crashed(publisher)
            except (KafkaError, OSError, TimeoutError) as error:
                away = f"Kafka is away: {str(error) or type(error).__name__}"
                # Told once, not at each try.
                log.log(logging.DEBUG if away == self.trouble else logging.WARNING, "%s: %s", self.full_name, away)
                self.trouble = away
            except Exception as error:
                self.trouble = str(error) or type(error).__name__
                log.exception("%s crashed; it starts again", self.full_name)
                metrics.GROUP_RESTARTS.labels(self.full_name).inc()
            if not self._stopping.is_set():
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), RESTART_S)

    @contextlib.asynccontextmanager
    async def _running(self) -> AsyncIterator[Publisher | None]:
        connections = self._connections
        named = {topic.full_name(connections.settings.topic_prefix): topic for topic in self.group.topics}
        parts = self.group.assemble(connections, self.full_name, named)
        published = parts.publisher.take_published if parts.publisher is not None else (lambda _id, _partition: None)
        copies = Copies(connections.broker, topics.DEAD_LETTERS.full_name(connections.settings.topic_prefix))
        delivery = Delivery(
            self.full_name, parts.handler, parts.progress, connections.dead_letters, published, copies.tell
        )
        app = build_app(connections.settings, self.group, self.full_name, self._slot.instance, parts.progress)
        _agent(app, self.group, list(named), delivery)
        self.app, self._publisher = app, parts.publisher
        if parts.publisher is not None:
            parts.publisher.start()
        replays = asyncio.create_task(_replays(delivery))
        try:
            await app.start()
            yield parts.publisher
        finally:
            replays.cancel()
            try:
                await app.stop()
                await delivery.settled()
            finally:
                if parts.publisher is not None:
                    await parts.publisher.stop(5.0)

    async def _until_stopped_or_crashed(self, publisher: Publisher | None) -> None:
        assert self.app is not None
        watched: list[asyncio.Task[Any]] = [
            asyncio.create_task(self._stopping.wait()),
            asyncio.create_task(self.app.wait_until_stopped()),
            asyncio.create_task(self._without_positions()),
        ]
        if publisher is not None:
            watched.append(asyncio.create_task(publisher.crashed()))
        try:
            done, _running = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in watched:
                task.cancel()
            await asyncio.gather(*watched, return_exceptions=True)
        if self.app.crashed and self.app.crash_reason is not None:
            raise self.app.crash_reason

    async def _without_positions(self) -> None:
        """Raises Stranded when the group had no positions for STRANDED_S although broker and stores were there."""
        since = monotonic()
        while monotonic() - since < STRANDED_S:
            await asyncio.sleep(LOOK_EVERY_S)
            consumer = self.consumer
            located = consumer is not None and consumer._located is not None
            if (
                located
                or self._connections.broker.away is not None
                or (consumer is not None and consumer.backing_off != "")
            ):
                since = monotonic()
        raise Stranded(f"{self.full_name} has waited {STRANDED_S:.0f} s for its partitions")


async def _replays(delivery: Delivery) -> None:
    while True:
        await asyncio.sleep(REPLAY_EVERY_S)
        try:
            await delivery.replay_requested()
        except StoresAway:
            continue
        except Exception:
            log.exception("%s: dead letters could not be taken again", delivery.group)
