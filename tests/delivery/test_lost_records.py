"""A log that does not have what a group still needs: the partition stops and says so, and goes on when told to."""

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer
from aiokafka.admin import RecordsToDelete

from config import Settings
from streams.progress import Progress
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


class Asked:
    """A store or a consumer as it is, but that something happens after an answer of it."""

    def __init__(self, asked: Any, question: str, then: Callable[[], Awaitable[None]]) -> None:
        self._asked = asked
        self._question = question
        self._then = then

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._asked, name)
        if name != self._question:
            return method

        async def answered(*arguments: Any, **named: Any) -> Any:
            answer = await method(*arguments, **named)
            await self._then()
            return answer

        return answered


@pytest_asyncio.fixture(loop_scope="session")
async def consumer(settings: Settings) -> AsyncIterator[AIOKafkaConsumer]:
    async with AIOKafkaConsumer(bootstrap_servers=settings.kafka_url) as consumer:
        yield consumer


@pytest.mark.parametrize("question", ["beginning_offsets", "standings", "begin", "end_offsets"])
async def test_another_owner_that_goes_on_meanwhile_lost_nothing(
    scene: MakeScene, consumer: AIOKafkaConsumer, question: str
) -> None:
    """As one does that is cut off from the coordinator only; and what it handled may be forgotten by the log."""
    notes = await scene()
    await notes.note("a", "b")
    if question != "begin":  # else both owners are the group's first
        async with notes:
            await notes.reaches(2)

    async def meanwhile() -> None:
        await notes.note("c", "d")
        await notes.stand(4)
        await notes.broker.admin.delete_records({notes.key(): RecordsToDelete(4)})

    store: Any = Asked(notes.connections.progress, question, meanwhile)
    kafka: Any = Asked(consumer, question, meanwhile)
    progress = Progress(notes.group, {notes.name: notes.topic}, store)
    found = await progress.locate(kafka, [notes.key()])
    assert found.keys() == {notes.key()}
    assert (await notes.standing()).stopped is None  # type: ignore[union-attr]
    async with notes:
        await notes.note("e")
        await notes.reaches(5)
    assert (await notes.notes())[-1] == "e"


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
