"""How many connections a process has, from where, and how long each may keep it waiting.

Nothing is timed for each request. A connection keeps a few numbers, and once a second somebody looks at all of them:
who is too slow to send a request or to take an answer is cut. When there are too many, those that wait longest for a
request make room, so that a flood of idle and slow connections never keeps a quick one out.
"""

import asyncio
import logging
from typing import Any, Protocol

from aiohttp import web

from config import Settings
from telemetry import metrics
from web.clients import Clients, counted, plain, shortened

log = logging.getLogger("yeoul.web.crowd")

LOOK_S = 1.0
STALL_S = 30.0
"""How long an answer may lie unsent without the other side taking any of it, seconds."""
MOST_UNSENT = 64 * 1024 * 1024
"""Bytes of answers that may lie unsent in a process; beyond them the largest are dropped with their connections."""
LEAST_RATE = 1024
"""Bytes a second with which a body has to come on the whole."""
RESERVE = 256
"""Connections beyond the limit: they are served health, and told that there is no room for more. Who came first of
them goes when there are more, so in a wave a request has as long to come as so many others take to be let in."""
GRACE_S = 0.1
"""How long whoever has come keeps its place: its request may be on its way, or here and not read yet, seconds."""
FRUITLESS_S = 0.01
"""How long nobody is asked to make room after nobody could: a look at all of them costs a millisecond, seconds."""
ROOM = 32
"""The part (one in so many) of the connections that makes room at once."""


class Connection(Protocol):
    """What is looked at of a connection; see web/connections.py."""

    address: str
    crowded: bool
    unsent: int
    unsent_since: float
    transport: asyncio.Transport | None

    def look(self, now: float) -> str:
        """Ends it if it is too slow; the reason, or nothing."""

    def waits_since(self) -> float:
        """Since when (the loop's time) it waits for the rest of a request; 0 while one is being answered."""

    def cut(self) -> None:
        """Ends it at once."""


class Crowd:
    """The connections of one process."""

    def __init__(self, settings: Settings, clients: Clients) -> None:
        self.settings = settings
        self._clients = clients
        self._most = settings.connections
        self._most_of_one = settings.connections_address
        self._inside: set[Connection] = set()
        self._by_address: dict[str, int] = {}
        self._crowded: dict[Connection, None] = {}
        """Those of them in the reserve, in the order in which they came."""
        self._warned: set[str] = set()
        self._fruitless: dict[str, float] = {}
        """Until when (the loop's time) there is no use in asking those of an address, or all of them (""), for room."""
        self._looking: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._inside)

    def enters(self, connection: Connection, peer: Any) -> bool:
        """A connection comes in; False if there is no room even for saying so."""
        host = peer[0] if isinstance(peer, tuple | list) and peer else ""
        connection.address = "" if self._clients.trusts(host) else counted(plain(host))
        if self._looking is None:
            self._look_later()
        full = len(self._inside) - len(self._crowded) >= self._most and not self._make_room("")
        of_one = self._by_address.get(connection.address, 0)
        if not full and connection.address and of_one >= self._most_of_one:
            self._warn(connection.address)
            full = not self._make_room(connection.address)
        if full:
            if len(self._crowded) >= RESERVE and not self._end_crowded():
                return False
            self._crowded[connection] = None
        connection.crowded = full
        self._inside.add(connection)
        self._by_address[connection.address] = self._by_address.get(connection.address, 0) + 1
        metrics.CONNECTIONS.inc()
        return True

    def leaves(self, connection: Connection) -> None:
        """A connection is gone, or as good as gone. May be told twice."""
        if connection not in self._inside:
            return
        self._inside.discard(connection)
        self._crowded.pop(connection, None)
        left = self._by_address[connection.address] - 1
        if left:
            self._by_address[connection.address] = left
        else:
            del self._by_address[connection.address]
        metrics.CONNECTIONS.dec()

    def close(self) -> None:
        """Nobody looks any more."""
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None

    def _make_room(self, address: str) -> bool:
        """Ends those (of `address`, if one is given) that wait longest for a request; False if none has for long."""
        now = asyncio.get_running_loop().time()
        if now < self._fruitless.get(address, 0.0):
            return False
        until = now - GRACE_S
        waiting = [
            (since, id(connection), connection)
            for connection in self._inside
            if (not address or connection.address == address) and not connection.crowded
            if (since := connection.waits_since()) and since <= until
        ]
        waiting.sort()
        for _, _, connection in waiting[: max((self._most_of_one if address else self._most) // ROOM, 1)]:
            self._end(connection, "crowded")
        if not waiting:
            self._fruitless[address] = now + FRUITLESS_S
        return bool(waiting)

    def _end_crowded(self) -> bool:
        """Ends the first in the reserve that waits for a request; False if none does."""
        first = next((connection for connection in self._crowded if connection.waits_since()), None)
        if first is not None:
            self._end(first, "crowded")
        return first is not None

    def _end(self, connection: Connection, reason: str) -> None:
        metrics.CONNECTIONS_CUT.labels(reason).inc()
        self.leaves(connection)
        connection.cut()

    def _warn(self, address: str) -> None:
        if address not in self._warned and len(self._warned) < 1000:
            self._warned.add(address)
            log.warning(
                "an address in %s has reached YEOUL_CONNECTIONS_ADDRESS (%s); if it is a proxy of yours, name it in"
                " YEOUL_TRUSTED_PROXIES",
                shortened(address),
                self._most_of_one,
            )

    def _look_later(self) -> None:
        self._looking = asyncio.get_running_loop().call_later(LOOK_S, self._look)

    def _look(self) -> None:
        self._look_later()
        self._fruitless.clear()
        now = asyncio.get_running_loop().time()
        unsent: list[Connection] = []
        for connection in list(self._inside):
            reason = connection.look(now)
            if reason:
                metrics.CONNECTIONS_CUT.labels(reason).inc()
            elif _stalls(connection, now):
                self._end(connection, "slow_reader")
            elif connection.unsent:
                unsent.append(connection)
        total = sum(connection.unsent for connection in unsent)
        unsent.sort(key=lambda connection: connection.unsent)
        while total > MOST_UNSENT:
            largest = unsent.pop()
            total -= largest.unsent
            self._end(largest, "slow_reader")


def _stalls(connection: Connection, now: float) -> bool:
    """True if what lies unsent has not become less for STALL_S."""
    transport = connection.transport
    size = 0 if transport is None else transport.get_write_buffer_size()
    if size == 0:
        connection.unsent_since = 0.0
    elif size < connection.unsent or not connection.unsent_since:
        connection.unsent_since = now
    connection.unsent = size
    return bool(size) and now - connection.unsent_since > STALL_S


CROWD: web.AppKey[Crowd] = web.AppKey("crowd", Crowd)
