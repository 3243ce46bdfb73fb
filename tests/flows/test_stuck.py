"""A worker that is stuck ends itself, so that another one is started; one that only waits does not."""

import asyncio

import pytest

from embedded.stack import Stack
from streams.watchdog import EXIT_STATUS
from tests.flows.harness import Process, System
from tests.telemetry.listeners import listening

pytestmark = pytest.mark.asyncio(loop_scope="session")

FOREVER = "DELAY:1000000000"
OUTAGE_S = 12.0
"""Twice the patience of these workers (6 s): one that took waiting for being stuck would end in it."""


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (f"watchdog:PATIENCE:6,before_poll:{FOREVER}", "has records to handle and got no further"),
        (f"watchdog:PATIENCE:6,before_publish:{FOREVER}", "has events to publish and got no further"),
        ("loop:PATIENCE:6,before_publish:BLOCK:1000000000", "its loop has not turned for"),
    ],
)
async def test_it_ends_itself_and_its_successor_does_the_work(installation: System, fault: str, reason: str) -> None:
    stuck = installation.worker("resources", point=fault)
    with listening() as sentry:
        stuck.more(YEOUL_SENTRY_DSN=sentry.dsn)
        await stuck.start()
        await installation.send([installation.create(number) for number in range(20)])
        assert await stuck.ended(60) == EXIT_STATUS
        assert await asyncio.to_thread(sentry.reporter, "the worker is stuck") == "worker"
    (said,) = [line for line in stuck.log.read_text().splitlines() if "the worker is stuck" in line]
    assert reason in said
    await installation.worker("resources").start()
    await installation.until_done(20, 30)
    await installation.check_created(20)


async def outlives_an_outage(worker: Process) -> None:
    """Waits for the worker's end, which does not come."""
    with pytest.raises(TimeoutError):
        await worker.ended(OUTAGE_S)


async def test_waiting_for_servers_is_not_being_stuck(installation: System, stack: Stack) -> None:
    worker = installation.worker("resources", point="watchdog:PATIENCE:6")
    await worker.start()
    await stack.stop("postgres")
    try:
        await installation.send([installation.create(number) for number in range(20)])
        await outlives_an_outage(worker)
    finally:
        await stack.start("postgres")
    await installation.until_done(20, 30)
    await stack.stop("kafka")
    await outlives_an_outage(worker)
    await stack.start("kafka")
    await worker.ready()
    await installation.check_created(20)
    assert worker.status is None
