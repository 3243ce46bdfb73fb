"""Load and commit of a batch of commands: one statement, all of it or nothing."""

import json
import random
import string
import sys
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import msgspec
import pytest
import pytest_asyncio

from domain.resources import Resource, document
from stores.aggregates import Commands, Entry, Journal, Operation, Operations
from stores.dead_letters import DeadLetters, Letter, park
from stores.postgres import Database
from stores.progress import Mismatch, Move, ProgressStore
from stores.resources import TABLE
from tests.stores.given import GROUP, entry, life, operation, partitions, resource

COMMANDS = Commands("resources", TABLE)


class Batches:
    """Commits of one partition of one topic, one after the other."""

    def __init__(self, database: Database, topic_id: Any) -> None:
        self._database = database
        self.topic_id = topic_id
        self.life = life()
        self.end = 0

    async def commit(
        self,
        states: list[tuple[Resource, int]],
        journal: list[Entry] | None = None,
        operations: list[Operation] | None = None,
        *,
        begin: int | None = None,
        in_transaction: bool = False,
    ) -> None:
        begin = self.end if begin is None else begin
        if journal is None:
            journal = [entry(state, life=self.life, offset=begin, index=i) for i, (state, _) in enumerate(states)]
        async with self._database.connection() as connection:
            moves = [Move(self.topic_id, 0, begin, begin + 1)]
            if in_transaction:
                async with connection.transaction():
                    await COMMANDS.commit(connection, GROUP, moves, states, journal, operations or [])
            else:
                await COMMANDS.commit(connection, GROUP, moves, states, journal, operations or [])
        self.end = begin + 1

    async def load(self, *ids: Any) -> dict[Any, Any]:
        async with self._database.connection() as connection:
            return (await COMMANDS.load(connection, [], list(ids)))[1]


@pytest_asyncio.fixture(loop_scope="session")
async def batches(database: Database, progress: ProgressStore) -> Batches:
    return Batches(database, await partitions(progress, 0))


async def test_what_is_written_is_loaded(batches: Batches, database: Database) -> None:
    state = resource(3, tags=("a", "b"), attributes={"n": 1.0, "x": [None, "\U0001f30a"]}, body="여울")
    done = operation(state, answer=b'{"id": 1}\xff')
    refused = operation(state, outcome="refused")
    await batches.commit([(state, 0)], operations=[done, refused])
    async with database.connection() as connection:
        operations, states = await COMMANDS.load(
            connection, [done.operation, refused.operation, uuid4()], [state.id, uuid4()]
        )
    assert operations == {done.operation: done, refused.operation: refused}
    assert states == {state.id: state}
    assert await Operations(database).find([done.operation, uuid4()]) == {done.operation: done}


async def test_json_comes_back_to_the_letter(batches: Batches) -> None:
    """What a reader gets from the cache and what another gets from the table are the same bytes."""
    numbers = [1, 1.0, True, -0.0, 1e22, 5e-324, sys.float_info.max, 2**63 - 1, -(2**63), 0.1]
    state = resource(attributes={"zeta": numbers, "a": {"z": None, "": "", "é": "\\u0000"}}, tags=("z", "a"))
    await batches.commit([(state, 0)])
    loaded = (await batches.load(state.id))[state.id]
    assert document(loaded) == document(state)


async def test_load_pairs_lists_of_any_lengths(batches: Batches, database: Database) -> None:
    states = [resource(i) for i in range(5)]
    done = [operation(states[0]) for _ in range(2)]
    await batches.commit([(state, 0) for state in states], operations=done)
    async with database.connection() as connection:
        assert await COMMANDS.load(connection, [], []) == ({}, {})
        assert len((await COMMANDS.load(connection, [], [state.id for state in states]))[1]) == 5
        found, none = await COMMANDS.load(connection, [one.operation for one in done], [])
        assert (len(found), none) == (2, {})
        found, loaded = await COMMANDS.load(connection, [done[0].operation], [state.id for state in states])
        assert (len(found), len(loaded)) == (1, 5)


