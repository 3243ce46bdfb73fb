"""The parts of the metrics' tables, each for a span of time: made when they are needed, dropped when nobody keeps them.

A part is made beside its table and attached then, which waits for nobody who writes to another part.
"""

import logging
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from domain import windows
from stores.postgres import Database, away_is_known

log = logging.getLogger("yeoul.stores.leaves")

MINUTES, HOURS, DAYS = "metric_minutes", "metric_hours", "metric_days"
TABLES = (MINUTES, HOURS, DAYS)
DROP_WAITS = "200ms"
_LOCK = 7_305_512
_FORMS = {MINUTES: "%Y%m%d", HOURS: "%Y%m", DAYS: "%Y"}


def table_of(pane: int) -> str:
    """Where panes of this length are kept."""
    if pane == windows.MONTH or pane >= windows.DAY:
        return DAYS
    return MINUTES if pane < windows.HOUR else HOURS


def _span(table: str, moment: datetime) -> tuple[datetime, datetime]:
    """The span of the part that `moment` belongs to: a day, a month, or a year."""
    day = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    if table == MINUTES:
        return day, day + timedelta(days=1)
    first = day.replace(day=1) if table == HOURS else day.replace(month=1, day=1)
    over = first + timedelta(days=32 if table == HOURS else 367)
    return first, over.replace(day=1) if table == HOURS else over.replace(month=1, day=1)


def part_of(table: str, moment: datetime) -> str:
    """The name of the part that `moment` (UTC) belongs to."""
    return f"{table}_{_span(table, moment)[0]:{_FORMS[table]}}"


class Leaves:
    """Which parts there are, as far as this process knows."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: set[str] = set()

    async def ensure(self, places: Iterable[tuple[int, int]]) -> None:
        """Make the parts for these panes (length, beginning in seconds) that are missing. Raises StoresAway."""
        wanted: dict[str, tuple[str, datetime, datetime]] = {}
        for pane, start in places:
            table = table_of(pane)
            since, until = _span(table, datetime.fromtimestamp(start, UTC))
            name = part_of(table, since)
            if name not in self._known:
                wanted[name] = (table, since, until)
        for name, (table, since, until) in sorted(wanted.items()):
            await self._make(name, table, since, until)
            self._known.add(name)

    async def _make(self, name: str, table: str, since: datetime, until: datetime) -> None:
        async with self._database.connection() as connection, connection.transaction():
            with away_is_known():
                await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
                if await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", name):
                    return
                await connection.execute(f"CREATE TABLE {name} (LIKE {table} INCLUDING ALL) WITH (fillfactor = 70)")
                await connection.execute(
                    f"ALTER TABLE {table} ATTACH PARTITION {name} "
                    f"FOR VALUES FROM ('{since.isoformat()}') TO ('{until.isoformat()}')"
                )
                log.info("made %s", name)

    def forget(self) -> None:
        """What was known may be dropped by now: look again."""
        self._known.clear()

    async def drop(self, before: Mapping[str, datetime]) -> list[str]:
        """Drop the parts that end before these moments, by table; returns their names. Raises StoresAway.

        A part that somebody is busy with for longer than DROP_WAITS stays until the next round, as does everything
        while another worker is at it.
        """
        dropped = []
        for table, moment in before.items():
            for name, until in await self.parts(table):
                if until <= moment and await self._drop(name):
                    self._known.discard(name)
                    dropped.append(name)
        return dropped

    async def _drop(self, name: str) -> bool:
        async with self._database.connection() as connection, connection.transaction():
            with away_is_known():
                if not await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", _LOCK):
                    return False
                if not await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", name):
                    return False  # another worker did it just now
                # The whole table is locked for a moment, and whoever comes behind us waits as long as we do.
                await connection.execute(f"SET LOCAL lock_timeout = '{DROP_WAITS}'")
                try:
                    async with connection.transaction():
                        await connection.execute(f"DROP TABLE {name}")
                except asyncpg.LockNotAvailableError:
                    log.info("%s is in use; it is dropped a little later", name)
                    return False
                log.info("dropped %s: nobody keeps anything of it", name)
                return True

    async def parts(self, table: str) -> list[tuple[str, datetime]]:
        """The parts that a table has, each with the end of its time. Raises StoresAway."""
        rows: list[Any] = await self._database.fetch(
            "SELECT c.relname AS name FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
            "WHERE i.inhparent = $1::text::regclass ORDER BY 1",
            table,
        )
        found = []
        for row in rows:
            written = row["name"].removeprefix(f"{table}_")
            since = datetime.strptime(written, _FORMS[table]).replace(tzinfo=UTC)
            found.append((row["name"], _span(table, since)[1]))
        return found
