"""Pages of resources, each by reading a bounded number of rows.

A list is walked in its order by an index, LOOKED rows at most, until the page is full: quick where much of what is
walked is wanted. Where little is, all that the index of contents knows for the filters is gathered and sorted, if
that is no more than GATHERED. If it is more, the page ends early, with what was found and the place to go on from.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from domain.access import Actor, Role, may_read
from domain.resources import Resource
from domain.words import Term
from stores import vectors
from stores.narrowing import Condition, Filter, Narrowed, Statement
from stores.postgres import Database
from stores.resource_rows import READ, state_from

SORTABLE = ("created_at", "updated_at", "title", "kind", "status")
"""The columns by which a list may be sorted."""
IN_TURN = ("title", "kind", "status")
"""Those with many equal values: their index goes on with `created_at`, and so does their order."""
LOOKED = 1_000
GATHERED = 2_000
COUNTED = 10_000
"""How far is counted."""
_SHORT = "id, kind, title, visibility, status, owner_id, created_at, updated_at, deleted_at"

_KEPT = Condition("deleted_at IS NULL")
_DELETED = (Condition("deleted_at IS NOT NULL"), Condition("title <> ''"))
"""Deleted, and not erased: something is left of them."""

Sort = tuple[tuple[str, bool], ...]
Place = tuple[Any, ...]


class PageQuery(msgspec.Struct, frozen=True, kw_only=True):
    """A page of a list. `sort`: (column, descending) pairs; `after`: the place of the last one seen.

    `deleted`: of the deleted ones, the caller's own or all for an admin; they are sorted by `deleted_at` only.
    """

    limit: int
    visible_to: Actor
    sort: Sort = (("created_at", True),)
    filters: tuple[Filter, ...] = ()
    after: Place | None = None
    deleted: bool = False


class Page(msgspec.Struct, frozen=True):
    """What was found, `limit` at most, and the place to go on from; None if there is no more.

    A page may be short, and its place be there: then so many rows were looked at that it ended early.
    """

    items: list[Resource]
    place: Place | None


class Total(msgspec.Struct, frozen=True):
    """How many there are. Not `exact`: at least as many."""

    count: int
    exact: bool


def order(query: PageQuery) -> Sort:
    """The columns that a list is sorted by, each with whether it descends; the last one is `id`."""
    if query.deleted:
        ((column, descending),) = query.sort
        if column != "deleted_at":
            raise ValueError(column)
        return (("deleted_at", descending), ("id", descending))
    if not query.sort or any(column not in SORTABLE for column, _ in query.sort):
        raise ValueError(str(query.sort))
    sort = query.sort
    if sort[-1][0] in IN_TURN and all(column != "created_at" for column, _ in sort):
        sort += (("created_at", sort[-1][1]),)
    return (*sort, ("id", sort[-1][1]))


class Pages:
    """Lists of resources."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, query: PageQuery) -> Page:
        """A page. Raises StoresAway, ValueError for a column or a comparison that can't be used."""
        sort = order(query)
        rows, ended = await self._walk(query, sort)
        if ended is not None and not query.deleted:
            gathered = await self._gather(query, sort)
            if gathered is not None:
                rows, ended = gathered, None
        items = [state_from(row) for row in rows[: query.limit]]
        if len(rows) > query.limit:
            last = items[-1]
            return Page(items, tuple(getattr(last, column) for column, _ in sort))
        return Page(items, ended)

    async def total(self, query: PageQuery, terms: tuple[Term, ...] = ()) -> Total:
        """How many a list has over all its pages, counted up to COUNTED rows. Raises StoresAway."""
        asked = Narrowed(query.filters, query.visible_to, vectors.query(terms))
        statement = Statement()
        columns = _SHORT
        if query.deleted:
            scope, conditions = _deleted(query), asked.plain + asked.deep
        elif indexed := asked.indexed():
            scope, conditions = [_KEPT, *indexed], asked.plain + asked.scope
        else:
            scope, conditions = [_KEPT], asked.plain + asked.deep + asked.scope
        if not scope[1:] or query.deleted:
            columns += ", search, attributes"
        row = await self._database.fetchrow(
            f"SELECT count(*) AS looked, count(*) FILTER (WHERE {statement.all_of(conditions)}) AS found FROM (SELECT "
            f"{columns} FROM resources WHERE {statement.all_of(scope)} LIMIT {COUNTED + 1}) AS looked",
            *statement.arguments,
        )
        exact = row["looked"] <= COUNTED
        return Total(row["found"] if exact else min(row["found"], COUNTED), exact)

    async def _walk(self, query: PageQuery, sort: Sort) -> tuple[list[Any], Place | None]:
        """Rows in order, one more than the limit if there are; and where it ended before it knew of enough."""
        asked = Narrowed(query.filters, query.visible_to)
        conditions = asked.plain + asked.deep + asked.scope
        first = sort[0][0]
        if query.deleted:
            scope, conditions = _deleted(query), asked.plain + asked.deep
        else:
            lead = asked.lead() if first == "created_at" else None
            scope = [_KEPT, *asked.ranges.get(first, []), *([] if lead is None else [lead])]
            conditions = [condition for condition in conditions if condition not in scope]
        by = _by(sort)
        statement = Statement()
        walked = _walked(statement, scope, sort, query.after)
        if not conditions:
            rows = await self._database.fetch(
                f"SELECT {READ} {walked} LIMIT {statement.argument(query.limit + 1)}", *statement.arguments
            )
            return rows, None
        rows = await self._database.fetch(
            f"SELECT {READ} FROM (SELECT {READ}, search {walked} LIMIT {LOOKED}) AS walked "
            f"WHERE {statement.all_of(conditions)} ORDER BY {by} LIMIT {statement.argument(query.limit + 1)}",
            *statement.arguments,
        )
        if len(rows) > query.limit:
            return rows, None
        columns = ", ".join(column for column, _ in sort)
        statement = Statement()
        walked = _walked(statement, scope, sort, query.after)
        last = await self._database.fetchrow(
            f"SELECT {columns} {walked} LIMIT 1 OFFSET {LOOKED - 1}", *statement.arguments
        )
        return rows, None if last is None else tuple(last)

    async def _gather(self, query: PageQuery, sort: Sort) -> list[Any] | None:
        """All that the index knows for these filters, in order, one more than the limit; None if it is too much."""
        asked = Narrowed(query.filters, query.visible_to)
        indexed = asked.indexed()
        if not indexed:
            return None
        statement = Statement()
        matching = statement.all_of([_KEPT, *indexed])
        wanted = statement.all_of(asked.plain + asked.scope)
        if query.after is not None:
            wanted += f" AND {_beyond(sort, query.after, statement.argument)}"
        row = await self._database.fetchrow(
            f"WITH matching AS MATERIALIZED (SELECT {_SHORT} FROM resources WHERE {matching} LIMIT {GATHERED + 1}), "
            f"found AS (SELECT id FROM matching WHERE {wanted} ORDER BY {_by(sort)} "
            f"LIMIT {statement.argument(query.limit + 1)}) "
            "SELECT count(*) AS total, (SELECT array_agg(id) FROM found) AS ids FROM matching",
            *statement.arguments,
        )
        if row["total"] > GATHERED:
            return None
        rows = await self._database.fetch(
            f"SELECT {READ} FROM resources WHERE id = ANY($1::uuid[]) AND deleted_at IS NULL ORDER BY {_by(sort)}",
            row["ids"] or [],
        )
        # Still to be seen: they were found a moment ago.
        return [row for row in rows if may_read(query.visible_to, row["owner_id"], row["visibility"])]


