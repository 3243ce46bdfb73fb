"""Kinds and their schemas: their table, and a copy of all of them for each process that asks for every write."""

import asyncio
from collections.abc import Mapping
from time import monotonic
from typing import Any
from uuid import UUID

import msgspec

from domain.kinds import Kind
from stores.aggregates import Column, Table
from stores.postgres import Database, away_is_known

FRESH_S = 1.0
"""How old a front's copy may be, seconds. A worker's is never old: its commit looks whether it is."""


def _row(state: Kind) -> tuple[Any, ...]:
    return (
        state.id, state.kind, state.schema, state.version, state.created_at, state.updated_at, state.deleted_at,
    )  # fmt: skip


def _state(row: Any) -> Kind:
    return Kind(
        row["id"], row["kind"], row["schema"], row["version"], row["created_at"], row["updated_at"], row["deleted_at"]
    )


TABLE = Table(
    "kinds",
    (
        Column("id", "uuid"),
        Column("kind", "text"),
        Column("schema", "json"),
        Column("version", "bigint"),
        Column("created_at", "timestamptz"),
        Column("updated_at", "timestamptz"),
        Column("deleted_at", "timestamptz"),
    ),
    _row,
    _state,
)
CHANGE = "SELECT coalesce(max(change), 0) FROM kinds"
"""A number that grows with each change of any kind."""
_SCHEMAS = f"""
    SELECT ({CHANGE}) AS change, k.kind, k.schema FROM (SELECT 1) AS one
    LEFT JOIN kinds k ON k.change > 0 AND k.deleted_at IS NULL"""


class Schemas(msgspec.Struct, frozen=True):
    """The schemas that were in force at a change, as JSON, by kind."""

    change: int
    of: Mapping[str, str]


NONE = Schemas(0, {})


async def schemas(connection: Any) -> Schemas:
    """Those in force. Raises StoresAway."""
    with away_is_known():
        rows = await connection.fetch(_SCHEMAS)
    return Schemas(rows[0]["change"], {row["kind"]: row["schema"] for row in rows if row["kind"] is not None})


class Kinds:
    """Reading kinds."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._copy = NONE
        self._since = float("-inf")
        self._loading: asyncio.Task[Schemas] | None = None

    async def get(self, id: UUID) -> Kind | None:
        """One kind; None if there is none. Raises StoresAway."""
        row = await self._database.fetchrow("SELECT * FROM kinds WHERE id = $1 AND deleted_at IS NULL", id)
        return None if row is None else _state(row)

    async def listed(self, limit: int, after: str = "") -> list[Kind]:
        """Kinds whose names come after `after`, by name, `limit` at most. Raises StoresAway."""
        rows = await self._database.fetch(
            "SELECT * FROM kinds WHERE kind > $1 AND deleted_at IS NULL ORDER BY kind LIMIT $2", after, limit
        )
        return [_state(row) for row in rows]

    async def schemas(self) -> Schemas:
        """Those in force FRESH_S seconds ago, or later. Raises StoresAway."""
        if monotonic() - self._since < FRESH_S:
            return self._copy
        if self._loading is None:
            self._loading = asyncio.create_task(self._load())
            self._loading.add_done_callback(self._loaded)
        return await asyncio.shield(self._loading)

    async def _load(self) -> Schemas:
        since = monotonic()
        async with self._database.connection() as connection:
            self._copy = await schemas(connection)
        self._since = since
        return self._copy

    def _loaded(self, loading: asyncio.Task[Schemas]) -> None:
        self._loading = None
        if not loading.cancelled():
            loading.exception()  # looked at also when whoever waited is gone
