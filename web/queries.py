"""What stands behind the question mark: names that are known, given once; pages; cursors that only we can make."""

from collections.abc import Container
from typing import Any

import orjson
from aiohttp import web

from domain.refusals import Problem
from domain.text import printable
from security import signatures
from web.permissions import Handler
from web.presenters import Reply
from web.refused import Wrong, invalid


def asked(request: web.Request, wrong: Wrong, known: Container[str]) -> dict[str, str]:
    """The parameters that are known and given once."""
    query = request.query
    found = {}
    for name in dict.fromkeys(query):
        with wrong:
            if name not in known:
                raise invalid(printable(name), Problem.UNKNOWN)
            if len(query.getall(name)) > 1:
                raise invalid(name, Problem.TWICE)
            found[name] = query[name]
    return found


def without(handler: Handler) -> Handler:
    """`handler` of an endpoint that knows no parameters; whoever sends one is told before anything is done."""

    async def answer(request: web.Request) -> Reply | web.StreamResponse:
        if request.query_string:
            wrong = Wrong()
            asked(request, wrong, ())
            wrong.refuse()
        return await handler(request)

    return answer


def limit(text: str | None, default: int, most: int) -> int:
    """How many at most. Raises Refused for anything but 1 to `most`."""
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(most)) and 1 <= int(text) <= most):
        raise invalid("limit", Problem.RANGE, f"1–{most}")
    return int(text)


def cursor(key: bytes, purpose: bytes, marked: list[Any]) -> str:
    """A place in a list, as text that only a holder of `key` can make."""
    return signatures.enclose(key, purpose, orjson.dumps(marked))


def marked(text: str | None, key: bytes, purpose: bytes) -> list[Any] | None:
    """What a cursor of ours was made of; None without one. Raises Refused for one of anybody else's."""
    if text is None:
        return None
    content = signatures.disclose(key, purpose, text)
    if content is None:
        raise invalid("cursor", Problem.INVALID)
    found: list[Any] = orjson.loads(content)
    return found
