"""API keys: their table, when they were used, and what is kept of them no longer."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from domain.access import Role
from domain.api_keys import ApiKey, ApiKeys
from stores import held
from stores.aggregates import Table
from stores.postgres import Database

USED_EVERY = timedelta(seconds=60)
"""How often, at most, it is written down that a key was used."""
_LESS = """,
    used = (SELECT coalesce(jsonb_object_agg(key, value), '{}') FROM jsonb_each(used)
        WHERE key IN (SELECT one ->> 'id' FROM :kept))"""
"""Only what is held has a time of its use."""

_held = msgspec.json.Decoder(tuple[ApiKey, ...]).decode
_used = msgspec.json.Decoder(dict[UUID, datetime]).decode


def _state(row: Any) -> ApiKeys:
    return ApiKeys(row["id"], _held(row["held"]), held.ended_in(row), row["barred"], row["version"])


TABLE = Table("api_keys", held.COLUMNS, held.row, _state)


class Used(NamedTuple):
    """The keys of an account, and when each of those that were used was used last, within USED_EVERY."""

    keys: ApiKeys
    at: Mapping[UUID, datetime]


class Usable(NamedTuple):
    """The keys of an account that is active, and its role."""

    keys: ApiKeys
    role: Role


class ApiKeyStore:
    """Reading the API keys of accounts, and removing what is over."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._rows = held.Held(database, "api_keys", _LESS)

    async def get(self, account: UUID) -> Used | None:
        """The keys of an account; None of one that never had any. Raises StoresAway."""
        row = await self._database.fetchrow("SELECT * FROM api_keys WHERE id = $1", account)
        return None if row is None else Used(_state(row), _used(row["used"]))

    async def usable(self, account: UUID) -> Usable | None:
        """The keys by which something may be done now; None of an account that is not active. Raises StoresAway."""
        row = await self._database.fetchrow(
            """SELECT k.*, a.role FROM api_keys k JOIN accounts a ON a.id = k.id
               WHERE k.id = $1 AND a.status = 'active'""",
            account,
        )
        return None if row is None else Usable(_state(row), Role(row["role"]))

    async def note_use(self, account: UUID, key: UUID, at: datetime) -> bool:
        """Write down that a key was used, unless that was done within USED_EVERY; True if it was. Raises StoresAway."""
        status = await self._database.execute(
            """UPDATE api_keys SET used = (
                   SELECT jsonb_object_agg(key, value) FROM jsonb_each(used || jsonb_build_object($2::text, $3::text))
                   WHERE key = $2::text OR key IN (SELECT one ->> 'id' FROM json_array_elements(held) AS each(one)))
               WHERE id = $1 AND coalesce((used ->> $2::text)::timestamptz, '-infinity') <= $4""",
            account,
            str(key),
            at.isoformat(),
            at - USED_EVERY,
        )
        return bool(int(status.split()[-1]))

    async def ended(self, since: datetime) -> Mapping[UUID, datetime]:
        """Keys that ended from `since` on, and some from before, with when they did. Raises StoresAway."""
        return await self._rows.ended(since)

    async def sweep(self, now: datetime | None = None) -> int:
        """Remove keys that expired and what nobody asks for any more, in pieces; how many rows. Raises StoresAway."""
        return await self._rows.sweep(now or datetime.now(UTC))
