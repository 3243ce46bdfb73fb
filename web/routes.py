"""Every endpoint on one page: method, path below a version's prefix, who may call it, handler.

Each is there twice, in the dress of v1 and of v2 (web/presenters.py, web/problems.py).

`anyone`: with or without a token. `signed_in`, `may(scope)`: with one. `None`: a token is not even looked at.
`in_person`: not by an API key.
"""

import re
from collections.abc import Awaitable, Callable
from functools import cache

from aiohttp import web

from web import (
    admin_users,
    analytics,
    api_keys,
    auth,
    batches,
    dead_letters,
    export,
    health,
    history,
    kinds,
    live,
    mails,
    operations,
    pages,
    problems,
    resource_lists,
    resources,
    second_factors,
    sessions,
    users,
)
from web.documents import serving
from web.middlewares import endpoint, plain
from web.permissions import Handler, anyone, in_person, may, signed_in
from web.queries import without
from web.quotas import Kind

V1, V2 = "/api/v1", "/api/v2"

Guard = Callable[[Handler], Handler]

API: tuple[tuple[str, str, Guard | None, Handler], ...] = (
    ("POST", "/auth/register", None, auth.register),
    ("POST", "/auth/login", None, auth.login),
    ("POST", "/auth/refresh", None, sessions.refresh),
    ("POST", "/auth/forgot-password", None, mails.forgot_password),
    ("POST", "/auth/reset-password", None, mails.reset_password),
    ("POST", "/auth/verify-email", None, mails.verify_email),
    ("POST", "/auth/confirm-email", None, mails.confirm_email),
    ("POST", "/auth/resend-verification", in_person(signed_in), mails.resend_verification),
    ("POST", "/auth/logout", in_person(signed_in), sessions.logout),
    ("POST", "/auth/logout-all", in_person(signed_in), sessions.logout_all),
    ("GET", "/sessions", in_person(signed_in), sessions.listing),
    ("DELETE", "/sessions/{id}", in_person(signed_in), sessions.revoke),
    ("GET", "/api-keys", in_person(signed_in), api_keys.listing),
    ("POST", "/api-keys", in_person(may("write")), api_keys.create),
    ("DELETE", "/api-keys/{id}", in_person(may("write")), api_keys.revoke),
    ("GET", "/users/me", signed_in, users.me),
    ("PATCH", "/users/me", may("write"), users.update),
    ("DELETE", "/users/me", in_person(may("write")), users.erase),
    ("PUT", "/users/me/password", in_person(may("write")), users.change_password),
    ("PUT", "/users/me/email", in_person(may("write")), mails.change_email),
    ("GET", "/users/me/export", in_person(signed_in), export.export),
    ("GET", "/users/me/second-factor", in_person(signed_in), second_factors.read),
    ("POST", "/users/me/second-factor", in_person(may("write")), second_factors.begin),
    ("DELETE", "/users/me/second-factor", in_person(may("write")), second_factors.remove),
    ("POST", "/users/me/second-factor/confirm", in_person(may("write")), second_factors.confirm),
    ("POST", "/users/me/second-factor/recovery-codes", in_person(may("write")), second_factors.renew),
    ("GET", "/users", may("admin"), admin_users.listing),
    ("GET", "/users/{id}", may("admin"), admin_users.read),
    ("DELETE", "/users/{id}", in_person(may("admin")), admin_users.erase),
    ("PUT", "/users/{id}/role", in_person(may("admin")), admin_users.change_role),
    ("PUT", "/users/{id}/status", may("admin"), admin_users.change_status),
    ("DELETE", "/users/{id}/second-factor", in_person(may("admin")), second_factors.reset),
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

SEARCHES = frozenset({
    "/users", "/users/me/export", "/resources", "/resources/{id}/history", "/kinds",
    "/analytics/{metric}", "/analytics/{metric}/dropped", "/analytics/{metric}/live",
})  # fmt: skip
"""Whose GET looks through more than one thing, and is limited as a search (web/quotas.py)."""

ASKED = frozenset({
    "/users", "/resources", "/resources/{id}/history", "/kinds", "/analytics/{metric}", "/analytics/{metric}/dropped",
    "/analytics/{metric}/live", "/dead-letters",
})  # fmt: skip
"""Whose GET reads its query and refuses what it does not know; every other endpoint knows no parameter at all."""

PLAIN: tuple[tuple[str, str, Callable[[web.Request], Awaitable[web.StreamResponse]]], ...] = (
    ("GET", "/.well-known/jwks.json", auth.jwks),
    ("GET", "/livez", health.live),
    ("GET", "/readyz", health.ready),
    ("GET", "/", pages.front),
    ("GET", "/live", pages.live),
    ("GET", "/live/{file}", pages.live),
    ("GET", "/docs", pages.docs),
    ("GET", "/docs/{file}", pages.docs),
    ("GET", "/problems/{code}", problems.read),
    ("GET", "/api/v1/openapi.json", serving.openapi_v1),
    ("GET", "/api/v2/openapi.json", serving.openapi_v2),
    ("GET", "/api/asyncapi.json", serving.asyncapi),
)


@cache
def routes() -> tuple[web.RouteDef, ...]:
    """The table as aiohttp takes it; GET answers HEAD too."""
    table: list[web.RouteDef] = []
    # One version after the other: aiohttp makes one resource of neighbours with one path, and looks for it once.
    for version in (V1, V2):
        for method, path, guard, handler in API:
            inner = handler if method == "GET" and path in ASKED else without(handler)
            guarded = inner if guard is None else guard(inner)
            reads = needs_scope(method, path)
            made = endpoint(guarded, authenticated=guard is not None, kind=kind(method, path), reads=reads)
            table.append(_route(method, version + _narrowed(path), made))
    return (*table, *(_route(method, path, plain(handler)) for method, path, handler in PLAIN))


def needs_scope(method: str, path: str) -> bool:
    """True where an API key must have the scope to read, also where guests may.

    What a key has asked for, it may ask about, whether it may read anything else or not.
    """
    return method == "GET" and path != "/operations/{id}"


def kind(method: str, path: str) -> Kind:
    """Which limits count an endpoint."""
    if method == "GET":
        return Kind.SEARCH if path in SEARCHES else Kind.READ
    return Kind.AUTH if path.startswith("/auth/") else Kind.WRITE


def _narrowed(path: str) -> str:
    """The same address, whose last member is none that stands written out beside it: `/users/me` is no `/users/{id}`.

    Else a method that only the other knows would find the one and not be 405.
    """
    *before, last = path.split("/")
    if not last.startswith("{"):
        return path
    beside = {other.rpartition("/")[2] for _, other, _, _ in API if other.split("/")[:-1] == before} - {last}
    if not beside:
        return path
    names = "|".join(sorted(map(re.escape, beside)))
    return "/".join([*before, f"{{{last[1:-1]}:(?!(?:{names})$)[^/]+}}"])


def _route(method: str, path: str, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.RouteDef:
    return web.get(path, handler) if method == "GET" else web.route(method, path, handler)
