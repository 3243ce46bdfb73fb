"""The rows of the metrics: a batch's additions in, totals out; and what people ask for.

A row is a (version, pane, start, group, measure, feed). The feed is a partition of events: it has one writer at a time,
whom the fence of the progress makes sure of, so nobody waits for a row and what is read before it is written again
(groups, sketches) stays true until the commit.
"""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg

from domain import sketches, windows
from domain.measures import Numbers, joined
from domain.metrics import COUNT, Kind
from domain.tables import Additions, Slot, Table, admitted
from stores.leaves import TABLES, Leaves, table_of
from stores.postgres import Database, StoresAway, away_is_known
from stores.totals import Row, Totals

MOST_REMEMBERED = 128 * 1024 * 1024
"""Bytes that the groups take which a process remembers to be there, about; the next batch begins anew."""
GROUP_BYTES = 128
"""What a group takes besides its text."""
MOST_SKETCHES = 1_000
"""Sketches that are read and written at a time, tens of kilobytes each at most."""
WHOLE = ""
"""The group of what is counted of a window itself."""
GROUPS = "#groups"
"""The measure that tells how many groups a window has in a feed."""
DROPPED = "#dropped."
"""Begins the measures of events that are in no window, by reason; they stand in the hour in which the log took them."""


async def watermarks(
    connection: Any, group: str, latest: Sequence[tuple[UUID, int, int]]
) -> dict[tuple[UUID, int], int]:
    """Raise the watermarks of partitions (topic id, partition, seconds); returns what they were before, 0 for none."""
    with away_is_known():
        rows = await connection.fetch(
            """WITH new AS (
                   SELECT * FROM unnest($2::uuid[], $3::int[], $4::bigint[]) AS n(topic_id, partition, at)
               ), old AS (
                   SELECT w.topic_id, w.partition, w.at FROM metric_watermarks w JOIN new USING (topic_id, partition)
                   WHERE w.consumer_group = $1
               ), raised AS (
                   INSERT INTO metric_watermarks (consumer_group, topic_id, partition, at)
                   SELECT $1, topic_id, partition, at FROM new
                   ON CONFLICT (consumer_group, topic_id, partition)
                   DO UPDATE SET at = greatest(metric_watermarks.at, excluded.at)
               )
               SELECT * FROM old""",
            group,
            [topic_id for topic_id, _, _ in latest],
            [partition for _, partition, _ in latest],
            [at for _, _, at in latest],
        )
    return {(row["topic_id"], row["partition"]): row["at"] for row in rows}


async def forget_watermarks(connection: Any, group: str) -> None:
    """The group has seen nothing. Raises StoresAway."""
    with away_is_known():
        await connection.execute("DELETE FROM metric_watermarks WHERE consumer_group = $1", group)


