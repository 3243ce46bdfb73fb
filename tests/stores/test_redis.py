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
