"""Another owner, or a database that is away: nothing is handled twice, nothing is lost, and nobody starts again."""

import asyncio

import pytest

from embedded.stack import Stack
from tests.contracts.harness import until
from tests.delivery.conftest import MakeScene
from tests.delivery.harness import Door, event
from topics import Repeats


async def test_what_another_owner_handled_is_not_handled_again(scene: MakeScene) -> None:
    notes = await scene(partitions=2)
    async with notes:
        for partition in range(2):
            await notes.note(*[f"{partition}.{number}" for number in range(5)], partition=partition)
        await notes.reaches(5, 5)
        await notes.stand(8)  # another owner handled three records that are not there yet
        for partition in range(2):
            await notes.note(*[f"{partition}.{number}" for number in range(5, 10)], partition=partition)
        await notes.reaches(10, 10)
        assert notes.metric("yeoul_fence_mismatches_total") >= 1
    assert await notes.notes(0) == ["0.0", "0.1", "0.2", "0.3", "0.4", "0.8", "0.9"]
    assert await notes.notes(1) == [f"1.{number}" for number in range(10)]


async def test_a_position_that_went_back_is_followed(scene: MakeScene) -> None:
    notes = await scene(repeats=Repeats.OPERATION)  # no memory of repeats: what is read again is handled again
    async with notes:
        await notes.note("a", "b", "c")
        await notes.reaches(3)
        await notes.stand(1)  # a database restored from yesterday
        await notes.note("d")
        await notes.reaches(4)
    assert sorted(await notes.notes()) == ["a", "b", "b", "c", "c", "d"]


async def test_the_database_stopped_in_the_middle_of_a_batch(scene: MakeScene, stack: Stack) -> None:
    notes = await scene(repeats=Repeats.OPERATION, partitions=2)
    door = Door(notes)
    async with notes:
        await notes.note("a", "b")
        await asyncio.wait_for(door.entered.wait(), 30)
        app = notes.running.app
        await stack.stop("postgres")
        try:
            door.open.set()
            await until(lambda: notes.metric("yeoul_store_waits_total") >= 2)
            assert notes.running.state() == "waiting for the stores"
            await notes.note("c", partition=1)
        finally:
            await stack.start("postgres")
        await notes.reaches(2, 1)
        assert notes.running.state() == "ok"
        assert notes.running.app is app  # it waited, and was not started again
    assert await notes.notes() == ["a", "b", "c"]
    assert (await notes.letters(), notes.metric("yeoul_group_restarts_total")) == ([], 0)


async def test_the_server_killed_while_idle_is_felt_by_nobody(scene: MakeScene, stack: Stack) -> None:
    notes = await scene(repeats=Repeats.SEQUENCE)
    async with notes:
        await notes.send(event("a", place=(0, 0, 0)))
        await notes.reaches(1)
        await stack.kill("postgres")
        try:
            await notes.send(event("b", place=(0, 1, 0)), event("a", place=(0, 0, 0)))
            await until(lambda: notes.metric("yeoul_store_waits_total") >= 1)
        finally:
            await stack.start("postgres")
        await notes.reaches(3)
    assert (await notes.notes(), await notes.letters()) == (["a", "b"], [])


async def test_a_transaction_that_the_server_ended_is_tried_again(scene: MakeScene) -> None:
    """As after SIGSTOP: the server ends a transaction that stands idle, and with it its locks."""
    notes = await scene(repeats=Repeats.OPERATION)
    door = Door(notes)
    await notes.note("a", "b")
    async with notes:
        await asyncio.wait_for(door.entered.wait(), 30)
        row = await notes.connections.database.fetchrow(
            """SELECT count(pg_terminate_backend(pid)) AS ended FROM pg_stat_activity
               WHERE state = 'idle in transaction' AND datname = current_database()"""
        )
        assert row["ended"] == 1
        door.open.set()
        await notes.reaches(2)
    assert (await notes.notes(), await notes.letters()) == (["a", "b"], [])


async def test_a_stop_while_the_database_is_away_lets_go_at_once(scene: MakeScene, stack: Stack) -> None:
    notes = await scene()
    async with notes:
        await notes.note("a")
        await notes.reaches(1)
        await stack.stop("postgres")
        try:
            await notes.note("b")
            await until(lambda: notes.metric("yeoul_store_waits_total") >= 1)
            async with asyncio.timeout(15):  # the drain would wait for 20 s
                await notes.stop()
        finally:
            await stack.start("postgres")
    async with notes:
        await notes.reaches(2)
    assert await notes.notes() == ["a", "b"]


@pytest.mark.parametrize("fails", [False, True])
async def test_a_stop_waits_for_the_batch_in_hand(scene: MakeScene, fails: bool) -> None:
    notes = await scene()
    door = Door(notes)
    await notes.note("a", "b")
    notes.plan.poison = {"b"} if fails else set()
    async with notes:
        if fails:
            await until(lambda: notes.plan.calls >= 2)
        else:
            await asyncio.wait_for(door.entered.wait(), 30)
        stopping = asyncio.create_task(notes.stop())
        await until(lambda: notes.running.consumer is None or notes.running.consumer.letting_go)
        door.open.set()
        await stopping
    standing = await notes.standing()
    assert standing is not None
    assert standing.next_offset == 2
    assert await notes.notes() == (["a"] if fails else ["a", "b"])
