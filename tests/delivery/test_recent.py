"""What counts as a repeat of anybody's event is the same in one go, after restarts, and however it is batched."""

import gc
import itertools
import random
import tracemalloc
from collections.abc import Sequence
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaConnectionError

from embedded.state import free_port
from streams import recent
from streams.work import Part
from tests.contracts.harness import until
from tests.delivery.conftest import MakeScene
from tests.delivery.harness import Scene, event

REACH = 8


@pytest.fixture(autouse=True)
def _near(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent, "REACH", REACH)
    monkeypatch.setattr("streams.runtime.REPLAY_EVERY_S", 0.05)


def fillers(count: int, numbers: "itertools.count[int]") -> list[str]:
    return [f"filler {next(numbers)}" for _ in range(count)]


class History:
    """Events by offset, and which of them fail or have an unknown type."""

    def __init__(self, seed: int, count: int = 120) -> None:
        chance = random.Random(seed)
        numbers = itertools.count()
        self.ids = [chance.choice("abcd") if chance.random() < 0.3 else f"{next(numbers)}" for _ in range(count)]
        self.unknown = {offset for offset in range(count) if chance.random() < 0.1}
        self.failing = {offset for offset in range(count) if chance.random() < 0.1}

    def handled(self) -> list[int]:
        """As it is promised: a repeat is what stands at most REACH behind an equal one that was not parked."""
        sighted: dict[str, int] = {}
        handled = []
        for offset, id in enumerate(self.ids):
            if offset in self.unknown:
                continue
            if id in sighted and offset <= sighted[id] + REACH:
                sighted[id] = offset
            elif offset not in self.failing:
                sighted[id] = offset
                handled.append(offset)
        return handled

    async def send(self, notes: Scene, begin: int, end: int) -> None:
        await notes.send(
            *[
                event(self.ids[offset], kind="from.the.future" if offset in self.unknown else "noted")
                for offset in range(begin, end)
            ]
        )

    async def fail(self, parts: Sequence[Part]) -> None:
        if any(record.offset in self.failing for part in parts for record in part.records):
            raise ValueError("it fails here")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("lives", [1, 2, 8])
async def test_restarts_and_batches_change_nothing(scene: MakeScene, seed: int, lives: int) -> None:
    history = History(seed)
    assert 60 < len(history.handled()) < 110
    notes = await scene()
    notes.plan.gate = history.fail
    size = len(history.ids) // lives
    for begin in range(0, len(history.ids), size):
        await history.send(notes, begin, begin + size)
        async with notes:
            await notes.reaches(begin + size)
    assert await notes.places() == history.handled()


async def test_small_batches_of_one_life_change_nothing(scene: MakeScene) -> None:
    history = History(7)
    notes = await scene()
    notes.plan.gate = history.fail
    async with notes:
        for begin in range(0, len(history.ids), 6):
            await history.send(notes, begin, begin + 6)
            await notes.reaches(begin + 6)
    assert await notes.places() == history.handled()


@pytest.mark.parametrize("restart", [False, True])
async def test_a_repeat_of_a_repeat_is_one(scene: MakeScene, restart: bool) -> None:
    notes = await scene()
    numbers = itertools.count()
    await notes.note("a", *fillers(REACH - 1, numbers), "a")
    async with notes:
        await notes.reaches(REACH + 1)
        if not restart:
            await notes.note(*fillers(REACH - 1, numbers), "a", *fillers(REACH, numbers), "a")
            await notes.reaches(3 * REACH + 2)
    if restart:
        await notes.note(*fillers(REACH - 1, numbers), "a", *fillers(REACH, numbers), "a")
        async with notes:
            await notes.reaches(3 * REACH + 2)
    # The third stands out of reach of the first, and is a repeat of the second; the fourth is out of reach of all.
    assert sorted(set(range(3 * REACH + 2)) - set(await notes.places())) == [REACH, 2 * REACH]
    assert notes.counted("repeat") == 2


@pytest.mark.parametrize("restart", [False, True])
async def test_what_was_parked_may_be_sent_again_until_it_was_replayed(scene: MakeScene, restart: bool) -> None:
    notes = await scene()
    notes.plan.poison = {"a", "b"}
    await notes.note("a", "b")
    async with notes:
        await notes.reaches(2)
        letters = await notes.letters()
        notes.plan.poison = set()
        assert await notes.connections.dead_letters.settle(letters[1].id, "requested")

        async def replayed() -> bool:
            return bool(await notes.letters("replayed"))

        await until(replayed)
        if not restart:
            await notes.note("a", "b")
            await notes.reaches(4)
    if restart:
        await notes.note("a", "b")
        async with notes:
            await notes.reaches(4)
    assert await notes.places() == [1, 2]


@pytest.mark.parametrize("restart", [False, True])
async def test_what_a_producer_took_back_was_never_seen(scene: MakeScene, restart: bool) -> None:
    notes = await scene()
    producer = AIOKafkaProducer(bootstrap_servers=notes.connections.settings.kafka_url, transactional_id=notes.group)
    await producer.start()
    try:
        await producer.begin_transaction()
        await producer.send_and_wait(notes.name, event("a"), partition=0)
        await producer.abort_transaction()
    finally:
        await producer.stop()
    async with notes:
        await notes.note("b")
        await notes.reaches(3)
        if not restart:
            await notes.note("a")
            await notes.reaches(4)
    if restart:
        await notes.note("a")
        async with notes:
            await notes.reaches(4)
    assert await notes.notes() == ["b", "a"]


@pytest.mark.parametrize("restart", [False, True])
async def test_repeats_are_known_however_long_their_names_are(scene: MakeScene, restart: bool) -> None:
    long = "x" * 10_000
    ids = [f"{long} 1", f"{long} 2", "x" * 64, "x" * 65]
    notes = await scene()
    async with notes:
        await notes.note(*ids[:2], source=f"/{long}")
        await notes.note(*ids[2:])
        await notes.reaches(4)
        if not restart:
            await notes.note(*ids[:2], source=f"/{long}")
            await notes.note(*ids)
            await notes.reaches(10)
    if restart:
        await notes.note(*ids[:2], source=f"/{long}")
        await notes.note(*ids)
        async with notes:
            await notes.reaches(10)
    # Of the last four the first two come from another source for the first time.
    assert await notes.places() == [0, 1, 2, 3, 6, 7]
    assert notes.counted("repeat") == 4


def test_long_names_take_no_more_memory_than_short_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    count = 1_000
    monkeypatch.setattr(recent, "REACH", count)  # nothing of this is forgotten

    def size(padding: str) -> int:
        """Bytes that remembering `count` events takes, once the batch that brought them is gone."""
        seen = recent.Recent()
        tracemalloc.start()
        try:
            for number in range(count):
                staged: recent.Staged = {}
                seen.sight(staged, f"/source {number}{padding}", f"id {number}{padding}", number)
                seen.remember_all(staged)
                del staged
            return tracemalloc.get_traced_memory()[0]
        finally:
            tracemalloc.stop()

    short, long = size(""), size("x" * 20_000)
    assert 0 < long < 1.2 * short


async def test_a_look_back_that_finds_no_broker_leaves_nothing_open(scene: MakeScene) -> None:
    notes = await scene()
    letters, partition = notes.connections.dead_letters, TopicPartition(notes.name, 0)
    back = recent.LookBack(f"127.0.0.1:{free_port()}", notes.group, lambda record: record, letters)
    with pytest.raises(KafkaConnectionError):
        await back.read(partition, uuid4(), 0, 1)
    gc.collect()  # an open consumer says so now, and that fails this test