async def test_creations_and_changes_in_one_batch(batches: Batches, database: Database) -> None:
    old, gone = resource(1), resource(2)
    await batches.commit([(old, 0), (gone, 0)])
    changed = msgspec.structs.replace(old, title="changed", version=4)
    deleted = msgspec.structs.replace(gone, version=2, deleted_at=gone.updated_at)
    new = resource(5, version=2)
    await batches.commit([(changed, 1), (new, 0), (deleted, 1)])
    assert await batches.load(old.id, gone.id, new.id) == {old.id: changed, gone.id: deleted, new.id: new}
    assert [e.index for e in await Journal(database, "resources").after(0, batches.life, 1, 0)] == [0, 1, 2]


@pytest.mark.parametrize("in_transaction", [False, True])
async def test_another_version_than_the_one_loaded_undoes_the_whole_statement(
    batches: Batches, database: Database, progress: ProgressStore, in_transaction: bool
) -> None:
    there = resource(1, version=3)
    await batches.commit([(there, 0)])
    new = resource(2)
    done = operation(new)
    wrong = msgspec.structs.replace(there, title="lost", version=3)
    with pytest.raises(asyncpg.PostgresError, match="another version") as raised:
        await batches.commit([(new, 0), (wrong, 2)], operations=[done], in_transaction=in_transaction)
    assert raised.value.sqlstate == "YE001"
    await nothing_came_of(batches, database, progress, new, done, at=1)
    assert (await batches.load(there.id))[there.id] == there


async def test_creating_what_is_there_undoes_the_whole_statement(
    batches: Batches, database: Database, progress: ProgressStore
) -> None:
    there = resource(1)
    await batches.commit([(there, 0)])
    new = resource(2)
    done = operation(new)
    with pytest.raises(asyncpg.UniqueViolationError):
        await batches.commit([(new, 0), (there, 0)], operations=[done])
    await nothing_came_of(batches, database, progress, new, done, at=1)


async def test_a_journal_row_that_is_there_undoes_the_whole_statement(
    batches: Batches, database: Database, progress: ProgressStore
) -> None:
    there, new = resource(1), resource(2)
    await batches.commit([(there, 0)])
    done = operation(new)
    with pytest.raises(asyncpg.UniqueViolationError):
        await batches.commit([(new, 0)], [entry(new, life=batches.life, offset=0)], [done])
    await nothing_came_of(batches, database, progress, new, done, at=1)


async def test_a_fence_that_does_not_hold_writes_nothing(
    batches: Batches, database: Database, progress: ProgressStore
) -> None:
    there, new = resource(1), resource(2)
    await batches.commit([(there, 0)])
    done = operation(new)
    changed = msgspec.structs.replace(there, title="lost", version=2)
    with pytest.raises(Mismatch):
        await batches.commit([(new, 0), (changed, 1)], operations=[done], begin=0)
    await nothing_came_of(batches, database, progress, new, done, at=1)
    assert (await batches.load(there.id))[there.id] == there


async def nothing_came_of(
    batches: Batches, database: Database, progress: ProgressStore, new: Resource, done: Operation, *, at: int
) -> None:
    assert await batches.load(new.id) == {}
    assert await Operations(database).find([done.operation]) == {}
    assert await database.fetch("SELECT 1 FROM journal WHERE aggregate_id = $1", new.id) == []
    assert (await progress.standings(GROUP, batches.topic_id, [0]))[0].next_offset == at


async def test_only_an_operation_that_failed_gets_another_outcome(batches: Batches, database: Database) -> None:
    state = resource()
    first = {outcome: operation(state, outcome=outcome) for outcome in ("failed", "succeeded", "refused")}
    await batches.commit([], [], list(first.values()))
    again = {
        outcome: msgspec.structs.replace(one, outcome="succeeded", version=9, answer=b"again")
        for outcome, one in first.items()
    }
    await batches.commit([], [], list(again.values()))
    found = await Operations(database).find([one.operation for one in first.values()])
    assert found == {
        first["failed"].operation: again["failed"],
        first["succeeded"].operation: first["succeeded"],
        first["refused"].operation: first["refused"],
    }


