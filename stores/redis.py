"""The way to Redis (or Valkey): everything kept there can be lost, so being away is a normal state, not an error.

After a failure nobody asks again for BREAK_S: an unreachable Redis must cost a caller nothing, a frozen one little.

There are two ways to ask, and one to listen. `use` hands out redis-py's client, whose pool serves many callers at once.
`exchange` is for what is asked all the time: a worker tells one thing after each batch, with callers who wait for it; a
front looks up what the callers of a moment want, and tells what it counted. It has one connection, and the commands go
in one piece, written before anything else gets a turn. The client's pool, retries and a task for each write cost as
much as deciding ten commands does. `channels` is a client for channels of live tables.
"""

import asyncio
import contextlib
import logging
import sys
from collections.abc import Awaitable, Iterator, Sequence
from time import monotonic
from typing import Any

from config import Settings


@contextlib.contextmanager
def _without_opentelemetry() -> Iterator[None]:
    """An import of it fails meanwhile, as where it is not installed.

    redis-py imports its metrics if they are there, for measurements of its own that nothing here asks for: seventy
    modules in each process. Who exports spans imports what is needed for that, later (telemetry/tracing.py).
    """
    if "opentelemetry" in sys.modules:
        yield
        return
    sys.modules["opentelemetry"] = None  # type: ignore[assignment]  # what Python documents for this
    try:
        yield
    finally:
        del sys.modules["opentelemetry"]


with _without_opentelemetry():
    import redis.asyncio
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import RedisError

__all__ = ["Redis", "RedisAway", "RedisError"]

log = logging.getLogger("yeoul.stores.redis")

BREAK_S = 0.5
TIMEOUT_S = 0.5
MOST_CHANNELS = 512
"""Channels that a process may listen to at once."""


class RedisAway(Exception):
    """Redis can't be used now; the caller has another way."""


class _Cancellable:
    """A connection of redis-py whose writes can be cancelled.

    It bounds them with `asyncio.wait_for`, which makes a task of each command, and before Python 3.12 loses a
    cancellation that comes as the write ends: whoever asks in a loop would go on for ever.
    """

    socket_timeout: float | None

    async def send_packed_command(self, command: Any, check_health: bool = True) -> None:
        patience, self.socket_timeout = self.socket_timeout, None
        try:
            async with asyncio.timeout(patience):
                await super().send_packed_command(command, check_health)  # type: ignore[misc]
        except TimeoutError:
            raise redis.exceptions.TimeoutError(f"Redis took no command within {patience:g} s") from None
        finally:
            self.socket_timeout = patience


class Redis:
    """One client for each process."""

    def __init__(self, settings: Settings) -> None:
        self.prefix = settings.topic_prefix
        # Blocking: a burst waits for a free connection, it is no sign of an absent Redis.
        pool = redis.asyncio.BlockingConnectionPool.from_url(
            settings.redis_url,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 1),
            health_check_interval=0,
            max_connections=32,
            timeout=5,
            # Of the third version we use nothing, and redis-py makes a text of each message on a channel for its log.
            protocol=2,
        )
        # Which class it is depends on the URL: plain, TLS, or a Unix socket.
        pool.connection_class = type("Connection", (_Cancellable, pool.connection_class), {})
        self.client: Any = redis.asyncio.Redis(connection_pool=pool)
        # A channel keeps its connection for as long as somebody listens: the pool above is for those who ask.
        self.channels: Any = redis.asyncio.Redis(
            connection_pool=redis.asyncio.ConnectionPool(
                connection_class=pool.connection_class, max_connections=MOST_CHANNELS, **pool.connection_kwargs
            )
        )
        # Its time is bounded as a whole, in `exchange`.
        self._line: Any = pool.connection_class(**{**pool.connection_kwargs, "socket_timeout": None})
        self._turn = asyncio.Lock()
        self._closed = False
        self._broken_until = 0.0
        self.outages = 0
        """Counts up with each failure: who remembers an older count knows that writes of others may be missing."""

    def interrupted(self) -> None:
        """A connection outside of `use` was lost: that is an outage, even if nobody asked anything meanwhile."""
        self.outages += 1

    @contextlib.contextmanager
    def use(self, *, probing: bool = False) -> Iterator[Any]:
        """The client, for one exchange; `probing`: also soon after a failure. Raises RedisAway."""
        if self._closed:
            raise RedisAway("this process has closed its connections")
        if not probing and monotonic() < self._broken_until:
            raise RedisAway("Redis did not answer a moment ago")
        try:
            yield self.client
        except (RedisError, OSError, TimeoutError, asyncio.IncompleteReadError) as error:
            if self._broken_until == 0.0:
                log.warning("Redis is away: %s", str(error) or type(error).__name__)
            self.outages += 1
            self._broken_until = monotonic() + BREAK_S
            raise RedisAway(str(error) or type(error).__name__) from error
        if self._broken_until:
            log.info("Redis is back")
            self._broken_until = 0.0

    async def exchange(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        """Send the commands in one piece, in this order; returns what each answered. Raises RedisAway."""
        async with self._turn:
            with self.use():
                try:
                    async with asyncio.timeout(TIMEOUT_S):
                        return await self._exchanged(commands)
                except BaseException:
                    # What is still to be answered would be taken for the answer to the next exchange.
                    await self._line.disconnect(nowait=True)
                    raise

    async def _exchanged(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        line = self._line
        if line.is_connected and await line.can_read():  # it was closed meanwhile: nothing else comes unasked
            await line.disconnect(nowait=True)
        await line.send_packed_command(line.pack_commands(commands))
        return [await line.read_response() for _ in commands]

    async def ready(self) -> str:
        """`ok`, or why not."""
        try:
            with self.use() as client:
                await client.ping()
        except RedisAway as error:
            return str(error)
        return "ok"

    async def close(self) -> None:
        """Close the connections. Who asks from now on is refused, for nobody would close what that opens."""
        self._closed = True
        async with self._turn:  # an exchange that is under way ends within TIMEOUT_S
            await _well(self._line.disconnect())
        await _well(self.client.aclose(close_connection_pool=True))
        await _well(self.channels.aclose(close_connection_pool=True))


async def _well(closing: Awaitable[None]) -> None:
    """One that can't be closed in order keeps no other from it."""
    with contextlib.suppress(RedisError, OSError):
        await closing
