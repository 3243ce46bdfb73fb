"""Resources: their table, pages of them, and single ones through the cache."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from domain.resources import Resource, document
from domain.words import Term
from stores.cache import ABSENT_LIFE_S, DIGITS, Cache, entry
from stores.loader import Loader
from stores.pages import Page, PageQuery, Pages, Total
from stores.postgres import Database
from stores.resource_rows import READ, TABLE, state_from

__all__ = ["TABLE", "Change", "Resources", "View", "cached"]


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


class Change(msgspec.Struct, frozen=True):
    """A change of a resource: its event, and the version it had after it."""

    version: int
    type: str
    time: datetime
    actor: UUID | None
    data: msgspec.Raw


class _Told(msgspec.Struct, frozen=True):
    aggregateversion: int
    type: str
    time: datetime
    data: msgspec.Raw
    actor: UUID | None = None


_told = msgspec.json.Decoder(_Told).decode


def _change(event: str) -> Change:
    told = _told(event)
    return Change(told.aggregateversion, told.type, told.time, told.actor, msgspec.Raw(bytes(told.data)))


_view = msgspec.json.Decoder(_Seen).decode


def cached(state: Resource) -> bytes:
    """How the resource stands in the cache."""
    return entry(state.version, b"" if state.deleted_at is not None else document(state))


class Resources:
    """Reading resources."""

    def __init__(self, database: Database, cache: Cache) -> None:
        self._database = database
        self._cache = cache
        self._pages = Pages(database)
        # One question to Redis at a time gathers the most for the next; who waits for PostgreSQL keeps nobody from it.
        self._cached: Loader[UUID, bytes] = Loader(self._from_cache, lanes=1)
        self._stored: Loader[UUID, bytes] = Loader(self._from_table)

    async def get(self, id: UUID) -> View | None:
        """One resource, from the cache if it is there; None if there is none. Raises StoresAway."""
        value = await self._cached.get(id) or await self._stored.get(id)
        if value is None or len(value) == DIGITS:
            return None
        found = value[DIGITS:]
        seen = _view(found)
        return View(found, seen.owner_id, seen.visibility, seen.version)

    async def _from_cache(self, ids: list[UUID]) -> dict[UUID, bytes]:
        return await self._cache.get("resources", ids)

    async def _from_table(self, ids: list[UUID]) -> dict[UUID, bytes]:
        moment = self._cache.moment()
        states = await self.states(ids)
        found = {id: cached(state) for id, state in states.items()}
        await self._cache.fill("resources", found, moment)
        absent = {id: entry(0, b"") for id in ids if id not in states}
        await self._cache.fill("resources", absent, moment, life=ABSENT_LIFE_S)
        return found

    async def states(self, ids: Sequence[UUID]) -> dict[UUID, Resource]:
        """Resources from PostgreSQL, the deleted ones too. Raises StoresAway."""
        rows = await self._database.fetch(f"SELECT {READ} FROM resources WHERE id = ANY($1)", list(ids))
        return {row["id"]: state_from(row) for row in rows}

    async def also_deleted(self, id: UUID) -> Resource | None:
        """A resource from PostgreSQL, also if it is deleted. Raises StoresAway."""
        return (await self.states([id])).get(id)

    async def page(self, query: PageQuery) -> Page:
        """A page of a list; see stores/pages.py. Raises StoresAway, ValueError for what can't be asked."""
        return await self._pages.page(query)

    async def total(self, query: PageQuery, terms: tuple[Term, ...] = ()) -> Total:
        """How many a list has, of those that have all `terms`. Raises StoresAway."""
        return await self._pages.total(query, terms)

    async def history(self, id: UUID, *, limit: int, after: int = 0, public_only: bool = False) -> list[Change]:
        """What happened after version `after`, oldest first; `public_only`: while it was public. Raises StoresAway."""
        rows = await self._database.fetch(
            """SELECT event FROM journal WHERE aggregate_id = $1 AND version > $2 AND noun = 'resources'
               AND (NOT $3 OR event->'data'->>'visibility' = 'public') ORDER BY version LIMIT $4""",
            id, after, public_only, limit,
        )  # fmt: skip
        return [_change(row["event"]) for row in rows]