async def test_what_failed_gets_its_outcome_from_its_own_command_only(batches: Batches, database: Database) -> None:
    state = resource()
    failed, anonymous = operation(state, outcome="failed"), operation(state, outcome="failed")
    anonymous = msgspec.structs.replace(anonymous, actor=None)
    await batches.commit([], [], [failed, anonymous])
    again = msgspec.structs.replace(failed, outcome="succeeded", version=9, answer=b"again")
    for another in (
        msgspec.structs.replace(again, fingerprint="another"),
        msgspec.structs.replace(again, actor=uuid4()),
        msgspec.structs.replace(again, actor=None),
    ):
        await batches.commit([], [], [another])
    operations = Operations(database)
    assert await operations.find([failed.operation]) == {failed.operation: failed}
    nobody_again = msgspec.structs.replace(anonymous, outcome="refused", answer=b"no")
    await batches.commit([], [], [again, nobody_again])
    assert await operations.find([failed.operation, anonymous.operation]) == {
        failed.operation: again,
        anonymous.operation: nobody_again,
    }


async def test_a_batch_of_nothing_moves_the_position(batches: Batches, progress: ProgressStore) -> None:
    await batches.commit([], [], [])
    assert (await progress.standings(GROUP, batches.topic_id, [0]))[0].next_offset == 1


async def test_the_journal_is_read_on_from_where_one_stopped(batches: Batches, database: Database) -> None:
    journal = Journal(database, "resources")
    state = resource()
    versions = [msgspec.structs.replace(state, version=version) for version in range(1, 8)]
    places = [(0, 0), (0, 1), (4, 0), (9, 0), (9, 1), (9, 2), (12, 0)]
    entries = [
        entry(version, life=batches.life, offset=offset, index=index)
        for version, (offset, index) in zip(versions, places, strict=True)
    ]
    await batches.commit([(versions[-1], 0)], list(reversed(entries)))
    found = []
    offset = index = 0
    while page := await journal.after(0, batches.life, offset, index, limit=2):
        found += page
        offset, index = page[-1].command_offset, page[-1].index + 1
    assert found == entries
    assert await journal.after(0, batches.life, 9, 2) == entries[5:]
    assert await journal.after(1, batches.life, 0, 0) == []


@pytest.mark.parametrize("letters", ["x", string.ascii_letters + string.digits], ids=["packed well", "packed badly"])
async def test_a_chunk_of_the_journal_is_bounded_by_bytes(batches: Batches, database: Database, letters: str) -> None:
    journal = Journal(database, "resources")
    state = resource()
    sizes = [3 << 20, 2 << 20, 2 << 20, 2 << 20, 9 << 20, 10, 20, 3 << 20, 4 << 20, 2 << 20, 30]
    entries = [
        msgspec.structs.replace(
            entry(state, life=batches.life, offset=number),
            event=b'"%s"' % "".join(random.choices(letters, k=size)).encode(),
        )
        for number, size in enumerate(sizes)
    ]
    await batches.commit([(state, 0)], entries)
    chunks = []
    offset = 0
    while chunk := await journal.after(0, batches.life, offset, 0):
        chunks.append(chunk)
        offset = chunk[-1].command_offset + 1
    assert [found for chunk in chunks for found in chunk] == entries
    assert [len(chunk) for chunk in chunks] == [3, 1, 1, 4, 2]
    assert [len(chunk) for chunk in (await journal.after(0, batches.life, 0, 0, most_bytes=1),)] == [1]


