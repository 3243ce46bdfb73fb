"""No list, no history and nothing that is looked through now and then reads a table from its beginning to its end.

Lists and searches of resources: tests/stores/test_pages.py. The statements are those that the product sends.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio

from config import Settings
from embedded.stack import Stack
from stores import migrations
from stores.accounts import AccountQuery, Accounts
from stores.belongings import FIRST, Belongings
from stores.dead_letters import DeadLetters
from stores.kinds import Kinds
from tests.conftest import fresh_settings
from tests.stores.explaining import Explaining
from tests.stores.given import START

TOPIC = "y.commands.resources"
FILL = f"""
    INSERT INTO accounts (id, email_index, email_sealed, name_sealed, password_sealed, role, status, version,
        created_at, updated_at)
    SELECT lpad(to_hex(n), 32, '0')::uuid, n::text, '', '', '', 'user',
        CASE WHEN n % 500 = 0 THEN 'erased' ELSE 'active' END, 1, now() - n * interval '1 minute', now()
    FROM generate_series(1, 20000) n;
    INSERT INTO resources (id, kind, title, body, tags, attributes, visibility, status, owner_id, version, created_at,
        updated_at, deleted_at, search)
    SELECT gen_random_uuid(), 'note', CASE WHEN n % 1000 = 0 THEN '' ELSE 'title' END, '', '[]', '{{}}', 'private',
        'open', lpad(to_hex(n % 20000 + 1), 32, '0')::uuid, 1, now() - n * interval '1 minute',
        now() - n * interval '1 minute', CASE WHEN n % 1000 = 0 THEN now() END, ''
    FROM generate_series(1, 60000) n;
    INSERT INTO journal (noun, life, partition, command_offset, index, aggregate_id, version, event)
    SELECT 'resources', 1, 0, row_number() OVER (), 0, id, 1, '{{"data": {{"title": "t"}}}}' FROM resources;
    INSERT INTO kinds (id, kind, schema, version, created_at, updated_at)
    SELECT gen_random_uuid(), 'kind' || n, '{{}}', 1, now(), now() FROM generate_series(1, 20000) n;
    INSERT INTO dead_letters (consumer_group, topic, topic_id, partition, "offset", value, headers, code, error,
        handler, attempts, actor, subject)
    SELECT 'g', '{TOPIC}', gen_random_uuid(), 0, n, 'x', '[]', 'c', '', 'h', 1, lpad(to_hex(n + 1), 32, '0')::uuid,
        gen_random_uuid() FROM generate_series(1, 20000) n;
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


QUESTIONS: dict[str, tuple[int, Callable[[Explaining], Awaitable[object]]]] = {
    "users": (20, lambda db: Accounts(db).page(AccountQuery(limit=20))),
    "users further on": (20, lambda db: Accounts(db).page(AccountQuery(limit=20, after=(START, number(9))))),
    "users by role": (20, lambda db: Accounts(db).page(AccountQuery(limit=20, role="admin"))),
    "users by status": (20, lambda db: Accounts(db).page(AccountQuery(limit=20, status="disabled"))),
    "users by address": (1, lambda db: Accounts(db).page(AccountQuery(limit=20, email_index="7", role="user"))),
    "kinds": (20, lambda db: Kinds(db).listed(20)),
    "kinds further on": (20, lambda db: Kinds(db).listed(20, "kind5")),
    "history": (2, lambda db: Belongings(db).history("resources", number(7), 0)),
    "what somebody owns": (20, lambda db: Belongings(db).resources(number(7), FIRST, 20)),
    "what somebody leaves": (20, lambda db: Belongings(db).contents(number(7), FIRST, 20)),
    # One of 500 accounts was erased, and of each there is something.
    "what was left behind": (40 + 40 * 4, lambda db: Belongings(db).left_behind(500)),
    "the journal of what was erased": (0, lambda db: Belongings(db).empty()),
}


@pytest.mark.parametrize("question", QUESTIONS)
async def test_no_table_is_read_as_a_whole(large: Explaining, question: str) -> None:
    most, ask = QUESTIONS[question]
    large.looked_at()
    large.sequential.clear()
    await ask(large)
    assert large.sequential == []
    assert large.looked_at() <= most


async def test_dead_letters_of_what_was_erased_are_found_by_who_was(large: Explaining) -> None:
    await DeadLetters(large).empty(TOPIC)
    row = await large.fetchrow("SELECT count(*) FROM dead_letters WHERE value IS NULL AND state = 'dropped'")
    assert row["count"] == 40  # one of each of these accounts
    large.sequential.clear()
    await DeadLetters(large).empty(TOPIC)
    assert not [query for query in large.sequential if query.startswith("resources: ")]
