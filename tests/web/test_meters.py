"""Meters: how often is too often, alone and with other processes, and when there is room again."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config.shields import Limit
from tests.web.fakes import FakeLimits
from web.limits import SHARE_S, Meter, Sharing, Spent

HOUR = 3_600_000.0
"""The beginning of a window of any length that is used here."""


def meter(quota: int, window: int, shared: FakeLimits | None = None) -> Meter:
    return Meter("m", Limit(quota, window), Sharing(shared or FakeLimits()))


async def test_a_quota_is_spent_and_comes_back_little_by_little() -> None:
    one = meter(10, 60)
    assert [one.take("a", HOUR) for _ in range(10)] == list(range(9, -1, -1))
    with pytest.raises(Spent) as spent:
        one.take("a", HOUR + 1)
    assert one.take("b", HOUR) == 9
    wait = spent.value.wait
    with pytest.raises(Spent):
        one.take("a", HOUR + 1 + wait - 2)
    one.take("a", HOUR + 1 + wait)
    with pytest.raises(Spent):
        one.take("a", HOUR + 1 + wait)
    one.take("a", HOUR + 180)  # a whole window without anything: all of it is there again
    assert one.take("a", HOUR + 180) == 8


@given(st.integers(1, 20), st.lists(st.floats(0, 20), min_size=1, max_size=300))
def test_never_more_than_the_quota_in_a_window_and_retry_after_is_true(quota: int, steps: list[float]) -> None:
    async def run() -> None:
        one = meter(quota, 60)
        now, passed = HOUR, []
        for step in steps:
            now += step
            try:
                one.take("a", now)
                passed.append(now)
            except Spent as spent:
                one.take("a", now + spent.wait)
                now += spent.wait
                passed.append(now)
        for start in range(int(HOUR), int(now) + 60, 60):
            assert sum(start <= at < start + 60 for at in passed) <= quota
        # Over any stretch a sliding window of two halves can be off by as much as the window before was uneven.
        assert all(sum(at <= other < at + 60 for other in passed) < 2 * quota for at in passed)
        await one._sharing.close()

    asyncio.run(run())


async def test_who_has_waited_over_the_border_of_windows_does_not_empty_the_counts() -> None:
    one = meter(3, 60)
    for _ in range(3):
        one.take("a", HOUR + 60)
    one.take("b", HOUR + 59)  # took the time before; counts in the window of now
    with pytest.raises(Spent):
        one.take("a", HOUR + 61)
    one.give_back("b", HOUR + 59)
    with pytest.raises(Spent):
        one.take("a", HOUR + 61)
    assert one.take("b", HOUR + 61) == 2
    # A clock that is set back, by more than anybody waits, is followed.
    assert one.take("a", HOUR - 3_600) == 2


async def test_a_window_that_turns_while_redis_is_asked_keeps_its_counts() -> None:
    class Slow(FakeLimits):
        async def add(self, deeds: Any) -> Any:
            found = await super().add(deeds)
            if self.exchanges == 1:
                for _ in range(2):
                    one.take("b", HOUR + 61)  # somebody else turns the window
            return [(total + 9, before) for total, before in found]  # others have used it up

    one = meter(2, 60, Slow())
    with pytest.raises(Spent) as spent:
        await one.exactly("a", HOUR + 59)
    assert spent.value.wait <= 60
    with pytest.raises(Spent):
        one.take("b", HOUR + 62)


async def test_processes_count_together() -> None:
    shared = FakeLimits()
    here, there = meter(10, 60, shared), meter(10, 60, shared)
    for _ in range(6):
        here.take("a", HOUR)
    await here._sharing.close()
    await there.exactly("a", HOUR)
    assert there.take("a", HOUR) == 2
    assert shared.exchanges == 2
    for _ in range(2):
        await there.exactly("a", HOUR)
    with pytest.raises(Spent):
        await here.exactly("a", HOUR)
    # Nothing is counted of what was refused, so it is free as soon as it would have been anyway.
    await there._sharing.close()
    await here._sharing.close()
    assert set(shared.totals.values()) == {10}


async def test_many_requests_cost_one_exchange() -> None:
    shared = FakeLimits()
    one = meter(1000, 60, shared)
    for number in range(300):
        one.take(str(number % 7), HOUR)
    async with asyncio.timeout(10):
        while not shared.exchanges:
            await asyncio.sleep(SHARE_S / 10)
    assert (shared.exchanges, sum(shared.totals.values())) == (1, 300)


async def test_without_redis_a_process_counts_alone_and_tells_it_afterwards() -> None:
    shared = FakeLimits(away=True)
    here, there = meter(10, 60, shared), meter(10, 60, shared)
    for _ in range(7):
        await here.exactly("a", HOUR)
    for _ in range(3):
        here.take("a", HOUR)
    with pytest.raises(Spent):
        await here.exactly("a", HOUR)
    shared.away = False
    await here._sharing.close()
    with pytest.raises(Spent):
        await there.exactly("a", HOUR)


async def test_what_redis_forgets_this_process_does_not() -> None:
    shared = FakeLimits()
    one = meter(5, 60, shared)
    for _ in range(5):
        await one.exactly("a", HOUR)
    shared.totals.clear()
    with pytest.raises(Spent):
        await one.exactly("a", HOUR)


async def test_a_flood_of_callers_is_forgotten_here_and_not_by_redis(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("web.limits.MOST_CALLERS", 100)
    shared = FakeLimits()
    one = meter(5, 60, shared)
    for _ in range(5):
        one.take("a", HOUR)
    for number in range(1000):
        one.take(str(number), HOUR)
    assert len(one._counts) <= 101
    await one._sharing.close()
    with pytest.raises(Spent):
        await one.exactly("a", HOUR)


@given(st.integers(2, 20), st.lists(st.tuples(st.floats(0, 90), st.integers(1, 20)), min_size=1, max_size=100))
def test_retry_after_is_true_of_many_deeds_at_once(quota: int, steps: list[tuple[float, int]]) -> None:
    async def run() -> None:
        one = meter(quota, 60)
        now = HOUR
        for step, deeds in steps:
            now += step
            wanted = min(deeds, quota)
            try:
                one.take("a", now, wanted)
            except Spent as spent:
                now += spent.wait
                assert one.take("a", now, wanted) >= 0
        await one._sharing.close()

    asyncio.run(run())
