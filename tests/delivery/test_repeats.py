"""What was handled before is not handled again: by sequence for our events, by (source, id) for anybody's."""

import msgspec
import pytest

from streams.envelope import sequence
from tests.contracts.harness import until
from tests.delivery.conftest import MakeScene
from tests.delivery.harness import event
from topics import Repeats


async def test_an_event_of_ours_not_above_the_highest_applied_is_dropped(scene: MakeScene) -> None:
    notes = await scene(repeats=Repeats.SEQUENCE)
    places = [(0, 1, 0), (0, 2, 0), (0, 2, 1), (0, 2, 0), (0, 1, 0), (0, 2, 1), (0, 9, 0), (0, 10, 0), (0, 9, 0)]
    await notes.send(*[event(str(place), place=place) for place in places])
    expected = [str(place) for place in [(0, 1, 0), (0, 2, 0), (0, 2, 1), (0, 9, 0), (0, 10, 0)]]
    async with notes:
        await notes.reaches(9)
        assert await notes.notes() == expected
        await until(lambda: notes.counted("repeat") == 4)  # a moment after the commit
        # In a later batch, too.
        await notes.send(event("late", place=(0, 10, 0)), event("new", place=(0, 10, 1)))
        await notes.reaches(11)
    # And by another owner, who knows it from the row alone. A new life of the commands is above all of the old one.
    await notes.send(event("late", place=(0, 10, 1)), event("life", place=(1, 0, 0)), event("late", place=(0, 99, 0)))
    async with notes:
        await notes.reaches(14)
    assert await notes.notes() == [*expected, "new", "life"]
    standing = await notes.standing()
    assert standing is not None
    assert standing.sequence == "000001.0000000000000000000.00000"


async def test_a_repeat_of_a_parked_event_of_ours_is_one_whenever_it_comes(scene: MakeScene) -> None:
    """It is the same event again, and its dead letter is the way to it."""
    notes = await scene(repeats=Repeats.SEQUENCE)
    notes.plan.poison = {"2"}
    await notes.send(*[event(str(number), place=(0, number, 0)) for number in (1, 2, 2)])
    async with notes:
        await notes.reaches(3)
        notes.plan.poison = set()
        await notes.send(event("2", place=(0, 2, 0)))
        await notes.reaches(4)
    await notes.send(event("2", place=(0, 2, 0)), event("3", place=(0, 3, 0)))
    async with notes:
        await notes.reaches(6)
    assert await notes.notes() == ["1", "3"]
    assert [letter.offset for letter in await notes.letters()] == [1]


@pytest.mark.parametrize(
    "attributes",
    [
        {"sequence": "zzz"},
        {"sequence": None},
        {"sequence": ""},
        {"sequence": "000000.0000000000000000009"},
        {"sequence": "000000.0000000000000000009.00000\n"},
        {"sequence": "000000.0000000000000000009.000000"},
        {"sequence": "٠٠٠٠٠٠.٠٠٠٠٠٠٠٠٠٠٠٠٠٠٠٠٠٠٩.٠٠٠٠٠"},
        {"source": "/yeoul/others"},
        {"source": "/yeoul/tests/"},
        {"source": "/shop"},
    ],
    ids=str,
)
async def test_an_event_that_no_owner_wrote_silences_nobody(scene: MakeScene, attributes: dict[str, object]) -> None:
    notes = await scene(repeats=Repeats.SEQUENCE)
    strange = msgspec.json.decode(event("strange", place=(0, 9, 0))) | attributes
    await notes.send(event("before", place=(0, 1, 0)), msgspec.json.encode(strange), event("after", place=(0, 2, 0)))
    async with notes:
        await notes.reaches(3)
    assert await notes.notes() == ["before", "after"]
    assert [(letter.offset, letter.code) for letter in await notes.letters()] == [(1, "wrong_shape")]
    standing = await notes.standing()
    assert standing is not None
    assert standing.sequence == sequence(0, 2, 0)


