"""A worker that stands still past its session and then goes on, sure that it still owns its partitions."""

import asyncio
import signal
import time
from pathlib import Path

import pytest

from tests.flows.counts import counted
from tests.flows.harness import Process, System, until

pytestmark = pytest.mark.asyncio(loop_scope="session")

COUNT = 300


async def _stopped(process: Process) -> bool:
    """True when the kernel says that the process stands still."""
    return Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "T"


@pytest.mark.parametrize("point", ["before_commit", "after_commit", "before_publish"])
async def test_the_fence_stops_a_zombie(installation: System, point: str) -> None:
    frozen = installation.worker("resources", slots="frozen", point=f"{point}:STOP:2")
    reader = installation.worker("analytics")
    await asyncio.gather(frozen.start(), reader.start())
    await installation.send([installation.create(0)])
    await installation.until_done(1, 30)
    await installation.send([installation.create(number) for number in range(1, COUNT)])
    await until(lambda: _stopped(frozen), 30, "the worker stands still")
    other = installation.worker("resources", slots="other")
    started = time.monotonic()
    await other.start(ready=False)
    await installation.until_done(COUNT, 60)
    await installation.until_published()  # also what the frozen one committed and could not tell
    taken_over = time.monotonic() - started
    frozen.signal(signal.SIGCONT)
    await installation.send([installation.create(number) for number in range(COUNT, 2 * COUNT)])
    await installation.until_done(2 * COUNT, 60)
    await asyncio.gather(frozen.ready(), other.ready())
    repeats = await installation.check_created(2 * COUNT)
    # What it was about to send, the other one has sent before. After a commit it may hear first that it is no owner.
    assert repeats > 0 or point != "before_publish"
    assert await counted(installation, "resource.created") == 2 * COUNT
    print(f"\n{point}: taken over {taken_over:.1f} s after the other worker's start; {repeats} repeats dropped")


@pytest.mark.parametrize("point", ["in_transaction", pytest.param("written", marks=pytest.mark.full)])
async def test_a_transaction_that_stands_still_is_ended_by_postgresql(installation: System, point: str) -> None:
    """Claims on addresses are locks: a frozen worker must not keep a new owner waiting for them."""
    frozen = installation.worker("accounts", slots="frozen", point=f"{point}:STOP:1")
    await frozen.start(ready=False)
    await frozen.ready()
    orders = [await installation.register(number) for number in range(50)]
    await installation.send(orders)
    await until(lambda: _stopped(frozen), 30, "the worker stands still")
    other = installation.worker("accounts", slots="other")
    await other.start(ready=False)
    await installation.until_done(50, 60, noun="accounts")
    frozen.signal(signal.SIGCONT)
    more = [await installation.register(number) for number in range(25, 75)]  # half of the addresses are taken by now
    await installation.send(more)
    await installation.until_done(100, 60, noun="accounts")
    await asyncio.gather(frozen.ready(), other.ready())
    rows = await installation.stores.database.fetch("SELECT outcome, count(*) FROM operations GROUP BY outcome")
    assert {row["outcome"]: row["count"] for row in rows} == {"succeeded": 75, "refused": 25}
    counts = await installation.stores.database.fetchrow(
        "SELECT (SELECT count(*) FROM accounts) AS accounts, (SELECT count(*) FROM account_claims) AS claims"
    )
    assert (counts["accounts"], counts["claims"]) == (75, 75)
    await installation.until_published()
    applied, _repeats = await installation.events("events.accounts")
    assert len({event["subject"] for event in applied}) == len(applied) == 75
