"""A worker that is killed, at any moment: nothing lost, nothing twice."""

import asyncio
import random
import signal
import time

import pytest

from tests.flows.harness import System, until

pytestmark = pytest.mark.asyncio(loop_scope="session")

POINTS = ("before_commit", "after_commit", "after_publish")


async def test_every_command_once_through_kills_at_random_moments(installation: System, full: bool) -> None:
    count, kills = (20_000, 10) if full else (6_000, 3)
    worker = installation.worker()
    await installation.send([installation.create(number) for number in range(count)])
    resumed, in_flight = [], []
    await worker.start(ready=False)
    for _ in range(kills):
        if count - await installation.done() < 3_000:  # a kill with nothing in flight would prove nothing
            await installation.send([installation.create(number) for number in range(count, count + 3_000)])
            count += 3_000
        before, restarted = await installation.done(), time.monotonic()
        await installation.until_done(min(count, before + 1), 60)
        resumed.append(time.monotonic() - restarted)
        await asyncio.sleep(random.uniform(0.0, 0.15))  # a random moment is the point here, nothing is waited for
        await worker.kill()
        in_flight.append(count - await installation.done())
        await worker.start(ready=False)
    await installation.until_done(count, 120)
    repeats = await installation.check_created(count)
    assert sum(map(bool, in_flight)) >= kills - 1
    print(
        f"\n{count} commands, {kills} kills with {in_flight} in flight; "
        f"the next result came {[f'{s:.1f}' for s in resumed]} s after a start; {repeats} repeats dropped"
    )


@pytest.mark.parametrize("point", POINTS)
async def test_a_kill_at_the_worst_points(installation: System, point: str) -> None:
    count = 600
    struck = installation.worker(point=f"{point}:KILL:3")
    await struck.start(ready=False)
    orders = [installation.create(number) for number in range(count)]
    for wave in range(0, count, 100):
        await installation.send(orders[wave : wave + 100])

        async def handled_or_struck(wave: int = wave) -> bool:
            return struck.status is not None or await installation.done() > wave

        await until(handled_or_struck, 60, "a wave was handled")
    assert await struck.ended() == -signal.SIGKILL
    worker = installation.worker()
    await worker.start()
    await installation.until_done(count, 60)
    repeats = await installation.check_created(count)
    assert repeats > 0 or point != "after_publish"  # published, not told: the next owner publishes it again


async def test_sigterm_in_mid_batch_finishes_or_lets_go(installation: System) -> None:
    count = 3_000
    worker = installation.worker()
    await worker.start()
    sending = asyncio.create_task(installation.send([installation.create(number) for number in range(count)]))
    await installation.until_done(200, 60)
    worker.signal(signal.SIGTERM)
    assert await worker.ended(20) == 0
    await sending
    other = installation.worker()
    await other.start()
    await installation.until_done(count, 60)
    await installation.check_created(count)
