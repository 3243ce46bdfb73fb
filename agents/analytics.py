"""Analytics: everybody's events → the tables of the metrics, each event once.

records → only what metrics need → add up in memory (domain/tables.py) → one upsert for each size of window, in the
transaction that moves the position → the new totals to those who watch
"""

import abc
import asyncio
import logging
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from operator import attrgetter
from time import monotonic
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from aiokafka.structs import ConsumerRecord

import topics
from config.metrics import load, load_plain
from domain.metrics import Metric
from domain.nouns import NOUNS
from domain.plain_json import Unmapped, mapped
from domain.tables import Additions, Plan, Table, add_up, latest
from domain.values import members
from stores.analytics import Adding, watermarks
from stores.live import Live
from stores.metrics import Metrics, ids
from stores.postgres import away_is_known
from stores.progress import Mismatch
from stores.redis import RedisAway
from stores.totals import Row, Totals
from streams.envelope import COMMAND_SOURCE, Name, Unreadable, is_binary, read_foreign_as, read_plain_as
from streams.groups import Connections, ReaderGroup
from streams.readers import Reader
from streams.work import Part

log = logging.getLogger("yeoul.agents.analytics")

LONGEST_NAME = 256
"""Characters of a source or type: they are keys of tables that strangers fill."""
OURS = frozenset((topics.DEAD_LETTER_PARKED,)).union(
    *(types for noun in NOUNS.values() for types in (noun.EVENTS, noun.COMMANDS))
)
"""Types of ours, which strangers can't use."""
OUR_SOURCES = "/yeoul/"
TELL_EVERY_S = 0.25


def _event_type(plan: Plan) -> type:
    """A CloudEvent with only what is needed of it: to know repeats, and what the metrics look at."""
    # Only what is looked at is decoded; what else stands there may be any JSON, also numbers that no double holds.
    data = plan.data | list[msgspec.Raw] | str | int | float | bool | None if plan.data is not None else Any
    return msgspec.defstruct(
        "Seen",
        [
            ("id", Name),
            ("source", Name),
            ("type", Name),
            ("specversion", Literal["1.0"]),
            ("subject", str | None, None),
            ("time", Annotated[datetime, msgspec.Meta(tz=True)] | None, None),
            ("sequence", str | None, None),
            *([("data", data, None)] if plan.data is not None else []),
        ],
        frozen=True,
        gc=False,
    )


class Counting(Reader, abc.ABC):
    """Adds the events of our own topics and of `ingest` to tables of metrics; which ones, says who derives from it."""

    name = "analytics.metrics"

    def __init__(self, connections: Connections, group: str) -> None:
        super().__init__(connections.database, group)
        self._plain = load_plain(connections.settings.metrics_file)
        self._adding = Adding(connections.database)
        self._tables: dict[int, Table] = {}
        self.feed(())

    def feed(self, tables: Sequence[Table]) -> None:
        """Add to these tables from now on."""
        self._tables = {table.id: table for table in tables}
        self._plan = Plan(tables)
        self._seen: msgspec.json.Decoder[Any] = msgspec.json.Decoder(_event_type(self._plan))

    @abc.abstractmethod
    async def still(self, connection: Any) -> bool:
        """False if it has other tables to add to by now."""

    def decode(self, record: ConsumerRecord) -> Any:
        """See streams.work.Handler."""
        strangers = record.topic.endswith("." + topics.INGEST.name)
        event = self._plain_event(record) if strangers and self._plain is not None else None
        if event is None:
            event = read_foreign_as(record, self._seen)
        _check_names(record.topic, (event.source,), (event.type,))
        return None if _is_announced(record, (event.source,)) else event

    def decode_all(self, records: Sequence[ConsumerRecord]) -> list[Any] | None:
        """See streams.work.Handler."""
        if any(name.startswith("ce_") for headers in {record.headers for record in records} for name, _ in headers):
            return None
        decode = self._seen.decode
        try:
            events = [decode(record.value) for record in records]
            sources = set(map(_source, events))
            _check_names(records[0].topic, sources, set(map(_type, events)))
        except Exception:  # whatever it is, it is said of the record that it is about, when that one is alone
            return None
        return None if _is_announced(records[0], sources) else events

    def _plain_event(self, record: ConsumerRecord) -> Any:
        """What a record of plain JSON says, by the declaration; None if it is none."""
        found = None if record.value is None or is_binary(record) else members(record.value)
        if found is None or "specversion" in found or self._plain is None:
            return None
        try:
            return read_plain_as(record.value, mapped(self._plain, found), self._seen)
        except Unmapped as error:
            raise Unreadable("unmapped", str(error)) from None

    async def handle(self, connection: Any, parts: Sequence[Part]) -> Totals:
        """Add up in memory, then write; returns the new totals."""
        with away_is_known():
            if not await self.still(connection):
                raise Mismatch("the tables of the metrics are others by now")
        read = {part: _times(part) for part in parts if part.messages}
        # What an event of a wrong clock says is no time; see domain.tables.add_up.
        latest_times = [
            (part.owned.topic_id, part.key.partition, latest(times, appended))
            for part, (times, appended) in read.items()
        ]
        before = await watermarks(connection, self._group, latest_times) if latest_times else {}
        added: dict[str, Additions] = {}
        for part, (times, appended) in read.items():
            mark = before.get((part.owned.topic_id, part.key.partition), 0)
            feed = f"{part.owned.topic.name}/{part.key.partition}"
            added[feed] = add_up(self._plan, part.messages, times, appended, mark)
        return await self._adding.add(connection, self._tables, added)


