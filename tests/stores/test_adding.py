"""What batches add: the same however much of it is written at a time, and little to tell of very much."""

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import numpy as np
import pytest
import pytest_asyncio

from config import Settings
from domain.metrics import declared
from domain.tables import Plan, Slot, Table, add_up
from stores import analytics, migrations, totals
from stores.analytics import Adding
from stores.metrics import begin
from stores.postgres import Database, of
from stores.totals import Row, Totals

pytestmark = pytest.mark.asyncio(loop_scope="session")

AT = 1_800_000_000
(ORDERS,), _ = declared(
    {
        "orders": {
            "events": ["*"], "group_by": ["data.shop"], "windows": {"minute": "2d", "day": "9d"},
            "measures": {
                "pages": {"top": "data.page"}, "buyers": {"distinct": "subject"}, "size": {"percentiles": "data.total"},
                "revenue": {"sum": "data.total"},
            },
        },
    }
)  # fmt: skip


class Event:
    """What a plan reads of an event."""

    def __init__(self, plan: Plan, number: int) -> None:
        self.type, self.source, self.subject = "order.placed", "/shop", f"buyer-{number % 11}"
        written = {"shop": number % 7, "page": f"/{number % 13}", "total": number / 4}
        self.data = msgspec.json.decode(msgspec.json.encode(written), type=plan.data)


@pytest_asyncio.fixture(loop_scope="session")
async def database(own_settings: Settings) -> AsyncIterator[Database]:
    await migrations.apply(own_settings.postgres_url)
    database = of(own_settings, "tests")
    yield database
    await database.close()


async def test_sketches_are_written_some_at_a_time(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    found, told = [], []
    for name, at_a_time in (("whole", 1_000), ("pieces", 3)):
        monkeypatch.setattr(analytics, "MOST_SKETCHES", at_a_time)
        metric = msgspec.structs.replace(ORDERS, name=name)
        async with database.connection() as connection, connection.transaction():
            table = Table(await begin(connection, metric, "serving"), metric)
        plan, adding = Plan([table]), Adding(database)
        for batch in range(2):
            events = [Event(plan, number) for number in range(batch * 100, batch * 100 + 100)]
            times = np.full(100, AT, np.int64)
            added = add_up(plan, events, times, times, 0)
            async with database.connection() as connection, connection.transaction():
                new = await adding.add(connection, {table.id: table}, {"ingest/0": added})
        rows = await database.fetch(
            """SELECT pane, grp, measure, n, total, sketch FROM metric_minutes WHERE metric = $1 UNION ALL
               SELECT pane, grp, measure, n, total, sketch FROM metric_days WHERE metric = $1 ORDER BY 1, 2, 3""",
            table.id,
        )
        found.append([tuple(row) for row in rows])
        (of_metric,) = new.take().values()
        assert of_metric is not None
        told.append({(row.slot.pane, row.slot.group, row.measure, row.n, row.sketch) for row in of_metric})
    assert len(found[0]) > 2 * 7 * 5
    assert found[0] == found[1]
    assert told[0] == told[1]
    assert {(pane, group, measure, n, sketch) for pane, group, measure, n, _, sketch in found[0] if group} == told[0]


def _row(n: int, group: int = 0, metric: int = 1, sketch: bytes | None = None) -> Row:
    return Row(Slot(metric, 60, AT, f"[{group}]"), "count", "ingest/0", n, sketch=sketch)


async def test_of_too_many_totals_it_is_only_known_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting: Any = Totals([_row(1), _row(1, group=2)])
    waiting.merge(Totals([_row(2)]))
    assert waiting.take() == {1: [_row(2), _row(1, group=2)]}
    assert waiting.take() == {}
    monkeypatch.setattr(totals, "MOST_ROWS", 2)
    monkeypatch.setattr(totals, "MOST_BYTES", 10)
    many, large = Totals([_row(1, group) for group in range(3)]), Totals([_row(1, metric=2, sketch=b"x" * 11)])
    waiting.merge(many)
    waiting.merge(large)
    waiting.add([_row(9), _row(1, metric=3, sketch=b"x" * 9), _row(2, metric=3, sketch=b"y" * 9)])
    assert waiting.take() == {1: None, 2: None, 3: [_row(2, metric=3, sketch=b"y" * 9)]}


async def test_what_is_remembered_of_groups_is_bounded_by_their_length(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(analytics, "MOST_REMEMBERED", 10_000)
    metric = msgspec.structs.replace(ORDERS, name="long", group_by=("subject", "data.shop"), measures=())
    async with database.connection() as connection, connection.transaction():
        table = Table(await begin(connection, metric, "serving"), metric)
    plan, adding = Plan([table]), Adding(database)
    times = np.full(10, AT, np.int64)
    for batch in range(30):
        events = [Event(plan, number) for number in range(10)]
        for number, event in enumerate(events):
            event.subject = f"{batch % 15:02}{number}{'x' * 200}"
        added = add_up(plan, events, times, times, 0)
        async with database.connection() as connection, connection.transaction():
            await adding.add(connection, {table.id: table}, {"ingest/0": added})
        held = sum(len(group) for groups in adding._known.values() for group in groups)
        assert held < 10_000 + 10 * 2 * 206
    row = await database.fetchrow(
        "SELECT count(*) AS groups, sum(n)::int AS n FROM metric_days WHERE metric = $1 AND grp <> ''", table.id
    )
    assert tuple(row) == (150, 300)
