"""What is answered below the application: to requests that can't be read as HTTP, and should an answer itself fail.

aiohttp would answer in plain text and show the sender's line or header again; a client, and whatever logs its answers,
gets our envelope instead.
"""

import asyncio
import os
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from domain.refusals import Code, Refusal
from telemetry import metrics
from web.parts import PARTS


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

    def __call__(self) -> RequestHandler:
        return _Connection(self._app, self, loop=self._loop, **self._kwargs)


class _Connection(RequestHandler):
    __slots__ = ("_app",)

    def __init__(
        self, app: web.Application, manager: web.Server, *, loop: asyncio.AbstractEventLoop, **options: Any
    ) -> None:
        super().__init__(manager, loop=loop, **options)
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
        parts = self._app[PARTS]
        refusal = Refusal(Code.MALFORMED_REQUEST if status == 400 else Code.INTERNAL_ERROR)
        metrics.HTTP_REFUSALS.labels(refusal.code.value).inc()
        answer = parts.presenter.refusal(refusal, parts.settings.language)
        answer.headers["X-Request-Id"] = os.urandom(16).hex()
        answer.force_close()
        return answer
