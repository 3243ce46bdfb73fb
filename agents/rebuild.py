"""A metric built anew from the log, while its old table keeps serving; then the two change places, exactly.

    begin (or go on) → handle the log up to where the live group stands, again and again, until little is left
    → in one transaction: hold the live group where it stands, handle what is left, let the new table serve

The live group finds its tables to be others with its next batch, and goes on with the new one from where it was held:
nothing is counted twice, nothing is lost. Its watermarks need no change: they are those of every event up to there.

What the live group parked as a dead letter is left out here, too, for it can still be replayed. What it replays while
this runs is added at the end.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any

import msgspec
from aiokafka import TopicPartition
from aiokafka.structs import ConsumerRecord

from agents.analytics import GROUP, OURS, Counting
from domain.metrics import Metric
from domain.tables import Table
from stores.analytics import Adding, forget_watermarks
from stores.metrics import Gone, Metrics, Version, ids, swap
from stores.postgres import StoresAway, away_is_known
from stores.progress import Mismatch, Move, forget_group, hold_all
from stores.replays import left_out, replayed
from streams.batches import Span
from streams.envelope import Unreadable, is_same
from streams.groups import Connections
from streams.readers import record_of
from streams.rereading import Log, Rereading
from streams.work import Part, key_of
from topics import INGEST, Repeats, Topic

logger = logging.getLogger("yeoul.agents.rebuild")

MOST_HELD = 20_000
"""Records that are handled while the live group is held; with more, they are handled before it is."""
TRIES = 5
MOST_HELD_BYTES = 64 * 1024 * 1024
"""The same of what these records hold."""
_WHATEVER = object()
REPLAY_TAKES = timedelta(minutes=1)
"""A replay that settles a letter takes less than this from its beginning to its commit."""


class Refused(Exception):
    """The metric can't be built from where it is asked to be; the message says why, and what can be done."""


class State(msgspec.Struct, frozen=True):
    """How far it is: records read since this run began, how many there are, and seconds since then."""

    read: int
    of: int
    seconds: float


class Rebuilt(Counting):
    """Adds to the one table that is being built."""

    def __init__(self, connections: Connections, group: str, version: Version, live: str, log: Log) -> None:
        super().__init__(connections, group)
        self.version = version
        self._live = live
        self._log = log
        self._left_out: dict[tuple[str, int], dict[int, Any]] = {}
        self._connections = connections
        self.since = version.since - REPLAY_TAKES
        self.feed([Table(version.id, version.metric)])

    async def still(self, connection: Any) -> bool:
        """See Counting."""
        return self.version.id in await ids(connection, "building")

    async def prepare(self) -> None:
        """See Reader.prepare. Raises Gone."""
        async with self._database.connection() as connection:
            with away_is_known():
                if not await self.still(connection):
                    raise Gone(self.version.metric.name)
            await self.look(connection)

    async def look(self, connection: Any) -> None:
        """Learn what the live group parked; after its positions were read, so that nothing below them is missed."""
        found: dict[tuple[str, int], dict[int, Any]] = {}
        for row in await left_out(connection, self._live, self.since):
            key = TopicPartition(row["topic"], row["partition"])
            # Of a topic that is no more, it says nothing about the one that has its name by now.
            if self._log.ids.get(key) == row["kafka_id"]:
                of_partition = found.setdefault((key.topic, key.partition), {})
                if not row["earlier"]:
                    of_partition[row["offset"]] = _WHATEVER
                elif row["offset"] not in of_partition:
                    of_partition[row["offset"]] = row["value"]
        self._left_out = found

    def decode(self, record: ConsumerRecord) -> Any:
        """See streams.work.Handler; None for what the live group left out, or does."""
        parked = self._left_out.get((record.topic, record.partition), {})
        if record.offset in parked and self._is(record, parked[record.offset]):
            return None
        try:
            return super().decode(record)
        except Unreadable:
            return None

    def _is(self, record: ConsumerRecord, parked: Any) -> bool:
        """Whether the live group parked this record, and none that stood here in an earlier life."""
        if parked is _WHATEVER or parked == record.value:
            return True
        return self._log.topics[record.topic].repeats is Repeats.SEQUENCE and is_same(parked, record.value)

    def decode_all(self, records: Sequence[ConsumerRecord]) -> list[Any] | None:
        """See streams.work.Handler."""
        left_out = self._left_out.get((records[0].topic, records[0].partition), {})
        if not left_out.keys().isdisjoint(record.offset for record in records):
            return None
        return super().decode_all(records)

    async def replayed(self, connection: Any, reading: Rereading) -> None:
        """Add what the live group has replayed meanwhile, as it did. Raises StoresAway."""
        for letter in await replayed(connection, self._live, self.since):
            key = key_of(letter)
            owned = reading.owned(key)
            if owned is not None:
                record = record_of(letter)
                part = Part(key, owned, Span(letter.offset, letter.offset + 1), [record], [super().decode(record)])
                await self.handle(connection, [part])

    def forget(self) -> None:
        """The transaction was rolled back: what was read in it never was."""
        self._adding = Adding(self._connections.database)


