"""`report` on a real database: for people, for scripts, and what it says when it is asked wrongly."""

import csv
import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest_asyncio
from pyarrow import parquet

from config import Settings
from domain.metrics import declared
from domain.tables import Plan, Table, add_up
from stores import migrations
from stores.analytics import Adding
from stores.metrics import begin
from stores.postgres import of
from tests.cli.harness import Finished, yeoul

HOUR = int(time.time()) // 3600 * 3600
Report = Callable[..., Finished]


@pytest_asyncio.fixture(loop_scope="session")
async def report(own_settings: Settings, tmp_path: Path, process_environ: dict[str, str]) -> Report:
    """Runs the command over a metric of two groups, one of whose names would turn a terminal red."""
    await migrations.apply(own_settings.postgres_url)
    given = {"orders": {"events": ["*"], "group_by": ["type"], "windows": {"hour": "90d", "day": "1y"}}}
    (metric,), _ = declared(given)
    database = of(own_settings, "tests")
    async with database.connection() as connection, connection.transaction():
        table = Table(await begin(connection, metric, "serving"), metric)
    events = [SimpleNamespace(type=kind) for kind in ("order.placed", "order.placed", "\x1b[31m")]
    times = np.full(len(events), HOUR, np.int64)
    added = add_up(Plan([table]), events, times, times, 0)
    async with database.connection() as connection, connection.transaction():
        await Adding(database).add(connection, {table.id: table}, {"ingest/0": added})
    await database.close()
    environ = {**process_environ, **own_settings.environ()}
    return lambda *arguments: yeoul(tmp_path / "state", environ, "report", *arguments)


async def test_what_was_counted_in_every_form(report: Report, tmp_path: Path) -> None:
    listed = report()
    assert (listed.code, "orders" in listed.out, "hour, day" in listed.out) == (0, True, True)
    assert json.loads(report("--format", "json").out)[0]["name"] == "orders"
    table = report("orders")
    assert table.code == 0
    assert table.out.splitlines()[0].split() == ["start", "type", "count"]
    assert "\x1b" not in table.out
    assert "�[31m" in table.out
    shown = json.loads(report("orders", "--format", "json", "--group", "type=order.placed", "--tz", "Asia/Seoul").out)
    assert [(line["group"], line["count"]) for line in shown] == [({"type": "order.placed"}, 2)]
    assert shown[0]["start"].endswith("+09:00")
    rows = list(csv.DictReader(io.StringIO(report("orders", "--window", "day", "--fill", "--format", "csv").out)))
    assert len(rows) == 60 * 2
    assert sum(int(row["count"]) for row in rows) == 3
    file = tmp_path / "out.parquet"
    assert report("orders", "--format", "parquet", "--output", str(file)).out == ""
    assert sum(parquet.read_table(file).column("count").to_pylist()) == 3


async def test_what_is_asked_wrongly_is_told_with_the_way_out(report: Report, tmp_path: Path) -> None:
    asked = report("orders", "--window", "year", "--tz", "Mars/North")
    assert (asked.code, asked.out) == (2, "")
    assert "--window must be one of hour, day" in asked.err
    assert "--tz must be one of" in asked.err
    asked = report("orders", "--group", "source=/shop")
    assert (asked.code, "it has type" in asked.err) == (2, True)
    asked = report("order")
    assert (asked.code, "there are: orders" in asked.err) == (1, True)
    asked = report("orders", "--output", str(tmp_path / "nowhere" / "out"))
    assert (asked.code, "--output" in asked.err) == (1, True)
    asked = report("orders", "--from", "2001-01-01", "--to", "2002-01-01")
    assert (asked.code, "nothing in this time" in asked.out) == (0, True)
