"""The two statements of the write path: load what a batch of commands needs, and commit what came of it.

Both are one round trip for a whole batch. The load needs no lock: whoever else writes an aggregate of these partitions
must move the same progress rows, and then the fence of the commit does not hold.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any
from uuid import UUID

import msgspec

from stores.postgres import Database, away_is_known
from stores.progress import ALL_HELD, HELD, MOVED, Mismatch, Move, fence_arguments


class Column(msgspec.Struct, frozen=True):
    """A column of a noun's table and its PostgreSQL type.

    `derived`: made from the others for those who search; it is sent as text, and never read back.
    """

    name: str
    type: str
    derived: bool = False


class Table(msgspec.Struct, frozen=True):
    """A noun's table. `row` gives the values in the order of `columns`; the first column is `id`."""

    name: str
    columns: tuple[Column, ...]
    row: Callable[[Any], tuple[Any, ...]]
    state: Callable[[Any], Any]
    """A state from a database row."""


class Operation(msgspec.Struct, frozen=True):
    """What became of a command. `answer` is the finished object's JSON, or the refusal's."""

    operation: UUID
    noun: str
    aggregate_id: UUID
    actor: UUID | None
    fingerprint: str
    outcome: str
    version: int
    answer: bytes


class Entry(msgspec.Struct, frozen=True):
    """A row of the journal; the event is its JSON, to the letter as it is published."""

    life: int
    partition: int
    command_offset: int
    index: int
    aggregate_id: UUID
    version: int
    event: bytes


OPERATION_COLUMNS = "operation, noun, aggregate_id, actor, fingerprint, outcome, version, answer"


def operation_from(row: Any, prefix: str = "") -> Operation:
    """An operation from a row whose columns may carry a prefix."""
    return Operation(*(row[prefix + name] for name in OPERATION_COLUMNS.split(", ")))


class Outdated(Exception):
    """What the decisions were made by has changed meanwhile: nothing was written; look at it, and decide again."""


class NotNew(Exception):
    """Some of what was taken for new is there already: nothing was written; load, and decide again."""


