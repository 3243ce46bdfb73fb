"""What is answered below the application: to requests that can't be read as HTTP, and should an answer itself fail.

aiohttp would answer in plain text and show the sender's line or header again; a client, and whatever logs its answers,
gets our envelope instead.
"""

import asyncio
import os
import re
from collections.abc import Coroutine
from typing import Any

from aiohttp import web
from aiohttp.helpers import set_exception
from aiohttp.http_exceptions import BadHttpMessage, BadHttpMethod, ContentEncodingError, LineTooLong

from domain.refusals import Code, Refusal
from telemetry import metrics
from web import headers
from web.connections import BoundedConnection, TooSlow
from web.crowd import CROWD
from web.parts import PARTS
from web.refused import UNPACKABLE

_REQUEST_LINE = re.compile(r"b'[A-Za-z][A-Za-z0-9-]* /\S* HTTP/1\.[01]'")
"""A request line as aiohttp's parser quotes it: what is wrong with it is the method only."""


class Runner(web.AppRunner):
    """Runs an application of ours; takes what web.AppRunner takes."""

    __slots__ = ()

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(
            self._app,
            made.request_handler,
            request_factory=made.request_factory,
            handler_cancellation=made.handler_cancellation,
            loop=made._loop,
            **made._kwargs,
        )


class _Server(web.Server):
    def __init__(self, app: web.Application, handler: Any, **options: Any) -> None:
        super().__init__(handler, **options)
        self._app = app

    def __call__(self) -> BoundedConnection:
        return _Connection(self._app, self, loop=self._loop, **self._kwargs)


class _Connection(BoundedConnection):
    __slots__ = ("_app",)

    def __init__(
        self, app: web.Application, manager: web.Server, *, loop: asyncio.AbstractEventLoop, **options: Any
    ) -> None:
        super().__init__(app[CROWD], manager, loop=loop, **options)
        self._app = app

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """The refusal; the connection ends with it. Raises ConnectionError if an answer was begun already."""
        super().handle_error(request, status, exc)  # logs, and looks whether something was sent
        return self._refuse(request, _refusal(exc) if status == 400 else Refusal(Code.INTERNAL_ERROR))

    def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> Coroutine[Any, Any, tuple[web.StreamResponse, bool]]:
        """Sends `resp`; instead of aiohttp's own words to an unknown `Expect`, which no middleware sees, ours."""
        if resp.__class__ is web.HTTPExpectationFailed:
            resp = self._refuse(request, Refusal(Code.EXPECTATION_FAILED))
        return super().finish_response(request, resp, start_time)

    def data_received(self, data: bytes) -> None:
        """Takes what came. A body that turns out to be none ends the waiting of whoever reads it."""
        super().data_received(data)
        if self._messages and self._current_request is not None:
            error = getattr(self._messages[-1][0], "exc", None)
            body = self._current_request.content
            if error is not None and not body.is_eof() and body.exception() is None:
                # aiohttp only queues the error behind the request, which would wait for its body for ever.
                set_exception(body, web.RequestPayloadError(str(error)), error)

    def no_room(self, request: web.BaseRequest) -> web.StreamResponse:
        """Too busy; see web/crowd.py."""
        answer = self._refuse(request, Refusal(Code.TOO_BUSY))
        answer.headers["Retry-After"] = "5"
        return answer

    def _refuse(self, request: web.BaseRequest, refusal: Refusal) -> web.Response:
        parts = self._app[PARTS]
        request_id = os.urandom(16).hex()
        metrics.HTTP_REFUSALS.labels(refusal.code.value).inc()
        more = headers.ENCODINGS if refusal.code is Code.UNSUPPORTED_ENCODING else None
        presenter = parts.presenters.of(request.path)
        answer = presenter.refusal(refusal, parts.settings.language, more, request_id=request_id)
        answer.headers["X-Request-Id"] = request_id
        answer.force_close()
        return answer


def _refusal(error: BaseException | None) -> Refusal:
    """What is wrong with a request that aiohttp's parser refused."""
    match error:
        case ContentEncodingError() if "install" in error.message:  # one that it knows and can't unpack: br, zstd
            return Refusal(Code.UNSUPPORTED_ENCODING)
        case ContentEncodingError():
            return UNPACKABLE
        case TooSlow():
            return Refusal(Code.REQUEST_TIMEOUT)
        case LineTooLong():
            return Refusal(Code.HEADERS_TOO_LARGE)
        case BadHttpMethod() if _REQUEST_LINE.search(error.message):
            return Refusal(Code.METHOD_UNKNOWN)
        case BadHttpMessage() if error.message == "Too many headers received":
            return Refusal(Code.HEADERS_TOO_LARGE)
        case _:
            return Refusal(Code.MALFORMED_REQUEST)
