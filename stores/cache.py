"""The shared cache in Redis: finished objects as bytes, with versions, so that a late writer can't bring old ones back.

An entry is the version in 12 digits and the object's JSON; nothing after the version means that the object is gone.
Entries live LIFE_S at most. After an outage in which a write was missed, everything cached is dropped first.
"""

import logging
from collections.abc import Mapping, Sequence
from uuid import UUID

from stores.redis import Redis, RedisAway

log = logging.getLogger("yeoul.stores.cache")

LIFE_S = 60
ABSENT_LIFE_S = 5
DIGITS = 12

# KEYS: entries. ARGV: life in seconds, then a value for each. Sets those that are newer than what is there.
_SET_NEWER = """
for i, key in ipairs(KEYS) do
  local value = ARGV[i + 1]
  local there = redis.call('GETRANGE', key, 0, 11)
  if there == '' or there < string.sub(value, 1, 12) then
    redis.call('SET', key, value, 'EX', ARGV[1])
  end
end
"""


def entry(version: int, document: bytes) -> bytes:
    """How an object stands in the cache."""
    return b"%012d" % version + document


class Cache:
    """Entries of all nouns. Never raises: a cache that is away is a miss."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._missed_writes = False

    def key(self, noun: str, id: UUID) -> str:
        """The entry's name in Redis."""
        return f"{self._redis.prefix}:cache:{noun}:{id}"

    async def get(self, noun: str, ids: Sequence[UUID]) -> dict[UUID, bytes]:
        """The entries there are."""
        try:
            with self._redis.use() as client:
                values = await client.mget([self.key(noun, id) for id in ids])
        except RedisAway:
            return {}
        return {id: value for id, value in zip(ids, values, strict=True) if value is not None}

    async def put(self, noun: str, entries: Mapping[UUID, bytes], *, life: int = LIFE_S) -> bool:
        """Set what is newer than what is there; False if Redis is away."""
        return await self.put_and_publish(noun, entries, {}, life=life)

    async def put_and_publish(
        self, noun: str, entries: Mapping[UUID, bytes], messages: Mapping[str, bytes], *, life: int = LIFE_S
    ) -> bool:
        """As `put`, then publish a message on each channel, in one round trip and in this order."""
        try:
            with self._redis.use() as client:
                if self._missed_writes:
                    await self._drop_all()
                    self._missed_writes = False
                pipeline = client.pipeline(transaction=False)
                if entries:
                    # By its text, which the server keeps compiled: by its hash, redis-py asks first whether it is
                    # known.
                    keys = [self.key(noun, id) for id in entries]
                    pipeline.eval(_SET_NEWER, len(keys), *keys, life, *entries.values())
                for channel, message in messages.items():
                    pipeline.publish(channel, message)
                await pipeline.execute()
        except RedisAway:
            self._missed_writes = self._missed_writes or bool(entries)
            return False
        return True

    async def _drop_all(self) -> None:
        count = 0
        async for key in self._redis.client.scan_iter(match=f"{self._redis.prefix}:cache:*", count=1000):
            await self._redis.client.unlink(key)
            count += 1
        log.info("dropped %d cached objects: a write was missed while Redis was away", count)
