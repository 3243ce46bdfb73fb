"""Pages of the front: files that are served as they are, whole in themselves and offline. They ask the API for data."""

import hashlib
from functools import lru_cache
from pathlib import Path

from aiohttp import web

from domain.refusals import Code
from web import headers
from web.parts import PARTS, REQUEST_ID
from web.presenters import TRANSPORT_SECURITY
from web.refused import refused

ROOT = Path(__file__).parent / "pages"
INDEX = "index.html"
FILES = {
    INDEX: "text/html; charset=utf-8",
    "page.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "stream.js": "text/javascript; charset=utf-8",
    "chart.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
    "uPlot.iife.min.js": "text/javascript; charset=utf-8",
    "uPlot.min.css": "text/css; charset=utf-8",
}
"""What is served of the page of live tables, each with its type."""
DOCS = {
    INDEX: "text/html; charset=utf-8",
    "docs.css": "text/css; charset=utf-8",
    **{f"{name}.js": "text/javascript; charset=utf-8" for name in ("docs", "make", "schema", "operation")},
}
"""What is served of the reference of the API."""
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
"""Nothing from elsewhere and nothing inline: a text in an event that looks like a script is a text."""


async def front(request: web.Request) -> web.Response:
    """`GET /`: to the page that there is for people."""
    return web.Response(status=302, headers={"Location": "/live", "X-Request-Id": request[REQUEST_ID]})


async def live(request: web.Request) -> web.Response:
    """`GET /live`: the page of live tables, and its files."""
    return _page(request, "live", FILES)


async def docs(request: web.Request) -> web.Response:
    """`GET /docs`: the reference of the API, and its files."""
    return _page(request, "docs", DOCS)


def _page(request: web.Request, folder: str, files: dict[str, str]) -> web.Response:
    name = request.match_info.get("file", INDEX)
    if name not in files:
        raise refused(Code.NOT_FOUND)
    body, tag = _file(folder, name)
    shown = {**HEADERS, "ETag": tag, "X-Request-Id": request[REQUEST_ID]}
    if request.app[PARTS].settings.environment != "local":
        shown["Strict-Transport-Security"] = TRANSPORT_SECURITY
    if headers.names(request, tag):
        return web.Response(status=304, headers=shown)
    return web.Response(body=body, headers={**shown, "Content-Type": files[name]})


@lru_cache(maxsize=len(FILES) + len(DOCS))
def _file(folder: str, name: str) -> tuple[bytes, str]:
    """A file of a page, and its ETag. They are few and small, and stay as they are while the process lives."""
    body = (ROOT / folder / name).read_bytes()
    return body, f'"{hashlib.sha256(body).hexdigest()[:32]}"'
