"""One connection, with a bound to everything that the other side can make it wait for or hold."""

import abc
import asyncio
from typing import Any

from aiohttp import web
from aiohttp.helpers import set_exception
from aiohttp.http_exceptions import BadHttpMessage, LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_protocol import RequestHandler, _ErrInfo

from web.crowd import LEAST_RATE, Crowd

MOST_HEAD = 32 * 1024
"""Bytes of a request's head. aiohttp bounds each line and how many there are, which would be 1 MiB together."""
HEALTH = ("/livez", "/readyz")


class TooSlow(BadHttpMessage):
    """The head or the body of a request did not come in time."""

    def __init__(self) -> None:
        super().__init__("too slow")


class BoundedConnection(RequestHandler, abc.ABC):
    """As aiohttp's, with a crowd around it."""

    __slots__ = (
        "_body", "_body_bytes", "_body_heard", "_body_since", "_crowd", "_head_bytes", "_head_since", "address",
        "crowded", "unsent", "unsent_since",
    )  # fmt: skip

    def __init__(self, crowd: Crowd, manager: web.Server, *, loop: asyncio.AbstractEventLoop, **options: Any) -> None:
        super().__init__(manager, loop=loop, **options)
        self._crowd = crowd
        self._head_since = 0.0
        """Since when (the loop's time) the head of a request has been coming; 0 while none is."""
        self._head_bytes = 0
        self._body: StreamReader | None = None
        """The body that is coming."""
        self._body_since = self._body_heard = 0.0
        self._body_bytes = 0
        self.address = ""
        self.crowded = False
        self.unsent = 0
        self.unsent_since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Lets it in, or ends it where there is no room at all."""
        super().connection_made(transport)
        self._head_since = self._loop.time()
        if not self._crowd.enters(self, transport.get_extra_info("peername")):
            self.cut()
        elif self.crowded:
            self._request_handler = self._only_health

    def connection_lost(self, exc: BaseException | None) -> None:
        """It is gone."""
        self._crowd.leaves(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Takes what came, and notes how it comes."""
        if self._close or self._force_close:
            return
        before = self._request_count
        body = self._body
        super().data_received(data)
        if self._request_count != before:
            self._head_since = 0.0
            self._head_bytes = 0
            coming = self._messages[-1][1] if self._messages else EMPTY_PAYLOAD
            self._body = None if coming.is_eof() else coming
            if self._body is not None:
                self._body_since = self._body_heard = self._loop.time()
                self._body_bytes = 0
        elif body is not None:
            if body.is_eof():
                self._body = None
            else:
                self._body_heard = self._loop.time()
                self._body_bytes += len(data)
        elif data and not self._upgraded:
            if not self._head_since:
                self._head_since = self._loop.time()
            self._head_bytes += len(data)
            if self._head_bytes > MOST_HEAD:
                self._give_up(LineTooLong(b"", MOST_HEAD))

    def look(self, now: float) -> str:
        """Ends it if a head or a body is too slow; the reason, or nothing."""
        settings = self._crowd.settings
        if self._head_since and now - self._head_since > settings.header_timeout_s:
            if self._head_bytes:
                self._give_up(TooSlow())
            else:
                self.force_close()  # nothing was asked, so nothing is answered
            self._head_since = 0.0
            return "slow_head"
        body = self._body
        if body is None:
            return ""
        if body.is_eof() or body.exception() is not None:
            self._body = None
            return ""
        if self._reading_paused or self._buffer_paused:
            self._body_heard = now  # it is we who do not read
            return ""
        allowed = settings.body_timeout_s
        # No more than the longest body is worth: extensions of chunks, say, could come for ever.
        worth = min(self._body_bytes, settings.body_limit) / LEAST_RATE
        if now - self._body_heard <= allowed and now - self._body_since <= allowed + worth:
            return ""
        set_exception(body, web.RequestPayloadError("too slow"), TooSlow())
        self._body = None
        return "slow_body"

    def waits_since(self) -> float:
        """Since when it waits for the rest of a request; 0 while one is being answered."""
        if self._body is not None and not self._body.is_eof():
            return self._body_since
        if self._request_in_progress or self._messages:
            return 0.0
        return self._head_since or self._next_keepalive_close_time - self.keepalive_timeout

    def cut(self) -> None:
        """Ends it at once."""
        if self.transport is not None:
            self.transport.abort()

    async def _only_health(self, request: web.BaseRequest) -> web.StreamResponse:
        """There is no room for more; but who looks after this has to see that it lives."""
        assert self._manager is not None
        if request.path in HEALTH:
            answer = await self._manager.request_handler(request)
        else:
            answer = self.no_room(request)
        answer.force_close()
        return answer

    @abc.abstractmethod
    def no_room(self, request: web.BaseRequest) -> web.StreamResponse:
        """What somebody is told for whom there is no room."""

    def _give_up(self, error: BadHttpMessage) -> None:
        """Answers what can't become a request, and ends with it; as aiohttp does for what it can't parse."""
        self._messages.append((_ErrInfo(status=400, exc=error, message=error.message), EMPTY_PAYLOAD))
        self._request_count += 1
        self._head_bytes = 0
        self._close = True  # nothing more is read
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
