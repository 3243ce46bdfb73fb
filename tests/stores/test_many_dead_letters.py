"""Dead letters among very many: each list is found by reading few rows, whatever it is narrowed to."""

import itertools
from collections.abc import AsyncIterator, Callable

import asyncpg
import pytest
import pytest_asyncio

from config import Settings
from embedded.stack import Stack
from stores import migrations
from stores.dead_letters import STATES, DeadLetters, Listed
from tests.conftest import fresh_settings
from tests.stores.explaining import Explaining

ROWS, LIMIT = 50_000, 20
GROUPS, TOPICS = ("large", "other", "rare", "nobody"), ("common", "second", "seldom", "nothing")
MOST_KINDS = 12
MOST_READ = MOST_KINDS * (LIMIT + 1) + LIMIT


@pytest_asyncio.fixture(scope="module", loop_scope="session", params=["analyzed", "not analyzed"])
async def large(request: pytest.FixtureRequest, stack: Stack) -> AsyncIterator[Explaining]:
    """Nearly all are of one group and topic, and parked; what is rare came last."""
    async with fresh_settings(stack, "letters") as own:
        await _fill(own, analyzed=request.param == "analyzed")
        database = Explaining(own.postgres_url)
        yield database
        await database.close()


async def _fill(settings: Settings, *, analyzed: bool) -> None:
    await migrations.apply(settings.postgres_url)
    connection = await asyncpg.connect(settings.postgres_url)
    try:
        await connection.execute("ALTER TABLE dead_letters SET (autovacuum_enabled = false)")
        await connection.execute(
            f"""INSERT INTO dead_letters (consumer_group, topic, topic_id, partition, "offset", value, headers, code,
                    error, handler, attempts, state)
                SELECT CASE WHEN n > {ROWS} - 5 THEN 'rare' WHEN n % 10 = 0 THEN 'other' ELSE 'large' END,
                    CASE WHEN n > {ROWS} - 3 THEN 'seldom' WHEN n % 3 = 0 THEN 'second' ELSE 'common' END,
                    gen_random_uuid(), n % 3, n, 'abc', '[]', 'c', repeat('e', 200), 'h', 1,
                    CASE WHEN n > {ROWS} - 8 THEN 'requested' WHEN n > {ROWS} - 50 THEN 'dropped' ELSE 'parked' END
                FROM generate_series(1, {ROWS}) AS n"""
        )
        if analyzed:
            await connection.execute("VACUUM ANALYZE dead_letters")
        kinds = await connection.fetchval(
            "SELECT count(*) FROM (SELECT DISTINCT consumer_group, topic, state FROM dead_letters) AS kinds"
        )
        assert kinds <= MOST_KINDS
    finally:
        await connection.close()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def everything(large: Explaining) -> list[Listed]:
    return await DeadLetters(large).listed(group=None, state=None, topic=None, limit=ROWS, after=0)


def _is(wanted: str | None) -> Callable[[str], bool]:
    return lambda found: wanted in (None, found)


async def test_a_list_is_narrowed_by_reading_few(large: Explaining, everything: list[Listed]) -> None:
    letters = DeadLetters(large)
    assert len(everything) == ROWS
    large.forget()
    for group, topic, state in itertools.product((None, *GROUPS), (None, *TOPICS), (None, *STATES)):
        of_group, of_topic, of_state = _is(group), _is(topic), _is(state)
        expected = (one for one in everything if of_group(one.group) and of_topic(one.topic) and of_state(one.state))
        after = 0
        for _ in range(3):
            page = await letters.listed(group=group, state=state, topic=topic, limit=LIMIT, after=after)
            assert page == list(itertools.islice(expected, LIMIT))
            assert large.looked_at() <= MOST_READ, (group, topic, state)
            after = page[-1].id if page else ROWS


async def test_groups_are_named_by_reading_few(large: Explaining) -> None:
    large.forget()
    assert await DeadLetters(large).groups() == {"large", "other", "rare"}
    assert large.looked_at() <= MOST_KINDS + 1


async def test_what_a_group_was_asked_to_take_again_is_found_by_reading_few(large: Explaining) -> None:
    """It looks each second."""
    large.forget()
    letters = DeadLetters(large)
    owned = [*TOPICS, *TOPICS], [number for number in (0, 1) for _ in TOPICS]
    found = await letters.requested("large", *owned, 0)
    assert [one.offset for one in found] == [n for n in range(ROWS - 7, ROWS - 4) if n % 3 < 2]
    assert large.looked_at() <= MOST_READ
    rest = await letters.requested("large", *owned, found[0].id)
    assert rest == found[1:]
    assert await letters.requested("nobody", ["common"] * 3, [0, 1, 2], 0) == []
    assert large.looked_at() <= MOST_READ
