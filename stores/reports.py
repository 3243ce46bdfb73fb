"""Reading the tables of the metrics."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

from domain import windows
from domain.reports import Part
from domain.tables import Table
from domain.windows import Window
from stores.analytics import DROPPED, WHOLE
from stores.leaves import HOURS, table_of
from stores.metrics import Metrics
from stores.postgres import Database

MOST_ROWS = 200_000
"""Rows that one question may read."""


class TooMany(Exception):
    """More than MOST_ROWS rows: ask for a shorter time, a longer window, or one group."""


class Dropped(msgspec.Struct, frozen=True):
    """Events in no window of a metric, by the hour in which the log took them (seconds) and the reason."""

    start: int
    reason: str
    count: int


class Reports:
    """What people ask of the metrics."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._metrics = Metrics(database)

    async def tables(self) -> dict[str, Table]:
        """The tables that serve, by the names of their metrics. Raises StoresAway."""
        return {table.metric.name: table for table in await self._metrics.serving()}

    async def parts(
        self, table: Table, window: Window, since: int, until: int, where: Mapping[int, str] | None = None
    ) -> list[Part]:
        """The panes of windows that begin from `since` to `until` (excluded), each as each feed has it.

        `where`: for a place in `group_by`, the JSON of the one value wanted there. Raises StoresAway, TooMany.
        """
        last = until + (window.size - window.step if window.sliding else 0)
        arguments: list[Any] = [table.id, window.pane, _moment(since), _moment(last), MOST_ROWS + 1]
        conditions = ""
        for place, value in (where or {}).items():
            arguments += [place, value]
            conditions += f" AND (grp::json -> ${len(arguments) - 1}::int)::text = ${len(arguments)}"
        rows = await self._database.fetch(
            f"""SELECT start, grp, measure, n, total, low, high, sketch FROM {table_of(window.pane)}
                WHERE metric = $1 AND pane = $2 AND start >= $3 AND start < $4 AND grp <> ''{conditions} LIMIT $5""",
            *arguments,
        )
        if len(rows) > MOST_ROWS:
            raise TooMany
        return [
            Part(
                int(row["start"].timestamp()), row["grp"], row["measure"], row["n"], row["total"], row["low"],
                row["high"], row["sketch"],
            )
            for row in rows
        ]  # fmt: skip

    async def dropped(self, table: Table, since: int, until: int) -> list[Dropped]:
        """Events in no window, by hour and reason, in order. Raises StoresAway."""
        rows = await self._database.fetch(
            f"""SELECT start, measure, sum(n)::bigint AS count FROM {HOURS}
                WHERE metric = $1 AND pane = $2 AND start >= $3 AND start < $4 AND grp = $5 AND starts_with(measure, $6)
                GROUP BY start, measure ORDER BY start, measure""",
            table.id,
            windows.HOUR,
            _moment(since),
            _moment(until),
            WHOLE,
            DROPPED,
        )
        return [Dropped(int(r["start"].timestamp()), r["measure"].removeprefix(DROPPED), r["count"]) for r in rows]


def _moment(second: int) -> datetime:
    return datetime.fromtimestamp(second, UTC)
