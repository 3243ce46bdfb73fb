"""Analytics: everybody's events → the tables of the metrics, each event once.

records → only what metrics need → add up in memory (domain/tables.py) → one upsert for each size of window, in the
transaction that moves the position → the new totals to those who watch
"""

import abc
import asyncio
import logging
from collections.abc import Sequence
from datetime import datetime
from time import monotonic
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from aiokafka.structs import ConsumerRecord

import topics
from config.metrics import load
from domain import accounts, resources
from domain.metrics import Metric
from domain.tables import Additions, Plan, Table, add_up, latest
from stores.analytics import Adding, Row, watermarks
from stores.live import Live
from stores.metrics import Metrics, ids
from stores.postgres import away_is_known
from stores.progress import Mismatch
from stores.redis import RedisAway
from streams.envelope import Name, Unreadable, check_source, read_foreign_as
from streams.groups import Connections, ReaderGroup
from streams.readers import Reader
from streams.work import Part

log = logging.getLogger("yeoul.agents.analytics")

LONGEST_NAME = 256
"""Characters of a source or type: they are keys of tables that strangers fill."""
OURS = frozenset().union(
    accounts.EVENTS,
    accounts.COMMANDS,
    resources.EVENTS,
    resources.COMMANDS,
    (topics.SESSION_STARTED, topics.DEAD_LETTER_PARKED),
)
"""Types of ours, which strangers can't use."""
OUR_SOURCES = "/yeoul/"
TELL_EVERY_S = 0.25


def _event_type(plan: Plan) -> type:
    """A CloudEvent with only what is needed of it: to know repeats, and what the metrics look at."""
    data = plan.data | list[Any] | str | int | float | bool | None if plan.data is not None else Any
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
        event = read_foreign_as(record, self._seen)
        if len(event.source) > LONGEST_NAME or len(event.type) > LONGEST_NAME or "\0" in event.source + event.type:
            raise Unreadable("bad_name", f"source and type have at most {LONGEST_NAME} characters, and no NUL")
        strangers = record.topic.endswith("." + topics.INGEST.name)
        if strangers and (event.source.startswith(OUR_SOURCES) or event.type in OURS):
            raise Unreadable("reserved", "this source or type is Yeoul's own; strangers can't speak in its name")
        if record.topic.endswith("." + topics.EVENTS_SESSIONS.name):
            check_source(topics.EVENTS_SESSIONS.owner, event)
        return event

    async def handle(self, connection: Any, parts: Sequence[Part]) -> list[Row]:
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
        self._untold: dict[tuple[Any, ...], Row] = {}
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

    async def after(self, result: list[Row]) -> None:
        """See streams.work.Handler."""
        for row in result:
            self._untold[row.slot, row.measure, row.feed] = row
        if self._telling is None or self._telling.done():
            self._telling = asyncio.create_task(self._tell())

    async def _tell(self) -> None:
        """The totals to those who watch, a few times a second; what can't be told is read by them from PostgreSQL."""
        await asyncio.sleep(max(0.0, self._told_at + TELL_EVERY_S - monotonic()))
        rows, self._untold = self._untold, {}
        by_metric: dict[str, list[Row]] = {}
        for row in rows.values():
            table = self._tables.get(row.slot.metric)
            if table is not None:
                by_metric.setdefault(table.metric.name, []).append(row)
        self._told_at = monotonic()
        try:
            await self._live.tell(by_metric)
        except RedisAway as error:
            log.debug("totals were not told: %s", error)


def _times(part: Part) -> tuple[Any, Any]:
    """When each event happened, and when the log took it, seconds."""
    appended = np.fromiter((record.timestamp for record in part.records), np.int64, len(part.records)) // 1000
    times = np.fromiter(
        (
            record.timestamp // 1000 if event.time is None else event.time.timestamp()
            for record, event in zip(part.records, part.messages, strict=True)
        ),
        np.float64,
        len(part.records),
    )
    return np.floor(times).astype(np.int64), appended


def build(connections: Connections, group: str) -> MetricTables:
    """The handler of a process."""
    return MetricTables(connections, group, load(connections.settings.metrics_file))


GROUP = ReaderGroup(
    "analytics",
    (topics.EVENTS_ACCOUNTS, topics.EVENTS_RESOURCES, topics.EVENTS_SESSIONS, topics.INGEST, topics.DEAD_LETTERS),
    build,
)
