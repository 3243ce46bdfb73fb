"""Questions to the tables of the metrics: the same lines however they are paged, and only what is asked for."""

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from itertools import count
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
import pytest
import pytest_asyncio

from config import Settings
from config.zones import zone
from domain.boards import View
from domain.metrics import Metric, declared
from domain.questions import Question, question, spellings
from domain.reports import Line
from domain.tables import Plan, Table, add_up
from stores import migrations, selecting
from stores.analytics import Adding
from stores.metrics import begin
from stores.postgres import Database, of
from stores.reports import Reports
from stores.selecting import TooMany
from stores.watching import Watching

NOW = int(time.time())
HOUR = NOW - NOW % 3600
(ORDERS, PLAIN), _ = declared(
    {
        "orders": {
            "events": ["*"], "group_by": ["type", "data.size"], "lateness": "30d",
            "windows": {"hour": "90d", "day": "90d", "3h/1h": "90d", "month": "1y"},
            "measures": {"revenue": {"sum": "data.total"}, "buyers": {"distinct": "subject"}},
        },
        "plain": {"events": ["*"], "windows": {"minute": "1d"}},
    }
)  # fmt: skip


class Event:
    """What a plan reads of an event."""

    def __init__(self, plan: Plan, at: int, kind: str, size: Any) -> None:
        self.at, self.type, self.source, self.subject = at, kind, "/shop", f"buyer-{at % 7}"
        written = msgspec.json.encode({"size": size, "total": 0.1})
        self.data = msgspec.json.decode(written, type=plan.data)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def tables(settings: Settings) -> AsyncIterator[tuple[Database, dict[str, Table]]]:
    """Two feeds; a hundred hours, of which each fifth has nothing; six groups."""
    await migrations.apply(settings.postgres_url)
    database = of(settings, "tests")
    async with database.connection() as connection, connection.transaction():
        made = [Table(await begin(connection, metric, "serving"), metric) for metric in (ORDERS, PLAIN)]
    plan = Plan(made)
    adding = Adding(database)
    for feed in ("ingest/0", "ingest/1"):
        events = [
            Event(plan, HOUR - 3600 * hour + minute, kind, size)
            for hour in reversed(range(100))
            if hour % 5
            for minute, (kind, size) in enumerate((kind, size) for kind in ("a", "b", "ü") for size in (7, "7"))
        ]
        times = np.array([event.at for event in events], np.int64)
        added = add_up(plan, events, times, np.full(len(times), NOW, np.int64), 0)
        async with database.connection() as connection, connection.transaction():
            await adding.add(connection, {table.id: table for table in made}, {feed: added})
    yield database, {table.metric.name: table for table in made}
    await database.close()


def ask(of: Metric, **asked: str) -> Question:
    names = {"since": "from", "group_size": "group[data.size]", "group_type": "group[type]"}
    found = question(of, {names.get(name, name): value for name, value in asked.items()}, NOW, zone)
    assert isinstance(found, Question), found
    return found


def text(second: int) -> str:
    return datetime.fromtimestamp(second, UTC).isoformat()


async def paged(read: Reports, table: Table, asked: Question, size: int) -> list[Line]:
    found: list[Line] = []
    after = None
    for _ in count():
        page = await read.lines(table, asked, size, after)
        found += page
        if len(page) < size:
            return found
        after = (page[-1].start, page[-1].group)
    raise AssertionError


async def test_the_tables_that_serve(tables: Any) -> None:
    database, made = tables
    assert made.items() <= (await Reports(database).tables()).items()  # beside those of other tests


