"""Which pages of other origins may call the API (Fetch, CORS): those on an allow list, letter by letter.

Tokens travel in a header that a page has to have, never in a cookie: so credentials are not allowed, and an origin that
is let in gets nothing but what its page could ask for anyway.
"""

from aiohttp import hdrs, web

EXPOSED = (
    "ETag, Location, Retry-After, RateLimit, RateLimit-Policy, X-Request-Id, X-Next-Cursor, Idempotency-Replayed,"
    " Content-Disposition"
)
ALLOWED = (
    "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, Last-Event-ID, Prefer, X-Request-Id,"
    " traceparent, tracestate"
)
KEPT_S = 7200
"""How long a browser keeps what a preflight said, seconds; more than that none does."""


class Cors:
    """The allow list of this installation."""

    def __init__(self, origins: tuple[str, ...]) -> None:
        self._origins = frozenset(origins)
        self.on = bool(origins)
        """False where no page of another origin may call; then nothing of this is said."""

    def mark(self, request: web.BaseRequest, response: web.StreamResponse) -> None:
        """Lets the page read the answer if its origin is on the list. Caches are told in any case that it matters."""
        headers = response.headers
        vary = headers.get(hdrs.VARY)
        headers[hdrs.VARY] = "Origin" if vary is None else f"{vary}, Origin"
        origin = self._origin(request)
        if origin is not None:
            headers["Access-Control-Allow-Origin"] = origin
            headers["Access-Control-Expose-Headers"] = EXPOSED

    def preflight(self, request: web.BaseRequest, error: Exception) -> web.Response | None:
        """The answer to a preflight for an address that has the methods that `error` names; None if it is none."""
        if not (
            isinstance(error, web.HTTPMethodNotAllowed)
            and request.method == hdrs.METH_OPTIONS
            and "Access-Control-Request-Method" in request.headers
            and self._origin(request) is not None
        ):
            return None
        return web.Response(
            status=204,
            headers={
                "Access-Control-Allow-Methods": ", ".join(sorted(error.allowed_methods)),
                "Access-Control-Allow-Headers": ALLOWED,
                "Access-Control-Max-Age": str(KEPT_S),
                "Vary": "Access-Control-Request-Method, Access-Control-Request-Headers",
            },
        )

    def _origin(self, request: web.BaseRequest) -> str | None:
        """The caller's origin if it is on the list, and the only one that is named."""
        named = request.headers.getall(hdrs.ORIGIN, ())
        return named[0] if len(named) == 1 and named[0] in self._origins else None