async def test_old_operations_are_forgotten_a_few_at_a_time(
    batches: Batches, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = resource()
    old, new = [operation(state) for _ in range(5)], operation(state)
    await batches.commit([], [], [*old, new])
    await database.execute(
        "UPDATE operations SET created_at = now() - interval '25 hours' WHERE operation = ANY($1)",
        [one.operation for one in old],
    )
    monkeypatch.setattr("stores.postgres.PIECE", 3)
    pieces: list[str] = []
    real = database.execute

    async def noted(query: str, *arguments: object) -> str:
        pieces.append(await real(query, *arguments))
        return pieces[-1]

    monkeypatch.setattr(database, "execute", noted)
    operations = Operations(database)
    assert [await operations.forget(), await operations.forget()] == [5, 0]
    assert pieces == ["DELETE 3", "DELETE 2", "DELETE 0"]
    assert list(await operations.find([one.operation for one in (*old, new)])) == [new.operation]


async def test_what_failed_and_was_done_later_is_forgotten_a_day_after_that(
    batches: Batches, database: Database
) -> None:
    state = resource()
    late, lost = [operation(state, outcome="failed") for _ in range(2)]
    await batches.commit([], [], [late, lost])
    both = [late.operation, lost.operation]

    async def pass_by(time: str) -> None:
        await database.execute(
            f"UPDATE operations SET created_at = created_at - interval '{time}' WHERE operation = ANY($1)", both
        )

    operations = Operations(database)
    await pass_by("23 hours 50 minutes")
    done = msgspec.structs.replace(late, outcome="succeeded", version=9)
    await batches.commit([], [], [done])
    await pass_by("20 minutes")
    assert await operations.forget() == 1
    assert await operations.find(both) == {late.operation: done}
    await pass_by("24 hours")
    assert await operations.forget() == 1
    assert await operations.find(both) == {}


async def test_what_a_parked_command_would_do_again_is_not_forgotten(batches: Batches, database: Database) -> None:
    state, letters, operations = resource(), DeadLetters(database), Operations(database)
    done = [operation(state) for _ in range(3)]
    await batches.commit([], [], done)
    ids = [one.operation for one in done]
    letter = Letter(
        group=GROUP, topic="t", topic_id=batches.topic_id, partition=0, offset=0, key=None, value=b"", headers=(),
        produced_at=None, code="handler_failed", error="", handler="h", attempts=3,
    )  # fmt: skip
    async with database.connection() as connection:
        await park(
            connection,
            [msgspec.structs.replace(letter, offset=offset, operation=id) for offset, id in enumerate([*ids, None])],
        )
    dropped, replayed, parked, _other = await letters.listed(group=GROUP, state=None, topic=None, limit=9, after=0)

    async def left_after(interval: str) -> list[UUID]:
        for column in ("operations SET created_at = created_at", "dead_letters SET settled_at = settled_at"):
            await database.execute(f"UPDATE {column} - interval '{interval}'")
        await operations.forget()
        return [id for id in ids if id in await operations.find(ids)]

    assert await left_after("25 hours") == ids
    await letters.settle(dropped.id, "dropped")
    assert await left_after("0 hours") == ids[1:]
    # As long as that is in the log, perhaps not read yet.
    await letters.settle(replayed.id, "replayed")
    assert await left_after("23 hours") == ids[1:]
    assert await left_after("2 hours") == ids[2:]
    await letters.settle(parked.id, "dropped")
    assert await left_after("0 hours") == []


async def test_forgetting_among_many_dead_letters_looks_at_few(batches: Batches, database: Database) -> None:
    await database.execute(
        """INSERT INTO operations (operation, noun, aggregate_id, fingerprint, outcome, version, answer, created_at)
           SELECT gen_random_uuid(), 'resources', gen_random_uuid(), '', 'succeeded', 1, '', now() - interval '2 days'
           FROM generate_series(1, 2000)"""
    )
    await database.execute(
        """INSERT INTO dead_letters (consumer_group, topic, topic_id, partition, "offset", headers, code, error,
               handler, attempts, operation)
           SELECT 'many', 't', gen_random_uuid(), 0, n, '[]', 'c', 'e', 'h', 1, gen_random_uuid()
           FROM generate_series(1, 20000) AS n"""
    )
    asked: list[str] = []

    class Asked(Database):
        async def execute(self, query: str, *arguments: object) -> str:
            asked.append(query)
            return "DELETE 0"

    await Operations(Asked("", size=1, process="tests", patience_s=1.0)).forget()
    for analyzed in (False, True):
        if analyzed:
            await database.execute("ANALYZE operations")
            await database.execute("ANALYZE dead_letters")
        async with database.connection() as connection:
            plan = await connection.fetchval(f"EXPLAIN (ANALYZE, FORMAT JSON) {asked[0]}", 100)
        assert _read(json.loads(plan)[0]["Plan"], "dead_letters") <= 100
    assert await Operations(database).forget() == 1800  # each explanation was carried out, too


def _read(node: dict[str, Any], table: str) -> int:
    read = sum(_read(child, table) for child in node.get("Plans", []))
    if node.get("Relation Name") == table:
        read += int((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"])
    return read
