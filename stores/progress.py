"""Where each consumer group stands: one row for each (group, topic id, partition). The only truth about it."""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

import msgspec

from stores.postgres import Database, away_is_known


class Standing(msgspec.Struct):
    """One row: the next offset to handle, below which all is published, and the highest event sequence applied."""

    next_offset: int
    published_offset: int | None
    sequence: str
    stopped: str | None


class Move(msgspec.Struct, frozen=True):
    """A compare-and-set of one partition: from `begin` to `end`, with what else moves along."""

    topic_id: UUID
    partition: int
    begin: int
    end: int
    published: int | None = None
    sequence: str = ""


class Mismatch(Exception):
    """Somebody else moved a partition of this batch: roll back, look the positions up, read again from there."""


# The rows are locked in one order, so that two groups of partitions can't wait for each other in a circle.
HELD = """
    span AS (
        SELECT * FROM unnest($2::uuid[], $3::int[], $4::bigint[], $5::bigint[], $6::bigint[], $7::text[])
            AS s(topic_id, partition, begin_offset, end_offset, published, sequence)
    ), held AS (
        SELECT p.topic_id, p.partition FROM progress p JOIN span s USING (topic_id, partition)
        WHERE p.consumer_group = $1 AND p.next_offset = s.begin_offset AND p.stopped IS NULL
        ORDER BY p.topic_id, p.partition FOR UPDATE OF p
    )"""
MOVED = """
    moved AS (
        UPDATE progress p SET next_offset = s.end_offset,
            published_offset = greatest(p.published_offset, s.published), sequence = greatest(p.sequence, s.sequence)
        FROM span s
        WHERE p.consumer_group = $1 AND p.topic_id = s.topic_id AND p.partition = s.partition AND (SELECT held FROM
        fence)
    )"""
"""After a `fence` with a column `held`: the partitions move if it is true."""
ALL_HELD = "(SELECT count(*) = cardinality($2::uuid[]) FROM held)"
"""True when every partition stood where the batch began."""

_MOVE = f"WITH {HELD}, fence AS (SELECT {ALL_HELD} AS held), {MOVED} SELECT held FROM fence"


def fence_arguments(group: str, moves: Sequence[Move]) -> tuple[Any, ...]:
    """The first seven arguments of a statement that begins with HELD."""
    return (
        group,
        [move.topic_id for move in moves],
        [move.partition for move in moves],
        [move.begin for move in moves],
        [move.end for move in moves],
        [move.published for move in moves],
        [move.sequence for move in moves],
    )


async def move(connection: Any, group: str, moves: Sequence[Move]) -> None:
    """Move every partition or none, in the caller's transaction. Raises Mismatch, StoresAway."""
    with away_is_known():
        held = await connection.fetchval(_MOVE, *fence_arguments(group, moves))
    if not held:
        raise Mismatch(f"{group}: {[(m.partition, m.begin) for m in moves]}")


class ProgressStore:
    """Positions outside of a batch's transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def life(self, topic: str, topic_id: UUID) -> int:
        """The life of a topic: 0 with its first id, one more with each later one. Raises StoresAway."""
        row = await self._database.fetchrow(
            "SELECT life FROM topic_lives WHERE topic = $1 AND topic_id = $2", topic, topic_id
        )
        if row is not None:
            return int(row["life"])
        await self._database.execute(
            """INSERT INTO topic_lives (topic, topic_id, life)
               SELECT $1, $2, coalesce(max(life) + 1, 0) FROM topic_lives WHERE topic = $1
               ON CONFLICT DO NOTHING""",
            topic,
            topic_id,
        )
        return await self.life(topic, topic_id)

    async def lives(self, topic: str) -> dict[UUID, int]:
        """Every id that the topic has had. Raises StoresAway."""
        rows = await self._database.fetch("SELECT topic_id, life FROM topic_lives WHERE topic = $1", topic)
        return {row["topic_id"]: row["life"] for row in rows}

    async def standings(self, group: str, topic_id: UUID, partitions: Iterable[int]) -> dict[int, Standing]:
        """The rows there are. Raises StoresAway."""
        rows = await self._database.fetch(
            """SELECT partition, next_offset, published_offset, sequence, stopped FROM progress
               WHERE consumer_group = $1 AND topic_id = $2 AND partition = ANY($3)""",
            group,
            topic_id,
            list(partitions),
        )
        return {
            row["partition"]: Standing(row["next_offset"], row["published_offset"], row["sequence"], row["stopped"])
            for row in rows
        }

    async def begin(
        self, group: str, topic: str, topic_id: UUID, partition: int, offset: int, *, publishes: bool
    ) -> None:
        """Make a missing row; a reader's sequence is carried over from an older life. Raises StoresAway."""
        await self._database.execute(
            """INSERT INTO progress (consumer_group, topic, topic_id, partition, next_offset, published_offset,
            sequence)
               SELECT $1, $2, $3, $4, $5, $6, coalesce(
                   (SELECT max(sequence) FROM progress WHERE consumer_group = $1 AND topic = $2 AND partition = $4), '')
               ON CONFLICT DO NOTHING""",
            group,
            topic,
            topic_id,
            partition,
            offset,
            offset if publishes else None,
        )

    async def stop(self, group: str, topic_id: UUID, partition: int, reason: str) -> None:
        """The partition is not read until an operator says so. Raises StoresAway."""
        await self._database.execute(
            "UPDATE progress SET stopped = $4 WHERE consumer_group = $1 AND topic_id = $2 AND partition = $3",
            group,
            topic_id,
            partition,
            reason,
        )

    async def published(self, group: str, topic_id: UUID, partition: int, offset: int) -> None:
        """Everything below `offset` was published; only rises. Raises StoresAway."""
        await self._database.execute(
            """UPDATE progress SET published_offset = $4
               WHERE consumer_group = $1 AND topic_id = $2 AND partition = $3 AND published_offset < $4""",
            group,
            topic_id,
            partition,
            offset,
        )

    async def stopped(self) -> list[Any]:
        """Partitions that wait for an operator. Raises StoresAway."""
        return await self._database.fetch(
            "SELECT consumer_group, topic, partition, next_offset, stopped FROM progress WHERE stopped IS NOT NULL"
        )

    async def resume(self, group: str, topic: str, partition: int, offset: int) -> bool:
        """An operator lets a stopped partition go on from `offset`; False if it was not stopped. Raises StoresAway."""
        status = await self._database.execute(
            """UPDATE progress SET stopped = NULL, next_offset = $4
               WHERE consumer_group = $1 AND topic = $2 AND partition = $3 AND stopped IS NOT NULL""",
            group,
            topic,
            partition,
            offset,
        )
        return status != "UPDATE 0"
