"""The rows of a metric's panes: those of a span of time and of some groups, and never more than a process can hold."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import product
from typing import Any

from domain.metrics import SKETCHED
from domain.tables import Table
from stores.leaves import table_of
from stores.postgres import Database, away_is_known

MOST_ROWS = 200_000
"""Rows that are read at once."""
MOST_SKETCHES = 50_000
"""The same where some of them have sketches, which are kilobytes each."""
MOST_BYTES = 64 * 1024 * 1024
"""What those sketches may come to: strangers fill them."""
AT_A_TIME = 250
"""Rows with sketches that are fetched at a time."""
_ANY = r'"([^"\\]|\\.)*"|[^",]*'
"""A value in a group: a text, or something else that is no list and no object."""
_META = re.compile(r"[\\.^$*+?()\[\]{}|]")


class TooMany(Exception):
    """The answer would be too large: ask for less time, a longer window, or one group."""


async def rows(
    database: Database,
    table: Table,
    pane: int,
    since: int,
    until: int | None = None,
    where: Mapping[int, Sequence[str]] | None = None,
    most: int = MOST_ROWS,
) -> list[Any]:
    """The rows of panes that begin from `since` (included) to `until` (excluded), seconds; without an end if None.

    `where`: for a place in `group_by`, the JSON of the values wanted there. Raises StoresAway, TooMany.
    """
    sketched = any(measure.kind in SKETCHED for measure in table.metric.measures)
    most = min(most, MOST_SKETCHES) if sketched else most
    arguments: list[Any] = [table.id, pane, datetime.fromtimestamp(since, UTC), most + 1]
    condition = ""
    if until is not None:
        arguments.append(datetime.fromtimestamp(until, UTC))
        condition = f" AND start < ${len(arguments)}"
    condition += _of_groups(table, where or {}, arguments)
    query = f"""SELECT start, grp, measure, feed, n, total, low, high, sketch FROM {table_of(pane)}
                WHERE metric = $1 AND pane = $2 AND start >= $3 AND grp <> ''{condition} LIMIT $4"""
    found = await (_by_bytes(database, query, arguments) if sketched else database.fetch(query, *arguments))
    if len(found) > most:
        raise TooMany
    return found


def _of_groups(table: Table, where: Mapping[int, Sequence[str]], arguments: list[Any]) -> str:
    if not where:
        return ""
    if where.keys() == set(range(len(table.metric.group_by))):
        # Whole groups: the index knows them.
        arguments.append([f"[{','.join(values)}]" for values in product(*(where[place] for place in sorted(where)))])
        return f""" AND grp = ANY(${len(arguments)}::text[] COLLATE "C")"""
    # By its text: PostgreSQL's functions for JSON fail of a value with a NUL, and with it everybody's question.
    patterns = [
        "|".join(_META.sub(r"\\\g<0>", value) for value in where[place]) if place in where else _ANY
        for place in range(len(table.metric.group_by))
    ]
    arguments.append(rf"^\[({'),('.join(patterns)})\]$")
    return f" AND grp ~ ${len(arguments)}"


async def _by_bytes(database: Database, query: str, arguments: Sequence[Any]) -> list[Any]:
    found: list[Any] = []
    size = 0
    async with database.connection() as connection, connection.transaction(readonly=True):
        with away_is_known():
            async for row in connection.cursor(query, *arguments, prefetch=AT_A_TIME):
                found.append(row)
                size += len(row["sketch"] or b"")
                if size > MOST_BYTES:
                    raise TooMany
    return found