class Adding:
    """Writes what batches add. One for each group; it remembers only what it has read as committed."""

    def __init__(self, database: Database) -> None:
        self._leaves = Leaves(database)
        self._known: dict[tuple[str, int, int, int], set[str]] = {}
        self._remembered = 0

    async def add(self, connection: Any, tables: Mapping[int, Table], added: Mapping[str, Additions]) -> Totals:
        """Add what each feed has, in the caller's transaction; returns the new totals. Raises StoresAway."""
        if self._remembered > MOST_REMEMBERED:
            # Here and nowhere else: in the middle, groups of this batch would be taken for new ones.
            self._known.clear()
            self._remembered = 0
        cells: list[tuple[Slot, str, str, Numbers]] = []
        places = {(slot.pane, slot.start) for additions in added.values() for slot in additions.cells}
        dropped = _dropped(added)
        places |= {(windows.HOUR, slot.start) for slot, _, _, _ in dropped}
        await self._leaves.ensure(places)
        for feed, additions in added.items():
            homes, counters = await self._room(connection, tables, feed, additions)
            cells += counters
            cells += _gathered(tables, feed, additions, homes)
        cells += dropped
        # In one order, so that two transactions can't wait for each other in a circle.
        cells.sort(key=lambda cell: (cell[0].metric, cell[0].pane, cell[0].start, cell[0].group, *cell[1:3]))
        totals = Totals()
        for table in TABLES:
            for piece in _pieces([cell for cell in cells if table_of(cell[0].pane) == table]):
                await _with_sketches(connection, tables, table, piece)
                try:
                    rows = await _upsert(connection, table, piece)
                except asyncpg.CheckViolationError as error:
                    # No part of the table takes a row: another worker dropped one that this one knew.
                    self._leaves.forget()
                    raise StoresAway(f"a part of {table} was dropped just now: {error}") from error
                totals.add(row for row in rows if row.slot.group != WHOLE)
        return totals

    async def _room(
        self, connection: Any, tables: Mapping[int, Table], feed: str, additions: Additions
    ) -> tuple[dict[Slot, str], list[tuple[Slot, str, str, Numbers]]]:
        """Where each slot's group goes, and the counters of groups that rise."""
        wanted: dict[tuple[int, int, int], list[str]] = {}
        for slot in additions.cells:
            wanted.setdefault((slot.metric, slot.pane, slot.start), []).append(slot.group)
        unknown = [
            (window, group)
            for window, groups in wanted.items()
            for group in groups
            if group not in self._known.get((feed, *window), ())
        ]
        there = await self._look(connection, feed, unknown) if unknown else {}
        homes: dict[Slot, str] = {}
        counters = []
        for window, groups in wanted.items():
            known = self._known.get((feed, *window), set())
            if window not in there and all(group in known for group in groups):
                continue
            before = there.get(window, 0)
            most = tables[window[0]].metric.groups
            places = admitted(groups, known, before, most)
            risen = sum(home == group and group not in known for group, home in places.items())
            # An event may be of the group that stands for all others, which takes nobody's room.
            risen = min(risen, max(most - before, 0))
            if risen:
                counters.append((Slot(*window, WHOLE), GROUPS, feed, Numbers(risen)))
            homes |= {Slot(*window, group): home for group, home in places.items() if home != group}
        return homes, counters

    async def _look(
        self, connection: Any, feed: str, unknown: Sequence[tuple[tuple[int, int, int], str]]
    ) -> dict[tuple[int, int, int], int]:
        """Read which of these groups are there, and how many there are in their windows."""
        there: dict[tuple[int, int, int], int] = {}
        asked = [*unknown, *((window, WHOLE) for window in {window for window, _ in unknown})]
        for table in TABLES:
            of_table = [(window, group) for window, group in asked if table_of(window[1]) == table]
            if not of_table:
                continue
            with away_is_known():
                rows = await connection.fetch(
                    f"""SELECT t.metric, t.pane, t.start, t.grp, t.n FROM unnest(
                            $1::int[], $2::int[], $3::timestamptz[], $4::text[]) AS a(metric, pane, start, grp)
                        JOIN {table} t ON t.metric = a.metric AND t.pane = a.pane AND t.start = a.start
                            AND t.grp = a.grp COLLATE "C" AND t.feed = $5
                            AND t.measure = CASE WHEN a.grp = '' THEN '{GROUPS}' ELSE '{COUNT}' END COLLATE "C" """,
                    [window[0] for window, _ in of_table],
                    [window[1] for window, _ in of_table],
                    [_moment(window[2]) for window, _ in of_table],
                    [group for _, group in of_table],
                    feed,
                )
            for row in rows:
                window = (row["metric"], row["pane"], _second(row["start"]))
                if row["grp"] == WHOLE:
                    there[window] = row["n"]
                else:
                    self._remember((feed, *window), row["grp"])
        return {window: there.get(window, 0) for window, _ in unknown}

    def _remember(self, window: tuple[str, int, int, int], group: str) -> None:
        self._known.setdefault(window, set()).add(group)
        self._remembered += GROUP_BYTES + len(group)


def _dropped(added: Mapping[str, Additions]) -> list[tuple[Slot, str, str, Numbers]]:
    counted: dict[tuple[Slot, str, str], Numbers] = {}
    for feed, additions in added.items():
        for (metric, reason, at), n in additions.dropped.items():
            slot = Slot(metric, windows.HOUR, windows.floor(windows.HOUR, at), WHOLE)
            counted.setdefault((slot, DROPPED + reason, feed), Numbers()).n += n
    return [(*key, numbers) for key, numbers in counted.items()]


def _gathered(
    tables: Mapping[int, Table], feed: str, additions: Additions, homes: Mapping[Slot, str]
) -> list[tuple[Slot, str, str, Numbers]]:
    """The cells, those without room joined in the group that stands for all others."""
    kinds = {id: {m.name: m.kind for m in table.metric.all_measures} for id, table in tables.items()}
    found: dict[tuple[Slot, str], Numbers] = {}
    for slot, cell in additions.cells.items():
        if slot in homes:
            slot = Slot(slot.metric, slot.pane, slot.start, homes[slot])  # noqa: PLW2901 - its home
        for measure, numbers in cell.items():
            before = found.get((slot, measure))
            if before is None:
                found[slot, measure] = numbers
            elif measure == COUNT:
                found[slot, measure] = Numbers(before.n + numbers.n)
            else:
                found[slot, measure] = joined(kinds[slot.metric][measure], before, numbers)
    return [(slot, measure, feed, numbers) for (slot, measure), numbers in found.items()]


