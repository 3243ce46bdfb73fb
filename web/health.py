"""Whether this process lives, and whether it can do its work."""

import logging

import orjson
from aiohttp import web

from config import Settings, without_passwords
from stores import LATE, OPERATOR
from web.parts import PARTS

log = logging.getLogger("yeoul.web.health")

WERE_READY: web.AppKey[set[str]] = web.AppKey("were_ready", set)
"""The dependencies that have answered at least once since this process started."""

SHOWN: web.AppKey[dict[str, str]] = web.AppKey("shown", dict)
"""The word that was shown last of each dependency."""

OK = "ok"
AWAY = "away"
WORDS = (OK, LATE, OPERATOR)
"""Everybody may ask, so one of these or AWAY is all that is shown; who looks after this reads why in the log."""


async def live(_: web.Request) -> web.Response:
    """`GET /livez`: 200 as long as the event loop turns."""
    return web.Response(body=b'{"live":true}', content_type="application/json")


async def ready(request: web.Request) -> web.Response:
    """`GET /readyz`: every dependency by name, `ok` or a word for what is wrong; the reason is logged once per change.

    A front becomes ready when all of them have answered once. After that it stays ready while it can do part of its
    work: with PostgreSQL away it still takes writes, with Kafka away it still answers reads. An orchestrator that took
    it out of service then would turn a partial outage into a whole one.
    """
    parts = request.app[PARTS]
    found = {"kafka": parts.commands.ready(), **await parts.stores.ready()}
    words = {name: _word(state) for name, state in found.items()}
    _tell(request.app[SHOWN], words, found, parts.settings)
    seen = request.app[WERE_READY]
    seen.update(name for name, word in words.items() if word == OK)
    able = seen.issuperset(words) and OK in (words["kafka"], words["postgres"])
    body = orjson.dumps({"ready": able, **words})
    return web.Response(body=body, status=200 if able else 503, content_type="application/json")


def _word(state: str) -> str:
    return next((word for word in WORDS if state == word or state.startswith(f"{word}: ")), AWAY)


def _tell(shown: dict[str, str], words: dict[str, str], found: dict[str, str], settings: Settings) -> None:
    for name, word in words.items():
        before, shown[name] = shown.get(name, OK), word
        if before == word:
            continue
        if word == OK:
            log.info("%s is ready", name)
        else:
            log.warning("%s is not ready: %s", name, without_passwords(found[name], settings))
