"""Whether this process lives, and whether it can do its work."""

import orjson
from aiohttp import web

from web.parts import PARTS

WERE_READY: web.AppKey[set[str]] = web.AppKey("were_ready", set)
"""The dependencies that have answered at least once since this process started."""

OK = "ok"


async def live(_: web.Request) -> web.Response:
    """`GET /livez`: 200 as long as the event loop turns."""
    return web.Response(body=b'{"live":true}', content_type="application/json")


async def ready(request: web.Request) -> web.Response:
    """`GET /readyz`: every dependency by name, `ok` or the reason why not.

    A front becomes ready when all of them have answered once. After that it stays ready while it can do part of its
    work: with PostgreSQL away it still takes writes, with Kafka away it still answers reads. An orchestrator that took
    it out of service then would turn a partial outage into a whole one.
    """
    parts = request.app[PARTS]
    found = {"kafka": parts.commands.ready(), **await parts.stores.ready()}
    seen = request.app[WERE_READY]
    seen.update(name for name, state in found.items() if state == OK)
    able = seen.issuperset(found) and OK in (found["kafka"], found["postgres"])
    body = orjson.dumps({"ready": able, **found})
    return web.Response(body=body, status=200 if able else 503, content_type="application/json")
