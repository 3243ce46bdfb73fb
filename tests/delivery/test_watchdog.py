"""What counts as stuck: work, and no step further. What is away, stopped, slow or idle does not."""

import asyncio
from collections.abc import Sequence
from time import monotonic

import pytest
import pytest_asyncio

from config import Settings
from embedded.stack import Stack
from stores.progress import Mismatch
from streams import watchdog
from streams.admin import ensure_topics
from streams.consumer import BatchConsumer
from streams.groups import Connections
from streams.watchdog import Watchdog
from streams.work import Part
from tests.contracts.harness import HANG_S, until
from tests.delivery.conftest import MakeScene
from tests.delivery.harness import Door, Scene

PATIENCE_S = 100.0


@pytest_asyncio.fixture(scope="module", loop_scope="session", autouse=True)
async def _known_broker(settings: Settings, connections: Connections) -> None:
    """It is known to be there: an outage would be waited for."""
    await ensure_topics(settings)
    await connections.broker.start()


class Dog:
    """A watchdog of one group whose clock the test moves."""

    def __init__(self, scene: Scene) -> None:
        self._dog = Watchdog([scene.running], loop_s=float("inf"), progress_s=PATIENCE_S)
        self._broker = scene.connections.broker
        self._now = monotonic()

    async def after(self, seconds: float) -> str | None:
        """What it says so much later, of a broker that is there."""
        self._now += seconds
        while True:
            # Where this process stood still it may count as away for a moment.
            await until(lambda: self._broker.away is None)
            await self._dog.ask()
            if self._broker.away is None:
                return self._dog.stuck(self._now)

    async def after_in_an_outage(self, seconds: float) -> str | None:
        """As `after`, whether the broker is there or not."""
        self._now += seconds
        await self._dog.ask()
        return self._dog.stuck(self._now)


def consumer(notes: Scene) -> BatchConsumer:
    assert notes.running.consumer is not None
    return notes.running.consumer


async def rests(notes: Scene) -> None:
    """Wait until it is through with its batch: PostgreSQL has that a moment before."""

    async def idle() -> bool:
        await consumer(notes).look_behind()
        return not consumer(notes).has_work

    await until(idle)


async def at_work(notes: Scene) -> Dog:
    await notes.note("first")
    await notes.reaches(1)
    await until(lambda: notes.running.state() == "ok")
    await rests(notes)
    return Dog(notes)


async def test_records_that_nobody_reads(scene: MakeScene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watchdog, "ASK_S", HANG_S)
    async with await scene() as notes:
        dog = await at_work(notes)
        assert await dog.after(0) is None
        consumer(notes).stop_flow()
        await notes.note("second")
        assert await dog.after(1000) is None  # it was idle until now
        reason = await dog.after(PATIENCE_S + 1)
        assert reason == f"{notes.group} has records to handle and got no further for 101 s"
        consumer(notes).resume_flow()
        await notes.reaches(2)
        await rests(notes)
        assert await dog.after(1000) is None


async def test_a_batch_that_does_not_end(scene: MakeScene) -> None:
    async with await scene() as notes:
        dog = await at_work(notes)
        door = Door(notes)
        await notes.note("second")
        await asyncio.wait_for(door.entered.wait(), 30)
        assert await dog.after(1000) is None  # it has just come
        assert await dog.after(PATIENCE_S - 1) is None
        assert await dog.after(2) is not None
        door.open.set()
        await notes.reaches(2)
        await rests(notes)
        assert await dog.after(1000) is None


async def test_a_batch_that_is_read_again_and_again(scene: MakeScene) -> None:
    async with await scene() as notes:
        dog = await at_work(notes)

        async def mismatch(_parts: Sequence[Part]) -> None:
            raise Mismatch("somebody else")

        notes.plan.gate = mismatch
        await notes.note("second")
        await until(lambda: notes.metric("yeoul_fence_mismatches_total") >= 3)
        assert await dog.after(0) is None
        assert await dog.after(PATIENCE_S + 1) is not None
        notes.plan.gate = None
        await notes.reaches(2)


async def test_a_piece_of_a_batch_is_a_step_further(scene: MakeScene) -> None:
    async with await scene() as notes:
        dog = await at_work(notes)
        notes.plan.poison = {"bad"}
        good = Door(notes)
        await notes.note("good", "bad", "later")
        await asyncio.wait_for(good.entered.wait(), 30)
        assert await dog.after(0) is None
        assert await dog.after(PATIENCE_S - 1) is None
        later = Door(notes)
        good.open.set()
        await asyncio.wait_for(later.entered.wait(), 30)
        assert await dog.after(PATIENCE_S - 1) is None
        later.open.set()
        await notes.reaches(4)


async def test_many_batches_in_a_row(scene: MakeScene) -> None:
    async with await scene() as notes:
        dog = await at_work(notes)
        for number in range(4):
            door = Door(notes)
            await notes.note(f"n{number}")
            await asyncio.wait_for(door.entered.wait(), 30)
            assert await dog.after(PATIENCE_S - 1) is None
            door.open.set()
            await notes.reaches(2 + number)


async def test_a_stopped_partition_with_records_waiting(scene: MakeScene) -> None:
    notes = await scene()
    async with notes:
        await at_work(notes)
    await notes.stand(50)
    async with notes:
        await notes.stops()
        await until(lambda: notes.running.state().startswith("ok"))
        dog = Dog(notes)
        await notes.note("second")
        assert [await dog.after(PATIENCE_S + 1) for _ in range(3)] == [None] * 3


async def test_postgresql_away(scene: MakeScene, stack: Stack) -> None:
    async with await scene() as notes:
        dog = await at_work(notes)
        await stack.stop("postgres")
        try:
            await notes.note("second")
            await until(lambda: notes.metric("yeoul_store_waits_total") >= 1)
            assert [await dog.after(PATIENCE_S + 1) for _ in range(3)] == [None] * 3
        finally:
            await stack.start("postgres")
        await notes.reaches(2)


async def test_kafka_away_in_the_middle_of_a_batch(scene: MakeScene, stack: Stack) -> None:
    async with await scene() as notes:
        dog = await at_work(notes)
        door = Door(notes)
        await notes.note("second")
        await asyncio.wait_for(door.entered.wait(), 30)
        await stack.stop("kafka")
        try:
            await until(lambda: notes.connections.broker.away is not None)
            assert [await dog.after_in_an_outage(PATIENCE_S + 1) for _ in range(3)] == [None] * 3
        finally:
            await stack.start("kafka")
        door.open.set()
        await notes.reaches(2)
