"""Sessions: their table, and what is kept of them no longer."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec

from domain.sessions import ENDED_KEPT, LIFETIME, Ended, Session, Sessions
from stores.aggregates import Column, Table
from stores.postgres import Database

_COLUMNS = (
    "id uuid, held json, ended json, barred bigint, first_expiry timestamptz, ended_at timestamptz, version bigint"
)
PIECE = 1_000
"""Rows that are read or changed at a time."""
JOURNAL_KEPT = LIFETIME + timedelta(days=1)
"""How long events of sessions stay in the journal: they say where somebody was, and nobody needs them longer."""

_encode = msgspec.json.Encoder().encode
_held = msgspec.json.Decoder(tuple[Session, ...]).decode
_ended = msgspec.json.Decoder(tuple[Ended, ...]).decode


def _row(state: Sessions) -> tuple[Any, ...]:
    return (
        state.id, _encode(state.held).decode(), _encode(state.ended).decode(), state.barred,
        min((one.expires_at for one in state.held), default=None),
        max((one.at for one in state.ended), default=None), state.version,
    )  # fmt: skip


def _state(row: Any) -> Sessions:
    return Sessions(row["id"], _held(row["held"]), _ended(row["ended"]), row["barred"], row["version"])


TABLE = Table(
    "sessions",
    tuple(Column(name, kind) for name, _, kind in (column.partition(" ") for column in _COLUMNS.split(", "))),
    _row,
    _state,
)


class SessionStore:
    """Reading the sessions of accounts, and removing what is over."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, account: UUID) -> Sessions | None:
        """The sessions of an account; None of one that never logged in. Raises StoresAway."""
        row = await self._database.fetchrow("SELECT * FROM sessions WHERE id = $1", account)
        return None if row is None else _state(row)

    async def ended(self, since: datetime) -> Mapping[UUID, datetime]:
        """Sessions that ended from `since` on, and some from before, with when they did. Raises StoresAway."""
        found: dict[UUID, datetime] = {}
        after, id = since, UUID(int=0)
        while True:
            rows = await self._database.fetch(
                """SELECT id, ended, ended_at FROM sessions
                   WHERE ended_at IS NOT NULL AND (ended_at, id) > ($1, $2)
                   ORDER BY ended_at, id LIMIT $3""",
                after,
                id,
                PIECE,
            )
            for row in rows:
                found.update((one.id, one.at) for one in _ended(row["ended"]))
            if len(rows) < PIECE:
                return found
            after, id = rows[-1]["ended_at"], rows[-1]["id"]

    async def sweep(self, now: datetime | None = None) -> int:
        """Remove sessions that expired and what nobody asks for any more, in pieces; how many rows. Raises StoresAway.

        The version of a row stays: to whoever has loaded it, what is over is not there anyway.
        """
        now = now or datetime.now(UTC)
        return (
            await self._in_pieces(
                """UPDATE sessions SET
                       held = coalesce((SELECT json_agg(one ORDER BY place) FROM json_array_elements(held)
                           WITH ORDINALITY AS each(one, place) WHERE (one ->> 'expires_at')::timestamptz > $1), '[]'),
                       first_expiry = (SELECT min((one ->> 'expires_at')::timestamptz) FROM json_array_elements(held)
                           AS each(one) WHERE (one ->> 'expires_at')::timestamptz > $1)
                   WHERE id IN (SELECT id FROM sessions WHERE first_expiry <= $1 ORDER BY first_expiry LIMIT $2)
                       AND first_expiry <= $1""",
                now,
            )
            + await self._in_pieces(
                """UPDATE sessions SET ended = '[]', ended_at = NULL
                   WHERE id IN (SELECT id FROM sessions WHERE ended_at <= $1 ORDER BY ended_at LIMIT $2)
                       AND ended_at <= $1""",
                now - ENDED_KEPT,
            )
            + await self._forget_events(now - JOURNAL_KEPT)
        )

    async def _in_pieces(self, statement: str, *arguments: Any) -> int:
        total = 0
        while True:
            count = int((await self._database.execute(statement, *arguments, PIECE)).split()[-1])
            total += count
            if count < PIECE:
                return total

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
            total += await self._in_pieces(
                """DELETE FROM journal WHERE (noun, partition, life, command_offset, index) IN (
                       SELECT noun, partition, life, command_offset, index FROM journal
                       WHERE noun = 'sessions' AND partition = $1
                       ORDER BY noun, partition, life, command_offset, index LIMIT $3)
                   AND (event ->> 'time')::timestamptz < $2""",
                partition,
                before,
            )
