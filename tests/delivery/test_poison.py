"""Records that can't be read or handled: exactly they become dead letters, with everything in them; the others pass."""

import asyncio

import msgspec
import pytest

from streams import delivery, poison
from tests.contracts.harness import until
from tests.delivery.conftest import MakeScene
from tests.delivery.harness import event


async def test_one_bad_record_of_a_hundred_is_found_by_halving(scene: MakeScene) -> None:
    notes = await scene()
    await notes.note(*[f"n{number}" for number in range(100)])
    notes.plan.poison = {"n57"}
    async with notes:
        await notes.reaches(100)
    (letter,) = await notes.letters()
    assert (letter.offset, letter.code, letter.attempts, letter.handler) == (57, "handler_failed", 3, "notes")
    assert (letter.key, letter.value, letter.headers) == (b"key", event("n57"), (("h", b"\xff"),))
    assert (letter.topic, letter.partition, letter.error) == (notes.name, 0, "ValueError: n57 is poison")
    assert await notes.notes() == [f"n{number}" for number in range(100) if number != 57]
    # Halves, not one by one: at most two calls at each of seven depths, and the attempts with it alone.
    assert notes.plan.calls <= 2 * 7 + delivery.ATTEMPTS + 2
    assert (notes.counted("handled"), notes.counted("parked")) == (99, 1)


@pytest.mark.parametrize("poison", [{"0.0"}, {"0.3", "1.0", "1.1", "2.28", "2.29"}])
async def test_bad_records_of_several_partitions(scene: MakeScene, poison: set[str]) -> None:
    notes = await scene(partitions=3)
    for partition in range(3):
        await notes.note(*[f"{partition}.{number}" for number in range(30)], partition=partition)
    notes.plan.poison = poison
    async with notes:
        await notes.reaches(30, 30, 30)
    assert {f"{letter.partition}.{letter.offset}" for letter in await notes.letters()} == poison
    everything = [f"{partition}.{number}" for partition in range(3) for number in range(30)]
    assert await notes.notes() == [id for id in everything if id not in poison]


async def test_what_cannot_be_read_is_parked_in_the_transaction_of_its_batch(scene: MakeScene) -> None:
    notes = await scene()
    values: list[bytes | None] = [
        b"\xff\x00random",
        event("good"),
        None,
        b'{"another": "shape"}',
        b"[" * 10_000,
        b'{"id": "\xff", "source": "s", "type": "noted", "specversion": "1.0"}',
        event("also good"),
    ]
    await notes.send(*values)
    async with notes:
        await notes.reaches(7)
    letters = await notes.letters()
    assert [letter.offset for letter in letters] == [0, 2, 3, 4, 5]
    assert [letter.value for letter in letters] == [values[letter.offset] for letter in letters]
    assert [letter.code for letter in letters[:3]] == ["not_json", "tombstone", "wrong_shape"]
    assert {letter.code for letter in letters[3:]} <= {"not_json", "wrong_shape", "too_deep"}
    assert {letter.attempts for letter in letters} == {1}
    assert await notes.notes() == ["good", "also good"]
    row = await notes.connections.database.fetchrow(
        """SELECT array_agg(DISTINCT p.xmin::text) AS progress, array_agg(DISTINCT d.xmin::text) AS letters,
                  array_agg(DISTINCT n.xmin::text) AS notes
           FROM progress p, dead_letters d, notes n
           WHERE p.consumer_group = $1 AND d.consumer_group = $1 AND n.consumer_group = $1""",
        notes.group,
    )
    assert row["progress"] == row["letters"] == row["notes"]


async def test_unreadable_and_failing_records_together(scene: MakeScene) -> None:
    notes = await scene(partitions=2)
    for partition in range(2):
        for number in range(10):
            value = b"unreadable" if number % 4 == 0 else event(f"{partition}.{number}")
            await notes.send(value, partition=partition)
    notes.plan.poison = {"0.3", "1.9"}
    async with notes:
        await notes.reaches(10, 10)
    found = {(letter.partition, letter.offset): letter.code for letter in await notes.letters()}
    unreadable = {(partition, number): "not_json" for partition in range(2) for number in (0, 4, 8)}
    assert found == {**unreadable, (0, 3): "handler_failed", (1, 9): "handler_failed"}
    assert len(await notes.notes()) == 12


async def test_a_failure_that_passes_parks_nothing(scene: MakeScene) -> None:
    notes = await scene()
    await notes.note("a", "b")
    failures = 0

    async def heal(_parts: object) -> None:
        nonlocal failures
        failures += 1
        if failures == 1:
            raise RuntimeError("a moment's weakness")

    notes.plan.gate = heal
    async with notes:
        await notes.reaches(2)
    assert (await notes.notes(), await notes.letters()) == (["a", "b"], [])


async def test_an_unknown_type_is_skipped_and_counted(scene: MakeScene) -> None:
    notes = await scene()
    await notes.note("1")
    await notes.note("2", "3", kind="from.the.future")
    await notes.note("4")
    async with notes:
        await notes.reaches(4)
    assert (await notes.notes(), await notes.letters()) == (["1", "4"], [])
    assert (notes.counted("unknown"), notes.counted("handled")) == (2, 2)


async def test_a_batch_of_nothing_but_unknown_or_unreadable_moves_on(scene: MakeScene) -> None:
    notes = await scene()
    async with notes:
        await notes.note("1", kind="from.the.future")
        await notes.reaches(1)
        await notes.send(b"unreadable")
        await notes.reaches(2)
    assert notes.plan.calls <= 2
    assert len(await notes.letters()) == 1


