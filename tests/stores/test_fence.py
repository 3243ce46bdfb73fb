"""The position of a group moves by compare-and-set: every partition of a batch or none, and one owner only."""

import asyncio
from uuid import UUID, uuid4

import pytest

from stores.postgres import Database
from stores.progress import Mismatch, Move, ProgressStore, move
from tests.stores.given import GROUP, partitions


async def positions(progress: ProgressStore, topic_id: UUID) -> dict[int, int]:
    standings = await progress.standings(GROUP, topic_id, range(10))
    return {partition: standing.next_offset for partition, standing in standings.items()}


async def test_every_partition_moves_to_the_end_of_its_span(database: Database, progress: ProgressStore) -> None:
    topic_id = await partitions(progress, 0, 1, 2, at=5)
    async with database.connection() as connection:
        await move(connection, GROUP, [Move(topic_id, 2, 5, 9), Move(topic_id, 0, 5, 6)])
    assert await positions(progress, topic_id) == {0: 6, 1: 5, 2: 9}


@pytest.mark.parametrize("begin", [4, 6])
async def test_one_partition_elsewhere_holds_all_back(database: Database, progress: ProgressStore, begin: int) -> None:
    topic_id = await partitions(progress, 0, 1, at=5)
    async with database.connection() as connection:
        with pytest.raises(Mismatch):
            await move(connection, GROUP, [Move(topic_id, 0, 5, 9), Move(topic_id, 1, begin, 9)])
    assert await positions(progress, topic_id) == {0: 5, 1: 5}


async def test_a_partition_without_a_row_or_one_that_is_stopped_holds_all_back(
    database: Database, progress: ProgressStore
) -> None:
    topic_id = await partitions(progress, 0, 1)
    await progress.stop(GROUP, topic_id, 1, "poison")
    async with database.connection() as connection:
        for other in (1, 2):
            with pytest.raises(Mismatch):
                await move(connection, GROUP, [Move(topic_id, 0, 0, 9), Move(topic_id, other, 0, 9)])
        with pytest.raises(Mismatch):
            await move(connection, GROUP, [Move(uuid4(), 0, 0, 9)])
        with pytest.raises(Mismatch):
            await move(connection, "tests.others", [Move(topic_id, 0, 0, 9)])
    assert await positions(progress, topic_id) == {0: 0, 1: 0}


@pytest.mark.parametrize("commits", [True, False])
async def test_of_two_at_once_the_second_waits_and_sees_what_the_first_did(
    database: Database, progress: ProgressStore, commits: bool
) -> None:
    topic_id = await partitions(progress, 0, 1)
    async with database.connection() as first, database.connection() as second:
        transaction = first.transaction()
        await transaction.start()
        await move(first, GROUP, [Move(topic_id, 0, 0, 3), Move(topic_id, 1, 0, 3)])
        # The other order of partitions: rows are locked in one order, so this waits and does not deadlock.
        waiting = asyncio.create_task(move(second, GROUP, [Move(topic_id, 1, 0, 7), Move(topic_id, 0, 0, 7)]))
        await blocked(database, second.get_server_pid())
        if commits:
            await transaction.commit()
            with pytest.raises(Mismatch):
                await waiting
        else:
            await transaction.rollback()
            await waiting
    expected = 3 if commits else 7
    assert await positions(progress, topic_id) == {0: expected, 1: expected}


async def test_a_published_offset_told_meanwhile_neither_holds_back_nor_is_lost(
    database: Database, progress: ProgressStore
) -> None:
    topic_id = await partitions(progress, 0)
    async with database.connection() as first, database.connection() as second:
        transaction = first.transaction()
        await transaction.start()
        await first.execute("UPDATE progress SET published_offset = 8 WHERE topic_id = $1", topic_id)
        waiting = asyncio.create_task(move(second, GROUP, [Move(topic_id, 0, 0, 10, 5)]))
        await blocked(database, second.get_server_pid())
        await transaction.commit()
        await waiting
    standing = (await progress.standings(GROUP, topic_id, [0]))[0]
    assert (standing.next_offset, standing.published_offset) == (10, 8)


async def blocked(database: Database, pid: int) -> None:
    """Until the backend waits for a lock that another one holds."""
    async with asyncio.timeout(10):
        while not (await database.fetchrow("SELECT pg_blocking_pids($1) AS by", pid))["by"]:
            await asyncio.sleep(0.005)


async def test_many_owners_at_once_move_it_exactly_once_each_step(database: Database, progress: ProgressStore) -> None:
    topic_id = await partitions(progress, 0, 1)
    won: list[int] = []

    async def owner() -> None:
        for begin in range(20):
            async with database.connection() as connection:
                try:
                    span = [Move(topic_id, 0, begin, begin + 1), Move(topic_id, 1, begin, begin + 1)]
                    async with connection.transaction():
                        await move(connection, GROUP, span)
                except Mismatch:
                    continue
                won.append(begin)

    await asyncio.gather(*(owner() for _ in range(5)))
    # Each step once. In which order its winner learns of it here says nothing of the order of the commits.
    assert sorted(won) == list(range(20))
    assert await positions(progress, topic_id) == {0: 20, 1: 20}


async def test_published_offset_and_sequence_only_rise(database: Database, progress: ProgressStore) -> None:
    topic_id = await partitions(progress, 0)
    seen = []
    steps: list[tuple[int | None, str]] = [(4, "000000.5"), (2, "000000.3"), (None, ""), (6, "000001.0")]
    async with database.connection() as connection:
        for begin, (published, sequence) in enumerate(steps):
            await move(connection, GROUP, [Move(topic_id, 0, begin, begin + 1, published, sequence)])
            standing = (await progress.standings(GROUP, topic_id, [0]))[0]
            seen.append((standing.published_offset, standing.sequence))
    assert seen == [(4, "000000.5"), (4, "000000.5"), (4, "000000.5"), (6, "000001.0")]
    for told, expected in ((5, 6), (9, 9), (7, 9)):
        await progress.published(GROUP, topic_id, 0, told)
        assert (await progress.standings(GROUP, topic_id, [0]))[0].published_offset == expected


