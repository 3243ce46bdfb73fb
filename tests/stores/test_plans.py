"""No list, no history and nothing that is looked through now and then reads a table from its beginning to its end.

Lists and searches of resources: tests/stores/test_pages.py. The statements are those that the product sends.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import msgspec
import pytest
import pytest_asyncio

from config import Settings
from embedded.stack import Stack
from stores import migrations
from stores.accounts import AccountQuery, Accounts
from stores.belongings import CONTENTS, FIRST, Belongings
from stores.dead_letters import DeadLetters, Letter, park
from stores.kinds import Kinds
from tests.conftest import fresh_settings
from tests.stores.explaining import Explaining

TOPIC, EVENTS = "y.commands.resources", "y.events.resources"
FILL = f"""
    INSERT INTO accounts (id, email_index, email_sealed, name_sealed, password_sealed, role, status, version,
        created_at, updated_at)
    SELECT lpad(to_hex(n), 32, '0')::uuid, n::text, '', '', '', 'user',
        CASE WHEN n % 500 = 0 THEN 'erased' ELSE 'active' END, 1, now() - n * interval '1 minute',
        now() - n * interval '1 second' FROM generate_series(1, 20000) n;
    INSERT INTO resources (id, kind, title, body, tags, attributes, visibility, status, owner_id, version, created_at,
        updated_at, deleted_at, search)
    SELECT lpad(to_hex(n), 32, '0')::uuid, 'note', CASE WHEN n % 1000 = 0 THEN '' ELSE 'title' END, '', '[]', '{{}}',
        'private', 'open', lpad(to_hex(n % 20000 + 1), 32, '0')::uuid, 1, now() - n * interval '1 minute',
        now() - n * interval '1 minute', CASE WHEN n % 1000 = 0 THEN now() END, ''
    FROM generate_series(1, 60000) n;
    INSERT INTO journal (noun, life, partition, command_offset, index, aggregate_id, version, event)
    SELECT 'resources', 1, 0, row_number() OVER (), 0, id, 1, '{{"data": {{"title": "t"}}}}' FROM resources;
    INSERT INTO kinds (id, kind, schema, version, created_at, updated_at)
    SELECT gen_random_uuid(), 'kind' || n, '{{}}', 1, now(), now() FROM generate_series(1, 20000) n;
    INSERT INTO dead_letters (consumer_group, topic, topic_id, partition, "offset", value, headers, code, error,
        handler, attempts, actor, subject)
    SELECT 'g', '{TOPIC}', gen_random_uuid(), 0, n, 'x', '[]', 'c', '', 'h', 1, lpad(to_hex(n + 1), 32, '0')::uuid,
        lpad(to_hex(n), 32, '0')::uuid FROM generate_series(1, 20000) n;
    INSERT INTO dead_letters (consumer_group, topic, topic_id, partition, "offset", value, headers, code, error,
        handler, attempts, subject)
    SELECT 'h', '{EVENTS}', gen_random_uuid(), 0, n, '{{"data": {{"title": "t"}}}}', '[]', 'c', 'e', 'h', 1,
        lpad(to_hex(n), 32, '0')::uuid FROM generate_series(1, 20000) n;
    ANALYZE"""


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def large(stack: Stack) -> AsyncIterator[Explaining]:
    """Of each much, and of what is looked for little."""
    async with fresh_settings(stack, "plans") as settings:
        await filled(settings)
        database = Explaining(settings.postgres_url)
        yield database
        await database.close()


async def filled(settings: Settings) -> None:
    await migrations.apply(settings.postgres_url)
    connection = await asyncpg.connect(settings.postgres_url)
    try:
        await connection.execute(FILL)
    finally:
        await connection.close()


def number(n: int) -> UUID:
    return UUID(int=n)


def hours_ago(hours: int) -> datetime:
    return datetime.now(UTC) - timedelta(hours=hours)


QUESTIONS: dict[str, tuple[int, Callable[[Explaining], Awaitable[object]]]] = {
    "users": (20, lambda db: Accounts(db).page(AccountQuery(limit=20))),
    "users further on": (20, lambda db: Accounts(db).page(AccountQuery(limit=20, after=(hours_ago(9), FIRST)))),
    "users by role": (20, lambda db: Accounts(db).page(AccountQuery(limit=20, role="admin"))),
    "users by status": (20, lambda db: Accounts(db).page(AccountQuery(limit=20, status="disabled"))),
    "users by both": (20, lambda db: Accounts(db).page(AccountQuery(limit=20, role="admin", status="active"))),
    "users by the other": (20, lambda db: Accounts(db).page(AccountQuery(limit=20, role="user", status="disabled"))),
    "users by role further on": (
        20,
        lambda db: Accounts(db).page(AccountQuery(limit=20, role="user", after=(hours_ago(9), FIRST))),
    ),
    "users by address": (1, lambda db: Accounts(db).page(AccountQuery(limit=20, email_index="7", role="user"))),
    "kinds": (20, lambda db: Kinds(db).listed(20)),
    "kinds further on": (20, lambda db: Kinds(db).listed(20, "kind5")),
    "history": (4, lambda db: Belongings(db).history("resources", number(7), 0)),
    "what somebody owns": (20, lambda db: Belongings(db).resources(number(7), FIRST, 20)),
    "what somebody leaves": (20, lambda db: Belongings(db).contents(number(7), FIRST, 20)),
    "who was erased": (20 + 1, lambda db: Belongings(db).erased((hours_ago(9), FIRST), 20)),
    "what was left behind": (3 * 3, lambda db: Belongings(db).left_behind([number(n) for n in (500, 1000, 1500)], 500)),
}


NOBODY = ("users by role", "users by status", "users by both", "users by the other")


@pytest.mark.parametrize("question", QUESTIONS)
async def test_no_table_is_read_as_a_whole(large: Explaining, question: str) -> None:
    most, ask = QUESTIONS[question]
    large.forget()
    assert bool(await ask(large)) is (question not in NOBODY)
    assert large.sequential == []
    assert large.looked_at() <= most


async def test_the_journal_of_what_was_erased_is_found_and_emptied_once(
    large: Explaining, monkeypatch: pytest.MonkeyPatch
) -> None:
    large.forget()
    belongings = Belongings(large)
    ids = await belongings.to_empty()
    assert len(ids) == 60  # one of a thousand, with one event each
    monkeypatch.setattr("stores.belongings.EMPTIED", 25)
    await belongings.empty(ids)
    assert await belongings.emptied(ids) == 60
    assert large.sequential == []
    assert large.looked_at() <= 60 * 5
    row = await large.fetchrow("SELECT count(*) FROM journal WHERE event::text LIKE '%title%'")
    assert row["count"] == 60_000 - 60
    large.forget()
    assert await belongings.to_empty() == []
    assert large.looked_at() == 0


async def test_dead_letters_of_who_was_erased_are_found_and_emptied_once(
    large: Explaining, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stores.dead_letters.EMPTIED", 3)
    large.forget()
    await DeadLetters(large).empty(TOPIC, actors=[number(500), number(1000)], subjects=[number(7), number(8)])
    assert large.sequential == []
    assert large.looked_at() <= 4 * 3
    rows = await large.fetch("SELECT state FROM dead_letters WHERE value IS NULL")
    assert [row["state"] for row in rows] == ["dropped"] * 4


async def test_parked_events_of_what_was_erased_are_found_and_emptied_once(
    large: Explaining, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stores.dead_letters.EMPTIED", 3)
    letters, ids = DeadLetters(large), [number(n) for n in (7, 8, 9, 10)]
    large.forget()
    await letters.empty_events(EVENTS, ids, CONTENTS)
    assert large.sequential == []
    assert large.looked_at() <= 4 * 2 + 2 * 3  # those of commands are passed by; each that is found is read and changed
    rows = await large.fetch("SELECT state FROM dead_letters WHERE topic = $1 AND value = $2", EVENTS, b'{"data": {}}')
    assert [row["state"] for row in rows] == ["parked"] * 4
    large.forget()
    await letters.empty_events(EVENTS, ids, CONTENTS)
    assert large.sequential == []
    assert large.looked_at() <= 4


async def test_what_is_parked_has_an_erased_resource_looked_for_again(large: Explaining) -> None:
    erased, alive = number(3000), number(7)
    letter = Letter(
        group="late", topic=EVENTS, topic_id=uuid4(), partition=0, offset=0, key=None, value=b"{}", headers=(),
        produced_at=None, code="c", error="", handler="h", attempts=1, subject=erased,
    )  # fmt: skip
    marked = "SELECT id FROM resources WHERE id = ANY($1) AND journal_emptied_at IS NOT NULL"
    async with large.connection() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(
            "UPDATE resources SET journal_emptied_at = now() WHERE id = ANY($1)", [erased, number(4000)]
        )
        await asyncio.sleep(0)  # what was told is handed over by the loop
        large.forget()
        await park(connection, [letter, msgspec.structs.replace(letter, offset=1, subject=alive)])
        await asyncio.sleep(0)
        assert large.sequential == []
        assert large.looked_at() <= 2
        rows = await connection.fetch(marked, [erased, number(4000), alive])
        await transaction.rollback()
    assert [row["id"] for row in rows] == [number(4000)]
