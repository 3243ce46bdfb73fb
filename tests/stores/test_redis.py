"""The way to Redis when its process ends: nothing is opened that nobody closes."""

import asyncio

import pytest

from config import Settings
from stores.redis import Redis, RedisAway

PING = [("PING",)]


async def test_who_asks_after_the_end_is_refused_and_opens_nothing(settings: Settings) -> None:
    redis = Redis(settings)
    assert await redis.exchange(PING) == [b"PONG"]
    await redis.close()
    with pytest.raises(RedisAway, match="closed"):
        await redis.exchange(PING)
    with pytest.raises(RedisAway, match="closed"), redis.use():
        pass
    assert not redis._line.is_connected


async def test_an_exchange_under_way_is_finished_and_one_that_waits_is_refused(settings: Settings) -> None:
    redis = Redis(settings)
    under_way = asyncio.create_task(redis.exchange([("BLPOP", "nothing", "0.1")]))
    waiting = asyncio.create_task(redis.exchange(PING))
    while not redis._turn.locked():
        await asyncio.sleep(0)
    await redis.close()
    assert await under_way == [None]
    with pytest.raises(RedisAway, match="closed"):
        await waiting
    assert not redis._line.is_connected


async def test_a_cancellation_is_never_lost(settings: Settings) -> None:
    """At whatever point of a command it comes: who asks again and again would go on for ever."""
    redis = Redis(settings)
    asked = 0

    async def ask_for_ever() -> None:
        nonlocal asked
        while True:
            with redis.use() as client:
                await client.ping()
            asked += 1

    await redis.ready()
    turns = 0
    async with asyncio.timeout(60):
        while turns < 60 or not asked:  # until some came through, however slow the server is to answer
            asking = asyncio.create_task(ask_for_ever())
            for _ in range(turns):
                await asyncio.sleep(0)
            asking.cancel()
            before = asked
            await asyncio.wait((asking,), timeout=10)
            assert asking.cancelled(), f"it asked {asked - before} times more, cancelled after {turns} turns"
            turns += 1
    await redis.close()
