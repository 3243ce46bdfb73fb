"""Lists of resources: each row once over the pages, only what may be seen, never by reading the whole table."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
import pytest_asyncio

from config import Settings
from domain.access import GUEST, SYSTEM, Actor, Role, Visibility
from domain.resources import Resource
from stores import migrations
from stores.aggregates import Commands
from stores.cache import Cache
from stores.postgres import Database, of
from stores.progress import Move, ProgressStore
from stores.redis import Redis
from stores.resources import TABLE, PageQuery, Resources
from tests.stores.given import GROUP, START, partitions, resource

MINE, OTHERS = UUID(int=0xA), UUID(int=0xB)
ME = Actor(MINE, Role.USER)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def resources(database: Database, settings: Settings) -> AsyncIterator[Resources]:
    redis = Redis(settings)
    yield Resources(database, Cache(redis))
    await redis.close()


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def rows(database: Database, progress: ProgressStore) -> list[Resource]:
    """Sixty rows of which many share a moment and a title; some private, some deleted, of two owners."""
    made = [
        resource(
            0,
            title=f"title {number % 4}",
            kind=("note", "task")[number % 2],
            status=("open", "done")[number % 3 == 0],
            visibility=(Visibility.PUBLIC, Visibility.PRIVATE)[number % 5 in (1, 2)],
            owner_id=(MINE, OTHERS)[number % 7 in (1, 2, 3)],
            created_at=START + timedelta(seconds=number % 6),
            updated_at=START + timedelta(seconds=number % 5),
            deleted_at=START if number % 11 == 0 else None,
        )
        for number in range(60)
    ]
    topic_id = await partitions(progress, 0)
    async with database.connection() as connection:
        store = Commands("resources", TABLE)
        await store.commit(connection, GROUP, [Move(topic_id, 0, 0, 1)], [(state, 0) for state in made], [], [])
    return [state for state in made if state.deleted_at is None]


def visible(state: Resource, actor: Actor) -> bool:
    return actor.role is Role.ADMIN or state.visibility is Visibility.PUBLIC or state.owner_id == actor.id


async def walk(resources: Resources, limit: int, **query: Any) -> list[Resource]:
    found: list[Resource] = []
    after = None
    while page := await resources.page(PageQuery(limit=limit, after=after, **query)):
        assert len(page) <= limit
        found += page
        sort = query.get("sort", (("created_at", True),))
        after = (*(getattr(page[-1], column) for column, _ in sort), page[-1].id)
    return found


SORTS: list[tuple[tuple[str, bool], ...]] = [
    (("created_at", True),),
    (("created_at", False),),
    (("updated_at", True),),
    (("title", False),),
    (("title", False), ("created_at", False)),
    (("title", True), ("updated_at", True)),
    (("title", False), ("created_at", True)),
    (("created_at", True), ("title", False)),
]


@pytest.mark.parametrize("actor", [SYSTEM, ME, GUEST], ids=["admin", "user", "guest"])
@pytest.mark.parametrize("sort", SORTS, ids=str)
async def test_pages_over_ties_give_each_visible_row_once_in_order(
    resources: Resources, rows: list[Resource], sort: tuple[tuple[str, bool], ...], actor: Actor
) -> None:
    expected = [state for state in rows if visible(state, actor)]
    for column, descending in reversed([*sort, ("id", sort[-1][1])]):
        expected.sort(key=lambda state: getattr(state, column), reverse=descending)
    for limit in (1, 7, 100):
        assert await walk(resources, limit, sort=sort, visible_to=actor) == expected


async def test_filters_go_together_with_visibility(resources: Resources, rows: list[Resource]) -> None:
    filters = {"kind": "note", "status": "open", "owner_id": OTHERS}
    expected = {
        state.id
        for state in rows
        if state.kind == "note" and state.status == "open" and state.owner_id == OTHERS and visible(state, ME)
    }
    found = await walk(resources, 3, filters=filters, visible_to=ME)
    assert {state.id for state in found} == expected != set()
    assert len(found) == len(expected)
    private = await walk(resources, 100, filters={"visibility": "private"}, visible_to=ME)
    assert {state.owner_id for state in private} == {MINE}
    assert await walk(resources, 100, filters={"visibility": "private"}, visible_to=GUEST) == []


async def test_an_identity_without_a_role_of_its_own_sees_no_more_than_public(
    resources: Resources, rows: list[Resource]
) -> None:
    stranger = Actor(uuid4(), Role.USER)
    assert {state.visibility for state in await walk(resources, 100, visible_to=stranger)} == {Visibility.PUBLIC}


@pytest.mark.parametrize("query", [{"sort": (("body", False),)}, {"filters": {"title); DROP TABLE resources": "x"}}])
async def test_columns_are_chosen_from_a_list(resources: Resources, query: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"body|DROP"):
        await resources.page(PageQuery(limit=1, visible_to=SYSTEM, **query))


async def test_values_are_never_part_of_the_statement(resources: Resources, rows: list[Resource]) -> None:
    assert await walk(resources, 5, filters={"kind": "' OR true --"}, visible_to=SYSTEM) == []


class Large:
    """A database of 20,000 resources with one connection, so that its counters are those of our questions."""

    def __init__(self, resources: Resources, database: Database, url: str) -> None:
        self.resources = resources
        self._database = database
        self._url = url

    async def scans(self) -> tuple[int, int]:
        """(sequential, index) scans of the table so far."""
        await self._database.execute("SELECT pg_stat_force_next_flush()")
        connection = await asyncpg.connect(self._url)
        try:
            row = await connection.fetchrow(
                "SELECT seq_scan, idx_scan FROM pg_stat_user_tables WHERE relname='resources'"
            )
            assert row is not None
            return row["seq_scan"], row["idx_scan"]
        finally:
            await connection.close()


@pytest_asyncio.fixture(loop_scope="session")
async def large(own_settings: Settings) -> AsyncIterator[Large]:
    url = own_settings.postgres_url
    await migrations.apply(url)
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(
            """INSERT INTO resources SELECT gen_random_uuid(), 'kind ' || n % 50, 'title ' || n, repeat('x', 200), '[]',
                   '{}', CASE WHEN n % 3 = 0 THEN 'private' ELSE 'public' END, 'open',
                   ('00000000-0000-0000-0000-0000000000' || lpad(to_hex(n % 200), 2, '0'))::uuid, 1,
                   timestamptz '2026-01-01' + n * interval '1 second',
                   timestamptz '2026-01-01' + n * interval '2 second',
                   CASE WHEN n % 20 = 0 THEN timestamptz '2026-02-01' END
               FROM generate_series(1, 20000) AS n"""
        )
        await connection.execute("VACUUM ANALYZE resources")
    finally:
        await connection.close()
    database = of(own_settings, "tests", size=1)
    redis = Redis(own_settings)
    yield Large(Resources(database, Cache(redis)), database, url)
    await database.close()
    await redis.close()


async def test_no_list_by_time_reads_the_whole_table(large: Large) -> None:
    sequential, by_index = await large.scans()
    questions = 0
    for actor in (SYSTEM, ME, GUEST):
        for column in ("created_at", "updated_at"):
            for descending in (True, False):
                for filters in ({}, {"kind": "kind 7"}, {"owner_id": MINE}):
                    for after in (None, (START + timedelta(hours=1), uuid4())):
                        page = await large.resources.page(
                            PageQuery(
                                limit=20, visible_to=actor, sort=((column, descending),), filters=filters, after=after
                            )
                        )
                        questions += 1
                        assert len(page) <= 20
    after_sequential, after_by_index = await large.scans()
    assert after_sequential == sequential
    assert after_by_index >= by_index + questions


async def test_many_are_loaded_by_id_through_the_index(large: Large) -> None:
    page = await large.resources.page(PageQuery(limit=100, visible_to=SYSTEM))
    sequential, _ = await large.scans()
    assert len(await large.resources.states([state.id for state in page])) == 100
    assert (await large.scans())[0] == sequential
