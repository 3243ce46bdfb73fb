"""Every endpoint on one page: method, path below the version's prefix, who may call it, handler.

`anyone`: with or without a token. `signed_in`, `may(scope)`: with one. `None`: a token is not even looked at.
"""

from collections.abc import Awaitable, Callable

from aiohttp import web

from web import (
    analytics,
    auth,
    batches,
    dead_letters,
    health,
    history,
    kinds,
    live,
    operations,
    pages,
    resource_lists,
    resources,
)
from web.middlewares import endpoint
from web.permissions import Handler, anyone, may, signed_in

V1 = "/api/v1"

Guard = Callable[[Handler], Handler]

API: tuple[tuple[str, str, Guard | None, Handler], ...] = (
    ("POST", "/auth/register", None, auth.register),
    ("POST", "/auth/login", None, auth.login),
    ("GET", "/resources", anyone, resource_lists.listing),
    ("POST", "/resources", may("write"), resources.create),
    ("POST", "/resources/batch", may("write"), batches.run),
    ("GET", "/resources/{id}", anyone, resources.read),
    ("PUT", "/resources/{id}", may("write"), resources.replace),
    ("PATCH", "/resources/{id}", may("write"), resources.patch),
    ("DELETE", "/resources/{id}", may("write"), resources.delete),
    ("POST", "/resources/{id}/restore", may("write"), resources.restore),
    ("GET", "/resources/{id}/history", anyone, history.listing),
    ("GET", "/kinds", may("admin"), kinds.listing),
    ("GET", "/kinds/{kind}", may("admin"), kinds.read),
    ("PUT", "/kinds/{kind}", may("admin"), kinds.put),
    ("DELETE", "/kinds/{kind}", may("admin"), kinds.delete),
    ("GET", "/analytics", anyone, analytics.listing),
    ("GET", "/analytics/{metric}", anyone, analytics.read),
    ("GET", "/analytics/{metric}/dropped", anyone, analytics.dropped),
    ("GET", "/analytics/{metric}/live", anyone, live.watch),
    ("GET", "/dead-letters", may("admin"), dead_letters.listing),
    ("GET", "/dead-letters/{id}", may("admin"), dead_letters.read),
    ("GET", "/operations/{id}", signed_in, operations.read),
)

PLAIN: tuple[tuple[str, str, Callable[[web.Request], Awaitable[web.StreamResponse]]], ...] = (
    ("GET", "/.well-known/jwks.json", auth.jwks),
    ("GET", "/livez", health.live),
    ("GET", "/readyz", health.ready),
    ("GET", "/live", pages.live),
    ("GET", "/live/{file}", pages.live),
)


def routes() -> list[web.RouteDef]:
    """The table as aiohttp takes it; GET answers HEAD too."""
    table = []
    for method, path, guard, handler in API:
        guarded = handler if guard is None else guard(handler)
        table.append(_route(method, V1 + path, endpoint(guarded, authenticated=guard is not None)))
    return table + [_route(method, path, handler) for method, path, handler in PLAIN]


def _route(method: str, path: str, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.RouteDef:
    return web.get(path, handler) if method == "GET" else web.route(method, path, handler)