class Commands:
    """Load and commit for one noun; the SQL is made once, from the noun's table."""

    def __init__(self, noun: str, table: Table, guard: str = "SELECT 0") -> None:
        """`guard`: a query of the number by which the decisions were made."""
        self.noun = noun
        self._table = table
        operations = ", ".join(f"o.{name} AS o_{name}" for name in OPERATION_COLUMNS.split(", "))
        loaded = ", ".join(f"t.{column.name}" for column in table.columns if not column.derived)
        self._load = f"""
            SELECT {operations}, {loaded}
            FROM unnest($1::uuid[], $2::uuid[]) AS wanted(operation, aggregate)
            LEFT JOIN operations o ON o.operation = wanted.operation
            LEFT JOIN {table.name} t ON t.id = wanted.aggregate
            WHERE o.operation IS NOT NULL OR t.id IS NOT NULL"""
        names = ", ".join(column.name for column in table.columns)
        arrays = ", ".join(
            f"${8 + i}::{'text' if column.derived else column.type}[]" for i, column in enumerate(table.columns)
        )
        given = ", ".join(
            f"{column.name}::{column.type}" if column.derived else column.name for column in table.columns
        )
        n = 8 + len(table.columns)
        changes = ", ".join(f"{column.name} = w.{column.name}" for column in table.columns[1:])
        self._commit = f"""
            WITH {HELD}, written AS (
                SELECT {given}, loaded FROM unnest({arrays}, ${n}::bigint[]) AS w({names}, loaded)
            ), unread AS (
                SELECT NOT ${n + 15}::boolean OR NOT (
                    EXISTS (SELECT 1 FROM operations WHERE operation = ANY(${n + 8}::uuid[]))
                    OR EXISTS (SELECT 1 FROM {table.name} WHERE id = ANY($8::uuid[]))
                ) AS fresh, ({guard}) = ${n + 16}::bigint AS current
            ), fence AS (
                SELECT {ALL_HELD} AND (SELECT fresh AND current FROM unread) AS held
            ), {MOVED}, created AS (
                INSERT INTO {table.name} ({names})
                SELECT {names} FROM written WHERE loaded = 0 AND (SELECT held FROM fence) RETURNING 1
            ), changed AS (
                UPDATE {table.name} t SET {changes} FROM written w
                WHERE t.id = w.id AND t.version = w.loaded AND w.loaded > 0 AND (SELECT held FROM fence) RETURNING 1
            ), told AS (
                INSERT INTO journal (noun, life, partition, command_offset, index, aggregate_id, version, event)
                SELECT '{self.noun}', * FROM unnest(
                    ${n + 1}::int[], ${n + 2}::int[], ${n + 3}::bigint[], ${n + 4}::int[], ${n + 5}::uuid[],
                    ${n + 6}::bigint[], ${n + 7}::json[])
                WHERE (SELECT held FROM fence)
            ), answered AS (
                INSERT INTO operations (operation, noun, aggregate_id, actor, fingerprint, outcome, version, answer)
                SELECT operation, '{self.noun}', aggregate_id, actor, fingerprint, outcome, version, answer FROM unnest(
                    ${n + 8}::uuid[], ${n + 9}::uuid[], ${n + 10}::uuid[], ${n + 11}::text[], ${n + 12}::text[],
                    ${n + 13}::bigint[], ${n + 14}::bytea[]
                ) AS a(operation, aggregate_id, actor, fingerprint, outcome, version, answer)
                WHERE (SELECT held FROM fence)
                -- A command that failed may be sent again: then it has another outcome, which is as long known as any.
                -- Another command never has it.
                ON CONFLICT (operation) DO UPDATE SET outcome = excluded.outcome, version = excluded.version,
                    answer = excluded.answer, created_at = excluded.created_at WHERE operations.outcome = 'failed'
                    AND operations.fingerprint = excluded.fingerprint
                    AND operations.actor IS NOT DISTINCT FROM excluded.actor
            )
            SELECT {ALL_HELD} AS held, unread.fresh, unread.current, abort_when(
                (SELECT held FROM fence)
                    AND (SELECT count(*) FROM created) + (SELECT count(*) FROM changed) <> (SELECT count(*) FROM
                    written),
                'an aggregate of {table.name} has another version than the one that was loaded') FROM unread"""

    async def load(
        self, connection: Any, operations: Sequence[UUID], aggregates: Sequence[UUID]
    ) -> tuple[dict[UUID, Operation], dict[UUID, Any]]:
        """Operations of these that are done, and the states there are. Raises StoresAway."""
        with away_is_known():
            rows = await connection.fetch(self._load, operations, aggregates)
        done: dict[UUID, Operation] = {}
        states: dict[UUID, Any] = {}
        for row in rows:
            if row["o_operation"] is not None:
                operation = operation_from(row, "o_")
                done[operation.operation] = operation
            if row["id"] is not None:
                states[row["id"]] = self._table.state(row)
        return done, states

    async def commit(
        self,
        connection: Any,
        group: str,
        moves: Sequence[Move],
        states: Iterable[tuple[Any, int]],
        journal: Sequence[Entry],
        operations: Sequence[Operation],
        *,
        unread: bool = False,
        guarded: int = 0,
    ) -> None:
        """Write states (each with the version it was loaded with, 0 for a new one), journal and operations, and move.

        All or nothing, also outside of a transaction. `unread`: nothing was loaded, since all of it should be new.
        `guarded`: the number of the guard by which the decisions were made.
        Raises Mismatch, NotNew (only when `unread`), Outdated, StoresAway.
        """
        rows = [(*self._table.row(state), loaded) for state, loaded in states]
        columns: list[list[Any]] = (
            [list(column) for column in zip(*rows, strict=True)] if rows else [[] for _ in (*self._table.columns, "")]
        )
        with away_is_known():
            row = await connection.fetchrow(
                self._commit,
                *fence_arguments(group, moves),
                *columns,
                [entry.life for entry in journal],
                [entry.partition for entry in journal],
                [entry.command_offset for entry in journal],
                [entry.index for entry in journal],
                [entry.aggregate_id for entry in journal],
                [entry.version for entry in journal],
                [entry.event.decode() for entry in journal],
                [operation.operation for operation in operations],
                [operation.aggregate_id for operation in operations],
                [operation.actor for operation in operations],
                [operation.fingerprint for operation in operations],
                [operation.outcome for operation in operations],
                [operation.version for operation in operations],
                [operation.answer for operation in operations],
                unread,
                guarded,
            )
        if not row["current"]:
            raise Outdated
        if not row["fresh"]:
            raise NotNew
        if not row["held"]:
            raise Mismatch(f"{group}: {[(move.partition, move.begin) for move in moves]}")


