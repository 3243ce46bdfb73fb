"""Where each consumer group stands: one row for each (group, topic id, partition). The only truth about it."""

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

import msgspec

from stores.postgres import Database, away_is_known


class Standing(msgspec.Struct):
    """One row: the next offset to handle, below which all is published, and the highest event sequence applied.

    `topic_id`: what the row is known by: the topic's id in Kafka, or one of ours if the partition went back.
    """

    next_offset: int
    published_offset: int | None
    sequence: str
    stopped: str | None
    topic_id: UUID
    life: int


_STANDINGS = """
    SELECT partition, next_offset, published_offset, sequence, stopped, topic_id, life
    FROM progress JOIN topic_lives USING (topic, topic_id)"""


def _standing(row: Any) -> Standing:
    return Standing(
        row["next_offset"], row["published_offset"], row["sequence"], row["stopped"], row["topic_id"], row["life"]
    )


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


async def hold(connection: Any, group: str, topic_id: UUID, partition: int) -> None:
    """Nobody moves this partition until the caller's transaction ends. Raises StoresAway."""
    with away_is_known():
        await connection.execute(
            "SELECT FROM progress WHERE consumer_group = $1 AND topic_id = $2 AND partition = $3 FOR UPDATE",
            group,
            topic_id,
            partition,
        )


async def hold_all(connection: Any, group: str) -> dict[tuple[str, UUID, int], int]:
    """Nobody moves any partition of the group until the caller's transaction ends; in the order of the fence.

    Returns the next offsets by topic, id of the topic in Kafka, and partition; of several lives the newest counts.
    Raises StoresAway.
    """
    with away_is_known():
        rows = await connection.fetch(
            """SELECT p.topic, coalesce(l.kafka_id, p.topic_id) AS kafka_id, p.partition, p.next_offset, l.life
               FROM progress p JOIN topic_lives l USING (topic, topic_id)
               WHERE p.consumer_group = $1 ORDER BY p.topic_id, p.partition FOR UPDATE OF p""",
            group,
        )
    return {
        (row["topic"], row["kafka_id"], row["partition"]): row["next_offset"]
        for row in sorted(rows, key=lambda row: int(row["life"]))
    }


async def forget_group(connection: Any, group: str) -> None:
    """The group stands nowhere any more. Raises StoresAway."""
    with away_is_known():
        await connection.execute("DELETE FROM progress WHERE consumer_group = $1", group)


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

    async def standings(self, group: str, topic_id: UUID, partitions: Iterable[int]) -> dict[int, Standing]:
        """The rows there are for a topic's id in Kafka, each partition's in its newest life. Raises StoresAway."""
        rows = await self._database.fetch(
            f"""{_STANDINGS} WHERE consumer_group = $1 AND coalesce(kafka_id, topic_id) = $2 AND partition = ANY($3)
                ORDER BY life""",
            group,
            topic_id,
            list(partitions),
        )
        return {row["partition"]: _standing(row) for row in rows}

    async def lives(self, group: str, partition: int) -> list[Standing]:
        """The rows of every life of a partition, oldest first, of a group that reads one topic. Raises StoresAway."""
        rows = await self._database.fetch(
            f"{_STANDINGS} WHERE consumer_group = $1 AND partition = $2 ORDER BY life", group, partition
        )
        return [_standing(row) for row in rows]

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

    async def groups(self) -> set[str]:
        """The groups that stand anywhere. Raises StoresAway."""
        rows = await self._database.fetch("SELECT DISTINCT consumer_group FROM progress")
        return {row["consumer_group"] for row in rows}

    async def stopped(self) -> list[Any]:
        """Partitions that wait for an operator. Raises StoresAway."""
        return await self._database.fetch(
            """SELECT * FROM (
                   SELECT DISTINCT ON (consumer_group, topic, partition)
                       consumer_group, topic, partition, next_offset, stopped
                   FROM progress JOIN topic_lives USING (topic, topic_id)
                   ORDER BY consumer_group, topic, partition, life DESC
               ) AS newest WHERE stopped IS NOT NULL"""
        )

    async def resume(self, group: str, topic: str, partition: int, offset: int) -> bool:
        """An operator lets a stopped partition go on from `offset`; False if it was not stopped. Raises StoresAway.

        Going back begins a new life of the partition, under an id of ours: other records have the old offsets, and
        whatever is known by them (journal, sequences, dead letters, the fence) has to tell them apart.
        """
        async with self._database.connection() as connection, connection.transaction():
            # Of two operators at once the second sees what the first did.
            await connection.execute("LOCK TABLE topic_lives IN SHARE ROW EXCLUSIVE MODE")
            row = await connection.fetchrow(
                f"""{_STANDINGS} WHERE consumer_group = $1 AND topic = $2 AND partition = $3
                    ORDER BY life DESC LIMIT 1""",
                group,
                topic,
                partition,
            )
            if row is None or row["stopped"] is None:
                return False
            if offset >= row["next_offset"]:
                await connection.execute(
                    """UPDATE progress SET stopped = NULL, next_offset = $4
                       WHERE consumer_group = $1 AND topic_id = $2 AND partition = $3""",
                    group,
                    row["topic_id"],
                    partition,
                    offset,
                )
            else:
                # The row of the old life stays stopped, so that nobody who still believes in it can move it.
                await connection.execute(
                    """WITH life AS (
                           INSERT INTO topic_lives (topic, topic_id, life, kafka_id)
                           SELECT topic, gen_random_uuid(), (SELECT max(life) + 1 FROM topic_lives WHERE topic = $5),
                               coalesce(kafka_id, topic_id)
                           FROM topic_lives WHERE topic = $5 AND topic_id = $2 RETURNING topic_id
                       )
                       INSERT INTO progress (consumer_group, topic, topic_id, partition, next_offset,
                           published_offset, sequence)
                       SELECT consumer_group, topic, life.topic_id, partition, $4::bigint,
                           CASE WHEN published_offset IS NOT NULL THEN $4::bigint END, sequence
                       FROM progress, life WHERE consumer_group = $1 AND progress.topic_id = $2 AND partition = $3""",
                    group,
                    row["topic_id"],
                    partition,
                    offset,
                    topic,
                )
        return True
