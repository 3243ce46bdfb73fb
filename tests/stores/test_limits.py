"""One limit for two processes over the real server, while it is there and when it comes back."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
import pytest_asyncio

from config import Settings
from config.shields import Limit
from embedded.stack import Stack
from stores import limits
from stores.limits import FAMILIAR_S, Counts, Deeds
from stores.redis import Redis, RedisAway
from web.limits import Meter, Sharing, Spent

SOMEBODY = uuid4()
SHARINGS: list[Sharing] = []
"""Of the running test, to be closed before Redis is."""


@pytest_asyncio.fixture(loop_scope="session")
async def processes(settings: Settings) -> AsyncIterator[list[Redis]]:
    opened = [Redis(settings), Redis(settings)]
    yield opened
    while SHARINGS:
        await SHARINGS.pop().close()
    for redis in opened:
        await redis.close()


def meters(processes: list[Redis], name: str) -> list[Meter]:
    SHARINGS.extend(Sharing(Counts(redis)) for redis in processes)
    return [Meter(name, Limit(10, 3600), sharing) for sharing in SHARINGS[-2:]]


async def test_counts_add_up_and_end(processes: list[Redis]) -> None:
    one, two = (Counts(redis) for redis in processes)
    who = uuid4().hex
    assert await one.add([Deeds("l", who, 7, 60, 3), Deeds("l", who, 8, 60, 1)]) == [(3, 0), (1, 3)]
    assert await two.add([Deeds("l", who, 8, 60, 2), Deeds("other", who, 8, 60, 5)]) == [(3, 3), (5, 0)]
    assert await two.add([Deeds("l", who, 8, 60, -1)]) == [(2, 3)]
    with processes[0].use() as client:
        assert 60 < await client.ttl(f"{processes[0].prefix}:limit:l:{who}:8") <= 121


async def test_two_processes_have_one_limit(processes: list[Redis]) -> None:
    one, two = meters(processes, uuid4().hex)
    now = time.time()
    passed = 0
    for number in range(30):
        try:
            await (one, two)[number % 2].exactly("a", now)
            passed += 1
        except Spent:
            continue
    assert passed == 10


async def test_what_reads_count_reaches_the_other_process_by_itself(processes: list[Redis]) -> None:
    one, two = meters(processes, uuid4().hex)
    now = time.time()
    for _ in range(10):
        one.take("a", now)
    passed = 0

    async def refused_there() -> None:
        nonlocal passed
        while True:
            two.take("a", now)  # a process learns of the others as it tells what came to itself
            passed += 1
            await asyncio.sleep(0.2)

    with pytest.raises(Spent):
        await asyncio.wait_for(refused_there(), 10)
    assert passed < 10


async def test_redis_goes_away_and_comes_back(stack: Stack, processes: list[Redis]) -> None:
    name, now = uuid4().hex, time.time()
    one, two = meters(processes, name)

    async def told() -> int:
        with contextlib.suppress(RedisAway):
            [(total, _)] = await Counts(processes[1]).add([Deeds(name, "a", int(now // 3600), 3600, 0)])
            return total
        return 0

    for _ in range(4):
        await one.exactly("a", now)
    await stack.stop("valkey")
    try:
        for _ in range(3):
            await one.exactly("a", now)
        for _ in range(3):
            one.take("a", now)
        with pytest.raises(Spent):
            await one.exactly("a", now)
        with pytest.raises(RedisAway):
            await Counts(processes[1]).make_familiar(SOMEBODY, "b")
        assert await Counts(processes[1]).is_familiar(SOMEBODY, "b") is False
    finally:
        await stack.start("valkey")
    # What was counted meanwhile is told as soon as it is back, and so the other process knows of it.
    async with asyncio.timeout(20):
        while await told() < 10:
            await asyncio.sleep(0.02)
    assert one.count("a", now).here == 0
    with pytest.raises(Spent):
        await two.exactly("a", now)


async def test_where_an_account_has_logged_in_is_known_for_a_while(
    processes: list[Redis], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = (Counts(redis) for redis in processes)
    other = uuid4()
    assert not await two.is_familiar(SOMEBODY, "here")
    await one.make_familiar(SOMEBODY, "here")
    assert await two.is_familiar(SOMEBODY, "here")
    assert not await two.is_familiar(SOMEBODY, "there")
    assert not await two.is_familiar(other, "here")
    with processes[0].use() as client:
        assert 0 < await client.ttl(f"{processes[0].prefix}:familiar:{SOMEBODY}") <= FAMILIAR_S
    monkeypatch.setattr(limits, "MOST_FAMILIAR", 3)
    for number in range(4):
        await one.make_familiar(SOMEBODY, f"place {number}")
    assert [await two.is_familiar(SOMEBODY, f"place {number}") for number in range(4)] == [False, True, True, True]
    monkeypatch.setattr(limits, "time", lambda: time.time() + FAMILIAR_S)
    assert not await two.is_familiar(SOMEBODY, "place 3")
    monkeypatch.undo()
    await one.make_familiar(other, "here")
    await two.forget([SOMEBODY])
    assert not await one.is_familiar(SOMEBODY, "place 3")
    assert await one.is_familiar(other, "here")
