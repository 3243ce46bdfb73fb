"""The documents over HTTP: made when they are asked for first, and the same bytes from then on."""

import hashlib
from functools import cache

import orjson
from aiohttp import web

from web import headers
from web.documents import asyncapi as kafka
from web.parts import REQUEST_ID

HEADERS = {"Cache-Control": "public, no-cache", "Content-Type": "application/json"}


async def openapi_v1(request: web.Request) -> web.Response:
    """`GET /api/v1/openapi.json`: OpenAPI 3.1 of v1."""
    return _answer(request, "v1")


async def openapi_v2(request: web.Request) -> web.Response:
    """`GET /api/v2/openapi.json`: OpenAPI 3.1 of v2."""
    return _answer(request, "v2")


async def asyncapi(request: web.Request) -> web.Response:
    """`GET /api/asyncapi.json`: AsyncAPI 3 of what travels through Kafka."""
    return _answer(request, "kafka")


@cache
def written(name: str) -> tuple[bytes, str]:
    """The document `v1`, `v2` or `kafka` as JSON, and its ETag."""
    # The table of routes names the handlers above, and the document is made of the table.
    from web.documents import openapi

    body = orjson.dumps(kafka.document() if name == "kafka" else openapi.document(name))
    return body, f'"{hashlib.sha256(body).hexdigest()[:32]}"'


def _answer(request: web.Request, name: str) -> web.Response:
    body, tag = written(name)
    shown = {**HEADERS, "ETag": tag, "X-Request-Id": request[REQUEST_ID]}
    if headers.names(request, tag):
        del shown["Content-Type"]
        return web.Response(status=304, headers=shown)
    return web.Response(body=body, headers=shown)
