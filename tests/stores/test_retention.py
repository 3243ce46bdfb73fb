"""What nobody keeps of the metrics is removed: old parts as a whole, rows of retired versions a few at a time."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio

from config import Settings
from config.metrics import parse
from domain import windows
from domain.measures import Numbers
from domain.metrics import COUNT, Metric
from domain.tables import Additions, Slot, Table
from stores import StoresAway, metrics, migrations, retention
from stores.analytics import Adding
from stores.leaves import DAYS, HOURS, MINUTES, Leaves
from stores.postgres import Database, of
from stores.retention import Retention, kept_from

pytestmark = pytest.mark.asyncio(loop_scope="session")

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
SHORT = 'windows = { minute = "2d", hour = "90d" }'
LONG = 'windows = { minute = "20d", day = "5y" }'


def metric(name: str, how: str) -> Metric:
    return parse(f'[metrics.{name}]\nevents = ["*"]\n{how}', "file")[0][0]


@pytest_asyncio.fixture(loop_scope="session")
async def database(own_settings: Settings) -> AsyncIterator[Database]:
    await migrations.apply(own_settings.postgres_url)
    database = of(own_settings, "tests", size=4)
    yield database
    await database.close()


async def count(database: Database, adding: Adding, table: Table, days: int, groups: int = 1) -> None:
    """Some events so many days ago, in every pane that the metric has."""
    at = int((NOW - timedelta(days=days)).timestamp())
    cells = {
        Slot(table.id, pane, windows.floor(pane, at), f"[{number}]"): {COUNT: Numbers(1)}
        for pane in table.metric.panes()
        for number in range(groups)
    }
    async with database.connection() as connection, connection.transaction():
        await adding.add(connection, {table.id: table}, {"ingest/0": Additions(at, cells)})


async def parts(database: Database) -> list[str]:
    leaves = Leaves(database)
    return [name for table in (MINUTES, HOURS, DAYS) for name, _ in await leaves.parts(table)]


async def rows_of(database: Database, id: int) -> int:
    found = 0
    for table in (MINUTES, HOURS, DAYS):
        row = await database.fetchrow(f"SELECT count(*) AS n FROM {table} WHERE metric = $1", id)
        found += row["n"]
    return found


async def test_a_part_goes_when_no_metric_keeps_anything_of_it(database: Database) -> None:
    (table,) = (await metrics.Metrics(database).register([metric("short", SHORT)])).tables
    adding = Adding(database)
    for days in (0, 1, 2, 3, 4, 60, 120, 200):
        await count(database, adding, table, days)
    dropped = await Retention(database).sweep(NOW)
    # 2 days and a minute back is the 23rd at noon: that day is kept as a whole. 90 days and an hour back is in August.
    assert sorted(dropped) == [
        "metric_hours_202605", "metric_hours_202607", *(
            f"metric_minutes_{(NOW - timedelta(days=days)):%Y%m%d}" for days in (200, 120, 60, 4, 3)
        )
    ]  # fmt: skip
    assert await parts(database) == [
        "metric_minutes_20261123", "metric_minutes_20261124", "metric_minutes_20261125", "metric_hours_202609",
        "metric_hours_202611",
    ]  # fmt: skip
    assert await Retention(database).sweep(NOW) == []


async def test_what_is_being_built_keeps_too(database: Database) -> None:
    versions = metrics.Metrics(database)
    (table,) = (await versions.register([metric("short", SHORT)])).tables
    await versions.build(metric("short", LONG), anew=False)
    await count(database, Adding(database), table, 10)
    assert await Retention(database).sweep(NOW) == []


async def test_kept_from_looks_at_every_window() -> None:
    both = kept_from([metric("short", SHORT), metric("long", LONG)], NOW)
    assert both[MINUTES] == NOW - timedelta(days=20, minutes=1)
    assert both[HOURS] == NOW - timedelta(days=90, hours=1)
    assert both[DAYS] == NOW - timedelta(days=5 * 365 + 1)


async def test_a_part_that_is_in_use_stays_until_the_next_round(database: Database) -> None:
    (table,) = (await metrics.Metrics(database).register([metric("short", SHORT)])).tables
    await count(database, Adding(database), table, 4)
    async with database.connection() as connection, connection.transaction():
        await connection.execute(f"LOCK TABLE {MINUTES} IN ROW EXCLUSIVE MODE")  # as a batch that is being written
        assert await Retention(database).sweep(NOW) == []
    assert await Retention(database).sweep(NOW) == ["metric_minutes_20261121"]


async def test_two_workers_at_once(database: Database) -> None:
    (table,) = (await metrics.Metrics(database).register([metric("short", SHORT)])).tables
    adding = Adding(database)
    for days in range(10):
        await count(database, adding, table, days)
    both = await asyncio.gather(Retention(database).sweep(NOW), Retention(database).sweep(NOW))
    rest = await Retention(database).sweep(NOW)
    dropped = sorted([*both[0], *both[1], *rest])
    assert dropped == [f"metric_minutes_{(NOW - timedelta(days=days)):%Y%m%d}" for days in range(9, 2, -1)]


async def test_who_knew_a_part_that_another_dropped_makes_it_again(database: Database) -> None:
    (table,) = (await metrics.Metrics(database).register([metric("short", SHORT)])).tables
    adding = Adding(database)
    await count(database, adding, table, 4)
    await Retention(database).sweep(NOW)
    with pytest.raises(StoresAway, match="was dropped just now"):
        await count(database, adding, table, 4)
    await count(database, adding, table, 4)
    assert "metric_minutes_20261121" in await parts(database)


async def test_the_rows_of_retired_versions_go_in_pieces(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention, "MOST_ROWS", 7)
    versions = metrics.Metrics(database)
    first = (await versions.register([metric("one", SHORT), metric("two", SHORT)])).tables
    adding = Adding(database)
    for table in first:
        await count(database, adding, table, 1, groups=30)
    await versions.register([metric("two", SHORT)])
    one, two = (table.id for table in first)
    await Retention(database).sweep(NOW)
    assert (await rows_of(database, one), await rows_of(database, two) > 60) == (0, True)
    # The number of the newest version is not given twice; older ones are forgotten.
    back = (await versions.register([metric("one", SHORT), metric("two", SHORT)])).tables
    assert back[0].id != one
    assert [(found.metric.name, found.version) for found in await versions.versions()] == [
        ("one", 1), ("one", 2), ("two", 1)
    ]  # fmt: skip
    await Retention(database).sweep(NOW)
    assert [(found.metric.name, found.version) for found in await versions.versions()] == [("one", 2), ("two", 1)]


async def test_what_a_metric_keeps_no_longer_goes_from_a_part_that_another_keeps(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "MOST_ROWS", 7)
    both = await metrics.Metrics(database).register([metric("short", SHORT), metric("long", LONG)])
    adding = Adding(database)
    for table in both.tables:
        for days in (0, 1, 4, 10, 30):
            await count(database, adding, table, days, groups=20)
    long, short = both.tables
    left_out = Additions(0, {}, Counter({(short.id, "late", int((NOW - timedelta(days=80)).timestamp())): 3}))
    async with database.connection() as connection, connection.transaction():
        await adding.add(connection, {short.id: short}, {"ingest/0": left_out})
    await Retention(database).sweep(NOW)
    found = await database.fetch(
        "SELECT metric, start::date AS day, sum(n)::int AS n FROM metric_minutes WHERE grp <> '' GROUP BY 1, 2"
    )
    assert {(row["metric"], (NOW.date() - row["day"]).days): row["n"] for row in found} == {
        (short.id, 0): 20, (short.id, 1): 20, (long.id, 0): 20, (long.id, 1): 20, (long.id, 4): 20, (long.id, 10): 20,
    }  # fmt: skip
    row = await database.fetchrow("SELECT n FROM metric_hours WHERE starts_with(measure, '#dropped.')")
    assert row["n"] == 3
