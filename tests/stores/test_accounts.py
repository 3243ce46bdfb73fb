"""Accounts as they are read and counted, and what erasing one does to its rows."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from domain.access import Role
from domain.accounts import AccountStatus
from security.fields import Sealer
from stores.account_keys import FIRST, STEP, AccountKeys
from stores.accounts import AccountQuery, Accounts, active_admins, claim, forget, release
from stores.belongings import Belongings
from stores.postgres import Database
from tests.stores.test_fence import blocked

START = datetime(2026, 1, 1, tzinfo=UTC)


async def account(
    database: Database,
    number: int = 0,
    *,
    id: UUID | None = None,
    role: Role = Role.USER,
    status: AccountStatus = AccountStatus.ACTIVE,
) -> UUID:
    id = id or uuid4()
    await database.execute(
        """INSERT INTO accounts (id, email_index, email_sealed, name_sealed, password_sealed, role, status, version,
                                 created_at, updated_at)
           VALUES ($1, $2, 's', 's', 's', $3, $4, 1, $5, now())""",
        id, None if status is AccountStatus.ERASED else id.hex * 2, role.value, status.value,
        START + timedelta(seconds=number),
    )  # fmt: skip
    return id


async def clear(database: Database) -> Accounts:
    await database.execute("TRUNCATE accounts, account_keys, account_claims, resources, journal")
    return Accounts(database)


async def test_pages_are_newest_first_without_a_gap_or_a_repeat(database: Database) -> None:
    accounts = await clear(database)
    ids = [await account(database, number // 2) for number in range(9)]  # two of each second
    await account(database, 99, status=AccountStatus.ERASED)
    found: list[UUID] = []
    after = None
    while page := await accounts.page(AccountQuery(limit=2, after=after)):
        found += [one.id for one in page]
        after = page[-1].created_at, page[-1].id
    assert sorted(found) == sorted(ids)
    at = {one: number // 2 for number, one in enumerate(ids)}
    assert [at[one] for one in found] == sorted(at.values(), reverse=True)


async def test_accounts_are_narrowed_by_each_filter_and_all_of_them(database: Database) -> None:
    accounts = await clear(database)
    admin = await account(database, role=Role.ADMIN)
    disabled = await account(database, status=AccountStatus.DISABLED)

    async def ids(**by: str) -> set[UUID]:
        return {one.id for one in await accounts.page(AccountQuery(limit=9, **by))}  # type: ignore[arg-type]

    assert await ids() == {admin, disabled}
    assert await ids(role="admin") == {admin}
    assert await ids(status="disabled") == {disabled}
    assert await ids(email_index=admin.hex * 2) == {admin}
    assert await ids(email_index=admin.hex * 2, status="disabled") == set()


class Planning:
    """In the place of a connection: each statement is planned, and not run."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.plans: list[str] = []

    async def execute(self, statement: str, *arguments: Any) -> None:
        rows = await self._connection.fetch(f"EXPLAIN {statement}", *arguments)
        self.plans.append("\n".join(row[0] for row in rows))


async def test_whoever_gives_an_address_up_reads_only_rows_of_the_account(database: Database) -> None:
    await clear(database)
    await database.execute(
        """INSERT INTO account_claims (email_index, account_id)
           SELECT n::text, gen_random_uuid() FROM generate_series(1, 20000) n"""
    )
    await database.execute("ANALYZE account_claims")
    async with database.connection() as connection:
        planning = Planning(connection)
        await release(planning, [(uuid4(), "7")])
        await forget(planning, [uuid4()])
    indexes = (
        "account_claims_of_account", "account_keys_pkey", "account_claims_of_account", "mails_of_account",
        "journal_of_aggregate",
    )  # fmt: skip
    for plan, index in zip(planning.plans, indexes, strict=True):
        assert index in plan, plan
        assert "Seq Scan" not in plan, plan


async def test_who_may_end_an_admin_sees_what_the_one_before_has_ended(database: Database) -> None:
    await clear(database)
    one, two = [await account(database, role=Role.ADMIN) for _ in range(2)]
    await account(database, role=Role.ADMIN, status=AccountStatus.DISABLED)
    async with database.connection() as first, database.connection() as second:
        transaction = first.transaction()
        await transaction.start()
        assert await active_admins(first) == {one, two}

        async def ask() -> set[UUID]:
            async with second.transaction():
                return await active_admins(second)

        waiting = asyncio.create_task(ask())
        await blocked(database, second.get_server_pid())
        await first.execute("UPDATE accounts SET role = 'user' WHERE id = $1", one)
        await transaction.commit()
        assert await waiting == {two}


