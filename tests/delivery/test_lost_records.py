"""A log that does not have what a group still needs: the partition stops and says so, and goes on when told to."""

from typing import Any

import pytest
from aiokafka.admin import RecordsToDelete

from streams.runtime import Running
from tests.contracts.harness import until
from tests.delivery.conftest import MakeScene


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.progress.LIVES_EVERY_S", 0.1)


async def test_a_log_that_ends_before_the_position(scene: MakeScene, caplog: pytest.LogCaptureFixture) -> None:
    notes = await scene(partitions=2)
    await notes.note(*"abc")
    async with notes:
        await notes.reaches(3, 0)
    await notes.stand(50)
    await notes.note("x", partition=1)
    async with notes:
        reason = await notes.stops()
        assert reason == "records were lost: the log ends at 3, this group has handled everything below 50"
        await notes.reaches(50, 1)
        assert notes.metric("yeoul_stopped_partitions_total") == 1
        assert f"dead-letters resume {notes.group} {notes.name} 0 OFFSET" in caplog.text
        await notes.note("d")
        assert await notes.connections.progress.resume(notes.group, notes.name, 0, 3)
        await notes.reaches(4, 1)
    assert await notes.notes() == ["a", "b", "c", "d", "x"]


async def test_a_log_that_begins_after_the_position(scene: MakeScene) -> None:
    notes = await scene()
    async with notes:
        await notes.note("0")
        await notes.reaches(1)
    await notes.note(*[str(number) for number in range(1, 20)])
    await notes.broker.admin.delete_records({notes.key(): RecordsToDelete(10)})
    async with notes:
        reason = await notes.stops()
        assert reason == "records were lost: the log begins at 10, this group still needs 1"
        assert await notes.connections.progress.resume(notes.group, notes.name, 0, 10)
        await notes.reaches(20)
    assert await notes.notes() == ["0", *[str(number) for number in range(10, 20)]]


async def test_a_log_whose_end_is_the_position_is_all_right(scene: MakeScene) -> None:
    notes = await scene()
    await notes.note(*"abc")
    async with notes:
        await notes.reaches(3)
    await notes.broker.admin.delete_records({notes.key(): RecordsToDelete(3)})
    async with notes:
        await notes.note("d")
        await notes.reaches(4)
    assert await notes.notes() == ["a", "b", "c", "d"]


async def test_a_group_waits_for_a_topic_of_the_right_shape(scene: MakeScene, caplog: pytest.LogCaptureFixture) -> None:
    notes = await scene(partitions=2)
    await notes.broker.admin.delete_topics([notes.name])
    await notes.broker.make(notes.name, 3)
    async with notes:
        await until(lambda: "has 3 partitions and must have 2: see docs/operators.md" in caplog.text)
        running: Any = notes.running
        assert isinstance(running, Running)
        assert running.state() != "ok"
    assert await notes.standing() is None
