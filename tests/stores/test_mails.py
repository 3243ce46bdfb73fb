"""Sent mails: noted once, counted by address, forgotten in time, and what an erasure leaves of them."""

from typing import cast
from uuid import uuid4

from domain.accounts import AccountStatus
from stores.accounts import claim, forget, release
from stores.mails import Mails
from stores.postgres import PIECE, Database
from tests.stores.test_accounts import account, clear

TO = "a" * 64


async def fresh(database: Database) -> Mails:
    await clear(database)
    await database.execute("TRUNCATE mails")
    return Mails(database)


async def test_a_mail_is_noted_once_and_counts_for_its_address_and_kind_within_a_day(database: Database) -> None:
    mails = await fresh(database)
    id = await account(database)
    assert not await mails.was_sent("1.0")
    for name in ("1.0", "1.0", "1.1"):
        await mails.note(name, id, TO, "reset")
    await mails.note("1.2", id, "b" * 64, "reset")
    await mails.note("1.3", id, TO, "verify")
    assert await mails.was_sent("1.0")
    assert (await mails.to(TO, "reset"), await mails.to(TO, "verify"), await mails.to("c" * 64, "reset")) == (2, 1, 0)
    assert [one.kind for one in await mails.of(id)] == ["reset", "reset", "reset", "verify"]
    await database.execute("UPDATE mails SET sent_at = now() - interval '25 hours' WHERE id = '1.0'")
    assert await mails.to(TO, "reset") == 1


async def test_an_erasure_leaves_for_a_day_that_an_address_got_mails_and_not_whose(database: Database) -> None:
    mails = await fresh(database)
    kept, erased = await account(database), await account(database)
    await mails.note("1.0", kept, TO, "reset")
    await mails.note("2.0", erased, TO, "reset")
    async with database.connection() as connection, connection.transaction():
        await forget(connection, [erased])
    assert (await mails.of(erased), await mails.to(TO, "reset")) == ([], 2)
    gone = await account(database, status=AccountStatus.ERASED)
    await mails.note("3.0", gone, TO, "reset")  # it was erased while its mail went out
    assert await mails.of(gone) == []
    await database.execute("UPDATE mails SET sent_at = now() - interval '2 days'")
    assert await mails.sweep() == 2
    assert [one.kind for one in await mails.of(kept)] == ["reset"]
    await database.execute("UPDATE mails SET sent_at = now() - interval '32 days'")
    assert await mails.sweep() == 1
    assert not await mails.was_sent("1.0")


async def test_who_moves_to_another_address_gives_up_the_former_one(database: Database) -> None:
    await fresh(database)
    moving, staying = uuid4(), uuid4()
    async with database.connection() as connection, connection.transaction():
        for index, id in (("old", moving), ("new", moving), ("other", staying)):
            await claim(connection, [(index, id)])
        await release(connection, [(moving, "new")])
        await release(connection, [])
    rows = await database.fetch("SELECT email_index FROM account_claims ORDER BY 1")
    assert [row["email_index"] for row in rows] == ["new", "other"]


class Planning:
    """In the place of a database: each statement is planned, and not run."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.plans: list[str] = []

    async def in_pieces(self, statement: str, *arguments: object) -> int:
        rows = await self._database.fetch(f"EXPLAIN {statement}", *arguments, PIECE)
        self.plans.append("\n".join(row[0] for row in rows))
        return 0


async def test_a_sweep_looks_at_nothing_that_stays(database: Database) -> None:
    await fresh(database)
    await database.execute(
        """INSERT INTO mails SELECT n::text, CASE WHEN n % 100 > 0 THEN gen_random_uuid() END, $1, 'reset',
               now() - make_interval(mins => n) FROM generate_series(1, 20000) n""",
        TO,
    )
    await database.execute("ANALYZE mails")
    planning = Planning(database)
    await Mails(cast("Database", planning)).sweep()
    of_nobody, old = planning.plans
    assert "mails_of_nobody" in of_nobody, of_nobody
    assert "mails_by_age" in old, old
    for plan in planning.plans:
        assert "Seq Scan" not in plan
        assert "Filter" not in plan, plan
    await fresh(database)
