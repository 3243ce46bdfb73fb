"""An address belongs to one account: settled by claims, before the decision, without aborting anybody's batch."""

import asyncio
from datetime import UTC, datetime
from typing import Any, cast
from uuid import UUID, uuid4

import msgspec
import pytest
from aiokafka import TopicPartition

from agents.accounts import NOUN, AccountDecisions
from domain.account_mails import ConfirmEmailChange
from domain.accounts import CreateAccount
from domain.refusals import Code, Refusal
from stores.accounts import Accounts, claim, unclaim
from stores.aggregates import Operation
from stores.postgres import Database
from streams.batches import Span
from streams.decisions import Asked
from streams.envelope import COMMAND_SOURCE, Command
from streams.work import Part, Work
from tests.stores.test_fence import blocked


def address() -> str:
    return uuid4().hex * 2


async def holder(database: Database, index: str) -> object:
    row = await database.fetchrow("SELECT account_id FROM account_claims WHERE email_index = $1", index)
    return None if row is None else row["account_id"]


async def test_the_first_of_a_batch_wins_and_an_older_claim_always(database: Database) -> None:
    old, taken, fresh = uuid4(), address(), address()
    first, second, late = uuid4(), uuid4(), uuid4()
    async with database.connection() as connection:
        await claim(connection, [(taken, old)])
        winners, new = await claim(connection, [(fresh, first), (taken, late), (fresh, second)])
    assert (winners, new) == ({(fresh, first)}, [fresh])
    assert (await holder(database, taken), await holder(database, fresh)) == (old, first)


async def test_ones_own_claim_counts_as_won_again(database: Database) -> None:
    account, index = uuid4(), address()
    async with database.connection() as connection:
        assert await claim(connection, [(index, account)]) == ({(index, account)}, [index])
        assert await claim(connection, [(index, account)]) == ({(index, account)}, [])
        assert await claim(connection, []) == (set(), [])


@pytest.mark.parametrize("commits", [True, False])
async def test_of_two_registrations_at_once_one_gets_the_address(database: Database, commits: bool) -> None:
    shared, own = address(), address()
    one, two = uuid4(), uuid4()
    async with database.connection() as first, database.connection() as second:
        transaction = first.transaction()
        await transaction.start()
        assert await claim(first, [(shared, one)]) == ({(shared, one)}, [shared])

        async def register() -> tuple[set[tuple[str, UUID]], list[str]]:
            async with second.transaction():
                return await claim(second, [(shared, two), (own, two)])

        waiting = asyncio.create_task(register())
        await blocked(database, second.get_server_pid())
        if commits:
            await transaction.commit()
            # The account asked for two addresses here, and has one of them.
            assert await waiting == ({(own, two)}, [own])
        else:
            await transaction.rollback()
            winners, new = await waiting
            assert (winners, sorted(new)) == ({(shared, two), (own, two)}, sorted([shared, own]))
    assert await holder(database, shared) == (one if commits else two)


async def test_many_batches_in_all_orders_neither_deadlock_nor_share(database: Database) -> None:
    indexes = [address() for _ in range(12)]
    won: list[tuple[str, object]] = []

    async def batch(number: int) -> None:
        wanted = [(index, uuid4()) for index in (indexes if number % 2 else reversed(indexes))]
        async with database.connection() as connection, connection.transaction():
            winners, _new = await claim(connection, wanted)
        won.extend((index, account) for index, account in wanted if (index, account) in winners)

    await asyncio.gather(*(batch(number) for number in range(8)))
    assert sorted(index for index, _account in won) == sorted(indexes)
    assert {index: await holder(database, index) for index in indexes} == dict(won)


async def test_a_claim_that_is_given_up_is_free_for_the_next(database: Database) -> None:
    index, loser, winner = address(), uuid4(), uuid4()
    async with database.connection() as connection, connection.transaction():
        _winners, new = await claim(connection, [(index, loser)])
        await unclaim(connection, new)
        await unclaim(connection, [])
    async with database.connection() as connection:
        assert await claim(connection, [(index, winner)]) == ({(index, winner)}, [index])


