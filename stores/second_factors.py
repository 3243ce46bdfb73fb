"""Second factors: their table, read by the front at a login."""

from typing import Any
from uuid import UUID

import msgspec

from domain.second_factors import SecondFactor
from stores.aggregates import Column, Table
from stores.postgres import Database

_recovery = msgspec.json.Decoder(tuple[str, ...]).decode
_encode = msgspec.json.Encoder().encode


def _row(state: SecondFactor) -> tuple[Any, ...]:
    return (
        state.id, state.secret_sealed, state.pending_sealed, state.pending_until, state.enabled_at, state.last_step,
        _encode(state.recovery).decode(), state.version,
    )  # fmt: skip


def _state(row: Any) -> SecondFactor:
    return SecondFactor(
        row["id"], row["secret_sealed"], row["pending_sealed"], row["pending_until"], row["enabled_at"],
        row["last_step"], _recovery(row["recovery"]), row["version"],
    )  # fmt: skip


TABLE = Table(
    "second_factors",
    (
        Column("id", "uuid"),
        Column("secret_sealed", "text"),
        Column("pending_sealed", "text"),
        Column("pending_until", "timestamptz"),
        Column("enabled_at", "timestamptz"),
        Column("last_step", "bigint"),
        Column("recovery", "json"),
        Column("version", "bigint"),
    ),
    _row,
    _state,
)


class SecondFactors:
    """Reading second factors."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, account: UUID) -> SecondFactor | None:
        """That of an account; None if it never began one. Raises StoresAway."""
        row = await self._database.fetchrow("SELECT * FROM second_factors WHERE id = $1", account)
        return None if row is None else _state(row)
