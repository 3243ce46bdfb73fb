"""Analytics: everybody's events → the tables of the metrics, each event once.

records → only what metrics need → add up in memory (domain/tables.py) → one upsert for each size of window, in the
transaction that moves the position → the new totals to those who watch
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from datetime import datetime
from operator import attrgetter
from time import monotonic
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from aiokafka.structs import ConsumerRecord

import topics
from config.metrics import load, load_plain
from domain import accounts, resources
from domain.metrics import Metric
from domain.plain_json import PlainJson, Unmapped, mapped
from domain.tables import Additions, Plan, Table, add_up, latest
from domain.values import members
from stores.analytics import Adding, Row, watermarks
from stores.live import Live
from stores.metrics import Metrics, tables
from stores.postgres import away_is_known
from stores.progress import Mismatch
from stores.redis import RedisAway
from streams.envelope import Name, Unreadable, is_binary, read_foreign_as, read_plain_as
from streams.groups import Connections, ReaderGroup
from streams.readers import Reader
from streams.work import Part

log = logging.getLogger("yeoul.agents.analytics")

LONGEST_NAME = 256
"""Characters of a source or type: they are keys of tables that strangers fill."""
OURS = frozenset().union(
    accounts.EVENTS, accounts.COMMANDS, resources.EVENTS, resources.COMMANDS, (topics.DEAD_LETTER_PARKED,)
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


class MetricTables(Reader):
    """Adds the events of our own topics and of `ingest` to the tables of the metrics."""

    name = "analytics.metrics"

    def __init__(
        self, connections: Connections, group: str, declared: Sequence[Metric], plain: PlainJson | None = None
    ) -> None:
        super().__init__(connections.database, group)
        self._declared = declared
        self._plain = plain
        self._metrics = Metrics(connections.database)
        self._adding = Adding(connections.database)
        self._live = Live(connections.redis)
        self._tables: dict[int, Table] = {}
        self._untold: dict[tuple[Any, ...], Row] = {}
        self._told_at = 0.0
        self._telling: asyncio.Task[None] | None = None
        self._plan_for(())

    def _plan_for(self, serving: Sequence[Table]) -> None:
        self._tables = {table.id: table for table in serving}
        self._plan = Plan(serving)
        self._seen: msgspec.json.Decoder[Any] = msgspec.json.Decoder(_event_type(self._plan))

    async def prepare(self) -> None:
        """See Reader.prepare."""
        registered = await self._metrics.register(self._declared)
        for name in registered.changed:
            log.warning(
                "the metric %s is declared in another way than its table was begun; the table goes on as it was. To"
                " build it anew: ./yeoul metrics rebuild %s", name, name,
            )  # fmt: skip
        self._plan_for(registered.tables)

    def decode(self, record: ConsumerRecord) -> Any:
        """See streams.work.Handler."""
        strangers = record.topic.endswith("." + topics.INGEST.name)
        event = self._plain_event(record) if strangers and self._plain is not None else None
        if event is None:
            event = read_foreign_as(record, self._seen)
        _check_names(record.topic, (event.source,), (event.type,))
        return event

    def decode_all(self, records: Sequence[ConsumerRecord]) -> list[Any] | None:
        """See streams.work.Handler."""
        if any(name.startswith("ce_") for headers in {record.headers for record in records} for name, _ in headers):
            return None
        decode = self._seen.decode
        try:
            events = [decode(record.value) for record in records]
            _check_names(records[0].topic, set(map(_source, events)), set(map(_type, events)))
        except Exception:  # whatever it is, it is said of the record that it is about, when that one is alone
            return None
        return events

    def _plain_event(self, record: ConsumerRecord) -> Any:
        """What a record of plain JSON says, by the declaration; None if it is none."""
        found = None if record.value is None or is_binary(record) else members(record.value)
        if found is None or "specversion" in found or self._plain is None:
            return None
        try:
            return read_plain_as(record.value, mapped(self._plain, found), self._seen)
        except Unmapped as error:
            raise Unreadable("unmapped", str(error)) from None

    async def handle(self, connection: Any, parts: Sequence[Part]) -> list[Row]:
        """Add up in memory, then write; returns the new totals."""
        with away_is_known():
            if {table.id for table in await tables(connection)} != self._tables.keys():
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


_source, _type = attrgetter("source"), attrgetter("type")


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
    if None in times:
        seconds = [at if time is None else time.timestamp() for time, at in zip(times, appended.tolist(), strict=True)]
    else:
        seconds = list(map(datetime.timestamp, times))
    return np.floor(np.array(seconds, np.float64)).astype(np.int64), appended


def build(connections: Connections, group: str) -> MetricTables:
    """The handler of a process."""
    file = connections.settings.metrics_file
    return MetricTables(connections, group, load(file), load_plain(file))


GROUP = ReaderGroup("analytics", (topics.EVENTS_ACCOUNTS, topics.EVENTS_RESOURCES, topics.INGEST), build)
