"""What the front's live tables are made of: the rows in PostgreSQL, and the totals that come by Redis."""

from collections.abc import AsyncIterator

from domain.boards import View
from domain.tables import Slot, Table
from stores import selecting
from stores.live import Changes, Live
from stores.metrics import Metrics
from stores.postgres import Database
from stores.redis import Redis
from stores.totals import Row


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
        """The rows of panes that begin from `since` on (seconds), each as each feed has it; `most` of them at most.

        Raises StoresAway, TooMany.
        """
        pane = view.window.pane
        found = await selecting.rows(self._database, table, pane, since, None, dict(view.wanted), most)
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
