"""Resources: their table, pages of them, and single ones through the cache."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import msgspec

from domain.access import Actor, Role, Visibility
from domain.resources import Resource, document
from domain.text import Slug
from stores.aggregates import Column, Table
from stores.cache import ABSENT_LIFE_S, DIGITS, Cache, entry
from stores.loader import Loader
from stores.postgres import Database

_to_json = msgspec.json.Encoder().encode
_COLUMNS = (
    "id uuid, kind text, title text, body text, tags json, attributes json, visibility text, status text, "
    "owner_id uuid, version bigint, created_at timestamptz, updated_at timestamptz, deleted_at timestamptz"
)
_VISIBILITY = {value.value: value for value in Visibility}


def _row(state: Resource) -> tuple[Any, ...]:
    return (
        state.id, state.kind, state.title, state.body, _to_json(state.tags).decode(),
        _to_json(state.attributes).decode(), state.visibility.value, state.status, state.owner_id, state.version,
        state.created_at, state.updated_at, state.deleted_at,
    )  # fmt: skip


def _state(row: Any) -> Resource:
    return Resource(
        row["id"], row["kind"], row["title"], row["body"], tuple(msgspec.json.decode(row["tags"])),
        msgspec.json.decode(row["attributes"]), _VISIBILITY[row["visibility"]], row["status"], row["owner_id"],
        row["version"], row["created_at"], row["updated_at"], row["deleted_at"],
    )  # fmt: skip


TABLE = Table(
    "resources", tuple(Column(*column.split(" ")) for column in _COLUMNS.split(", ")), _row, _state
)  # fmt: skip


class View(msgspec.Struct, frozen=True):
    """What a reader needs of a resource: its JSON, and who may see it."""

    document: bytes
    owner_id: UUID
    visibility: str
    version: int


class _Seen(msgspec.Struct, frozen=True):
    owner_id: UUID
    visibility: str
    version: int


class PageQuery(msgspec.Struct, frozen=True, kw_only=True):
    """A page of a list. `sort`: (column, descending) pairs; `after`: their values and the id of the last one seen."""

    limit: int
    visible_to: Actor
    sort: tuple[tuple[str, bool], ...] = (("created_at", True),)
    filters: Mapping[str, str | UUID] = {}
    after: tuple[Any, ...] | None = None


SORTABLE = ("created_at", "updated_at", "title")
"""The columns by which a list may be sorted."""
FILTERABLE: Mapping[str, Any] = {"kind": Slug, "status": Slug, "visibility": Visibility, "owner_id": UUID}
"""The columns by which a list may be narrowed, each with the type of its values."""

_view = msgspec.json.Decoder(_Seen).decode


def cached(state: Resource) -> bytes:
    """How the resource stands in the cache."""
    return entry(state.version, b"" if state.deleted_at is not None else document(state))


class Resources:
    """Reading resources."""

    def __init__(self, database: Database, cache: Cache) -> None:
        self._database = database
        self._cache = cache
        self._loader: Loader[UUID, bytes] = Loader(self._load)

    async def get(self, id: UUID) -> View | None:
        """One resource, from the cache if it is there; None if there is none. Raises StoresAway."""
        value = await self._loader.get(id)
        if value is None or len(value) == DIGITS:
            return None
        found = value[DIGITS:]
        seen = _view(found)
        return View(found, seen.owner_id, seen.visibility, seen.version)

    async def _load(self, ids: list[UUID]) -> dict[UUID, bytes]:
        found, epoch = await self._cache.get("resources", ids)
        missing = [id for id in ids if id not in found]
        if missing:
            states = await self.states(missing)
            loaded = {id: cached(state) for id, state in states.items()}
            absent = {id: entry(0, b"") for id in missing if id not in states}
            await self._cache.fill("resources", loaded, epoch)
            await self._cache.fill("resources", absent, epoch, life=ABSENT_LIFE_S)
            found |= loaded
        return found

    async def states(self, ids: Sequence[UUID]) -> dict[UUID, Resource]:
        """Resources from PostgreSQL, the deleted ones too. Raises StoresAway."""
        rows = await self._database.fetch("SELECT * FROM resources WHERE id = ANY($1)", list(ids))
        return {row["id"]: _state(row) for row in rows}

    async def page(self, query: PageQuery) -> list[Resource]:
        """The resources of a page, `limit` at most. Raises StoresAway, ValueError for a column that can't be used."""
        arguments: list[Any] = []
        conditions = ["deleted_at IS NULL"]

        def argument(value: Any) -> str:
            arguments.append(value)
            return f"${len(arguments)}"

        for name, value in query.filters.items():
            if name not in FILTERABLE:
                raise ValueError(name)
            conditions.append(f"{name} = {argument(value)}")
        actor = query.visible_to
        if actor.role is not Role.ADMIN:
            public = "visibility = 'public'"
            conditions.append(public if actor.id is None else f"({public} OR owner_id = {argument(actor.id)})")
        order = [*query.sort, ("id", query.sort[-1][1] if query.sort else False)]
        if any(column not in SORTABLE for column, _descending in query.sort):
            raise ValueError(str(query.sort))
        if query.after is not None:
            conditions.append(_beyond(order, query.after, argument))
        by = ", ".join(f"{column}{' DESC' if descending else ''}" for column, descending in order)
        rows = await self._database.fetch(  # the columns and directions are of the lists above, values are arguments
            f"SELECT * FROM resources WHERE {' AND '.join(conditions)} ORDER BY {by} LIMIT {argument(query.limit)}",
            *arguments,
        )
        return [_state(row) for row in rows]


def _beyond(order: Sequence[tuple[str, bool]], after: tuple[Any, ...], argument: Any) -> str:
    """The rows after a position: with columns of one direction a row comparison, which an index can follow."""
    values = [argument(value) for value in after]
    if len({descending for _column, descending in order}) == 1:
        columns = ", ".join(column for column, _descending in order)
        return f"({columns}) {'<' if order[0][1] else '>'} ({', '.join(values)})"
    steps = []
    for i, (column, descending) in enumerate(order):
        equal = [f"{order[j][0]} = {values[j]}" for j in range(i)]
        steps.append(" AND ".join([*equal, f"{column} {'<' if descending else '>'} {values[i]}"]))
    return "(" + " OR ".join(f"({step})" for step in steps) + ")"
