"""Rows of accounts that hold things which expire, and remember for a while what ended before its time.

Sessions and API keys are such: `held` and `ended` are JSON lists, `first_expiry` and `ended_at` tell when there is
something to remove. What has no `expires_at` is held until it is ended.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from domain.sessions import ENDED_KEPT, Ended
from stores.aggregates import Column
from stores.postgres import PIECE, Database

_COLUMNS = (
    "id uuid, held json, ended json, barred bigint, first_expiry timestamptz, ended_at timestamptz, version bigint"
)
COLUMNS = tuple(Column(name, kind) for name, _, kind in (column.partition(" ") for column in _COLUMNS.split(", ")))
"""What these tables share, and all that a worker writes of them."""

_encode = msgspec.json.Encoder().encode
_ended = msgspec.json.Decoder(tuple[Ended, ...]).decode


def row(state: Any) -> tuple[Any, ...]:
    """The values of COLUMNS."""
    return (
        state.id, _encode(state.held).decode(), _encode(state.ended).decode(), state.barred,
        min((one.expires_at for one in state.held if one.expires_at is not None), default=None),
        max((one.at for one in state.ended), default=None), state.version,
    )  # fmt: skip


def ended_in(row: Any) -> tuple[Ended, ...]:
    """What a row says has ended."""
    return _ended(row["ended"])


class Held:
    """The rows of one such table. `less`: what else is set as something leaves a row, `:kept` being what stays."""

    def __init__(self, database: Database, table: str, less: str = "") -> None:
        self._database = database
        kept = """json_array_elements(held) WITH ORDINALITY AS each(one, place)
            WHERE coalesce((one ->> 'expires_at')::timestamptz, 'infinity') > $1"""
        less = less.replace(":kept", kept)
        self._ended = f"""SELECT id, ended, ended_at FROM {table}
            WHERE ended_at IS NOT NULL AND (ended_at, id) > ($1, $2) ORDER BY ended_at, id LIMIT $3"""
        self._expire = f"""UPDATE {table} SET
                held = coalesce((SELECT json_agg(one ORDER BY place) FROM {kept}), '[]'),
                first_expiry = (SELECT min((one ->> 'expires_at')::timestamptz) FROM {kept}){less}
            WHERE id IN (SELECT id FROM {table} WHERE first_expiry <= $1 ORDER BY first_expiry LIMIT $2)
                AND first_expiry <= $1"""
        self._forget = f"""UPDATE {table} SET ended = '[]', ended_at = NULL{less}
            WHERE id IN (SELECT id FROM {table} WHERE ended_at <= $1 ORDER BY ended_at LIMIT $2) AND ended_at <= $1"""

    async def ended(self, since: datetime) -> Mapping[UUID, datetime]:
        """What ended from `since` on, and some from before, with when it did. Raises StoresAway."""
        found: dict[UUID, datetime] = {}
        after, id = since, UUID(int=0)
        while True:
            rows = await self._database.fetch(self._ended, after, id, PIECE)
            for row in rows:
                found.update((one.id, one.at) for one in ended_in(row))
            if len(rows) < PIECE:
                return found
            after, id = rows[-1]["ended_at"], rows[-1]["id"]

    async def sweep(self, now: datetime) -> int:
        """Remove what expired, and what ended and nobody asks for any more; how many rows. Raises StoresAway.

        The version of a row stays: to whoever has loaded it, what is over is not there anyway.
        """
        return await self._database.in_pieces(self._expire, now) + await self._database.in_pieces(
            self._forget, now - ENDED_KEPT
        )
