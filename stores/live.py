"""Totals on their way to those who watch: a channel in Redis for each metric. What is lost stands in PostgreSQL."""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec

from stores.redis import Redis, RedisAway
from stores.totals import Row

HEARTBEAT_S = 2.0
"""A channel that is silent for this long is asked whether it is still there."""


class Changes(msgspec.Struct, array_like=True):
    """New totals of rows, absolute, so that a repeat changes nothing; `all` instead of them: read them anew."""

    rows: list[Row] = []
    all: bool = False


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Changes).decode


class Live:
    """The channels of an installation."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    def channel(self, metric: str) -> str:
        """The channel of a metric."""
        return f"{self._redis.prefix}:metrics:{metric}"

    async def tell(self, rows: Mapping[str, Sequence[Row] | None]) -> None:
        """Publish new totals by metric, None for too many of them, once; who misses them reads PostgreSQL.

        Raises RedisAway.
        """
        messages = []
        for metric, of_metric in rows.items():
            changes = Changes(all=True) if of_metric is None else Changes(list(of_metric))
            messages.append(("PUBLISH", self.channel(metric), _encode(changes)))
        if messages:
            await self._redis.exchange(messages)

    async def listen(self, metric: str) -> AsyncIterator[Changes | None]:
        """First None, once Redis has confirmed that the channel is open; then changes as they come.

        What is read from PostgreSQL after the None, together with what comes, leaves nothing out. Raises RedisAway as
        soon as anything may have been missed, and when Redis says nothing any more.
        """
        with self._redis.use():
            pubsub: Any = self._redis.channels.pubsub()
        try:
            with self._redis.use():
                await pubsub.subscribe(self.channel(metric))
            opened = asked = False
            while True:
                with self._redis.use():
                    message = await pubsub.get_message(timeout=HEARTBEAT_S)
                    if message is None:
                        if asked or not opened:
                            raise TimeoutError(f"Redis said nothing for {HEARTBEAT_S:g} s")
                        await pubsub.ping()
                    elif message["type"] == "subscribe" and opened:
                        # redis-py has opened the channel anew by itself; what came between went to nobody.
                        raise ConnectionResetError("the channel was interrupted")
                asked = message is None
                if message is None or message["type"] == "pong":
                    continue
                if message["type"] == "subscribe":
                    opened = True
                    yield None
                else:
                    yield _read(message["data"])
        finally:
            await pubsub.aclose()


def _read(data: bytes) -> Changes:
    try:
        return _decode(data)
    except msgspec.MsgspecError:
        return Changes(all=True)  # of another version: the table says it, too


__all__ = ["Changes", "Live", "RedisAway"]
