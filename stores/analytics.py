"""Events counted by hour, source and type."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from stores.postgres import Database, away_is_known


class Slot(msgspec.Struct, frozen=True):
    """What is counted together, within one partition. `hour` is the beginning of the hour of event time."""

    hour: datetime
    source: str
    type: str
    topic: str
    partition: int


class HourCount(msgspec.Struct, frozen=True):
    """Events of one source and type in one hour."""

    hour: datetime
    source: str
    type: str
    count: int


async def add(connection: Any, counts: Mapping[Slot, int]) -> None:
    """Add to the counts, in the caller's transaction. Raises StoresAway."""
    if not counts:
        return
    # In one order, so that two transactions can't wait for each other in a circle.
    slots = sorted(counts, key=lambda slot: (slot.hour, slot.source, slot.type, slot.topic, slot.partition))
    with away_is_known():
        await connection.execute(
            """INSERT INTO event_counts (hour, source, type, topic, partition, count)
               SELECT * FROM unnest($1::timestamptz[], $2::text[], $3::text[], $4::text[], $5::int[], $6::bigint[])
               ON CONFLICT (hour, source, type, topic, partition)
               DO UPDATE SET count = event_counts.count + excluded.count""",
            [slot.hour for slot in slots],
            [slot.source for slot in slots],
            [slot.type for slot in slots],
            [slot.topic for slot in slots],
            [slot.partition for slot in slots],
            [counts[slot] for slot in slots],
        )


class Analytics:
    """Reading the counts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def by_hour(self, since: datetime, until: datetime, *, limit: int = 10_000) -> list[HourCount]:
        """The counts of hours from `since` (included) to `until` (excluded), in order. Raises StoresAway."""
        rows = await self._database.fetch(
            """SELECT hour, source, type, sum(count)::bigint AS count FROM event_counts
               WHERE hour >= $1 AND hour < $2 GROUP BY hour, source, type ORDER BY hour, source, type LIMIT $3""",
            since,
            until,
            limit,
        )
        return [HourCount(row["hour"], row["source"], row["type"], row["count"]) for row in rows]