class MetricTables(Counting):
    """Adds to all tables that serve, and tells the new totals to those who watch."""

    def __init__(self, connections: Connections, group: str, declared: Sequence[Metric]) -> None:
        super().__init__(connections, group)
        self._declared: Sequence[Metric] | None = declared
        self._metrics = Metrics(connections.database)
        self._live = Live(connections.redis)
        self._untold = Totals()
        self._told_at = 0.0
        self._telling: asyncio.Task[None] | None = None

    async def still(self, connection: Any) -> bool:
        """See Counting."""
        return await ids(connection) == self._tables.keys()

    async def prepare(self) -> None:
        """See Reader.prepare. What is declared is registered once: a worker of an older file must not take it back."""
        if self._declared is None:
            self.feed(await self._metrics.serving())
            return
        registered = await self._metrics.register(self._declared)
        self._declared = None
        for name in registered.changed:
            log.warning(
                "the metric %s is declared in another way than its table was begun; the table goes on as it was. To"
                " build it anew: ./yeoul metrics rebuild %s", name, name,
            )  # fmt: skip
        self.feed(registered.tables)

    async def after(self, result: Totals) -> None:
        """See streams.work.Handler."""
        self._untold.merge(result)
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell())

    async def _tell(self) -> None:
        """The totals to those who watch, a few times a second; what can't be told is read by them from PostgreSQL."""
        await asyncio.sleep(max(0.0, self._told_at + TELL_EVERY_S - monotonic()))
        by_metric: dict[str, list[Row] | None] = {}
        for metric, rows in self._untold.take().items():
            table = self._tables.get(metric)
            if table is not None:
                by_metric[table.metric.name] = rows
        self._told_at = monotonic()
        try:
            await self._live.tell(by_metric)
        except RedisAway as error:
            log.debug("totals were not told: %s", error)


_source, _type = attrgetter("source"), attrgetter("type")


def _is_announced(record: ConsumerRecord, sources: Collection[str]) -> bool:
    """True of sessions that a front of an older version announced itself, which the agent's events count already."""
    return COMMAND_SOURCE in sources and record.topic.endswith("." + topics.EVENTS_SESSIONS.name)


def _check_names(topic: str, sources: Iterable[str], types: Iterable[str]) -> None:
    """Raises Unreadable for a source or type that can't be kept, or that is not for strangers to use."""
    for name in (*sources, *types):
        if len(name) > LONGEST_NAME or "\0" in name:
            raise Unreadable("bad_name", f"source and type have at most {LONGEST_NAME} characters, and no NUL")
    if topic.endswith("." + topics.INGEST.name) and (
        any(source.startswith(OUR_SOURCES) for source in sources) or not OURS.isdisjoint(types)
    ):
        raise Unreadable("reserved", "this source or type is Yeoul's own; strangers can't speak in its name")


def _times(part: Part) -> tuple[Any, Any]:
    """When each event happened, and when the log took it, seconds."""
    appended = np.array([record.timestamp for record in part.records], np.int64) // 1000
    times = [event.time for event in part.messages]
    try:
        seconds = list(map(datetime.timestamp, times))
    except TypeError:  # some have no time
        seconds = [at if time is None else time.timestamp() for time, at in zip(times, appended.tolist(), strict=True)]
    return np.floor(np.array(seconds, np.float64)).astype(np.int64), appended


def build(connections: Connections, group: str) -> MetricTables:
    """The handler of a process."""
    return MetricTables(connections, group, load(connections.settings.metrics_file))


GROUP = ReaderGroup(
    "analytics",
    (*topics.EVENTS_OF.values(), topics.INGEST, topics.DEAD_LETTERS),
    build,
    max_records=50_000,
)
