"""Groups at work: a Faust app for each, started and stopped side by side, restarted alone when one crashes."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from time import monotonic
from typing import Any

from aiokafka.errors import KafkaError

import topics
from stores import StoresAway
from streams.app import GroupApp, build_app
from streams.batches import Batch
from streams.consumer import BatchConsumer
from streams.copies import Copies
from streams.delivery import Delivery
from streams.groups import Connections, Group
from streams.publisher import Publisher
from streams.slots import Slot
from streams.work import MAIL_SERVER
from telemetry import metrics

log = logging.getLogger("yeoul.streams.runtime")

RESTART_S = 1.0
REPLAY_EVERY_S = 1.0
STOP_S = 14.0
"""How long a group may take to stop in order, seconds: of the 20 that a worker is promised to end within."""
CUT_S = 3.0
"""How long it may take from there, without a database that does not answer, seconds."""
PUBLISH_S = 5.0
"""How long a group that stops waits until what it committed is published, seconds; the next owner does the rest."""
LOOK_EVERY_S = 1.0
STRANDED_S = 60.0
"""A rebalance takes seconds; a group that waits longer than this for its partitions starts anew."""


class Stranded(Exception):
    """A group fell out of its consumer group and did not find back."""


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
        self._stop_by = float("inf")
        self.app: GroupApp | None = None
        self._publisher: Publisher | None = None
        self.trouble: str | None = "it has not started yet"

    def start(self) -> None:
        """Begin; the broker need not be there yet."""
        self._task = asyncio.create_task(self._run(), name=self.full_name)

    async def stop(self) -> None:
        """Finish the batch in hand or let it go, leave the group, publish what waits: STOP_S and CUT_S at most."""
        self._stop_by = monotonic() + STOP_S
        self._stopping.set()
        if self._task is not None and not await self._ends(STOP_S):
            log.warning("%s did not stop in order within %.0f s; its batch will be read again", self.full_name, STOP_S)
            # A handler that is cancelled still waits for its ROLLBACK: as long as there is somebody who might answer.
            self._connections.database.cut()
            self._task.cancel()
            if not await self._ends(CUT_S):
                log.error("%s did not stop", self.full_name)
        self._slot.release()

    async def _ends(self, within_s: float) -> bool:
        assert self._task is not None
        done, _pending = await asyncio.wait([self._task], timeout=within_s)
        return bool(done)

    @property
    def consumer(self) -> BatchConsumer | None:
        """The consumer that runs now."""
        return self.app.batch_consumer if self.app is not None else None

    def state(self) -> str:
        """`ok`, or why the group can't work now."""
        consumer = self.consumer
        if self.trouble is not None:
            return self.trouble
        waits = "" if consumer is None else consumer.backing_off
        if waits and waits != MAIL_SERVER:
            return f"waiting for {waits}"
        if consumer is None or consumer._located is None:
            return "waiting for partitions"
        stopped = len(self.app.positions.stopped) if self.app is not None else 0
        behind = self._publisher.behind if self._publisher is not None else 0
        but = [
            # No reason to take a worker out of service.
            *([f"waiting for {MAIL_SERVER}: see the log"] if waits else []),
            *([f"{stopped} partitions are stopped: ./yeoul dead-letters stopped"] if stopped else []),
            *([f"the events of {behind} partitions wait to be published: see the log"] if behind else []),
        ]
        return f"ok, but {'; '.join(but)}" if but else "ok"

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
                    async with asyncio.timeout(RESTART_S):
                        await self._stopping.wait()

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
                    await parts.publisher.stop(min(PUBLISH_S, self._stop_by - monotonic()))

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