def _by(sort: Sort) -> str:
    return ", ".join(f"{column}{' DESC' if descending else ''}" for column, descending in sort)


def _deleted(query: PageQuery) -> list[Condition]:
    """The deleted ones that the caller may restore."""
    actor = query.visible_to
    return [*_DELETED] if actor.role is Role.ADMIN else [*_DELETED, Condition("owner_id = {}", (actor.id,))]


def _walked(statement: Statement, scope: Sequence[Condition], sort: Sort, after: Place | None) -> str:
    """The rows of a walk, in order."""
    where = statement.all_of(scope)
    if after is not None:
        where += f" AND {_beyond(sort, after, statement.argument)}"
    return f"FROM resources WHERE {where} ORDER BY {_by(sort)}"


def _beyond(order: Sort, after: Place, argument: Any) -> str:
    """The rows after a place: with columns of one direction a row comparison, which an index can follow."""
    values = [argument(value) for value in after]
    if len({descending for _column, descending in order}) == 1:
        columns = ", ".join(column for column, _descending in order)
        return f"({columns}) {'<' if order[0][1] else '>'} ({', '.join(values)})"
    steps = []
    for i, (column, descending) in enumerate(order):
        equal = [f"{order[j][0]} = {values[j]}" for j in range(i)]
        steps.append(" AND ".join([*equal, f"{column} {'<' if descending else '>'} {values[i]}"]))
    column, descending = order[0]
    # The first part says nothing new; it is what an index can follow.
    return f"{column} {'<=' if descending else '>='} {values[0]} AND ({' OR '.join(f'({step})' for step in steps)})"
