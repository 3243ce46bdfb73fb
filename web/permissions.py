"""Who may call an endpoint: aiohttp-jwt's permission decorators over tokens that we verify ourselves.

aiohttp-jwt's own middleware takes one key only and answers 403 to a malformed header, so it is not used. Its decorators
look for the verified payload in the request, under the name that making that middleware would set for the process.
"""

import collections.abc
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp_jwt
from aiohttp import web
from aiohttp_jwt import permissions

from domain.refusals import Code
from web.parts import CLIENTS, PAYLOAD
from web.presenters import Reply
from web.refused import refused

Handler = Callable[[web.Request], Awaitable[Reply | web.StreamResponse]]
"""Answers with what a presenter dresses, or with a stream that it has written itself."""

# The name is set here, as a typed key: the middleware takes a plain string only, and aiohttp warns of those each time.
permissions.middleware._request_property = PAYLOAD
# aiohttp-jwt 0.6.1 asks for `collections.Iterable`, which left Python in 3.10. It gets the module where it lives now;
# nobody else's `collections` is touched.
permissions.collections = collections.abc


def anyone(handler: Handler) -> Handler:
    """Callers with and without a token; what a guest sees is decided by what is public."""
    return handler


def signed_in(handler: Handler) -> Handler:
    """Callers with a valid token; else 401."""
    guarded: Any = aiohttp_jwt.login_required(handler)
    return guarded  # type: ignore[no-any-return]


class May:
    """Callers whose role has `scope` (security/tokens.py: SCOPES); without a token 401, without the scope 403."""

    def __init__(self, scope: str) -> None:
        self.scope = scope

    def __call__(self, handler: Handler) -> Handler:
        """`handler`, for those callers."""
        permitted: Any = aiohttp_jwt.check_permissions(self.scope)(handler)
        return _nearby(permitted) if self.scope == "admin" else permitted


def may(scope: str) -> May:
    """Callers whose role has `scope`."""
    return May(scope)


def _nearby(handler: Handler) -> Handler:
    """The endpoint for those who call from where admins may; for others it is not there, whatever their token."""

    async def answer(request: web.Request) -> Reply | web.StreamResponse:
        if not request.app[CLIENTS].may_administer(request):
            raise refused(Code.NOT_FOUND)
        return await handler(request)

    return answer
