"""Partitions that change their owner under load: no event is lost between the one who committed and the next."""

import asyncio

import pytest

from tests.flows.harness import System

pytestmark = pytest.mark.asyncio(loop_scope="session")


SLOW = "before_answers:DELAY:120,before_publish:DELAY:200"
"""So that when the partitions are let go, one batch waits to be published while the next one is being answered."""


async def test_no_event_is_lost_when_workers_come_and_go(installation: System, full: bool) -> None:
    rounds = 8 if full else 3
    stays = installation.worker("resources", slots="stays", point=SLOW)
    await stays.start()
    count = 0
    ended = asyncio.Event()

    async def load() -> None:
        nonlocal count
        while not ended.is_set():
            await installation.send([installation.create(number) for number in range(count, count + 40)])
            count += 40
            await asyncio.sleep(0.03)

    loading = asyncio.create_task(load())
    for number in range(rounds):
        comes = installation.worker("resources", slots=f"comes-{number}", point=SLOW)
        await comes.start()
        await installation.until_done(count, 60)
        await comes.stop()
        await installation.until_done(count, 60)
    ended.set()
    await loading
    await installation.until_done(count, 60)
    repeats = await installation.check_created(count)
    print(f"\n{count} commands, {2 * rounds} rebalances under load; {repeats} repeats dropped")
