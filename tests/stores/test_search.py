"""Full text: what every implementation of Search must do. Another one joins by a fixture of its own in SEARCHES."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

import msgspec
import pytest
import pytest_asyncio

import stores.search
from domain import words
from domain.access import GUEST, SYSTEM, Actor, Role, Visibility
from domain.resources import Resource
from stores.aggregates import Commands
from stores.indexing import MOST, Indexing
from stores.narrowing import Filter, Op
from stores.postgres import Database
from stores.progress import Move, ProgressStore
from stores.resources import TABLE
from stores.search import Hit, PostgresSearch, Search, Sought
from tests.stores.given import GROUP, START, partitions, resource

MINE = UUID(int=0xA)
ME = Actor(MINE, Role.USER)
SEARCHES = ["postgres"]

Put = Callable[..., Awaitable[Resource]]


@pytest.fixture(params=SEARCHES)
def search(request: pytest.FixtureRequest, database: Database) -> Search:
    return {"postgres": PostgresSearch(database)}[request.param]


@pytest_asyncio.fixture(loop_scope="session")
async def put(database: Database, progress: ProgressStore) -> AsyncIterator[Put]:
    """Keeps a resource, or a newer version of one, as the write path does."""
    store = Commands("resources", TABLE)
    topic_id = await partitions(progress, 0)
    at = 0

    async def keep(state: Resource | None = None, **fields: Any) -> Resource:
        nonlocal at
        loaded = 0 if state is None else state.version
        state = resource(0, **fields) if state is None else msgspec.structs.replace(state, version=loaded + 1, **fields)
        async with database.connection() as connection:
            await store.commit(connection, GROUP, [Move(topic_id, 0, at, at + 1)], [(state, loaded)], [], [])
        at += 1
        return state

    yield keep
    await database.execute("DELETE FROM resources")


async def find(search: Search, question: str, actor: Actor = SYSTEM, *filters: Filter, limit: int = 100) -> list[Hit]:
    return await search.find(
        Sought(terms=words.terms(question), visible_to=actor, limit=limit, filters=tuple(filters))
    )  # fmt: skip


async def titles(search: Search, question: str, actor: Actor = SYSTEM) -> list[str]:
    return [hit.resource.title for hit in await find(search, question, actor)]


async def test_korean_is_found_by_any_two_characters(search: Search, put: Put) -> None:
    text = "한여울에서는물고기가뛴다"
    await put(title=text)
    await put(title="다른제목", body=f"이야기는 {text}로 끝난다")
    for at in range(len(text) - 1):
        assert len(await find(search, text[at : at + 2])) == 2, text[at : at + 2]
    for at in range(len(text)):
        assert len(await find(search, text[at])) == 2, text[at]
    for begin in range(len(text)):
        for end in range(begin + 2, len(text) + 1):
            assert len(await find(search, text[begin:end])) == 2, text[begin:end]
    assert await find(search, "울여") == []
    assert await find(search, "여울고기") == []  # both pairs are there, and not beside each other
    assert len(await find(search, "고기 여울")) == 2


async def test_words_are_found_by_their_beginnings_whatever_their_case(search: Search, put: Put) -> None:
    await put(title="Running WATER", body="v1.2 e-mail a@b.example/path ＡＢＣ Ünïcode straße")
    for question in ("run", "RUNNING", "water run", "mail", "path", "example", "v1", "abc", "ünï", "straße"):
        assert await titles(search, question) == ["Running WATER"], question
    for question in ("unning", "r", "runs", "water nothing"):
        assert await titles(search, question) == [], question


async def test_tags_are_found_and_decomposed_letters_too(search: Search, put: Put) -> None:
    await put(title="x", tags=("여울 물", "it's \\ odd"))
    for question in ("여울", "\u110b\u1167\u110b\u116e\u11af", "odd", "it"):
        assert await titles(search, question) == ["x"], question


async def test_the_title_weighs_more_than_the_body(search: Search, put: Put) -> None:
    await put(title="other", body="여울 river")
    await put(title="여울 river")
    assert await titles(search, "여울") == ["여울 river", "other"]
    assert await titles(search, "river") == ["여울 river", "other"]


async def test_only_what_one_may_see_is_found(search: Search, put: Put) -> None:
    await put(title="river public")
    await put(title="river mine", visibility=Visibility.PRIVATE, owner_id=MINE)
    await put(title="river theirs", visibility=Visibility.PRIVATE)
    assert set(await titles(search, "river")) == {"river public", "river mine", "river theirs"}
    assert set(await titles(search, "river", ME)) == {"river public", "river mine"}
    assert await titles(search, "river", GUEST) == ["river public"]
    assert await titles(search, "river", Actor(uuid4(), Role.USER)) == ["river public"]


async def test_what_changed_or_was_deleted_is_found_as_it_is(search: Search, put: Put) -> None:
    state = await put(title="river")
    state = await put(state, title="brook")
    assert (await titles(search, "river"), await titles(search, "brook")) == ([], ["brook"])
    state = await put(state, deleted_at=START)
    assert await titles(search, "brook") == []
    await put(state, deleted_at=None)
    assert await titles(search, "brook") == ["brook"]


async def test_filters_narrow_what_is_found(search: Search, put: Put) -> None:
    note = await put(title="river note", tags=("a",), attributes={"size": 3})
    await put(title="river task", kind="task")
    for narrowing in (
        Filter("kind", Op.EQ, "note"), Filter("kind", Op.NE, "task"), Filter("tags", Op.CONTAINS, "a"),
        Filter("attributes.size", Op.EQ, ('{"size":3}',)), Filter("kind", Op.IN, ("note", "x")),
    ):  # fmt: skip
        assert [hit.resource for hit in await find(search, "river", SYSTEM, narrowing)] == [note], narrowing


async def test_pages_give_each_hit_once_the_best_first(search: Search, put: Put) -> None:
    for number in range(7):
        await put(title=f"river {number}" if number % 2 else "x", body="river " * number)
    await put(title="river")
    everything = await find(search, "river")
    assert [hit.score for hit in everything] == sorted((hit.score for hit in everything), reverse=True)
    seen: list[UUID] = []
    after = None
    while hits := await search.find(Sought(terms=words.terms("river"), visible_to=SYSTEM, limit=2, after=after)):
        seen += [hit.resource.id for hit in hits]
        after = (hits[-1].score, hits[-1].resource.id)
    assert seen == [hit.resource.id for hit in everything]


async def test_any_text_can_be_kept_and_looked_for(search: Search, put: Put) -> None:
    evil = "a' | '=vpublic:*&!(<->) \\' =knote \u00df\ufdfa㍿ İ 𠀀 \U0001f600 " + "가" * 300 + "﷽" * 50
    await put(title=evil[:200], body=evil * 20, tags=("'", "\\", "a:1A"), visibility=Visibility.PRIVATE)
    await put(title="long", body="가나다라마바사아자차카타파하" * 7_000)
    await put(title="long", body="".join(chr(0x4E00 + number % 20_000) for number in range(100_000)))
    for question in (evil[:200], "a' | '=vpublic", "' OR 1=1 --", "((((", "a" * 200, "\\'", "=vpublic", "!" * 200):
        await find(search, question, GUEST)
    assert await titles(search, "vpublic", GUEST) == []


async def test_rows_of_older_versions_are_found_once_they_were_indexed(
    search: Search, put: Put, database: Database
) -> None:
    for number in range(MOST + 1):
        await put(title=f"river {number}", visibility=Visibility.PRIVATE, owner_id=MINE)
    before = await database.fetch("SELECT id, search::text FROM resources ORDER BY id")
    await database.execute("UPDATE resources SET search = NULL")
    assert await find(search, "river", ME) == []
    assert await Indexing(database).run() == MOST + 1
    assert len(await find(search, "river", ME, limit=1000)) == MOST + 1
    assert await database.fetch("SELECT id, search::text FROM resources ORDER BY id") == before
    assert await Indexing(database).run() == 0


@pytest.mark.parametrize("few", [0, 2, 300])
async def test_however_many_match_all_that_may_be_seen_are_found(
    search: Search, put: Put, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(stores.search, "FEW", few)
    private = {"visibility": Visibility.PRIVATE, "title": "a weir"}
    mine = {(await put(owner_id=MINE, kind=kind, **private)).id for kind in ("note", "note", "task")}
    others = {(await put(owner_id=uuid4(), kind="note", **private)).id for _ in range(4)}
    public = {(await put(owner_id=uuid4(), kind="note", title="a weir")).id}
    for _ in range(2):  # asked again, it knows how many there are
        for actor, seen in ((ME, mine | public), (GUEST, public), (SYSTEM, mine | others | public)):
            assert {hit.resource.id for hit in await find(search, "weir", actor)} == seen
        notes = await find(search, "weir", ME, Filter("kind", Op.EQ, "note"))
        assert {hit.resource.kind for hit in notes} == {"note"}
        assert len(notes) == 3
        assert await find(search, "weir", ME, Filter("kind", Op.EQ, "photo")) == []
