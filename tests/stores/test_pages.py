"""Lists of resources: each row once over the pages, only what may be seen, never by reading the whole table."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import msgspec
import orjson
import pytest
import pytest_asyncio

from config import Settings
from domain import words
from domain.access import GUEST, SYSTEM, Actor, Role, Visibility
from domain.resources import Resource
from embedded.stack import Stack
from stores import migrations
from stores.aggregates import Commands
from stores.cache import Cache
from stores.narrowing import Filter, Op
from stores.pages import COUNTED, GATHERED, LOOKED, SORTABLE, PageQuery, order
from stores.postgres import Database
from stores.progress import Move, ProgressStore
from stores.redis import Redis
from stores.resources import TABLE, Resources
from stores.search import MOST_LOOKED, PostgresSearch, Sought
from tests.conftest import fresh_settings
from tests.stores.explaining import Explaining
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
    while True:
        page = await resources.page(PageQuery(limit=limit, after=after, **query))
        assert len(page.items) <= limit
        found += page.items
        if page.place is None:
            return found
        after = page.place


SORTS: list[tuple[tuple[str, bool], ...]] = [
    (("created_at", True),),
    (("created_at", False),),
    (("updated_at", True),),
    (("title", False),),
    (("title", False), ("created_at", False)),
    (("kind", True),),
    (("status", False),),
    (("updated_at", True), ("title", True)),
    (("created_at", True), ("title", False)),
]


@pytest.mark.parametrize("actor", [SYSTEM, ME, GUEST], ids=["admin", "user", "guest"])
@pytest.mark.parametrize("sort", SORTS, ids=str)
async def test_pages_over_ties_give_each_visible_row_once_in_order(
    resources: Resources, rows: list[Resource], sort: tuple[tuple[str, bool], ...], actor: Actor
) -> None:
    expected = [state for state in rows if visible(state, actor)]
    for column, descending in reversed(order(PageQuery(limit=1, visible_to=actor, sort=sort))):
        expected.sort(key=lambda state: getattr(state, column), reverse=descending)
    for limit in (1, 7, 100):
        assert await walk(resources, limit, sort=sort, visible_to=actor) == expected


async def test_filters_go_together_with_visibility(resources: Resources, rows: list[Resource]) -> None:
    filters = (Filter("kind", Op.EQ, "note"), Filter("status", Op.EQ, "open"), Filter("owner_id", Op.EQ, OTHERS))
    expected = {
        state.id
        for state in rows
        if state.kind == "note" and state.status == "open" and state.owner_id == OTHERS and visible(state, ME)
    }
    found = await walk(resources, 3, filters=filters, visible_to=ME)
    assert {state.id for state in found} == expected != set()
    assert len(found) == len(expected)
    private = await walk(resources, 100, filters=(Filter("visibility", Op.EQ, "private"),), visible_to=ME)
    assert {state.owner_id for state in private} == {MINE}
    assert await walk(resources, 100, filters=(Filter("visibility", Op.EQ, "private"),), visible_to=GUEST) == []


async def test_an_identity_without_a_role_of_its_own_sees_no_more_than_public(
    resources: Resources, rows: list[Resource]
) -> None:
    stranger = Actor(uuid4(), Role.USER)
    assert {state.visibility for state in await walk(resources, 100, visible_to=stranger)} == {Visibility.PUBLIC}


@pytest.mark.parametrize("query", [{"sort": (("body", False),)}, {"filters": (Filter("title", Op.GT, "DROP"),)}])
async def test_columns_are_chosen_from_a_list(resources: Resources, query: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"body|title"):
        await resources.page(PageQuery(limit=1, visible_to=SYSTEM, **query))


async def test_values_are_never_part_of_the_statement(resources: Resources, rows: list[Resource]) -> None:
    assert await walk(resources, 5, filters=(Filter("kind", Op.EQ, "' OR true --"),), visible_to=SYSTEM) == []


async def test_marks_and_paths_are_never_part_of_a_query(resources: Resources, rows: list[Resource]) -> None:
    for evil in ("'", "\\", "' | '=vpublic", "a' & 'b", ":*", "!x", "(", "$1", "{}"):
        assert await walk(resources, 5, filters=(Filter("tags", Op.CONTAINS, evil),), visible_to=SYSTEM) == []
        attribute = Filter("attributes." + evil, Op.EQ, (orjson.dumps({evil: evil}).decode(),))
        assert await walk(resources, 5, filters=(attribute,), visible_to=SYSTEM) == []


OWNERS, KINDS, ROWS = 200, 50, 100_000


class Large:
    """A database of 100,000 resources, most of them private, and a connection that tells what each statement reads."""

    def __init__(self, database: Explaining, redis: Redis) -> None:
        self.database = database
        self.resources = Resources(database, Cache(redis))
        self.search = PostgresSearch(database)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def apart(stack: Stack) -> AsyncIterator[Settings]:
    async with fresh_settings(stack, "large") as own:
        yield own


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def filled(apart: Settings) -> AsyncIterator[Large]:
    url = apart.postgres_url
    await migrations.apply(url)
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(
            f"""INSERT INTO resources (id, kind, title, body, tags, attributes, visibility, status, owner_id, version,
                   created_at, updated_at, deleted_at, search)
               SELECT gen_random_uuid(), kind, 'title ' || n, repeat('x', 200), '["common"]', attributes, visibility,
                   status, owner, 1, timestamptz '2026-01-01' + n * interval '1 second',
                   timestamptz '2026-01-01' + n * interval '2 second',
                   CASE WHEN n % 20 = 0 THEN timestamptz '2026-02-01' + n * interval '1 second' END,
                   array_to_tsvector(ARRAY['=k' || kind, '=s' || status, '=v' || visibility, '=tcommon',
                       '=trare' || n % 1000, '=o' || replace(owner::text, '-', ''), 'every', 'seldom' || n % 5000])
                       || ('title:1A ' || 'number' || n || ':2A')::tsvector
               FROM (SELECT n, 'kind' || n % {KINDS} AS kind,
                   CASE WHEN n % 100 = 1 THEN 'public' ELSE 'private' END AS visibility,
                   CASE WHEN n % 997 = 0 THEN 'done' ELSE 'open' END AS status,
                   json_build_object('n', n % 1000, 'same', true) AS attributes,
                   ('00000000-0000-0000-0000-0000000000' || lpad(to_hex(n % {OWNERS}), 2, '0'))::uuid AS owner
                   FROM generate_series(1, {ROWS}) AS n) AS made"""
        )
        await connection.execute("VACUUM ANALYZE resources")
    finally:
        await connection.close()
    database, redis = Explaining(url), Redis(apart)
    yield Large(database, redis)
    await database.close()
    await redis.close()


@pytest.fixture
def large(filled: Large) -> Large:
    """It has read nothing yet, whatever another test did with it."""
    filled.database.forget()
    return filled


FILTERS: dict[str, tuple[Filter, ...]] = {
    "none": (),
    "kind": (Filter("kind", Op.EQ, "kind7"),),
    "no such kind": (Filter("kind", Op.EQ, "nothing"),),
    "not a kind": (Filter("kind", Op.NE, "kind7"),),
    "kinds": (Filter("kind", Op.IN, ("kind7", "nothing")),),
    "status": (Filter("status", Op.EQ, "done"),),
    "visibility": (Filter("visibility", Op.EQ, Visibility.PUBLIC),),
    "owner": (Filter("owner_id", Op.EQ, MINE),),
    "tag": (Filter("tags", Op.CONTAINS, "rare7"),),
    "common tag": (Filter("tags", Op.CONTAINS, "common"),),
    "attribute": (Filter("attributes.n", Op.EQ, ('{"n":7}',)),),
    "common attribute": (Filter("attributes.same", Op.EQ, ('{"same":true}',)),),
    "title": (Filter("title", Op.EQ, "title 77"),),
    "in the title": (Filter("title", Op.CONTAINS, "number77"),),
    "created": (Filter("created_at", Op.GTE, START + timedelta(hours=27)),),
    "changed": (Filter("updated_at", Op.LT, START + timedelta(seconds=9)),),
    "all at once": (
        Filter("kind", Op.EQ, "kind7"),
        Filter("status", Op.EQ, "open"),
        Filter("tags", Op.CONTAINS, "common"),
        Filter("created_at", Op.GT, START),
    ),
}
MOST_READ = LOOKED + GATHERED + 1


@pytest.mark.parametrize("filters", FILTERS.values(), ids=FILTERS)
@pytest.mark.parametrize("actor", [SYSTEM, ME, GUEST], ids=["admin", "user", "guest"])
async def test_no_list_scans_the_table_and_each_reads_few_rows(
    large: Large, actor: Actor, filters: tuple[Filter, ...]
) -> None:
    for column in SORTABLE:
        for descending in (True, False):
            query = PageQuery(limit=20, visible_to=actor, sort=((column, descending),), filters=filters)
            page = await large.resources.page(query)
            assert large.database.looked_at() <= MOST_READ, (column, descending)
            if page.place is not None:
                await large.resources.page(msgspec.structs.replace(query, after=page.place))
                assert large.database.looked_at() <= MOST_READ, (column, descending)
    total = await large.resources.total(PageQuery(limit=1, visible_to=actor, filters=filters))
    assert large.database.looked_at() <= COUNTED + 1
    assert total.count <= COUNTED
    assert large.database.sequential == []


@pytest.mark.parametrize("actor", [SYSTEM, ME], ids=["admin", "user"])
async def test_no_list_of_the_deleted_scans_the_table(large: Large, actor: Actor) -> None:
    for filters in ((), FILTERS["kind"], FILTERS["common tag"]):
        query = PageQuery(
            limit=20, visible_to=actor, deleted=True, sort=(("deleted_at", True),), filters=filters
        )  # fmt: skip
        page = await large.resources.page(query)
        assert all(state.deleted_at is not None for state in page.items)
        assert actor is SYSTEM or {state.owner_id for state in page.items} <= {MINE}
        assert large.database.looked_at() <= MOST_READ
    assert large.database.sequential == []


@pytest.mark.parametrize("actor", [SYSTEM, ME, GUEST], ids=["admin", "user", "guest"])
@pytest.mark.parametrize("word", ["every", "seldom7", "number77", "nothing"])
async def test_no_search_scans_the_table(large: Large, actor: Actor, word: str) -> None:
    for filters in ((), FILTERS["kind"], FILTERS["common tag"], FILTERS["created"], FILTERS["not a kind"]):
        hits = await large.search.find(
            Sought(terms=words.terms(word), visible_to=actor, limit=20, filters=filters)
        )  # fmt: skip
        assert len(hits) <= 20
        assert large.database.looked_at() <= MOST_LOOKED
    assert large.database.sequential == []


async def test_a_rare_one_is_found_among_many_that_are_not_meant(large: Large) -> None:
    page = await large.resources.page(PageQuery(limit=20, visible_to=GUEST, filters=FILTERS["title"]))
    assert (page.items, page.place) == ([], None)
    page = await large.resources.page(PageQuery(limit=20, visible_to=SYSTEM, filters=FILTERS["title"]))
    assert ([state.title for state in page.items], page.place) == (["title 77"], None)
    mine = await walk(large.resources, 100, visible_to=ME, filters=FILTERS["owner"])
    assert len(mine) == ROWS // OWNERS


async def test_totals_are_exact_as_far_as_they_are_counted(large: Large) -> None:
    total = await large.resources.total(PageQuery(limit=1, visible_to=SYSTEM))
    assert (total.count, total.exact) == (COUNTED, False)
    total = await large.resources.total(PageQuery(limit=1, visible_to=GUEST))
    assert (total.count, total.exact) == (ROWS // 100, True)


async def test_many_are_loaded_by_id_through_the_index(large: Large) -> None:
    page = await large.resources.page(PageQuery(limit=100, visible_to=SYSTEM))
    assert len(await large.resources.states([state.id for state in page.items])) == 100
    assert large.database.sequential == []
