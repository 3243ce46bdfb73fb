"""The only room that knows a database: one module a noun, and all SQL."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine

from config import Settings
from stores.accounts import Accounts
from stores.aggregates import Operations
from stores.api_keys import ApiKeyStore
from stores.belongings import Belongings
from stores.cache import Cache
from stores.dead_letters import DeadLetters
from stores.kinds import Kinds
from stores.limits import Counts
from stores.mails import Mails
from stores.postgres import LATE, OPERATOR, READY_S, Database, StoresAway, StoresUnfit, of
from stores.redis import Redis
from stores.reports import Reports
from stores.resources import Resources
from stores.revocations import Revoked
from stores.search import PostgresSearch, Search
from stores.second_factors import SecondFactors
from stores.sessions import SessionStore
from stores.watching import Watching

__all__ = ["LATE", "OPERATOR", "READY_S", "Stores", "StoresAway", "StoresUnfit", "open"]


class Stores:
    """What a front reads from."""

    def __init__(self, database: Database, redis: Redis) -> None:
        self.database = database
        self.redis = redis
        self.cache = Cache(redis)
        self.accounts = Accounts(database)
        self.resources = Resources(database, self.cache)
        self.belongings = Belongings(database)
        self.kinds = Kinds(database)
        self.mails = Mails(database)
        self.search: Search = PostgresSearch(database)
        self.operations = Operations(database)
        self.reports = Reports(database)
        self.dead_letters = DeadLetters(database)
        self.sessions = SessionStore(database)
        self.api_keys = ApiKeyStore(database)
        self.second_factors = SecondFactors(database)
        self.revoked = Revoked(database, redis)
        self.watching = Watching(database, redis)
        self.limits = Counts(redis)
        self._late: set[asyncio.Task[str]] = set()
        self._looking: asyncio.Task[dict[str, str]] | None = None

    async def ready(self) -> dict[str, str]:
        """Each store by name: `ok`, or why not; within READY_S, and none says anything about another.

        Anybody may ask for it, so all who ask at once share one look.
        """
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look())
        return await asyncio.shield(self._looking)

    async def _look(self) -> dict[str, str]:
        postgres, redis = await asyncio.gather(self._within(self.database.ready()), self._within(self.redis.ready()))
        return {"postgres": postgres, "redis": redis}

    async def _within(self, check: Coroutine[None, None, str]) -> str:
        task = asyncio.create_task(check)
        # Not wait_for: that would also wait until a check that was cancelled has put its connection away.
        await asyncio.wait((task,), timeout=READY_S)
        if task.done():
            error = task.exception()
            return task.result() if error is None else str(error) or type(error).__name__
        self._late.add(task)
        task.add_done_callback(self._late.discard)
        task.cancel()
        return LATE


@contextlib.asynccontextmanager
async def open(settings: Settings, process: str = "web") -> AsyncIterator[Stores]:  # noqa: A001 - stores.open reads well
    """The stores that the settings name; they need not be there yet."""
    stores = Stores(of(settings, process), Redis(settings))
    try:
        yield stores
    finally:
        await stores.cache.close()
        await stores.database.close()
        await stores.redis.close()
