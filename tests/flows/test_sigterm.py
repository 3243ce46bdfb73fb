"""A worker that is told to stop: it finishes its batch or lets it go, leaves its groups, and ends within 20 s."""

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec
import psutil
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from embedded.stack import Stack
from tests.flows.counts import counted
from tests.flows.harness import FULL_SIZE, Process, System, until
from worker import GROUPS

pytestmark = pytest.mark.asyncio(loop_scope="session")

PROMISED_S = 20.0
"""From SIGTERM to the end of the process."""
ENDS_S = PROMISED_S if FULL_SIZE else PROMISED_S + 10
"""The same where the machine does other things, too: what a stop may wait for by itself comes near to the promise."""
BEGUN, OVER = "at before_commit", "past before_commit"


@pytest_asyncio.fixture(loop_scope="session")
async def admin(installation: System) -> AsyncIterator[AIOKafkaAdminClient]:
    client = AIOKafkaAdminClient(bootstrap_servers=installation.settings.kafka_url)
    await client.start()
    yield client
    await client.close()


@contextlib.contextmanager
def frozen(stack: Stack, part: str) -> Iterator[None]:
    """The server and all of its processes stand still: connections stay, and nobody answers."""
    root = psutil.Process(stack.pids[part])
    family = [root, *root.children(recursive=True)]
    for process in family:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGCONT)


async def _has_begun(worker: Process, more_than: int) -> bool:
    """True once the worker began to commit more than so many batches."""
    return worker.log.read_text().count(BEGUN) > more_than


async def _said(worker: Process, *marks: str) -> bool:
    """True once all of these are in the worker's log."""
    said = worker.log.read_text()
    return all(mark in said for mark in marks)


async def _ingest(installation: System, count: int) -> None:
    """Events of another system."""
    async with AIOKafkaProducer(bootstrap_servers=installation.settings.kafka_url) as producer:
        for number in range(count):
            event = {"specversion": "1.0", "id": str(number), "source": "/shop", "type": "order.placed"}
            await producer.send_and_wait(f"{installation.settings.topic_prefix}.ingest", msgspec.json.encode(event))


async def _members(installation: System, admin: AIOKafkaAdminClient) -> dict[str, int]:
    """How many members each group has, by its name without the prefix."""
    found: dict[str, int] = {}
    for name in GROUPS:
        (answer,) = await admin.describe_consumer_groups([f"{installation.settings.topic_prefix}.{name}"])
        group: dict[str, Any] = answer.to_object()["groups"][0]
        found[name] = len(group["members"])
    return found


async def _are_left(installation: System, admin: AIOKafkaAdminClient, worker: Process) -> None:
    """The worker has left its groups, at once. It says so of one whose broker did not answer in time."""
    left, said = await _members(installation, admin), worker.log.read_text()
    late = {name for name in GROUPS if f"could not leave {installation.settings.topic_prefix}.{name} by name" in said}
    assert len(late) < (1 if FULL_SIZE else len(GROUPS)), late
    assert {name: count for name, count in left.items() if name not in late} == dict.fromkeys(set(GROUPS) - late, 0)

    async def nobody() -> bool:
        return not any((await _members(installation, admin)).values())

    await until(nobody, 15, f"the sessions of {late} end by themselves")


async def test_in_mid_batch_it_finishes_the_batch(installation: System, admin: AIOKafkaAdminClient) -> None:
    count = 5_000  # more than the batches that may have been begun by then
    worker = installation.worker(point="before_commit:DELAY:1500,before_commit:MARK:0")
    await worker.start()
    sending = asyncio.create_task(installation.send([installation.create(number) for number in range(count)]))
    await installation.until_done(200, 60)
    begun = worker.log.read_text().count(BEGUN)
    await until(lambda: _has_begun(worker, begun), 30, "the next batch is in hand")
    worker.signal(signal.SIGTERM)  # within its 1.5 s
    assert await worker.ended(ENDS_S) == 0
    said = worker.log.read_text()
    stopping = said.index("worker stops")
    assert said[:stopping].count(BEGUN) == said[:stopping].count(OVER) + 1, "a batch was in hand"
    assert said[stopping:].count(OVER) == 1, "and was finished"
    await _are_left(installation, admin, worker)
    await sending
    assert await installation.done() < count, "there is something left for the next"
    other = installation.worker()
    await other.start()
    await installation.until_done(count, 60)
    await installation.check_created(count)


async def test_what_is_stuck_is_let_go_and_the_groups_are_left(
    installation: System, admin: AIOKafkaAdminClient, stack: Stack
) -> None:
    """With a database that does not answer any more: in a transaction, in a statement, and at the beginning of one."""
    count = 200
    marks = ("in_transaction", "before_commit", "before_counts")
    worker = installation.worker(
        slots="first", point=",".join(["in_transaction:DELAY:3000", *(f"{mark}:MARK:0" for mark in marks)])
    )
    await worker.start()
    assert await _members(installation, admin) == dict.fromkeys(GROUPS, 1)
    await installation.send([await installation.register(0)])
    await until(lambda: _said(worker, "at in_transaction"), 30, "an account is in hand")
    with frozen(stack, "postgres"):  # within its 3 s
        await installation.send([installation.create(number) for number in range(count)])
        await _ingest(installation, 5)
        await until(lambda: _said(worker, *(f"at {mark}" for mark in marks)), 30, "each group has a batch in hand")
        told = time.monotonic()
        worker.signal(signal.SIGTERM)
        assert await worker.ended(ENDS_S + 10) == 0
        took = time.monotonic() - told
        await _are_left(installation, admin, worker)
    said = worker.log.read_text()
    assert not any(f"past {mark}" in said for mark in ("before_commit", "before_counts")), "nothing was finished"
    assert took < ENDS_S
    print(f"\nended {took:.1f} s after SIGTERM")
    other = installation.worker(slots="other")
    await other.start()
    await installation.until_done(count, 60)
    await installation.until_done(1, 60, noun="accounts")
    await installation.check_created(count)
    assert await counted(installation, "order.placed", "ingest") == 5


async def test_a_broker_that_does_not_answer_holds_no_worker(installation: System, stack: Stack) -> None:
    count = 200
    worker = installation.worker()
    await worker.start()
    await installation.send([installation.create(number) for number in range(count)])
    await installation.until_done(1, 30)
    with frozen(stack, "kafka"):
        told = time.monotonic()
        worker.signal(signal.SIGTERM)
        assert await worker.ended(ENDS_S + 10) == 0
        took = time.monotonic() - told
    assert took < ENDS_S
    print(f"\nended {took:.1f} s after SIGTERM")
    other = installation.worker(slots="other")
    await other.start()
    await installation.until_done(count, 60)
    await installation.check_created(count)
