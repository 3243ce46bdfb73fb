"""The shared cache: newer replaces older, never the other way, and an outage leaves nothing old behind."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
import pytest_asyncio

from config import Settings
from embedded.stack import Stack
from stores.cache import Cache, entry
from stores.redis import Redis


@pytest_asyncio.fixture(loop_scope="session")
async def redis(settings: Settings) -> AsyncIterator[Redis]:
    redis = Redis(settings)
    yield redis
    await redis.close()


@pytest.fixture
def cache(redis: Redis) -> Cache:
    return Cache(redis)


async def test_an_entry_is_found_by_its_noun_and_id(cache: Cache) -> None:
    a, b = uuid4(), uuid4()
    assert await cache.put("resources", {a: entry(1, b"{a}"), b: entry(12, b"{b}")})
    assert await cache.get("resources", [b, uuid4(), a]) == {
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
    assert await cache.get("resources", [id, other]) == {id: stays, other: comes}


async def test_writers_in_any_order_leave_the_newest(cache: Cache) -> None:
    id = uuid4()
    versions = [3, 11, 7, 2, 10, 1]
    await asyncio.gather(*(cache.put("resources", {id: entry(version, b"")}) for version in versions))
    assert await cache.get("resources", [id]) == {id: entry(11, b"")}


async def test_entries_end_by_themselves(cache: Cache, redis: Redis) -> None:
    long, short = uuid4(), uuid4()
    await cache.put("resources", {long: entry(1, b"x")})
    await cache.put("resources", {short: entry(0, b"")}, life=5)
    assert 0 < await redis.client.ttl(cache.key("resources", long)) <= 60
    assert 0 < await redis.client.ttl(cache.key("resources", short)) <= 5


async def test_the_object_is_in_the_cache_when_the_message_arrives(cache: Cache, redis: Redis) -> None:
    id = uuid4()
    pubsub = redis.client.pubsub()
    await pubsub.subscribe("answers")
    assert (await pubsub.get_message(timeout=5))["type"] == "subscribe"
    await cache.put_and_publish("resources", {id: entry(1, b"x")}, {"answers": b"done"})
    message = await pubsub.get_message(timeout=5)
    assert message["data"] == b"done"
    assert await cache.get("resources", [id]) == {id: entry(1, b"x")}
    await pubsub.aclose()


async def test_a_write_missed_in_an_outage_drops_everything_that_is_older(
    cache: Cache, redis: Redis, stack: Stack, settings: Settings
) -> None:
    old, missed, foreign = uuid4(), uuid4(), "others:cache:1"
    await cache.put("resources", {old: entry(1, b"old"), missed: entry(1, b"before")})
    await redis.client.set(foreign, b"kept")
    await stack.stop("valkey")
    try:
        assert not await cache.put("resources", {missed: entry(2, b"after")})
        assert await cache.get("resources", [old]) == {}
        assert await redis.ready() != "ok"
    finally:
        await stack.start("valkey")
    new = uuid4()
    async with asyncio.timeout(20):
        while not await cache.put("resources", {new: entry(1, b"new")}):
            await asyncio.sleep(0.02)
    # What the server kept on its disk is older than the write that it missed.
    assert await cache.get("resources", [old, missed, new]) == {new: entry(1, b"new")}
    assert await redis.client.get(foreign) == b"kept"
    assert await redis.ready() == "ok"


async def test_an_outage_without_a_missed_write_keeps_the_entries(cache: Cache, redis: Redis, stack: Stack) -> None:
    id = uuid4()
    await cache.put("resources", {id: entry(1, b"x")})
    await stack.stop("valkey")
    try:
        assert await cache.get("resources", [id]) == {}
        assert not await cache.put_and_publish("resources", {}, {"answers": b"lost"})
    finally:
        await stack.start("valkey")
    async with asyncio.timeout(20):
        while await redis.ready() != "ok":
            await asyncio.sleep(0.02)
    assert await cache.get("resources", [id]) == {id: entry(1, b"x")}


async def test_a_cache_that_is_away_costs_little(cache: Cache, redis: Redis, stack: Stack) -> None:
    await stack.stop("valkey")
    try:
        await cache.get("resources", [uuid4()])
        loop = asyncio.get_running_loop()
        began = loop.time()
        asked = 0
        while loop.time() - began < 0.2:
            await cache.get("resources", [uuid4()])
            asked += 1
    finally:
        await stack.start("valkey")
    # Nobody asks again for half a second: thousands of misses cost what one failure does.
    assert asked > 200
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
            assert await cache.get("resources", [uuid4()]) == {}
    finally:
        await stack.start("valkey")
    assert not redis.client.connection_pool._in_use_connections
    async with asyncio.timeout(20):
        while await redis.ready() != "ok":
            await asyncio.sleep(0.02)
