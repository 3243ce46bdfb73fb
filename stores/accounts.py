"""Accounts: their table, the claims on addresses, and the keys of their personal fields."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from domain.access import Role
from domain.account_states import Account, AccountStatus, Mailing
from stores.aggregates import Column, Table
from stores.postgres import Database, away_is_known

_COLUMNS = (
    "id uuid, email_index text, email_sealed text, name_sealed text, phone_sealed text, password_sealed text, "
    "role text, status text, version bigint, created_at timestamptz, updated_at timestamptz, email_verified boolean, "
    "language text, mailing json"
)
_encode = msgspec.json.Encoder().encode
_mailing = msgspec.json.Decoder(Mailing).decode


def _row(state: Account) -> tuple[Any, ...]:
    return (
        state.id, state.email_index, state.email_sealed, state.name_sealed, state.phone_sealed, state.password_sealed,
        state.role.value, state.status.value, state.version, state.created_at, state.updated_at,
        state.email_verified, state.language, _encode(state.mailing).decode(),
    )  # fmt: skip


def _state(row: Any) -> Account:
    return Account(
        id=row["id"], email_sealed=row["email_sealed"], name_sealed=row["name_sealed"],
        phone_sealed=row["phone_sealed"],
        email_index=row["email_index"], password_sealed=row["password_sealed"], role=Role(row["role"]),
        status=AccountStatus(row["status"]), version=row["version"], created_at=row["created_at"],
        updated_at=row["updated_at"], email_verified=row["email_verified"], language=row["language"],
        mailing=_mailing(row["mailing"]),
    )  # fmt: skip


TABLE = Table(
    "accounts",
    tuple(Column(name, kind) for name, _, kind in (column.partition(" ") for column in _COLUMNS.split(", "))),
    _row,
    _state,
)


async def keyed(connection: Any, accounts: Sequence[UUID]) -> set[UUID]:
    """Those of these accounts whose keys are there. Raises StoresAway."""
    if not accounts:
        return set()
    with away_is_known():
        rows = await connection.fetch("SELECT account_id FROM account_keys WHERE account_id = ANY($1)", list(accounts))
    return {row["account_id"] for row in rows}


async def claim(connection: Any, wanted: Sequence[tuple[str, UUID]]) -> tuple[set[tuple[str, UUID]], list[str]]:
    """Claim addresses for accounts, in the caller's transaction; the first of the batch wins, an older claim always.

    Returns the wishes that came true, and the addresses claimed now. One account may wish for several, and have some of
    them. Sorted, so that two batches can't wait for each other in a circle. Raises StoresAway.
    """
    if not wanted:
        return set(), []
    ordered = [pair for _index, pair in sorted(enumerate(wanted), key=lambda item: (item[1][0], item[0]))]
    with away_is_known():
        new = await connection.fetch(
            """INSERT INTO account_claims (email_index, account_id) SELECT * FROM unnest($1::text[], $2::uuid[])
               ON CONFLICT DO NOTHING RETURNING email_index""",
            [index for index, _account in ordered],
            [account for _index, account in ordered],
        )
        rows = await connection.fetch(
            "SELECT email_index, account_id FROM account_claims WHERE email_index = ANY($1)",
            [index for index, _account in ordered],
        )
    holders = {row["email_index"]: row["account_id"] for row in rows}
    true = {(index, account) for index, account in wanted if holders.get(index) == account}
    return true, [row["email_index"] for row in new]


async def unclaim(connection: Any, indexes: Sequence[str]) -> None:
    """Give up addresses claimed in this transaction whose accounts did not come to be. Raises StoresAway."""
    if indexes:
        with away_is_known():
            await connection.execute("DELETE FROM account_claims WHERE email_index = ANY($1)", list(indexes))


async def release(connection: Any, moved: Sequence[tuple[UUID, str]]) -> None:
    """Give up the addresses that accounts had before these, in this transaction. Raises StoresAway."""
    if moved:
        with away_is_known():
            await connection.execute(
                """DELETE FROM account_claims c USING unnest($1::uuid[], $2::text[]) AS n(account_id, email_index)
                   WHERE c.account_id = n.account_id AND c.email_index <> n.email_index""",
                [account for account, _index in moved],
                [index for _account, index in moved],
            )


_LAST_ADMIN = 7_105_843_216_554_001
"""The advisory lock of whoever may take the last admin away; any number that nobody else uses."""


async def active_admins(connection: Any) -> set[UUID]:
    """Who is an active admin, as it stays until the end of the caller's transaction but for those that become one.

    Whoever may make it fewer asks here, one after the other, before any other lock is taken. Raises StoresAway.
    """
    with away_is_known():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LAST_ADMIN)
        # A statement of its own: it sees what was committed while the lock was waited for.
        rows = await connection.fetch("SELECT id FROM accounts WHERE role = 'admin' AND status = 'active'")
    return {row["id"] for row in rows}


async def forget(connection: Any, accounts: Sequence[UUID]) -> None:
    """Destroy the keys of erased accounts, free their addresses, and take those out of the journal's events.

    Everything sealed is unreadable from the commit on. Raises StoresAway.
    """
    if not accounts:
        return
    with away_is_known():
        await connection.execute("DELETE FROM account_keys WHERE account_id = ANY($1)", list(accounts))
        await connection.execute("DELETE FROM account_claims WHERE account_id = ANY($1)", list(accounts))
        # How many mails an address got still counts for a day: erasing and registering again is no way to send more.
        await connection.execute("UPDATE mails SET account_id = NULL WHERE account_id = ANY($1)", list(accounts))
        # Within a JSON text a quote can stand in no value, only its escape: this finds the member and nothing else.
        await connection.execute(
            """UPDATE journal SET event = regexp_replace(
                   event::text, '"email_index":"[0-9a-f]{64}"', '"email_index":"' || repeat('0', 64) || '"')::json
               WHERE noun = 'accounts' AND aggregate_id = ANY($1) AND event::text LIKE '%"email_index":"%'""",
            list(accounts),
        )


class AccountQuery(msgspec.Struct, frozen=True, kw_only=True):
    """A page of accounts, newest first. `after`: time and id of the last one seen; None narrows by nothing."""

    limit: int
    email_index: str | None = None
    status: str | None = None
    role: str | None = None
    after: tuple[datetime, UUID] | None = None


class Accounts:
    """Reading accounts, and their keys."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def by_email_index(self, index: str) -> Account | None:
        """The account of an address. Raises StoresAway."""
        row = await self._database.fetchrow("SELECT * FROM accounts WHERE email_index = $1", index)
        return None if row is None else _state(row)

    async def get(self, id: UUID) -> Account | None:
        """An account. Raises StoresAway."""
        row = await self._database.fetchrow("SELECT * FROM accounts WHERE id = $1", id)
        return None if row is None else _state(row)

    async def page(self, query: AccountQuery) -> list[Account]:
        """The accounts of a page that are not erased, `limit` at most. Raises StoresAway."""
        arguments: list[Any] = [query.limit]
        conditions = ["status <> 'erased'"]

        def argument(value: Any) -> str:
            arguments.append(value)
            return f"${len(arguments)}"

        leads = {name: value for name in ("role", "status") if (value := getattr(query, name)) is not None}
        if query.email_index is not None:
            conditions.append(f"email_index = {argument(query.email_index)}")
        # Told that the column equals something, PostgreSQL walks all accounts by creation: its plan is for any value,
        # and most have the most frequent one. So it is told a range and an order, which only the column's index has.
        lead = "role" if query.role == Role.ADMIN or query.status is None else "status"
        columns, places = ["created_at", "id"], [argument(place) for place in query.after or ()]
        if lead in leads:
            value = argument(leads.pop(lead))
            conditions += [f"{lead} >= {value}", f"{lead} <= {value}"]
            columns, places = [lead, *columns], [value, *places]
        conditions += [f"{name} = {argument(value)}" for name, value in leads.items()]
        if query.after is not None:
            conditions.append(f"({', '.join(columns)}) < ({', '.join(places)})")
        rows = await self._database.fetch(
            f"SELECT * FROM accounts WHERE {' AND '.join(conditions)} "
            f"ORDER BY {', '.join(f'{column} DESC' for column in columns)} LIMIT $1",
            *arguments,
        )
        return [_state(row) for row in rows]

    async def keys_of(self, accounts: Sequence[UUID]) -> dict[UUID, bytes]:
        """The wrapped keys of those of these accounts that have one. Raises StoresAway."""
        rows = await self._database.fetch(
            "SELECT account_id, wrapped FROM account_keys WHERE account_id = ANY($1)", list(accounts)
        )
        return {row["account_id"]: bytes(row["wrapped"]) for row in rows}

    async def put_key(self, account_id: UUID, wrapped: bytes) -> bytes:
        """Keep the account's wrapped key, unless it has one; returns the one it has. Raises StoresAway."""
        row = await self._database.fetchrow(
            """INSERT INTO account_keys (account_id, wrapped) VALUES ($1, $2)
               ON CONFLICT (account_id) DO UPDATE SET wrapped = account_keys.wrapped RETURNING wrapped""",
            account_id,
            wrapped,
        )
        return bytes(row["wrapped"])

    async def key(self, account_id: UUID) -> bytes | None:
        """The account's wrapped key; None once it was erased. Raises StoresAway."""
        row = await self._database.fetchrow("SELECT wrapped FROM account_keys WHERE account_id = $1", account_id)
        return None if row is None else bytes(row["wrapped"])

    async def drop_key(self, account_id: UUID) -> bool:
        """Remove the key of an account that was refused; True if there was one. Raises StoresAway.

        The key of an account that exists stays, whatever the caller believes: without it nothing of it can be read.
        """
        row = await self._database.fetchrow(
            """DELETE FROM account_keys WHERE account_id = $1
               AND NOT EXISTS (SELECT 1 FROM accounts WHERE id = $1) RETURNING account_id""",
            account_id,
        )
        return row is not None
