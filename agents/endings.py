"""Decisions on what may end before its time: what has ended is told to every front before anybody is answered."""

import logging
from collections.abc import Iterable

from domain.sessions import Ended
from stores.aggregates import Entry
from stores.redis import RedisAway
from stores.revocations import tell
from streams.decisions import Decisions
from streams.outcomes import Outcome

log = logging.getLogger("yeoul.agents.endings")


class EndingDecisions(Decisions):
    """Decisions on sessions or API keys, with word of those that ended."""

    async def after(self, result: Outcome) -> None:
        """See Decisions.after."""
        await self._tell_fronts(
            one for id, state in result.states.items() for one in state.ended if one.version > result.loaded[id]
        )
        await super().after(result)

    async def _renew_cache(self, entries: list[Entry]) -> None:
        """The owner before may have died between its commit and its word."""
        async with self._database.connection() as connection:
            _done, states = await self._store.load(connection, [], list({entry.aggregate_id for entry in entries}))
        await self._tell_fronts(one for state in states.values() for one in state.ended)

    async def _tell_fronts(self, ended: Iterable[Ended]) -> None:
        try:
            await tell(self._cache.redis, ended)
        except RedisAway as error:
            # The fronts find them in PostgreSQL.
            log.debug("ended sessions were not told: %s", error)
