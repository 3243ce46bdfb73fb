"""Reading the tables of the metrics."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice

import msgspec

from domain import reports, windows
from domain.local import Local
from domain.metrics import Metric
from domain.questions import MOST_LINES, Question
from domain.reports import Frame, Line, Part
from domain.tables import Table
from stores import selecting
from stores.analytics import DROPPED, WHOLE
from stores.leaves import HOURS
from stores.metrics import Metrics
from stores.postgres import Database
from stores.selecting import TooMany


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

    async def lines(
        self, table: Table, question: Question, most: int, after: tuple[int, str] | None = None
    ) -> list[Line]:
        """At most `most` of the lines that are asked for, in order, behind the one at `after` (its start and key).

        Raises StoresAway, TooMany.
        """
        if not question.fill:
            return await self._lines(table, question, most, after)
        found = await self._lines(table, question, MOST_LINES + 1, None)
        if len(found) > MOST_LINES:
            raise TooMany
        frame, since, until = question.frame, question.since, question.until
        windows_asked = len(list(islice(reports.starts(frame, since, until), MOST_LINES + 1)))
        if windows_asked * len({line.group for line in found} or {""}) > MOST_LINES:
            raise TooMany
        whole = reports.filled(table.metric, frame, found, since, until)
        if after is not None:
            whole = [line for line in whole if (line.start, line.group) > after]
        return whole[:most]

    async def _lines(self, table: Table, question: Question, most: int, after: tuple[int, str] | None) -> list[Line]:
        """The lines that there are, read by spans of time, which are shorter where there are many rows."""
        frame, found = question.frame, list[Line]()
        since = question.since if after is None else after[0]
        span = most * _length(frame)
        while since < question.until and len(found) < most:
            until = min(question.until, since + span)
            try:
                parts = await self.parts(table, frame, since, until, question.where)
            except TooMany:
                if span <= _length(frame):
                    raise
                span = max(span // 4, _length(frame))
                continue
            found += await asyncio.to_thread(_added_up, table.metric, frame, parts, since, until, after, most)
            since, span = until, span * 4
        return found[:most]

    async def parts(
        self, table: Table, frame: Frame, since: int, until: int, where: Mapping[int, Sequence[str]] | None = None
    ) -> list[Part]:
        """The panes of windows that begin from `since` to `until` (excluded), each as each feed has it.

        `where`: for a place in `group_by`, the JSON of the values wanted there. Raises StoresAway, TooMany.
        """
        rows = await selecting.rows(
            self._database, table, frame.pane, since, reports.reach(frame, until), where, selecting.MOST_ROWS
        )
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


def _added_up(
    metric: Metric,
    frame: Frame,
    parts: Sequence[Part],
    since: int,
    until: int,
    after: tuple[int, str] | None,
    most: int,
) -> list[Line]:
    cells = reports.gathered(frame, parts, since, until)
    chosen = sorted(cells if after is None else (place for place in cells if place > after))[:most]
    return reports.lines(metric, {place: cells[place] for place in chosen})


def _length(frame: Frame) -> int:
    """How far one window is from the next, seconds, at most."""
    step = frame.window.step if isinstance(frame, Local) else frame.step
    return 31 * windows.DAY if step == windows.MONTH else step


def _moment(second: int) -> datetime:
    return datetime.fromtimestamp(second, UTC)
