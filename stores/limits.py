"""What the front's processes count together in Redis, so that a limit is one limit however many of them there are.

A count is of one caller, one limit and one window of time, and is gone when it can matter no more. All of it may be
lost with Redis; then each process counts alone.
"""

from collections.abc import Iterable, Sequence
from time import time
from typing import NamedTuple
from uuid import UUID

from stores.redis import Redis, RedisAway

FAMILIAR_S = 30 * 86_400
"""How long a place stays one from which an account has logged in, seconds."""
MOST_FAMILIAR = 100
"""Places that are kept of one account, the latest."""

# KEYS: for each count its own, and that of the window before. ARGV: for each what is added, and its life in seconds.
# Returns for each what it is now, and what the one before came to.
_ADD = """
local found = {}
for i = 1, #KEYS, 2 do
  found[i] = redis.call('INCRBY', KEYS[i], ARGV[i])
  redis.call('EXPIRE', KEYS[i], ARGV[i + 1])
  found[i + 1] = tonumber(redis.call('GET', KEYS[i + 1]) or 0)
end
return found
"""


class Deeds(NamedTuple):
    """What one process adds to one count: `window` is the window's number, each `seconds` long."""

    limit: str
    who: str
    window: int
    seconds: int
    added: int


class Counts:
    """The shared counts."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def add(self, deeds: Sequence[Deeds]) -> list[tuple[int, int]]:
        """Adds all of it in one exchange; for each the sum in its window, and in the one before. Raises RedisAway."""
        keys, arguments = [], []
        for limit, who, window, seconds, added in deeds:
            start = f"{self._redis.prefix}:limit:{limit}:{who}:"
            keys += [f"{start}{window}", f"{start}{window - 1}"]
            arguments += [added, 2 * seconds + 1]
        (found,) = await self._redis.exchange([("EVAL", _ADD, len(keys), *keys, *arguments)])
        return list(zip(found[::2], found[1::2], strict=True))

    async def is_familiar(self, account: UUID, place: str) -> bool:
        """True if the account has logged in from there lately; False as well when Redis can't say."""
        try:
            with self._redis.use() as client:
                seen = await client.zscore(self._familiar(account), place)
        except RedisAway:
            return False
        return seen is not None and seen > time() - FAMILIAR_S

    async def make_familiar(self, account: UUID, place: str) -> None:
        """The account has logged in from there. Raises RedisAway."""
        key, now = self._familiar(account), time()
        await self._redis.exchange(
            [
                ("ZADD", key, now, place),
                ("ZREMRANGEBYSCORE", key, "-inf", now - FAMILIAR_S),
                ("ZREMRANGEBYRANK", key, 0, -MOST_FAMILIAR - 1),
                ("EXPIRE", key, FAMILIAR_S),
            ]
        )

    async def forget(self, accounts: Iterable[UUID]) -> None:
        """Forget from where these accounts have logged in. Raises RedisAway."""
        keys = [self._familiar(account) for account in accounts]
        if keys:
            with self._redis.use() as client:
                await client.delete(*keys)

    def _familiar(self, account: UUID) -> str:
        return f"{self._redis.prefix}:familiar:{account}"
