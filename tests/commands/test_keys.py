"""Idempotency keys, from the front's command path to a worker and back: one key, one command, one result."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import msgspec
import pytest
import pytest_asyncio

from agents.resources import NOUN
from domain.refusals import Code
from embedded.stack import Stack
from stores.aggregates import Operation
from streams import identity
from streams.groups import CommandGroup, Connections
from streams.publish import Answer, Order, Pending
from streams.runtime import Running
from tests.commands.conftest import ACTOR, Path, records

pytestmark = pytest.mark.asyncio(loop_scope="session")

HANG_S = 60.0
"""Bounds what hangs; nothing that works takes this long."""
WAIT_S = 30.0

_keys = itertools.count()


class Worker:
    """The group of resources in this process. While it is told to fail, nothing can be decided."""

    def __init__(self, connections: Connections) -> None:
        self.fails = False
        self.connections = connections
        self._group = CommandGroup("resources", msgspec.structs.replace(NOUN, decide=self._decide))
        self._running: Running | None = None

    def start(self) -> None:
        self._running = Running(self.connections, self._group)
        self._running.start()

    async def stop(self) -> None:
        if self._running is not None:
            await self._running.stop()
            self._running = None

    def _decide(self, state: Any, command: Any, context: Any) -> Any:
        if self.fails:
            raise RuntimeError("a defect")
        return NOUN.decide(state, command, context)


@pytest_asyncio.fixture(loop_scope="session")
async def idle(path: Path) -> AsyncIterator[Worker]:
    """A worker that the test starts."""
    connections = Connections(path.settings, "tests")
    await connections.broker.start()
    worker = Worker(connections)
    yield worker
    await worker.stop()
    await connections.close()


@pytest_asyncio.fixture(loop_scope="session")
async def worker(idle: Worker) -> Worker:
    """A worker at work."""
    idle.start()
    return idle


def create(title: str) -> Order:
    """As the front makes it of a `POST`, under a key of its own."""
    operation = identity.operation_id(ACTOR.id, "POST", "/api/v1/resources", f"key {next(_keys)}")
    return Order(
        noun="resources", type="create_resource", aggregate_id=identity.aggregate_id(operation), operation=operation,
        actor=ACTOR, data=msgspec.json.encode({"kind": "note", "title": title}), fingerprint=title, keyed=True,
    )  # fmt: skip


def change(kind: str, of: UUID, **data: Any) -> Order:
    """As the front makes it of a `PUT` or `DELETE` of a resource, under a key of its own."""
    operation = identity.operation_id(ACTOR.id, kind, f"/api/v1/resources/{of}", f"key {next(_keys)}")
    return Order(
        noun="resources", type=kind, aggregate_id=of, operation=operation, actor=ACTOR,
        data=msgspec.json.encode(data), fingerprint=kind, keyed=True,
    )  # fmt: skip


def other(order: Order, title: str = "another body") -> Order:
    """Another body under the same key."""
    return msgspec.structs.replace(order, data=create(title).data, fingerprint=title)


async def told(path: Path, order: Order) -> Answer:
    async with asyncio.timeout(HANG_S):
        answer = await path.commands.submit(order, wait=WAIT_S)
    assert isinstance(answer, Answer)
    return answer


def says_reused(answer: Answer) -> bool:
    return answer.refusal is not None and answer.refusal.code is Code.KEY_REUSED and not answer.document


async def written(path: Path, order: Order) -> tuple[Operation | None, str | None, int]:
    """The operation's row, the resource's title, and how many events it has had."""
    row = (await path.stores.operations.find([order.operation])).get(order.operation)
    states = await path.stores.resources.states([order.aggregate_id])
    events = await path.stores.database.fetchrow(
        "SELECT count(*) FROM journal WHERE aggregate_id = $1", order.aggregate_id
    )
    title = states[order.aggregate_id].title if states else None
    return row, title, events["count"]


async def lose_marker(path: Path, order: Order) -> None:
    """As a Redis does that was emptied."""
    await path.stores.redis.client.delete(path.commands._markers.key(order.operation))


async def arrived(path: Path, count: int) -> None:
    """Wait until the topic of commands has so many records."""
    async with asyncio.timeout(HANG_S):
        while await records(path.settings) < count:
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def without_redis(path: Path, worker: Worker, stack: Stack) -> AsyncIterator[None]:
    """Ends when front and worker have met Redis again."""
    await stack.stop("valkey")
    try:
        yield
    finally:
        await stack.start("valkey")
    async with asyncio.timeout(HANG_S):
        while not path.commands._inbox.listening or await worker.connections.redis.ready() != "ok":
            await asyncio.sleep(0.02)


async def test_the_same_again_is_the_first_answer_and_changes_nothing(path: Path, worker: Worker) -> None:
    order = create("first")
    first = await told(path, order)
    assert (first.outcome, first.replayed, first.version) == ("succeeded", False, 1)
    await told(path, change("update_resource", order.aggregate_id, title="second"))
    for _ in range(2):
        assert await told(path, order) == msgspec.structs.replace(first, replayed=True)
    _row, title, events = await written(path, order)
    assert (title, events) == ("second", 2)


async def test_a_retry_that_finds_its_answer_in_the_table_is_a_replay(path: Path, worker: Worker) -> None:
    order = create("first")
    first = await told(path, order)
    await worker.stop()
    assert await told(path, order) == msgspec.structs.replace(first, replayed=True)


async def test_a_refusal_is_replayed_too(path: Path, worker: Worker) -> None:
    order = create("later there")
    delete = change("delete_resource", order.aggregate_id)
    first = await told(path, delete)
    assert first.refusal is not None
    assert (first.refusal.code, first.replayed) == (Code.NOT_FOUND, False)
    assert (await told(path, order)).outcome == "succeeded"
    assert await told(path, delete) == msgspec.structs.replace(first, replayed=True)
    assert (await told(path, change("update_resource", order.aggregate_id, title="still there"))).version == 2


async def test_another_body_is_refused_when_the_first_is_done(path: Path, worker: Worker) -> None:
    order = create("first")
    first = await told(path, order)
    assert says_reused(await told(path, other(order)))
    await lose_marker(path, order)
    assert says_reused(await told(path, other(order)))  # it has set the marker now, and the key is not its own
    assert await told(path, order) == msgspec.structs.replace(first, replayed=True)
    row, title, events = await written(path, order)
    assert row is not None
    assert (row.fingerprint, row.answer, title, events) == ("first", first.document, "first", 1)


async def test_another_body_is_refused_while_the_first_goes_on(path: Path) -> None:
    """No worker is there. The other body has the same operation: with 202 it would be shown the first one's result."""
    order = create("first")
    assert await path.commands.submit(order, wait=0) == Pending(order.operation)
    there = await records(path.settings)
    assert says_reused(await told(path, other(order)))
    assert await records(path.settings) == there
    assert await path.commands.find(order.operation, ACTOR) == Pending(order.operation)


