"""The only room that knows a database: one module a noun, and all SQL."""

import contextlib
from collections.abc import AsyncIterator

from config import Settings
from stores.accounts import Accounts
from stores.aggregates import Operations
from stores.cache import Cache
from stores.postgres import Database, StoresAway, of
from stores.redis import Redis
from stores.resources import Resources

__all__ = ["Stores", "StoresAway", "open"]


class Stores:
    """What a front reads from."""

    def __init__(self, database: Database, redis: Redis) -> None:
        self.database = database
        self.redis = redis
        self.cache = Cache(redis)
        self.accounts = Accounts(database)
        self.resources = Resources(database, self.cache)
        self.operations = Operations(database)

    async def ready(self) -> dict[str, str]:
        """Each store by name: `ok`, or why not."""
        return {"postgres": await self.database.ready(), "redis": await self.redis.ready()}


@contextlib.asynccontextmanager
async def open(settings: Settings, process: str = "web") -> AsyncIterator[Stores]:  # noqa: A001 - stores.open reads well  # stores.open reads well
    """The stores that the settings name; they need not be there yet."""
    stores = Stores(of(settings, process), Redis(settings))
    try:
        yield stores
    finally:
        await stores.database.close()
        await stores.redis.close()