@pytest.mark.parametrize("window", ["hour", "day", "3h/1h", "month"])
@pytest.mark.parametrize("fill", ["true", "false"])
@pytest.mark.parametrize("zone", ["UTC", "Asia/Seoul"])
async def test_pages_of_any_size_are_the_whole(tables: Any, window: str, fill: str, zone: str) -> None:
    database, made = tables
    asked = ask(ORDERS, window=window, fill=fill, since=text(HOUR - 50 * 86400), tz=zone)
    read = Reports(database)
    whole = await read.lines(made["orders"], asked, 10_000)
    places = [(line.start, line.group) for line in whole]
    assert places == sorted(set(places))
    if window != "3h/1h":  # of sliding windows each event is in several
        assert sum(line.values["count"] for line in whole) == 80 * 6 * 2
        assert str(sum(line.values["revenue"] for line in whole)) == "96.0"
    for size in (max(1, len(whole) // 40), len(whole) // 3 + 1):
        assert await paged(read, made["orders"], asked, size) == whole


async def test_spans_are_shorter_where_there_are_many_rows(tables: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    database, made = tables
    asked = ask(ORDERS, since=text(HOUR - 99 * 3600))
    whole = await Reports(database).lines(made["orders"], asked, 10_000)
    assert len(whole) == 80 * 6
    # A window has six groups of three measures in two feeds.
    monkeypatch.setattr(selecting, "MOST_SKETCHES", 36)
    assert await Reports(database).lines(made["orders"], asked, 10_000) == whole
    monkeypatch.setattr(selecting, "MOST_SKETCHES", 35)
    with pytest.raises(TooMany):
        await Reports(database).lines(made["orders"], asked, 10)


async def test_one_group_is_asked_for_whatever_its_type(tables: Any) -> None:
    database, made = tables
    read = Reports(database)
    found = await read.lines(made["orders"], ask(ORDERS, window="month", group_type="ü"), 100)
    assert {line.group for line in found} == {'["ü",7]', '["ü","7"]'}
    found = await read.lines(made["orders"], ask(ORDERS, window="month", group_type="a", group_size="7"), 100)
    assert {line.group for line in found} == {'["a",7]', '["a","7"]'}
    found = await read.lines(made["orders"], ask(ORDERS, window="month", group_size='"7"'), 100)
    assert {line.group for line in found} == {f'["{kind}","7"]' for kind in ("a", "b", "ü")}
    assert await read.lines(made["orders"], ask(ORDERS, window="month", group_type="\\u0000' OR 1=1"), 100) == []


async def test_what_is_filled_is_bounded_and_shows_nothing_where_there_was_nothing(tables: Any) -> None:
    database, made = tables
    read = Reports(database)
    hours = await read.lines(made["orders"], ask(ORDERS, since=text(HOUR - 99 * 3600), fill="true"), 10_000)
    assert len(hours) == 100 * 6
    assert {line.values["count"] for line in hours} == {0, 2}
    (quiet,) = {str(line.values) for line in hours if not line.values["count"]}
    assert quiet == "{'count': 0, 'revenue': Decimal('0'), 'buyers': 0}"
    minutes = await read.lines(made["plain"], ask(PLAIN, since=text(HOUR - 3600), to=text(HOUR), fill="true"), 100)
    assert [line.values["count"] for line in minutes] == [12] + [0] * 59
    with pytest.raises(TooMany):
        await read.lines(made["orders"], ask(ORDERS, since=text(HOUR - 89 * 86400), fill="true"), 100)


async def test_days_of_a_zone_are_its_own(tables: Any) -> None:
    database, made = tables
    seoul = ZoneInfo("Asia/Seoul")
    found = await Reports(database).lines(
        made["orders"], ask(ORDERS, window="day", tz="Asia/Seoul", group_type="a"), 999
    )
    expected: dict[int, int] = {}
    for hour in range(100):
        if hour % 5:
            day = datetime.fromtimestamp(HOUR - 3600 * hour, seoul).replace(hour=0)
            expected[int(day.timestamp())] = expected.get(int(day.timestamp()), 0) + 4
    shown: dict[int, int] = {}
    for line in found:
        shown[line.start] = shown.get(line.start, 0) + line.values["count"]
    assert shown == expected


@pytest.mark.parametrize("size", [1, 3])
async def test_pages_go_on_from_the_group_as_it_is_stored(tables: Any, size: int) -> None:
    """Numbers that no double holds, a NUL, `true` beside 1: none is shown twice, and none is left out."""
    database, _ = tables
    sizes = [
        "0.1234567890123456712",
        "0.1234567890123456799",
        "1e30",
        "1.5e+30",
        "1",
        "true",
        "null",
        '"\\u0000"',
        '",("',
    ]
    async with database.connection() as connection, connection.transaction():
        made = Table(
            await begin(connection, msgspec.structs.replace(ORDERS, name=f"strange_{size}"), "serving"), ORDERS
        )
    plan = Plan([made])
    events = [Event(plan, HOUR, "a", msgspec.Raw(written.encode())) for written in sizes]
    times = np.full(len(events), HOUR, np.int64)
    added = add_up(plan, events, times, times, 0)
    async with database.connection() as connection, connection.transaction():
        await Adding(database).add(connection, {made.id: made}, {"ingest/0": added})
    read = Reports(database)
    for fill in ("false", "true"):
        found = await paged(read, made, ask(ORDERS, since=text(HOUR), to=text(HOUR + 1), fill=fill), size)
        groups = [line.group for line in found]
        assert groups == sorted(set(groups))
        assert len(groups) == len(sizes)
        assert {line.values["count"] for line in found} == {1}
    for written in (written for written in sizes if "u0000" not in written):
        for asked in ({"group_size": written.strip('"')}, {"group_size": written, "group_type": "a"}):
            (line,) = await read.lines(made, ask(ORDERS, since=text(HOUR), **asked), 9)
            assert line.values["count"] == 1
        view = View(ORDERS.windows[0].window, 1, ((1, spellings(written.strip('"'))),))
        seen = await Watching(database, None).rows(made, view, HOUR, 9)  # type: ignore[arg-type]
        assert {row.slot.group for row in seen} == {line.group}


async def test_sketches_are_bounded_by_what_they_come_to(tables: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    database, made = tables
    asked = ask(ORDERS, window="month")
    assert await Reports(database).lines(made["orders"], asked, 100)
    monkeypatch.setattr(selecting, "MOST_BYTES", 100)
    with pytest.raises(TooMany):
        await Reports(database).lines(made["orders"], asked, 100)
    with pytest.raises(TooMany):
        await Watching(database, None).rows(made["orders"], View(ORDERS.windows[0].window, 60), HOUR - 30 * 3600, 999)  # type: ignore[arg-type]
