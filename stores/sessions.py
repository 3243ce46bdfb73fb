"""Sessions: their table, and what is kept of them no longer."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from domain.sessions import LIFETIME, Session, Sessions
from stores import held
from stores.aggregates import Table
from stores.postgres import Database

JOURNAL_KEPT = LIFETIME + timedelta(days=1)
"""How long events of sessions stay in the journal: they say where somebody was, and nobody needs them longer."""

_held = msgspec.json.Decoder(tuple[Session, ...]).decode


def _state(row: Any) -> Sessions:
    return Sessions(row["id"], _held(row["held"]), held.ended_in(row), row["barred"], row["version"])


TABLE = Table("sessions", held.COLUMNS, held.row, _state)


class SessionStore:
    """Reading the sessions of accounts, and removing what is over."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._rows = held.Held(database, "sessions")

    async def get(self, account: UUID) -> Sessions | None:
        """The sessions of an account; None of one that never logged in. Raises StoresAway."""
        row = await self._database.fetchrow("SELECT * FROM sessions WHERE id = $1", account)
        return None if row is None else _state(row)

    async def ended(self, since: datetime) -> Mapping[UUID, datetime]:
        """Sessions that ended from `since` on, and some from before, with when they did. Raises StoresAway."""
        return await self._rows.ended(since)

    async def sweep(self, now: datetime | None = None) -> int:
        """Remove sessions that expired and what nobody asks for any more, in pieces; how many rows. Raises StoresAway.

        See Held.sweep.
        """
        now = now or datetime.now(UTC)
        return await self._rows.sweep(now) + await self._forget_events(now - JOURNAL_KEPT)

    async def _forget_events(self, before: datetime) -> int:
        total, partition = 0, -1
        while True:
            row = await self._database.fetchrow(
                "SELECT min(partition) AS next FROM journal WHERE noun = 'sessions' AND partition > $1", partition
            )
            if row["next"] is None:
                return total
            partition = row["next"]
            # By the primary key, which is the order in which they happened: the first that stays ends it.
            total += await self._database.in_pieces(
                """DELETE FROM journal WHERE (noun, partition, life, command_offset, index) IN (
                       SELECT noun, partition, life, command_offset, index FROM journal
                       WHERE noun = 'sessions' AND partition = $1
                       ORDER BY noun, partition, life, command_offset, index LIMIT $3)
                   AND (event ->> 'time')::timestamptz < $2""",
                partition,
                before,
            )