async def test_an_event_that_no_owner_wrote_is_not_replayed_either(
    scene: MakeScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.runtime.REPLAY_EVERY_S", 0.05)
    notes = await scene(repeats=Repeats.SEQUENCE)
    await notes.send(event("strange"))
    async with notes:
        await notes.reaches(1)
        (letter,) = await notes.letters()
        assert await notes.connections.dead_letters.settle(letter.id, "requested")

        async def back() -> bool:
            return bool(await notes.letters())

        await until(back)
    assert await notes.notes() == []


async def test_sequences_of_partitions_are_apart(scene: MakeScene) -> None:
    notes = await scene(repeats=Repeats.SEQUENCE, partitions=2)
    await notes.send(event("high", place=(0, 50, 0)), partition=0)
    await notes.send(event("low", place=(0, 1, 0)), event("low again", place=(0, 1, 0)), partition=1)
    async with notes:
        await notes.reaches(1, 2)
    assert await notes.notes() == ["high", "low"]


async def test_the_sequence_of_a_failing_event_is_passed_once_it_is_parked(scene: MakeScene) -> None:
    notes = await scene(repeats=Repeats.SEQUENCE)
    notes.plan.poison = {"2"}
    await notes.send(*[event(str(number), place=(0, number, 0)) for number in (1, 2, 3, 2, 1)])
    async with notes:
        await notes.reaches(5)
    assert await notes.notes() == ["1", "3"]
    assert [letter.offset for letter in await notes.letters()] == [1]


async def test_an_equal_source_and_id_is_a_repeat(scene: MakeScene) -> None:
    notes = await scene(partitions=2)
    await notes.note("a", "b", "a", "c", "b")
    await notes.note("a", source="/others")
    await notes.note("a", partition=1)  # another partition: producers key by subject or id
    async with notes:
        await notes.reaches(6, 1)
        assert await notes.notes() == ["a", "b", "c", "a", "a"]
        await until(lambda: notes.counted("repeat") == 2)
        await notes.note("c", "d")
        await notes.reaches(8, 1)
    assert await notes.notes(0) == ["a", "b", "c", "a", "d"]


async def test_what_came_before_a_restart_is_read_back_from_the_log(scene: MakeScene) -> None:
    notes = await scene()
    await notes.note(*[f"n{number}" for number in range(500)])
    await notes.send(b"unreadable", None)
    async with notes:
        await notes.reaches(502)
    await notes.note("n0", "new", "n499")
    async with notes:
        await notes.reaches(505)
    assert await notes.notes() == [*[f"n{number}" for number in range(500)], "new"]
    assert notes.counted("repeat") == 2


async def test_a_batch_that_rolls_back_is_not_remembered_as_seen(scene: MakeScene) -> None:
    notes = await scene()
    failures = 0

    async def fail_twice(_parts: object) -> None:
        nonlocal failures
        failures += 1
        if failures <= 2:
            raise RuntimeError("not yet")

    notes.plan.gate = fail_twice
    await notes.note("a", "b", "a")
    async with notes:
        await notes.reaches(3)
    assert await notes.notes() == ["a", "b"]
    assert await notes.letters() == []


async def test_a_topic_made_anew_is_a_new_life_read_from_its_beginning(scene: MakeScene) -> None:
    notes = await scene(repeats=Repeats.SEQUENCE)
    await notes.send(*[event(f"old {number}", place=(0, number, 0)) for number in range(5)])
    async with notes:
        await notes.reaches(5)
        await notes.broker.remake(notes.name, 1)
        await notes.broker.producer.client.force_metadata_update()
        await notes.send(
            event("repeat", place=(0, 4, 0)), event("new", place=(0, 5, 0)), event("newer", place=(1, 0, 0))
        )
        await notes.reaches(3)
    assert sorted(await notes.notes()) == sorted([*[f"old {number}" for number in range(5)], "new", "newer"])
    assert [life.life for life in await notes.connections.progress.lives(notes.group, 0)] == [0, 1]


async def test_a_group_that_declares_so_begins_at_the_end(scene: MakeScene) -> None:
    late = await scene(start="end")
    await late.note("before")
    async with late:
        await late.reaches(1)
        await late.note("after")
        await late.reaches(2)
    assert await late.notes() == ["after"]
