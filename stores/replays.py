"""Dead letters beside a group's position: what it left out, and what it has handled since."""

from datetime import datetime
from typing import Any

from stores.dead_letters import Parked, parked_from
from stores.postgres import away_is_known


async def left_out(connection: Any, group: str, since: datetime) -> list[Any]:
    """Where (topic, kafka_id, partition, offset) the group parked a record that it had not replayed before `since`.

    `earlier`: whether it did so in an earlier life of the partition; another record may stand there by now, and only
    then there is a `value` to compare, as it came or as an erasure left it. Raises StoresAway.
    """
    with away_is_known():
        rows: list[Any] = await connection.fetch(
            """WITH newest AS (
                   SELECT topic, partition, max(life) AS life FROM progress JOIN topic_lives USING (topic, topic_id)
                   WHERE consumer_group = $1 GROUP BY topic, partition
               )
               SELECT d.topic, coalesce(l.kafka_id, l.topic_id) AS kafka_id, d.partition, d."offset",
                   l.life < n.life AS earlier, CASE WHEN l.life < n.life THEN d.value END AS value
               FROM dead_letters d JOIN topic_lives l USING (topic, topic_id) JOIN newest n USING (topic, partition)
               WHERE d.consumer_group = $1 AND (d.state <> 'replayed' OR d.settled_at >= $2)""",
            group,
            since,
        )
    return rows


async def replayed(connection: Any, group: str, since: datetime) -> list[Parked]:
    """What the group has handled by replay from `since` on, in that order. Raises StoresAway."""
    with away_is_known():
        rows = await connection.fetch(
            """SELECT * FROM dead_letters WHERE consumer_group = $1 AND state = 'replayed' AND settled_at >= $2
               ORDER BY settled_at, id""",
            group,
            since,
        )
    return [parked_from(row) for row in rows]


async def mark_replayed(connection: Any, id: int) -> bool:
    """In the transaction of the replay: True if the row still waited for it. Raises StoresAway."""
    with away_is_known():
        status = await connection.execute(
            "UPDATE dead_letters SET state = 'replayed', settled_at = now() WHERE id = $1 AND state = 'requested'", id
        )
    return bool(status != "UPDATE 0")