async def test_what_is_forgotten_is_gone_and_nobody_else_loses_anything(database: Database) -> None:
    accounts = await clear(database)
    erased, other = await account(database), await account(database)
    event = '{"data":{"email_index":"%s","email_sealed":"s1.x","note":"\\"email_index\\":\\"%s\\""}}'
    for id in (erased, other):
        await accounts.put_key(id, b"key")
        await database.execute(
            """INSERT INTO journal (noun, life, partition, command_offset, index, aggregate_id, version, event)
               VALUES ('accounts', 0, 0, $1, 0, $2, 1, $3)""",
            int(id == other), id, event % (id.hex * 2, id.hex * 2),
        )  # fmt: skip
    async with database.connection() as connection, connection.transaction():
        await claim(connection, [(erased.hex * 2, erased), (other.hex * 2, other)])
        await forget(connection, [])
        await forget(connection, [erased])
    assert (await accounts.key(erased), await accounts.key(other)) == (None, b"key")
    rows = await database.fetch("SELECT account_id FROM account_claims")
    assert [row["account_id"] for row in rows] == [other]
    told = {
        row["aggregate_id"]: row["event"] for row in await database.fetch("SELECT aggregate_id, event FROM journal")
    }
    assert told[other] == event % (other.hex * 2, other.hex * 2)
    assert told[erased] == event % ("0" * 64, erased.hex * 2)  # what stands in a text stays to the letter


async def test_keys_are_wrapped_anew_in_steps_and_an_erased_one_stays_gone(database: Database) -> None:
    accounts = await clear(database)
    old, new = Sealer(b"o" * 32), Sealer(b"n" * 32, b"o" * 32)
    ids = [UUID(int=n + 1) for n in range(STEP + 3)]
    await database.execute(
        "INSERT INTO account_keys (account_id, wrapped) SELECT * FROM unnest($1::uuid[], $2::bytea[])",
        ids, [old.new_key(id) for id in ids],
    )  # fmt: skip
    stranger = UUID(int=1 << 100)
    await accounts.put_key(stranger, b"????")
    keys = AccountKeys(database)
    assert await keys.counts() == {old.current: STEP + 3, b"????": 1}
    first = await keys.rewrap(FIRST, new.older, new.rewrap)
    assert (first.last, first.wrapped) == (ids[STEP - 1], STEP)
    erased = ids[-1]

    def anew(id: UUID, wrapped: bytes) -> bytes:
        return new.rewrap(id, wrapped)

    # Stopped here, and begun again from the beginning: only what is left is looked at.
    await database.execute("DELETE FROM account_keys WHERE account_id = $1", erased)
    second = await keys.rewrap(FIRST, new.older, anew)
    assert (second.last, second.wrapped) == (ids[-2], 2)
    assert (await keys.rewrap(FIRST, new.older, anew)).last is None
    assert await keys.counts() == {new.current: STEP + 2, b"????": 1}
    assert await accounts.key(erased) is None


async def test_a_key_that_changed_while_it_was_wrapped_anew_is_left_alone(database: Database) -> None:
    accounts = await clear(database)
    old, new = Sealer(b"o" * 32), Sealer(b"n" * 32, b"o" * 32)
    id = UUID(int=1)
    await accounts.put_key(id, old.new_key(id))
    there = await accounts.key(id)
    assert there is not None
    changed = old.rewrap(id, there)
    loop = asyncio.get_running_loop()

    async def replace() -> None:
        await database.execute("UPDATE account_keys SET wrapped = $2 WHERE account_id = $1", id, changed)

    keys = AccountKeys(database)
    real = database.fetch
    replaced = False

    async def between(statement: str, *arguments: object) -> object:
        nonlocal replaced
        if statement.startswith("UPDATE account_keys k") and not replaced:
            replaced = True
            await loop.create_task(replace())
        return await real(statement, *arguments)

    keys._database = type("Between", (), {"fetch": staticmethod(between)})()
    assert (await keys.rewrap(FIRST, new.older, new.rewrap)).wrapped == 0
    assert await accounts.key(id) == changed


async def test_a_history_is_read_in_pieces_that_are_bounded(database: Database) -> None:
    await clear(database)
    belongings, id = Belongings(database), uuid4()
    sizes = [10, 400, 400, 3000, 10, 10]
    for version, size in enumerate(sizes, start=1):
        await database.execute(
            """INSERT INTO journal (noun, life, partition, command_offset, index, aggregate_id, version, event)
               VALUES ('resources', 9, 0, $1, 0, $2, $1, json_build_object('x', repeat('y', $3)))""",
            version, id, size,
        )  # fmt: skip
    await database.execute(  # the sessions of an account have its id
        """INSERT INTO journal (noun, life, partition, command_offset, index, aggregate_id, version, event)
           VALUES ('sessions', 9, 0, 1, 0, $1, 1, '{}')""",
        id,
    )
    pieces, after = [], 0
    while piece := await belongings.history("resources", id, after, limit=3, most_bytes=500):
        pieces.append([told.version for told in piece])
        after = piece[-1].version
    assert pieces == [[1, 2], [3], [4], [5, 6]]