def _pieces(cells: list[tuple[Slot, str, str, Numbers]]) -> Iterator[list[tuple[Slot, str, str, Numbers]]]:
    """All at once, but for so many sketches that the whole of them, read and written again, would fill the memory."""
    begin = sketched = 0
    for at, cell in enumerate(cells):
        sketched += cell[3].sketch is not None or cell[3].top is not None
        if sketched == MOST_SKETCHES:
            yield cells[begin : at + 1]
            begin, sketched = at + 1, 0
    if begin < len(cells):
        yield cells[begin:]


async def _with_sketches(
    connection: Any, tables: Mapping[int, Table], table: str, cells: Sequence[tuple[Slot, str, str, Numbers]]
) -> None:
    """Turn the sketches of what is added into those of the whole."""
    kinds = {(id, m.name): m.kind for id, table in tables.items() for m in table.metric.measures}
    sketched = [cell for cell in cells if cell[3].sketch is not None or cell[3].top is not None]
    if not sketched:
        return
    with away_is_known():
        rows = await connection.fetch(
            f"""SELECT a.at, t.sketch FROM unnest($1::int[], $2::int[], $3::timestamptz[], $4::text[], $5::text[],
                    $6::text[]) WITH ORDINALITY AS a(metric, pane, start, grp, measure, feed, at)
                JOIN {table} t ON t.metric = a.metric AND t.pane = a.pane AND t.start = a.start
                    AND t.grp = a.grp COLLATE "C" AND t.measure = a.measure COLLATE "C"
                    AND t.feed = a.feed COLLATE "C" """,
            *_keys(sketched),
        )
    before: dict[int, bytes | None] = {row["at"] - 1: row["sketch"] for row in rows}
    for at, (slot, measure, _, numbers) in enumerate(sketched):
        old, kind = before.get(at), kinds[slot.metric, measure]
        if kind is Kind.TOP:
            numbers.sketch = sketches.top(numbers.top or {}, old)
        elif old is not None and numbers.sketch is not None:
            merge = sketches.merge_distinct if kind is Kind.DISTINCT else sketches.merge_percentiles
            numbers.sketch = merge([old, numbers.sketch])


def _keys(cells: Sequence[tuple[Slot, str, str, Numbers]]) -> list[list[Any]]:
    return [
        [slot.metric for slot, _, _, _ in cells],
        [slot.pane for slot, _, _, _ in cells],
        [_moment(slot.start) for slot, _, _, _ in cells],
        [slot.group for slot, _, _, _ in cells],
        [measure for _, measure, _, _ in cells],
        [feed for _, _, feed, _ in cells],
    ]


async def _upsert(connection: Any, table: str, ordered: Sequence[tuple[Slot, str, str, Numbers]]) -> list[Row]:
    with away_is_known():
        rows = await connection.fetch(
            f"""INSERT INTO {table} AS t (metric, pane, start, grp, measure, feed, n, total, low, high, sketch)
                SELECT * FROM unnest($1::int[], $2::int[], $3::timestamptz[], $4::text[], $5::text[], $6::text[],
                    $7::bigint[], $8::numeric[], $9::numeric[], $10::numeric[], $11::bytea[])
                ON CONFLICT (metric, pane, start, grp, measure, feed) DO UPDATE SET n = t.n + excluded.n,
                    total = CASE WHEN t.total IS NULL THEN excluded.total
                        WHEN excluded.total IS NULL THEN t.total ELSE t.total + excluded.total END,
                    low = least(t.low, excluded.low), high = greatest(t.high, excluded.high),
                    sketch = coalesce(excluded.sketch, t.sketch)
                RETURNING metric, pane, start, grp, measure, feed, n, total, low, high, sketch""",
            *_keys(ordered),
            [numbers.n for *_, numbers in ordered],
            [numbers.total for *_, numbers in ordered],
            [numbers.low for *_, numbers in ordered],
            [numbers.high for *_, numbers in ordered],
            [numbers.sketch for *_, numbers in ordered],
        )
    for *_, numbers in ordered:
        numbers.sketch = numbers.top = None  # written: what it takes is free for the next piece
    return [
        Row(
            Slot(row["metric"], row["pane"], _second(row["start"]), row["grp"]), row["measure"], row["feed"], row["n"],
            row["total"], row["low"], row["high"], row["sketch"],
        )
        for row in rows
    ]  # fmt: skip


def _moment(second: int) -> datetime:
    return datetime.fromtimestamp(second, UTC)


def _second(moment: datetime) -> int:
    return int(moment.timestamp())