async def test_a_command_that_repeats_or_misuses_an_operation_claims_nothing(database: Database) -> None:
    """Else whoever asks for the address in the same batch would be told that it is taken."""
    unused = cast("Any", None)  # by what comes before a decision
    decisions = AccountDecisions(NOUN, "accounts", database, unused, unused, cast("Any", Silent()), b"key")
    failed, succeeded = registration("first"), registration("first")
    done = {
        command.envelope.operation: Operation(
            command.envelope.operation, "accounts", command.envelope.subject, None, "first", outcome, 0, b""
        )
        for command, outcome in ((failed, "failed"), (succeeded, "succeeded"))
    }
    misused = registration("another", failed.envelope.operation)
    other = registration("other")
    wanted = msgspec.structs.replace(other, command=misused.command)  # the same address
    batch = [misused, wanted, succeeded, failed]
    part = Part(TopicPartition("commands", 0), cast("Any", None), Span(0, 4), cast("Any", batch), batch)
    for command in batch:
        await Accounts(database).put_key(command.envelope.subject, b"wrapped")
    async with database.connection() as connection, connection.transaction():
        assert await decisions.before_decide(connection, Work([part], []), done) == {}
    assert await holder(database, wanted.command.email_index) == wanted.envelope.subject
    assert await holder(database, failed.command.email_index) == failed.envelope.subject
    assert await holder(database, succeeded.command.email_index) is None


async def test_an_account_that_wishes_for_two_addresses_is_refused_the_one_it_does_not_get(database: Database) -> None:
    unused = cast("Any", None)  # by what comes before a decision
    decisions = AccountDecisions(NOUN, "accounts", database, unused, unused, cast("Any", Silent()), b"key")
    mine, taken = address(), address()
    account, other = uuid4(), uuid4()
    batch = [confirmation(account, taken), confirmation(account, mine)]
    part = Part(TopicPartition("commands", 0), cast("Any", None), Span(0, 2), cast("Any", batch), batch)
    await Accounts(database).put_key(account, b"wrapped")
    async with database.connection() as connection, connection.transaction():
        await claim(connection, [(taken, other)])
        refused = await decisions.before_decide(connection, Work([part], []), {})
    assert refused == {batch[0].envelope.operation: Refusal(Code.EMAIL_TAKEN)}
    assert (await holder(database, taken), await holder(database, mine)) == (other, account)


class Silent:
    """In the place of a publisher, when nothing is published."""

    renew_cache: Any = None


def registration(fingerprint: str, operation: UUID | None = None) -> Asked:
    """A command that makes an account with an address of its own."""
    command = CreateAccount("sealed", "sealed", address(), "sealed")
    return asked("create_account", uuid4(), command, fingerprint, operation)


def confirmation(account: UUID, index: str) -> Asked:
    """A command that moves an account to an address."""
    return asked("confirm_email_change", account, ConfirmEmailChange("f" * 64, index), "first")


def asked(kind: str, account: UUID, command: Any, fingerprint: str, operation: UUID | None = None) -> Asked:
    envelope = Command(
        id="1", source=COMMAND_SOURCE, type=kind, subject=account, time=datetime.now(UTC),
        operation=operation or uuid4(), data=msgspec.Raw(msgspec.json.encode(command)), fingerprint=fingerprint,
    )  # fmt: skip
    return Asked(envelope, command)


async def test_an_account_has_one_key(database: Database) -> None:
    accounts, account = Accounts(database), uuid4()
    assert await accounts.key(account) is None
    kept = await asyncio.gather(*(accounts.put_key(account, key) for key in (b"one", b"two", b"three")))
    assert len(set(kept)) == 1
    assert await accounts.key(account) == kept[0]