class Rebuild:
    """One rebuild. `say` gets sentences, `show` how far it is after each batch."""

    def __init__(
        self,
        connections: Connections,
        metric: Metric,
        say: Callable[[str], None],
        show: Callable[[State], None] = lambda state: None,
    ) -> None:
        self._connections = connections
        self._metric = metric
        self._say = say
        self._show = show
        self._live = f"{connections.settings.topic_prefix}.{GROUP.name}"
        self._read = 0
        self._begun = monotonic()

    async def run(self, since: datetime | None = None, *, anew: bool = False) -> Version:
        """Until it serves. Raises Refused, Gone, StoresAway, KafkaError, streams.rereading.Unfinished."""
        async with Log(self._connections, topics_of(self._metric)) as log:
            first = await log.first()
            reach = await _reach(log, first)
            if since is not None and since > datetime.now(UTC):
                raise Refused(f"{_said(since)} is in the future: there is nothing to build {self._metric.name} of yet")
            if since is not None and reach is not None and since < reach:
                raise Refused(
                    f"the topics keep events from {_said(reach)} on, and {_said(since)} is before that: what was then"
                    f" can't be counted again. Leave --since out to build {self._metric.name} from there"
                )
            begin = first if since is None else await _from(log, since)
            version = await self._begin(since, reach, anew=anew)
            stands = await log.stand(self._live, first)
            await log.stand(self._group(version), {key: max(first[key], min(begin[key], stands[key])) for key in first})
            handler = Rebuilt(self._connections, self._group(version), version, self._live, log)
            reading = Rereading(self._connections, self._group(version), log, handler)
            await reading.locate()
            await self._catch_up(log, reading, handler)
        self._say(f"{self._metric.name}: version {version.version} serves from now on")
        return version

    async def _begin(self, since: datetime | None, reach: datetime | None, *, anew: bool) -> Version:
        metrics = Metrics(self._connections.database)
        version, resumed = await metrics.build(self._metric, anew=anew)
        if resumed and since is not None:
            raise Refused(
                f"version {version.version} of {self._metric.name} was begun before, and --since can't change from"
                f" where. Leave it out to go on with that; --anew begins another"
            )
        for other in await metrics.versions():
            # Where those stood that were given up half-built.
            if other.metric.name == self._metric.name and other.state == "retired":
                async with self._connections.database.connection() as connection, connection.transaction():
                    await _forget(connection, self._group(other))
        name, number = self._metric.name, version.version
        if resumed:
            self._say(f"{name}: goes on with version {number}, which was begun before; --anew begins another")
        elif since is not None:
            self._say(f"{name}: builds version {number} from {_said(since)}")
        elif reach is not None:
            self._say(f"{name}: builds version {number} from {_said(reach)}, as far as the topics keep")
        else:
            self._say(f"{name}: builds version {number} from the first event: the topics still keep all")
        return version

    def _group(self, version: Version) -> str:
        return f"{self._live}-rebuild-{version.metric.name}-{version.version}"

    async def _catch_up(self, log: Log, reading: Rereading, handler: Rebuilt) -> None:
        tries = 0
        while True:
            await log.look()
            # Nothing beyond where the live group stands is ours to count.
            ends = await _within(log, await log.stand(self._live, await log.first()))
            async with self._connections.database.connection() as connection:
                await handler.look(connection)
            of = self._read + reading.left(ends)

            def told(count: int, of: int = of) -> None:
                self._read += count
                self._show(State(self._read, max(of, self._read), monotonic() - self._begun))

            await reading.up_to(ends, told)
            try:
                if await self._swap(log, reading, handler):
                    return
            except Gone:
                raise
            except Exception as error:
                # A record that fails is halved out and parked by the way of every batch, which the next round is.
                tries += 1
                if tries >= TRIES:
                    raise
                handler.forget()
                logger.info("the tables do not change places yet: %s", str(error) or type(error).__name__)
                if isinstance(error, Mismatch | StoresAway):
                    await reading.locate()

    async def _swap(self, log: Log, reading: Rereading, handler: Rebuilt) -> bool:
        """Let the new table serve; False if there is too much left to hold the live group for it."""
        async with self._connections.database.connection() as connection, connection.transaction():
            with away_is_known():
                # Longer than a batch takes, and no longer than the live group bears to wait.
                await connection.execute("SET LOCAL idle_in_transaction_session_timeout = '30s'")
            held = await hold_all(connection, self._live)
            stands = {key: held.get((key.topic, id, key.partition)) for key, id in log.ids.items()}
            if None in stands.values():
                raise Mismatch("the topics are others by now")
            ends = await _within(log, stands)
            if reading.left(ends) > MOST_HELD:
                return False
            await handler.look(connection)
            work = await reading.rest(ends, MOST_HELD_BYTES)
            if work is None:
                return False
            moves = [
                Move(part.owned.topic_id, part.key.partition, part.span.begin, part.span.end, None, part.sequence)
                for part in work.parts
            ]
            await handler.write(connection, work, moves)
            await handler.replayed(connection, reading)
            await swap(connection, handler.version)
            await _forget(connection, self._group(handler.version))
        self._read += work.count
        return True


