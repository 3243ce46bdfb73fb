"""What of the metrics is kept no longer: whole parts of their tables, and the rows of versions that serve no more.

Any worker may do it, at any time, and several at once: each piece is a short transaction that one of them does.
"""

import logging
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg

from domain import windows
from domain.metrics import Metric
from stores.analytics import DROPPED
from stores.leaves import HOURS, TABLES, Leaves, part_of, table_of
from stores.metrics import Metrics, Version
from stores.postgres import Database, away_is_known

log = logging.getLogger("yeoul.stores.retention")

DROPPED_KEPT = 90 * windows.DAY
"""How long it is known which events were in no window, seconds; it stands in the table of hours."""
MOST_ROWS = 5000
"""Rows that are removed at a time."""
_LOCK = 7_305_513
_OLD = f"metric = $1 AND pane = $2 AND start < $3 AND NOT starts_with(measure, '{DROPPED}')"


def kept_after(pane: int, keep: int) -> int:
    """How long a pane is kept after its beginning, seconds: `keep` counts from its end on."""
    return keep + (31 * windows.DAY if pane == windows.MONTH else pane)


def kept_from(metrics: Iterable[Metric], now: datetime) -> dict[str, datetime]:
    """By table: the time before which none of these metrics keeps anything."""
    longest = dict.fromkeys(TABLES, 0) | {HOURS: DROPPED_KEPT}
    for metric in metrics:
        for pane, keep in metric.panes().items():
            table = table_of(pane)
            longest[table] = max(longest[table], kept_after(pane, keep))
    return {table: now - timedelta(seconds=seconds) for table, seconds in longest.items()}


class Retention:
    """Removes what nobody keeps."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._metrics = Metrics(database)
        self._leaves = Leaves(database)

    async def sweep(self, now: datetime | None = None) -> list[str]:
        """Drop the parts that are kept no longer, remove old rows from others and what is left of retired versions.

        Returns the dropped parts.

        Raises StoresAway.
        """
        versions = await self._metrics.versions()
        dropped = await self._leaves.drop(
            kept_from((found.metric for found in versions if found.state != "retired"), now or datetime.now(UTC))
        )
        for found in versions:
            if found.state != "retired":
                await self._forget_old(found, now or datetime.now(UTC))
        newest = {found.metric.name: found.version for found in versions}
        for found in versions:
            if found.state == "retired" and await self._empty(found.id) and found.version < newest[found.metric.name]:
                # The newest stays as a row, so that no number is given twice.
                await self._database.execute("DELETE FROM metrics WHERE id = $1 AND state = 'retired'", found.id)
        return dropped

    async def _empty(self, version: int) -> bool:
        """Remove the rows of a version, some at a time; False if another worker is at it."""
        for table in TABLES:
            for part, _until in await self._leaves.parts(table):
                if not await self._rows(part, "metric = $1", version):
                    return False
        return True

    async def _forget_old(self, version: Version, now: datetime) -> None:
        """Remove the rows that this metric keeps no longer from parts that another one still keeps."""
        for pane, keep in version.metric.panes().items():
            table = table_of(pane)
            before = now - timedelta(seconds=kept_after(pane, keep))
            while True:
                row = await self._database.fetchrow(
                    f"SELECT start FROM {table} WHERE {_OLD} ORDER BY start LIMIT 1", version.id, pane, before
                )
                if row is None or not await self._rows(part_of(table, row["start"]), _OLD, version.id, pane, before):
                    break

    async def _rows(self, part: str, which: str, *arguments: Any) -> bool:
        """Remove these rows of a part, some at a time; False if another worker is at it."""
        removed: int | None = MOST_ROWS
        while removed == MOST_ROWS:
            removed = await self._piece(part, which, *arguments)
        return removed is not None

    async def _piece(self, part: str, which: str, *arguments: Any) -> int | None:
        """How many rows of a part it removed; None if another worker is at it."""
        async with self._database.connection() as connection, connection.transaction():
            with away_is_known():
                if not await connection.fetchval("SELECT pg_try_advisory_xact_lock($1)", _LOCK):
                    return None
                try:
                    async with connection.transaction():
                        status: str = await connection.execute(
                            f"DELETE FROM {part} WHERE ctid = ANY(ARRAY("
                            f"SELECT ctid FROM {part} WHERE {which} LIMIT {MOST_ROWS}))",
                            *arguments,
                        )
                except asyncpg.UndefinedTableError:
                    return 0  # dropped meanwhile
        return int(status.rpartition(" ")[2])
