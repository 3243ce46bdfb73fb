"""What the front's live tables are made of: the rows in PostgreSQL, and the totals that come by Redis."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

from domain.boards import View
from domain.tables import Slot, Table
from stores.analytics import WHOLE, Row
from stores.leaves import table_of
from stores.live import Changes, Live
from stores.metrics import Metrics
from stores.postgres import Database
from stores.redis import Redis


class Watching:
    """Reads for those who watch."""

    def __init__(self, database: Database, redis: Redis) -> None:
        self._database = database
        self._metrics = Metrics(database)
        self._live = Live(redis)

    async def tables(self) -> dict[str, Table]:
        """The tables that serve, by the names of their metrics. Raises StoresAway."""
        return {table.metric.name: table for table in await self._metrics.serving()}

    async def rows(self, table: Table, view: View, since: int, most: int) -> list[Row]:
        """The rows of panes that begin from `since` on (seconds), each as each feed has it; at most `most` of them.

        Raises StoresAway.
        """
        pane = view.window.pane
        arguments: list[Any] = [table.id, pane, datetime.fromtimestamp(since, UTC), most]
        conditions = ""
        for place, text in view.wanted:
            arguments += [place, text]
            last = len(arguments)
            # In a CASE, for the rows of a window itself have no JSON there, and PostgreSQL asks in an order of its own.
            conditions += (
                f" AND CASE WHEN grp <> '{WHOLE}' THEN coalesce(grp::json ->> ${last - 1}::int, 'null') = ${last} END"
            )
        found = await self._database.fetch(
            f"""SELECT start, grp, measure, feed, n, total, low, high, sketch FROM {table_of(pane)}
                WHERE metric = $1 AND pane = $2 AND start >= $3 AND grp <> '{WHOLE}'{conditions} LIMIT $4""",
            *arguments,
        )
        return [
            Row(
                Slot(table.id, pane, int(row["start"].timestamp()), row["grp"]), row["measure"], row["feed"], row["n"],
                row["total"], row["low"], row["high"], row["sketch"],
            )
            for row in found
        ]  # fmt: skip

    def listen(self, metric: str) -> AsyncIterator[Changes | None]:
        """See stores.live.Live.listen."""
        return self._live.listen(metric)