async def test_a_reader_has_no_published_offset_to_begin_with(progress: ProgressStore) -> None:
    topic_id = uuid4()
    await progress.life("topic", topic_id)
    await progress.begin("tests.reader", "topic", topic_id, 0, 7, publishes=False)
    await progress.begin("tests.reader", "topic", topic_id, 0, 0, publishes=False)  # already there: stays
    standing = (await progress.standings("tests.reader", topic_id, [0]))[0]
    assert (standing.next_offset, standing.published_offset, standing.sequence) == (7, None, "")


async def test_a_topic_made_anew_counts_up_and_carries_the_sequence_over(
    database: Database, progress: ProgressStore
) -> None:
    name = f"events-{uuid4()}"
    old, new = uuid4(), uuid4()
    assert [await progress.life(name, id) for id in (old, new, old, new)] == [0, 1, 0, 1]
    await progress.begin("tests.reader", name, old, 3, 0, publishes=False)
    async with database.connection() as connection:
        await move(connection, "tests.reader", [Move(old, 3, 0, 9, None, "000000.9")])
    await progress.begin("tests.reader", name, new, 3, 0, publishes=False)
    await progress.begin("tests.reader", name, new, 2, 0, publishes=False)
    standings = await progress.standings("tests.reader", new, [2, 3])
    assert (standings[3].next_offset, standings[3].sequence) == (0, "000000.9")
    assert standings[2].sequence == ""
    lives = [(life.topic_id, life.life, life.next_offset) for life in await progress.lives("tests.reader", 3)]
    assert lives == [(old, 0, 9), (new, 1, 0)]


async def test_lives_asked_for_at_once_are_all_different(progress: ProgressStore) -> None:
    name = f"events-{uuid4()}"
    lives = await asyncio.gather(*(progress.life(name, uuid4()) for _ in range(6)))
    assert sorted(lives) == list(range(6))


async def test_resume_moves_only_what_is_stopped(progress: ProgressStore) -> None:
    topic_id = await partitions(progress, 0)
    topic = f"topic-{topic_id}"
    assert not await progress.resume(GROUP, topic, 0, 50)
    await progress.stop(GROUP, topic_id, 0, "records were lost")
    assert (0, "records were lost") in [
        (row["partition"], row["stopped"]) for row in await progress.stopped() if row["topic"] == topic
    ]
    assert await progress.resume(GROUP, topic, 0, 50)
    standing = (await progress.standings(GROUP, topic_id, [0]))[0]
    assert (standing.next_offset, standing.stopped) == (50, None)
    assert topic not in [row["topic"] for row in await progress.stopped()]


async def test_going_back_is_a_new_life_of_that_partition_alone(database: Database, progress: ProgressStore) -> None:
    topic_id = await partitions(progress, 0, 1, at=50)
    topic = f"topic-{topic_id}"
    async with database.connection() as connection:
        await move(connection, GROUP, [Move(topic_id, 0, 50, 60, 55)])
    await progress.stop(GROUP, topic_id, 0, "records were lost")
    # Two operators at once: one of them lets it go on.
    assert sorted(await asyncio.gather(*(progress.resume(GROUP, topic, 0, 40) for _ in range(2)))) == [False, True]
    standings = await progress.standings(GROUP, topic_id, [0, 1])
    assert (standings[1].topic_id, standings[1].life, standings[1].next_offset) == (topic_id, 0, 50)
    new = standings[0]
    assert (new.life, new.next_offset, new.published_offset, new.stopped) == (1, 40, 40, None)
    assert topic not in [row["topic"] for row in await progress.stopped()]
    # What was committed before and not told stays known, for the next owner to publish.
    old, newest = [life for life in await progress.lives(GROUP, 0) if life.topic_id in (topic_id, new.topic_id)]
    assert (old.life, old.next_offset, old.published_offset) == (0, 60, 55)
    assert newest == new
    # Whoever slept through it and stands where the new life comes by moves nothing.
    async with database.connection() as connection:
        await move(connection, GROUP, [Move(new.topic_id, 0, 40, 60)])
        with pytest.raises(Mismatch):
            await move(connection, GROUP, [Move(topic_id, 0, 60, 70)])
    await progress.published(GROUP, topic_id, 0, 60)
    assert (await progress.standings(GROUP, topic_id, [0]))[0].published_offset == 40
    # And once more.
    await progress.stop(GROUP, new.topic_id, 0, "records were lost")
    assert [row["next_offset"] for row in await progress.stopped() if row["topic"] == topic] == [60]
    assert await progress.resume(GROUP, topic, 0, 45)
    again = (await progress.standings(GROUP, topic_id, [0]))[0]
    assert (again.life, again.next_offset) == (2, 45)
    # A topic that is made anew comes after all of them.
    assert await progress.life(topic, uuid4()) == 3


async def test_a_stopped_partition_of_a_topic_that_is_gone_waits_for_nobody(progress: ProgressStore) -> None:
    topic_id = await partitions(progress, 0)
    topic = f"topic-{topic_id}"
    await progress.stop(GROUP, topic_id, 0, "poison")
    new = uuid4()
    await progress.life(topic, new)
    await progress.begin(GROUP, topic, new, 0, 0, publishes=True)
    assert topic not in [row["topic"] for row in await progress.stopped()]
    assert not await progress.resume(GROUP, topic, 0, 5)
    assert (await progress.standings(GROUP, topic_id, [0]))[0].next_offset == 0
