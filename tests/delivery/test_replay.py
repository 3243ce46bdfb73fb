"""Dead letters once more: a reader's group takes the row by itself, once, and past the check for repeats."""

import asyncio

import pytest

import topics
from stores.dead_letters import NOT_PARKED
from streams.progress import Owned
from streams.readers import record_of
from streams.replay import replay
from tests.contracts.harness import until
from tests.delivery.conftest import MakeScene
from tests.delivery.harness import Scene, event
from topics import Repeats


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.runtime.REPLAY_EVERY_S", 0.05)


async def settled(scene: Scene, state: str) -> bool:
    return bool(await scene.letters(state))


async def test_a_letter_is_handled_though_later_events_were(scene: MakeScene) -> None:
    notes = await scene(repeats=Repeats.SEQUENCE)
    notes.plan.poison = {"2"}
    await notes.send(*[event(str(number), place=(0, number, 0)) for number in (1, 2, 3)])
    async with notes:
        await notes.reaches(3)
        (letter,) = await notes.letters()
        notes.plan.poison = set()
        assert await notes.connections.dead_letters.settle(letter.id, "requested")
        await until(lambda: settled(notes, "replayed"))
        assert await notes.notes() == ["1", "2", "3"]
        # It has had its turn: asked for again, it does not come again.
        assert not await notes.connections.dead_letters.settle(letter.id, "requested")
    row = await notes.connections.database.fetchrow(
        """SELECT d.xmin::text = n.xmin::text AS same FROM dead_letters d, notes n
           WHERE d.id = $1 AND n.id = '2' AND n.consumer_group = $2""",
        letter.id,
        notes.group,
    )
    assert row["same"]


async def test_a_letter_that_fails_again_is_parked_again(scene: MakeScene) -> None:
    notes = await scene()
    notes.plan.poison = {"bad"}
    await notes.note("bad", "good")
    await notes.send(b"unreadable")
    async with notes:
        await notes.reaches(3)
        letters = await notes.letters()
        calls = notes.plan.calls
        for letter in letters:
            await notes.connections.dead_letters.settle(letter.id, "requested")
        await until(lambda: _parked_again(notes, 2))
        assert notes.plan.calls == calls + 1
        notes.plan.error = "{} is poison in another way"
        await notes.connections.dead_letters.settle(letters[0].id, "requested")
        await until(lambda: _says(notes, "ValueError: bad is poison in another way"))
        await notes.note("later")
        await notes.reaches(4)
    assert await notes.notes() == ["good", "later"]


async def _says(notes: Scene, error: str) -> bool:
    return error in [letter.error for letter in await notes.letters()]


async def test_a_letter_whose_type_is_not_known_any_more_is_parked_again_and_says_why(scene: MakeScene) -> None:
    notes = await scene()
    notes.plan.poison = {"a"}
    await notes.note("a", "b")
    async with notes:
        await notes.reaches(2)
        (letter,) = await notes.letters()
        notes.plan.types = {"noted.again"}
        assert await notes.connections.dead_letters.settle(letter.id, "requested")
        await until(lambda: _says(notes, "this version does not know its type and skips it"))
        notes.plan.types, notes.plan.poison = {"noted"}, set()
        assert await notes.connections.dead_letters.settle(letter.id, "requested")
        await until(lambda: settled(notes, "replayed"))
    assert await notes.notes() == ["a", "b"]


async def _parked_again(notes: Scene, count: int) -> bool:
    return len(await notes.letters()) == count


async def test_a_letter_outlives_the_life_of_the_partition_that_it_came_from(scene: MakeScene) -> None:
    notes = await scene()
    notes.plan.poison = {"b"}
    await notes.note("a", "b", "c")
    async with notes:
        await notes.reaches(3)
    await notes.stand(50)  # the log has lost what came after
    async with notes:
        await notes.stops()
        assert await notes.connections.progress.resume(notes.group, notes.name, 0, 3)
        await notes.note("d")
        await notes.reaches(4)
        (letter,) = await notes.letters()
        notes.plan.poison = set()
        assert await notes.connections.dead_letters.settle(letter.id, "requested")
        await until(lambda: settled(notes, "replayed"))
    assert await notes.notes() == ["a", "b", "c", "d"]


async def test_the_command_line_hands_a_readers_letter_to_its_group(scene: MakeScene) -> None:
    notes = await scene(partitions=2)
    notes.plan.poison = {"a", "b"}
    await notes.note("a")
    await notes.note("b", partition=1)
    async with notes:
        await notes.reaches(1, 1)
    letters = await notes.letters()
    notes.plan.poison = set()
    store, ids = notes.connections.dead_letters, [letter.id for letter in letters]
    assert await replay(notes.connections.settings, store, await store.named(ids)) == {}
    assert await replay(notes.connections.settings, store, await store.named(ids)) == dict.fromkeys(ids, NOT_PARKED)
    assert await notes.notes() == []  # nobody runs
    async with notes:

        async def all_there() -> bool:
            return len(await notes.letters("replayed")) == 2

        await until(all_there)
    assert await notes.notes() == ["a", "b"]


async def test_a_dropped_letter_is_not_replayed(scene: MakeScene) -> None:
    notes = await scene()
    notes.plan.poison = {"a"}
    await notes.note("a")
    async with notes:
        await notes.reaches(1)
        (letter,) = await notes.letters()
        assert await notes.connections.dead_letters.settle(letter.id, "dropped")
        assert not await notes.connections.dead_letters.settle(letter.id, "requested")
        store = notes.connections.dead_letters
        chosen = await store.named([letter.id])
        assert await replay(notes.connections.settings, store, chosen) == {letter.id: NOT_PARKED}
    assert await notes.notes() == []


async def test_two_members_asked_at_once_handle_a_letter_once(scene: MakeScene) -> None:
    notes = await scene()
    notes.plan.poison = {"a"}
    await notes.note("a")
    async with notes:
        await notes.reaches(1)
    (letter,) = await notes.letters()
    notes.plan.poison = set()
    handler = notes.handler()
    await notes.connections.dead_letters.settle(letter.id, "requested")
    message = handler.decode(record_of(letter))
    owned = Owned(topics.INGEST, letter.topic_id, 0, letter.offset + 1, "")
    await asyncio.gather(*(handler.replay(letter, owned, message) for _ in range(4)))
    assert await notes.notes() == ["a"]