class Journal:
    """Reading the journal of one noun."""

    def __init__(self, database: Database, noun: str) -> None:
        self._database = database
        self._noun = noun

    async def after(
        self, partition: int, life: int, offset: int, index: int, *, limit: int = 1000, most_bytes: int = 8 << 20
    ) -> list[Entry]:
        """Events of one life from (offset, index) on, in order: `limit` of them and `most_bytes` at most, or one event.

        Raises StoresAway.
        """
        # Bounded twice, so that PostgreSQL unpacks little more than it sends: first by what the events take in its
        # pages, which it knows without unpacking any and which is hardly ever more, then by their real size.
        rows = await self._database.fetch(
            """SELECT command_offset, index, aggregate_id, version, event FROM (
                   SELECT *, row_number() OVER so_far AS number, sum(octet_length(event::text)) OVER so_far AS bytes
                   FROM (
                       SELECT *, sum(pg_column_size(event)) OVER (ORDER BY command_offset, index) AS stored,
                           row_number() OVER (ORDER BY command_offset, index) AS place
                       FROM (
                           SELECT command_offset, index, aggregate_id, version, event FROM journal
                           WHERE noun = $1 AND partition = $2 AND life = $3 AND (command_offset, index) >= ($4, $5)
                           ORDER BY command_offset, index LIMIT $6
                       ) AS next
                   ) AS packed
                   WHERE stored <= $7 OR place = 1
                   WINDOW so_far AS (ORDER BY command_offset, index)
               ) AS unpacked
               WHERE bytes <= $7 OR number = 1
               ORDER BY command_offset, index""",
            self._noun,
            partition,
            life,
            offset,
            index,
            limit,
            most_bytes,
        )
        return [
            Entry(
                life, partition, row["command_offset"], row["index"], row["aggregate_id"], row["version"],
                row["event"].encode(),
            )
            for row in rows
        ]  # fmt: skip


class Operations:
    """Looking operations up, many at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def find(self, operations: Sequence[UUID]) -> dict[UUID, Operation]:
        """Those that are done. Raises StoresAway."""
        rows = await self._database.fetch(
            f"SELECT {OPERATION_COLUMNS} FROM operations WHERE operation = ANY($1)", list(operations)
        )
        return {row["operation"]: operation_from(row) for row in rows}

    async def forget(self) -> int:
        """Delete those that are older than the answers to their keys are promised for; how many.

        One of a dead letter stays as long as that is parked, and a day longer where it was replayed: its command is in
        the log again, and must not be carried out a second time. Raises StoresAway.
        """
        # Counted, so that its letters are looked up for each old operation, and the two tables are never merged.
        return await self._database.in_pieces(
            """DELETE FROM operations WHERE operation IN (
                   SELECT operation FROM operations o WHERE created_at < now() - interval '24 hours' AND 0 = (
                       SELECT count(*) FROM dead_letters d WHERE d.operation = o.operation AND (d.state = 'parked'
                           OR d.state = 'replayed' AND d.settled_at > now() - interval '24 hours'))
                   LIMIT $1)"""
        )