async def test_nearly_all_poison_stops_the_partition_until_an_operator_lets_it_go_on(
    scene: MakeScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poison, "WINDOW", 50)
    monkeypatch.setattr("streams.progress.LIVES_EVERY_S", 0.1)
    notes = await scene(partitions=2)
    await notes.send(*[b"unreadable"] * 60)
    await notes.note("before", partition=1)
    async with notes:
        assert await notes.stops() == "60 of the last 60 records were poison"
        assert notes.metric("yeoul_stopped_partitions_total") == 1
        await notes.note("after the stop")
        await notes.note("other", partition=1)
        await notes.reaches(60, 2)
        assert notes.running.state().startswith("ok")
        assert await notes.notes() == ["before", "other"]
        assert await notes.connections.progress.resume(notes.group, notes.name, 0, 60)
        await notes.reaches(61, 2)
        assert (await notes.standing()).stopped is None  # type: ignore[union-attr]
    assert await notes.notes() == ["after the stop", "before", "other"]


async def test_a_handler_that_fails_at_everything_stops_the_partition_in_the_middle_of_a_batch(
    scene: MakeScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poison, "WINDOW", 20)
    monkeypatch.setattr("streams.progress.LIVES_EVERY_S", 0.1)
    notes = await scene(partitions=2)
    await notes.note(*[f"n{number}" for number in range(60)])
    await notes.note("other", partition=1)
    notes.plan.poison = {f"n{number}" for number in range(60)}
    async with notes:
        assert await notes.stops() == "20 of the last 20 records were poison"
        await notes.reaches(20, 1)
        assert len(await notes.letters()) == 20
        await notes.note("other still", partition=1)
        await notes.reaches(20, 2)
        notes.plan.poison = set()  # mended and deployed
        assert await notes.connections.progress.resume(notes.group, notes.name, 0, 20)
        await notes.reaches(60, 2)
    assert await notes.notes() == [*[f"n{number}" for number in range(20, 60)], "other", "other still"]
    assert notes.metric("yeoul_stopped_partitions_total") == 1


async def test_what_was_handled_in_between_counts_for_the_partition(
    scene: MakeScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Repeats and unknown types are no poison either."""
    monkeypatch.setattr(poison, "WINDOW", 20)
    notes = await scene()
    for number in range(30):
        await notes.send(event(f"bad {number}"), event("again"), event("?", kind="from.the.future"))
    notes.plan.poison = {f"bad {number}" for number in range(30)}
    async with notes:
        await notes.reaches(90)
    assert (len(await notes.letters()), await notes.notes()) == (30, ["again"])
    assert notes.counted("repeat") == 29
    assert notes.counted("unknown") == 30


async def test_the_only_partition_goes_on_too(scene: MakeScene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poison, "WINDOW", 20)
    monkeypatch.setattr("streams.progress.LIVES_EVERY_S", 0.1)
    notes = await scene()
    await notes.send(*[b"unreadable"] * 20)
    async with notes:
        await notes.stops()
        await until(lambda: notes.running.consumer._located == {notes.key(): -1})  # type: ignore[union-attr]
        await notes.note("after")
        assert await notes.connections.progress.resume(notes.group, notes.name, 0, 20)
        await notes.reaches(21)
    assert await notes.notes() == ["after"]


async def test_a_stopped_partition_stays_stopped_over_a_restart(
    scene: MakeScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poison, "WINDOW", 20)
    notes = await scene(partitions=2)
    await notes.send(*[b"unreadable"] * 20)
    async with notes:
        await notes.stops()
    await notes.note("kept")
    await notes.note("other", partition=1)
    async with notes:
        await notes.reaches(20, 1)
        assert await notes.notes() == ["other"]
        assert notes.metric("yeoul_stopped_partitions_total") == 1
    assert await notes.connections.progress.resume(notes.group, notes.name, 0, 20)
    async with notes:
        await notes.reaches(21, 1)
    assert await notes.notes() == ["kept", "other"]


async def test_half_poison_does_not_stop_it(scene: MakeScene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(poison, "WINDOW", 20)
    notes = await scene()
    for number in range(30):
        await notes.send(b"unreadable", event(f"{number}"))
    async with notes:
        await notes.reaches(60)
    assert (len(await notes.letters()), len(await notes.notes())) == (30, 30)
    standing = await notes.standing()
    assert standing is not None
    assert standing.stopped is None


async def test_a_handler_that_is_cancelled_parks_nothing(scene: MakeScene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streams.consumer.DRAIN_S", 0.2)
    notes = await scene()
    await notes.note("a", "b")
    entered = asyncio.Event()

    async def hold(_parts: object) -> None:
        entered.set()
        await asyncio.Event().wait()

    notes.plan.gate = hold
    async with notes:
        await entered.wait()
    assert (await notes.notes(), await notes.letters()) == ([], [])
    notes.plan.gate = None
    async with notes:
        await notes.reaches(2)
    assert await notes.notes() == ["a", "b"]


@pytest.mark.parametrize(
    "wrong", [{"id": ""}, {"source": ""}, {"type": ""}, {"specversion": "0.3"}, {"specversion": "9.0"}]
)
async def test_what_the_standard_forbids_is_no_event(scene: MakeScene, wrong: dict[str, str]) -> None:
    notes = await scene()
    given = {"specversion": "1.0", "id": "1", "source": "/tests", "type": "noted"}
    await notes.send(msgspec.json.encode(given | wrong), event("good"))
    async with notes:
        await notes.reaches(2)
    (letter,) = await notes.letters()
    assert (letter.offset, letter.code) == (0, "wrong_shape")
    assert next(iter(wrong)) in letter.error
    assert await notes.notes() == ["good"]