async def test_a_marker_that_names_no_command_is_anybodys(path: Path, soon_old: None) -> None:
    """Of a front of before, while the fronts are renewed."""
    order = create("first")
    marker = msgspec.msgpack.encode([str(ACTOR.id), 0.0, "running"])
    await path.stores.redis.client.set(path.commands._markers.key(order.operation), marker, ex=60)
    assert await path.commands.submit(other(order), wait=0) == Pending(order.operation)


async def test_another_body_is_refused_when_both_wait_for_one_batch(path: Path, idle: Worker, soon_old: None) -> None:
    """No worker is there for a while, longer than a key counts as running, and Redis has lost the key's marker."""
    order = create("first")
    orders = [order, other(order), order, other(order, "a third body")]
    waiting = []
    for one in orders:
        await lose_marker(path, order)
        there = await records(path.settings)
        waiting.append(asyncio.create_task(path.commands.submit(one, wait=WAIT_S)))
        await arrived(path, there + 1)
    idle.start()
    async with asyncio.timeout(HANG_S):
        first, second, again, third = await asyncio.gather(*waiting)
    assert isinstance(first, Answer)
    assert isinstance(second, Answer)
    assert isinstance(again, Answer)
    assert isinstance(third, Answer)
    assert (first.outcome, first.document) == ("succeeded", again.document)
    assert says_reused(second)
    assert says_reused(third)
    row, title, events = await written(path, order)
    assert row is not None
    assert (row.fingerprint, title, events) == ("first", "first", 1)


