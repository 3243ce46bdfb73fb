"""What a client of v1 sees: the envelope, put together from bytes so that a stored document is never parsed again.

v2's dress is in web/problems.py. Handlers know of no version.
"""

import time
from datetime import UTC, datetime
from typing import Protocol

import orjson
from aiohttp import web
from multidict import CIMultiDict

from domain.refusals import Refusal
from domain.sentences import LANGUAGES, explain, message


class Reply:
    """What a handler answers. `document`: JSON bytes; `version`: makes the ETag; `items`: a list of documents.

    `meta`: members that a list has besides, where its cursor is.
    `download`: a body that is no JSON and goes out bare; its type is in the headers.
    """

    __slots__ = ("cursor", "document", "download", "headers", "items", "meta", "status", "version")

    def __init__(
        self,
        document: bytes = b"null",
        *,
        status: int = 200,
        version: int | None = None,
        headers: dict[str, str] | None = None,
        items: list[bytes] | None = None,
        cursor: str | None = None,
        download: bytes | None = None,
        meta: dict[str, object] | None = None,
    ) -> None:
        self.document = document
        self.status = status
        self.version = version
        self.headers = headers
        self.items = items
        self.cursor = cursor
        self.download = download
        self.meta = meta


class Presenter(Protocol):
    """One version of the API's dress."""

    def reply(self, reply: Reply) -> web.Response:
        """The response for what a handler answered."""

    def refusal(
        self, refusal: Refusal, language: str, headers: dict[str, str] | None = None, *, request_id: str
    ) -> web.Response:
        """The response for a refusal, its sentences in `language`."""

    def error(self, refusal: Refusal, language: str) -> dict[str, object]:
        """A refusal as it stands inside of a document."""

    def address(self, path: str) -> str:
        """Where a thing is in this version. Handlers know no version and write addresses as v1 has them."""


BASE_HEADERS: CIMultiDict[str] = CIMultiDict(
    {
        "Content-Type": "application/json; charset=utf-8",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "private, no-cache",
        "Vary": "Authorization, Accept-Language",
    }
)
TRANSPORT_SECURITY = "max-age=31536000; includeSubDomains"


class V1:
    """`{"success", "data" | "error", "meta": {"timestamp", "version"}}`; a list's next cursor is in `meta`."""

    def __init__(self, *, https: bool) -> None:
        self._headers = base_headers(https=https)

    def reply(self, reply: Reply) -> web.Response:
        """The response for what a handler answered; without a body for 204 and 304."""
        headers = self._headers.copy()
        if reply.version is not None:
            headers["ETag"] = f'"{reply.version}"'
        if reply.headers is not None:
            headers.update(reply.headers)
        if reply.status in (204, 304):
            del headers["Content-Type"]
            return web.Response(status=reply.status, headers=headers)
        if reply.download is not None:
            body = reply.download
        elif reply.items is None:
            body = b'{"success":true,"data":%b,"meta":{"timestamp":"%b","version":"1.0"}}' % (reply.document, _now())
        else:
            body = b'{"success":true,"data":[%b],"meta":{"timestamp":"%b","version":"1.0","next_cursor":%b%b}}' % (
                b",".join(reply.items),
                _now(),
                orjson.dumps(reply.cursor),
                b"" if reply.meta is None else b"," + orjson.dumps(reply.meta)[1:-1],
            )
        return web.Response(body=body, status=reply.status, headers=headers)

    def refusal(
        self, refusal: Refusal, language: str, headers: dict[str, str] | None = None, *, request_id: str
    ) -> web.Response:
        """The error envelope. `details` is left out where no field is wrong; the request's id is a header only."""
        shown = refusal_headers(self._headers, language, headers)
        body = b'{"success":false,"error":%b,"meta":{"timestamp":"%b","version":"1.0"}}' % (
            orjson.dumps(self.error(refusal, language)),
            _now(),
        )
        return web.Response(body=body, status=refusal.status, headers=shown)

    def error(self, refusal: Refusal, language: str) -> dict[str, object]:
        """Code, message, and details by field."""
        shown: dict[str, object] = {"code": refusal.code.value, "message": message(refusal.code, language)}
        if refusal.details:
            shown["details"] = [
                {"field": detail.field, "message": explain(detail, language)} for detail in refusal.details
            ]
        return shown

    def address(self, path: str) -> str:
        """It is v1's already."""
        return path


def base_headers(*, https: bool) -> CIMultiDict[str]:
    """What every answer of the API carries, here behind HTTPS or not."""
    headers = CIMultiDict(BASE_HEADERS)
    if https:
        headers["Strict-Transport-Security"] = TRANSPORT_SECURITY
    return headers


def refusal_headers(base: CIMultiDict[str], language: str, more: dict[str, str] | None) -> CIMultiDict[str]:
    """The headers of a refusal: nobody keeps it, and it says in which language it speaks."""
    shown = base.copy()
    shown["Cache-Control"] = "no-store"
    shown["Content-Language"] = language
    shown.update(more or {})
    return shown


def language_of(accept: str | None, default: str) -> str:
    """The language for a caller who sent `accept` (Accept-Language, RFC 9110); `default` if none of ours is wanted."""
    best, weight = default, 0.0
    for part in (accept or "").split(",")[:10]:
        tag, _, parameters = part.strip().partition(";")
        primary = tag.strip().lower().partition("-")[0]
        name, _, value = parameters.strip().partition("=")
        try:
            wanted = float(value) if name.strip() == "q" else 1.0
        except ValueError:
            continue
        if wanted > weight and (primary in LANGUAGES or primary == "*"):
            best, weight = (default if primary == "*" else primary), wanted
    return best


class _Clock:
    """The time as it stands in `meta`: the text of a second is made once."""

    def __init__(self) -> None:
        self._second = -1
        self._text = b""

    def __call__(self) -> bytes:
        now = time.time()
        second = int(now)
        if second != self._second:
            self._second = second
            self._text = datetime.fromtimestamp(second, UTC).isoformat()[:-6].encode()
        return b"%b.%03dZ" % (self._text, int((now - second) * 1000))


_now = _Clock()
