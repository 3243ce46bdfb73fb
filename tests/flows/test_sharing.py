"""Two workers share the load; one that comes back under its name takes up what it had, and the other never stops."""

import asyncio
import time

import pytest

from streams.app import SESSION_S
from tests.flows.harness import Process, System, until

pytestmark = pytest.mark.asyncio(loop_scope="session")


async def owned(worker: Process) -> float:
    """How many partitions a worker says it has."""
    return await worker.metric("yeoul_partitions")


async def handled(worker: Process) -> float:
    """How many records a worker has handled."""
    return await worker.metric("yeoul_records_total", outcome="handled")


async def test_two_workers_share_and_one_that_was_killed_comes_back_to_what_it_had(installation: System) -> None:
    # As two terminals would start them: in one folder, where each takes a name that is free.
    struck, other = installation.worker("resources"), installation.worker("resources")
    await asyncio.gather(struck.start(), other.start())

    async def shared() -> bool:
        return await owned(struck) == await owned(other) == 2

    await until(shared, 30, "each has two of the four partitions")
    await installation.send([installation.create(number) for number in range(200)])
    await installation.until_done(200, 30)

    async def counted() -> bool:
        return await handled(struck) + await handled(other) == 200

    await until(counted, 30, "each has counted what it did")
    assert min(await handled(struck), await handled(other)) > 20

    seen: list[float] = []
    back = asyncio.Event()

    async def look() -> None:
        while not back.is_set():
            seen.append(await owned(other))
            await asyncio.sleep(0.2)

    looking = asyncio.create_task(look())
    killed = time.monotonic()
    try:
        await struck.kill()
        await installation.send([installation.create(number) for number in range(200, 400)])
        await struck.start()
        away = time.monotonic() - killed
        await installation.until_done(400, 60)
    finally:
        back.set()
        await looking
    await installation.check_created(400)
    await until(shared, 30, "each has its two again")
    if away < SESSION_S / 2:  # nobody was asked to take over, so nobody stopped for it
        assert set(seen) == {2.0}
