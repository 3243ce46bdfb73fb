"""The shared cache: newer replaces older, never the other way, and an outage leaves nothing old behind."""

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import UUID, uuid4

import pytest
import pytest_asyncio

from config import Settings
from embedded.stack import Stack
from stores.cache import Cache, entry
from stores.postgres import Database
from stores.redis import BREAK_S, Redis
from stores.resources import Resources
from telemetry import metrics


@pytest_asyncio.fixture(loop_scope="session")
async def redis(settings: Settings) -> AsyncIterator[Redis]:
    redis = Redis(settings)
    yield redis
    await redis.close()


@pytest_asyncio.fixture(loop_scope="session")
async def cache(redis: Redis) -> AsyncIterator[Cache]:
    cache = Cache(redis)
    yield cache
    await cache.close()


@pytest_asyncio.fixture(loop_scope="session")
async def other(settings: Settings) -> AsyncIterator[Cache]:
    """The cache as another process has it, which asks nothing while Redis is away."""
    redis = Redis(settings)
    cache = Cache(redis)
    yield cache
    await cache.close()
    await redis.close()


async def entries(cache: Cache, *ids: UUID) -> dict[UUID, bytes]:
    return await cache.get("resources", ids)


async def until(condition: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(20):
        while not await condition():
            await asyncio.sleep(0.02)


async def test_an_entry_is_found_by_its_noun_and_id(cache: Cache) -> None:
    a, b = uuid4(), uuid4()
    assert await cache.put("resources", {a: entry(1, b"{a}"), b: entry(12, b"{b}")})
    assert await entries(cache, b, uuid4(), a) == {
        a: b"000000000001{a}",
        b: b"000000000012{b}",
    }
    assert await cache.get("accounts", [a]) == {}


@pytest.mark.parametrize(
    ("there", "comes", "stays"),
    [
        (entry(3, b"new"), entry(2, b"old"), entry(3, b"new")),
        (entry(3, b"new"), entry(3, b"same version"), entry(3, b"new")),
        (entry(9, b"old"), entry(10, b"new"), entry(10, b"new")),
        (entry(3, b""), entry(2, b"alive"), entry(3, b"")),  # gone: a late writer does not bring it back
        (entry(2, b"alive"), entry(3, b""), entry(3, b"")),
        (entry(0, b""), entry(1, b"created"), entry(1, b"created")),  # absent until now
    ],
)
async def test_only_what_is_newer_is_set(cache: Cache, there: bytes, comes: bytes, stays: bytes) -> None:
    id, other = uuid4(), uuid4()
    await cache.put("resources", {id: there})
    await cache.put("resources", {other: comes, id: comes})
    assert await entries(cache, id, other) == {id: stays, other: comes}


async def test_writers_in_any_order_leave_the_newest(cache: Cache) -> None:
    id = uuid4()
    versions = [3, 11, 7, 2, 10, 1]
    await asyncio.gather(*(cache.put("resources", {id: entry(version, b"")}) for version in versions))
    assert await entries(cache, id) == {id: entry(11, b"")}


async def test_entries_end_by_themselves(cache: Cache, redis: Redis) -> None:
    long, short = uuid4(), uuid4()
    await cache.put("resources", {long: entry(1, b"x")})
    await cache.put("resources", {short: entry(0, b"")}, life=50)
    assert 0 < await redis.client.ttl(cache.key("resources", long)) <= 60
    assert 0 < await redis.client.ttl(cache.key("resources", short)) <= 50


async def test_the_object_is_in_the_cache_when_the_message_arrives(cache: Cache, redis: Redis) -> None:
    id = uuid4()
    pubsub = redis.client.pubsub()
    await pubsub.subscribe("answers")
    assert (await pubsub.get_message(timeout=5))["type"] == "subscribe"
    await cache.put_and_publish("resources", {id: entry(1, b"x")}, {"answers": b"done"})
    message = await pubsub.get_message(timeout=5)
    assert message["data"] == b"done"
    assert await entries(cache, id) == {id: entry(1, b"x")}
    await pubsub.aclose()


async def test_what_missed_a_write_drops_everything_for_all_as_soon_as_redis_is_back(
    cache: Cache, other: Cache, redis: Redis, stack: Stack
) -> None:
    old, missed, foreign = uuid4(), uuid4(), "others:cache:1"
    await cache.put("resources", {old: entry(1, b"old"), missed: entry(1, b"before")})
    assert len(await entries(other, old, missed)) == 2
    await redis.client.set(foreign, b"kept")
    await stack.stop("valkey")
    try:
        assert not await cache.put("resources", {missed: entry(2, b"after")})
    finally:
        await stack.start("valkey")

    async def dropped() -> bool:
        return await entries(other, old, missed) == {}

    # What the server kept on its disk is older than the write that it missed. Nobody writes or reads meanwhile.
    await until(dropped)
    assert await redis.client.get(foreign) == b"kept"
    assert await cache.put("resources", {missed: entry(2, b"after")})
    assert await entries(other, old, missed) == {missed: entry(2, b"after")}


async def test_a_write_that_is_missed_while_everything_is_dropped_drops_it_again(
    cache: Cache, other: Cache, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    id, setting, begun, answered = uuid4(), redis.client.set, asyncio.Event(), asyncio.Event()

    async def late(*arguments: Any, **more: Any) -> Any:
        answer = await setting(*arguments, **more)
        begun.set()
        await answered.wait()
        return answer

    monkeypatch.setattr(redis.client, "set", late)
    redis.interrupted()
    dropping = asyncio.create_task(entries(cache, id))
    await begun.wait()
    await entries(other, id)
    await other.fill("resources", {id: entry(1, b"before")}, other.moment())
    assert await entries(other, id) == {id: entry(1, b"before")}
    with monkeypatch.context() as broken:
        broken.setattr(redis, "_broken_until", math.inf)
        assert not await cache.put("resources", {id: entry(2, b"after")})
    answered.set()
    await dropping

    async def dropped() -> bool:
        return await entries(other, id) == {}

    await until(dropped)


async def test_who_saw_redis_away_reads_nothing_from_before(
    cache: Cache, other: Cache, redis: Redis, stack: Stack
) -> None:
    id, new = uuid4(), uuid4()
    await cache.put("resources", {id: entry(1, b"x")})
    await stack.stop("valkey")
    try:
        assert await entries(cache, id) == {}
        assert cache.moment() is None
    finally:
        await stack.start("valkey")
    assert await entries(other, id) == {id: entry(1, b"x")}  # it is there
    async with asyncio.timeout(20):
        while (moment := cache.moment()) is None:
            await asyncio.sleep(0.02)
            assert await entries(cache, id) == {}
    await cache.fill("resources", {id: entry(3, b"y")}, moment)
    await other.put("resources", {new: entry(1, b"new")})
    assert await entries(cache, id, new) == {id: entry(3, b"y")}
    assert await entries(other, id, new) == {id: entry(3, b"y")}  # it did not know of the new epoch when it wrote
    await other.put("resources", {new: entry(2, b"newer")})
    assert await entries(cache, id, new) == {id: entry(3, b"y"), new: entry(2, b"newer")}


async def test_a_connection_that_was_lost_elsewhere_is_an_outage(cache: Cache, redis: Redis) -> None:
    id = uuid4()
    await cache.put("resources", {id: entry(1, b"x")})
    redis.interrupted()
    assert await entries(cache, id) == {}


async def test_what_was_read_before_everything_was_dropped_does_not_come_in_late(
    cache: Cache, other: Cache, redis: Redis
) -> None:
    id = uuid4()
    await entries(other, id)
    moment = other.moment()
    redis.interrupted()
    await entries(cache, id)
    await other.fill("resources", {id: entry(1, b"old")}, moment)
    assert await entries(other, id) == {}
    # Whoever reads it now may keep it, although that one is there.
    await entries(cache, id)
    await cache.fill("resources", {id: entry(1, b"old")}, cache.moment())
    assert await entries(other, id) == {id: entry(1, b"old")}


async def test_a_late_write_neither_shows_nor_lets_older_ones_in(cache: Cache, other: Cache, redis: Redis) -> None:
    id = uuid4()
    await entries(other, id)
    redis.interrupted()
    await entries(cache, id)
    moment = cache.moment()
    assert await other.put("resources", {id: entry(5, b"late")})
    assert await entries(cache, id) == {}
    await cache.fill("resources", {id: entry(4, b"older")}, moment)
    assert await entries(cache, id) == {}
    await cache.fill("resources", {id: entry(5, b"read")}, moment)
    assert await entries(cache, id) == {id: entry(5, b"read")}


async def test_nothing_older_than_a_known_version_is_found(cache: Cache) -> None:
    id, newer = uuid4(), uuid4()
    await cache.put("resources", {id: entry(1, b"old"), newer: entry(3, b"newer")})
    await cache.outdate("resources", {id: 2, newer: 2})
    assert await entries(cache, id, newer) == {newer: entry(3, b"newer")}
    moment = cache.moment()
    await cache.fill("resources", {id: entry(1, b"old")}, moment)  # read before version 2 was committed
    assert await entries(cache, id) == {}
    await cache.fill("resources", {id: entry(2, b"new")}, moment)
    assert await entries(cache, id) == {id: entry(2, b"new")}


async def test_an_emptied_redis_is_an_empty_cache(cache: Cache, other: Cache, redis: Redis) -> None:
    id = uuid4()
    await cache.put("resources", {id: entry(1, b"x")})
    await redis.client.delete(cache._epoch_key)
    assert await entries(other, id) == {}
    await cache.put("resources", {id: entry(2, b"x")})
    await cache.put("resources", {id: entry(3, b"x")})
    assert await entries(other, id) == {id: entry(3, b"x")}


async def test_a_cache_that_is_away_costs_little(cache: Cache, redis: Redis, stack: Stack) -> None:
    await stack.stop("valkey")
    try:
        loop = asyncio.get_running_loop()
        began, before = loop.time(), redis.outages
        for _ in range(1000):
            assert await cache.get("resources", [uuid4()]) == {}
        tried, took = redis.outages - before, loop.time() - began
    finally:
        await stack.start("valkey")
    # Nobody asks again for half a second: a thousand misses cost what one failure does.
    assert 1 <= tried <= 1 + took / BREAK_S
    async with asyncio.timeout(20):
        while await redis.ready() != "ok":
            await asyncio.sleep(0.02)


async def test_no_outage_uses_the_connections_up(cache: Cache, redis: Redis, stack: Stack) -> None:
    await stack.stop("valkey")
    try:
        for _ in range(3):
            redis._broken_until = 0.0  # as if BREAK_S had passed
            assert not await cache.put("resources", {uuid4(): entry(1, b"x")})
            redis._broken_until = 0.0
            assert await entries(cache, uuid4()) == {}
    finally:
        await stack.start("valkey")
    async with asyncio.timeout(20):
        while redis.client.connection_pool._in_use_connections:  # who looks whether it is back holds one for a moment
            await asyncio.sleep(0.02)
        while await redis.ready() != "ok":
            await asyncio.sleep(0.02)


def figures() -> dict[str, float]:
    """What was looked up of `things`, by outcome."""
    outcomes = ("hit", "absent", "miss", "away")
    return {outcome: metrics.CACHE_READS.labels("things", outcome)._value.get() for outcome in outcomes}


async def test_what_is_found_is_counted(cache: Cache, redis: Redis, stack: Stack) -> None:
    here, gone, unknown = uuid4(), uuid4(), uuid4()
    await cache.put("things", {here: entry(1, b"{}"), gone: entry(2, b"")})
    before = figures()
    await cache.get("things", [here, gone, unknown])
    await cache.get("things", [here])
    assert {outcome: now - before[outcome] for outcome, now in figures().items()} == {
        "hit": 2, "absent": 1, "miss": 1, "away": 0,
    }  # fmt: skip
    drops = metrics.CACHE_DROPS._value.get()
    await stack.stop("valkey")
    try:
        await cache.get("things", [here, gone])
        assert figures()["away"] - before["away"] == 2
    finally:
        await stack.start("valkey")

    async def ready() -> bool:
        return await redis.ready() == "ok"

    await until(ready)  # a write that is missed while all is dropped would drop it again
    assert await cache.put("things", {here: entry(3, b"{}")})
    assert metrics.CACHE_DROPS._value.get() - drops == 1


async def test_many_who_read_one_resource_at_once_ask_postgresql_once_and_then_nobody_does(
    database: Database, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Longer than the test may take, and still less than an entry of what is there lives.
    monkeypatch.setattr("stores.resources.ABSENT_LIFE_S", 50)
    questions = []
    ask = database.fetch

    async def asked(query: str, *arguments: Any) -> list[Any]:
        questions.append(query)
        return await ask(query, *arguments)

    monkeypatch.setattr(database, "fetch", asked)
    resources = Resources(database, cache)
    id, nobody = uuid4(), uuid4()
    await database.execute(
        """INSERT INTO resources (id, kind, title, body, tags, attributes, visibility, status, owner_id, version,
               created_at, updated_at)
           VALUES ($1, 'note', 'One', '', '[]', '{}', 'public', 'open', $1, 7, now(), now())""",
        id,
    )
    found = await asyncio.gather(*(resources.get(id) for _ in range(200)))
    assert {view and view.version for view in found} == {7}
    assert len(questions) == 1
    await asyncio.gather(*(Resources(database, cache).get(id) for _ in range(5)))  # as other processes
    assert len(questions) == 1
    # That there is none is remembered, too, though not for long.
    assert await asyncio.gather(*(resources.get(nobody) for _ in range(200))) == [None] * 200
    assert await resources.get(nobody) is None
    assert len(questions) == 2
    with cache.redis.use() as client:
        assert 0 < await client.ttl(cache.key("resources", nobody)) <= 50
    # It comes to be: the worker's entry is newer than that there is none.
    made = b'{"owner_id":"%s","visibility":"public","version":1}' % str(id).encode()
    await cache.put("resources", {nobody: entry(1, made)})
    view = await resources.get(nobody)
    assert view is not None
    assert view.version == 1
    assert len(questions) == 2