async def test_without_redis_the_table_knows_the_first_answer_and_another_body(
    path: Path, worker: Worker, stack: Stack
) -> None:
    order = create("first")
    first = await told(path, order)
    async with without_redis(path, worker, stack):
        there = await records(path.settings)
        assert await told(path, order) == msgspec.structs.replace(first, replayed=True)
        assert says_reused(await told(path, other(order)))
        assert await records(path.settings) == there, "nothing is sent again"
        new = create("without Redis")
        assert (await told(path, new)).outcome == "succeeded"
        assert (await told(path, new)).replayed
        assert says_reused(await told(path, other(new)))


async def test_a_failed_key_is_still_its_first_commands(path: Path, worker: Worker, stack: Stack) -> None:
    order = create("first")
    worker.fails = True
    failed = await told(path, order)
    assert (failed.outcome, failed.replayed) == ("failed", False)
    worker.fails = False
    before = await written(path, order)
    assert before[0] is not None
    assert (before[0].outcome, before[0].fingerprint) == ("failed", "first")

    assert says_reused(await told(path, other(order)))
    another = msgspec.structs.replace(order, actor=msgspec.structs.replace(ACTOR, id=UUID(int=0xB)))
    assert says_reused(await told(path, another))
    async with without_redis(path, worker, stack):
        there = await records(path.settings)
        assert says_reused(await told(path, other(order)))
        assert await records(path.settings) == there, "the table knows it"
    assert await written(path, order) == before

    done = await told(path, order)
    assert (done.outcome, done.version) == ("succeeded", 1)
    assert says_reused(await told(path, other(order)))
    assert await told(path, order) == msgspec.structs.replace(done, replayed=True)
    row, title, events = await written(path, order)
    assert row is not None
    assert (row.outcome, row.fingerprint, title, events) == ("succeeded", "first", "first", 1)


async def test_a_retry_of_what_failed_is_told_what_becomes_of_itself(path: Path, worker: Worker, stack: Stack) -> None:
    order = create("first")
    worker.fails = True
    assert [(await told(path, order)).outcome for _ in range(2)] == ["failed", "failed"]
    await worker.stop()
    # Longer than until the table is asked: what it has is of the first try.
    assert await path.commands.submit(order, wait=1) == Pending(order.operation)
    async with without_redis(path, worker, stack):
        assert await path.commands.submit(order, wait=1) == Pending(order.operation)
    worker.fails = False
    worker.start()
    async with asyncio.timeout(HANG_S):
        while (await written(path, order))[1] is None:
            await asyncio.sleep(0.02)
    # It is in the table before the waiting are answered: the first may hear the answer to the try before.
    assert (await told(path, order)).outcome == "succeeded"
    done = await told(path, order)
    assert (done.outcome, done.replayed, done.version) == ("succeeded", True, 1)


async def forget(path: Path, order: Order) -> None:
    """As a day later: neither the table of operations nor Redis knows of it."""
    await path.stores.database.execute(
        "UPDATE operations SET created_at = now() - interval '25 hours' WHERE operation = $1", order.operation
    )
    assert await path.stores.operations.forget() == 1
    await lose_marker(path, order)
    assert await path.commands.find(order.operation, ACTOR) is None


async def test_a_key_that_was_forgotten_makes_nothing_twice(path: Path, worker: Worker) -> None:
    order = create("first")
    assert (await told(path, order)).outcome == "succeeded"
    for one in (order, other(order)):
        await forget(path, order)
        answer = await told(path, one)
        assert answer.refusal is not None
        assert (answer.outcome, answer.refusal.code) == ("refused", Code.ALREADY_EXISTS)
    # Nor when what it made was deleted since.
    assert (await told(path, change("delete_resource", order.aggregate_id))).outcome == "succeeded"
    await forget(path, order)
    answer = await told(path, order)
    assert answer.refusal is not None
    assert answer.refusal.code is Code.ALREADY_EXISTS
    _row, title, events = await written(path, order)
    assert (title, events) == ("first", 2)


async def test_a_change_under_a_key_that_was_forgotten_is_a_new_change(path: Path, worker: Worker) -> None:
    order = create("first")
    await told(path, order)
    update = change("update_resource", order.aggregate_id, title="second")
    assert (await told(path, update)).version == 2
    assert (await told(path, change("update_resource", order.aggregate_id, title="third"))).version == 3
    await forget(path, update)
    answer = await told(path, update)
    assert (answer.outcome, answer.replayed, answer.version) == ("succeeded", False, 4)
