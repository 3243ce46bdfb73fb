"""Answers that a handler begins by itself, before the middleware sees them, and writes piece by piece."""

from collections.abc import Mapping

from aiohttp import web

from web.parts import CORS, PARTS, REQUEST_ID
from web.presenters import base_headers
from web.quotas import RATE


def begun(request: web.Request, more: Mapping[str, str]) -> web.StreamResponse:
    """A response with everything that the middleware would add too late, and `more` headers."""
    headers = base_headers(https=request.app[PARTS].settings.environment != "local")
    headers.update({"Cache-Control": "no-store", "X-Request-Id": request[REQUEST_ID], **more})
    response = web.StreamResponse(headers=headers)
    cors, rate = request.app[CORS], request.get(RATE)
    if cors.on:
        cors.mark(request, response)
    if rate is not None:
        response.headers["RateLimit-Policy"], response.headers["RateLimit"] = rate
    return response


def abort(request: web.Request) -> None:
    """Cuts the connection: what was sent can't be taken back, and nobody may take it for the whole."""
    if request.transport is not None:
        request.transport.abort()