async def _forget(connection: Any, group: str) -> None:
    await forget_group(connection, group)
    await forget_watermarks(connection, group)


def topics_of(metric: Metric) -> tuple[Topic, ...]:
    """The topics that may carry events of this metric: strangers can't use our types."""
    return tuple(topic for topic in GROUP.topics if topic is not INGEST or not set(metric.events) <= OURS)


async def _within(log: Log, stands: Mapping[TopicPartition, int | None]) -> dict[TopicPartition, int]:
    """These offsets, as far as the log goes."""
    return {key: min(stands[key] or 0, end) for key, end in (await log.ends()).items()}


async def _from(log: Log, since: datetime) -> dict[TopicPartition, int]:
    ends = await log.ends()
    found = await log.from_time(int(since.timestamp() * 1000))
    return {key: ends[key] if at is None else at[0] for key, at in found.items()}


async def _reach(log: Log, first: Mapping[TopicPartition, int]) -> datetime | None:
    """The time from which on the topics have every event; None if nothing was ever removed from them."""
    now, there = datetime.now(UTC), await log.from_time(0)
    return max(
        (
            # Of an empty partition all is gone, and that happens when the last of it is as old as is kept.
            now - log.topics[key.topic].retention if at is None else datetime.fromtimestamp(at[1] / 1000, UTC)
            for key, at in there.items()
            if first[key] > 0
        ),
        default=None,
    )


def _said(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
