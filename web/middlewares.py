"""What happens around every request, in two rings.

`around` is the one middleware: request id, refusals and errors to the envelope, metrics, the access line. It is one
function and not five nested ones, because each ring of a coroutine costs every request.
`endpoint` is wrapped around each handler once, when routes are registered: token, permission, handler, presenter.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from time import perf_counter, time
from typing import Any
from uuid import UUID

from aiohttp import hdrs, web
from aiohttp.http_exceptions import ContentEncodingError
from aiohttp.web_exceptions import HTTPException
from prometheus_client import Histogram

from domain.access import GUEST, Scope
from domain.refusals import Code, Detail, Problem, Refusal
from security import api_keys
from security.fields import SealBroken
from security.passwords import TooBusy
from security.tokens import TokenRefused
from stores import StoresAway
from stores.selecting import TooMany
from streams.publish import BrokerAway, Conflict
from telemetry import metrics
from telemetry.tracecontext import fields
from telemetry.tracing import METHODS
from web import headers, operations, presenters
from web.access import Line, operation_fields
from web.connections import TooSlow
from web.parts import ACCESS, ACTOR, ASKED, CORS, DOOR, PARTS, PAYLOAD, REQUEST_ID, Parts
from web.permissions import Handler
from web.presenters import Reply
from web.quotas import RATE, Kind
from web.refused import UNPACKABLE, Refused, refused
from web.writes import OPERATIONS, Unfinished

Outer = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = logging.getLogger("yeoul.web")

CHALLENGE = {"WWW-Authenticate": 'Bearer realm="yeoul"'}
AGAIN = {"Retry-After": "1"}
ADDED = {401: CHALLENGE, 429: AGAIN, 503: AGAIN}
SHIELDS = frozenset({
    "X-Content-Type-Options", "Content-Security-Policy", "Referrer-Policy", "Cross-Origin-Resource-Policy",
    "Strict-Transport-Security",
})  # fmt: skip
_BY_STATUS: dict[int, Code] = {
    400: Code.MALFORMED_BODY,
    401: Code.TOKEN_MISSING,
    404: Code.NOT_FOUND,
    405: Code.METHOD_NOT_ALLOWED,
    413: Code.BODY_TOO_LARGE,
    415: Code.UNSUPPORTED_MEDIA_TYPE,
}


def endpoint(handler: Handler, *, authenticated: bool, kind: Kind = Kind.READ, reads: bool = False) -> Outer:
    """`handler`, its permission around it, as aiohttp wants it: token verified before, reply presented after.

    Without `authenticated` a token is not looked at: a login must work with an expired one in the header.
    `reads`: an API key must have the scope for that, also where guests may read.
    """

    async def answer(request: web.Request) -> web.StreamResponse:
        parts = request.app[PARTS]
        now = time()
        quotas = parts.quotas
        rate = await quotas.exactly(kind, request, now) if kind is Kind.AUTH else quotas.address(kind, request, now)
        try:
            if authenticated:
                authorization = headers.authorization(request)
                if authorization is None:
                    request[ACTOR] = GUEST
                else:
                    token = bearer(authorization)
                    is_key = token.startswith(api_keys.PREFIX)
                    if is_key:
                        verified = parts.keyring.known(token, now) or await parts.keyring.find(request, token)
                    else:
                        verified = parts.tokens.verify(token, now)
                        if verified.session in parts.stores.revoked:
                            raise TokenRefused(Code.SESSION_ENDED)
                    request[ACTOR] = verified.actor
                    request[PAYLOAD] = verified.payload
                    rate = quotas.user(kind, request, verified.actor, now, rate)
                    if is_key and reads and Scope.READ not in verified.payload["scopes"]:
                        raise web.HTTPForbidden  # as the permissions of an endpoint say it
            if kind is Kind.SEARCH and rate is not None:
                request[RATE] = rate  # a stream is begun by its handler
            try:
                reply = await handler(request)
            except Unfinished as unfinished:
                reply = _pending(unfinished)
        except Exception:
            if rate is not None and RATE not in request:
                request[RATE] = rate
            raise
        if not isinstance(reply, Reply):
            return reply
        response = parts.presenters.of(request.path).reply(reply)
        if rate is not None:
            response.headers.extend(quotas.headers(request.get(RATE, rate)))  # its handler may have counted more
        return response

    return answer


def plain(handler: Outer) -> Outer:
    """`handler` of an endpoint outside of the API, as safe to show as the API's answers where it says nothing else."""

    async def answer(request: web.Request) -> web.StreamResponse:
        response = await handler(request)
        https = request.app[PARTS].settings.environment != "local"
        for name, value in presenters.base_headers(https=https).items():
            if name in SHIELDS:
                response.headers.setdefault(name, value)
        return response

    return answer


def bearer(authorization: str) -> str:
    """The token in an Authorization header. Raises Refused for any other scheme or shape."""
    if authorization[:7] == "Bearer ":
        token = authorization[7:].strip()
    else:
        scheme, _, token = authorization.strip().partition(" ")
        token = token.strip() if scheme.lower() == "bearer" else ""
    if not token or " " in token:
        raise TokenRefused(Code.TOKEN_INVALID)
    return token


@web.middleware
async def around(request: web.Request, handler: Outer) -> web.StreamResponse:
    """Gives every request its id, and every answer its shape; counts and logs it."""
    started = perf_counter()
    request_id = request[REQUEST_ID] = headers.request_id(request)
    asked: list[UUID] = []
    request[ASKED] = asked
    span = request[headers.SPAN] = headers.traced(request)
    app = request.app
    door = app[DOOR]
    door.running += 1
    status = 499  # the caller went away before there was an answer
    try:
        try:
            response = await handler(request)
        except Exception as error:
            if isinstance(error, OSError) and request.transport is None:
                # The connection broke while the body was read: no defect of ours, and nobody is there to be answered.
                return web.Response(status=status)
            response = app[CORS].preflight(request, error) or _refusal(request, error)
            if isinstance(error, web.RequestPayloadError):
                # What follows can't be told from what was sent: there is nothing more to read on this connection.
                request.content.feed_eof()
                response.force_close()
        status = response.status
        response.headers["X-Request-Id"] = request_id
        cors = app[CORS]
        if cors.on:
            cors.mark(request, response)
        if door.closing:
            response.force_close()
        return response
    finally:
        door.leave()
        took = perf_counter() - started
        resource = request.match_info.route.resource
        route = "unmatched" if resource is None else resource.canonical
        method = request.method if request.method in METHODS else "_OTHER"
        _seconds(method, route, status).observe(took)
        who = request.get(ACTOR)
        app[ACCESS].note(
            Line(
                method, route, status, request_id, took,
                None if who is None else who.id, asked, None if span is None else span.context,
            )
        )  # fmt: skip
        if span is not None:
            span.answered(method, None if resource is None else route, status, request_id)


@lru_cache(maxsize=1024)
def _seconds(method: str, route: str, status: int) -> Histogram:
    """The library makes texts of the labels and takes a lock each time it is asked for them."""
    return metrics.HTTP_SECONDS.labels(method, route, f"{status // 100}xx")


def _pending(unfinished: Unfinished) -> Reply:
    document = operations.pending(unfinished.operation)
    return Reply(document, status=202, headers={"Location": f"{OPERATIONS}{unfinished.operation}", **AGAIN})


def _refusal(request: web.Request, error: Exception) -> web.Response:
    """The answer to whatever ended the request."""
    parts: Parts = request.app[PARTS]
    no = _lacking(request.get(PAYLOAD, {})) if isinstance(error, web.HTTPForbidden) else _refused(error)
    if no.refusal.code is Code.INTERNAL_ERROR:
        log.error("a request failed", exc_info=error, extra={"fields": _known(request)})
    metrics.HTTP_REFUSALS.labels(no.refusal.code.value).inc()
    language = presenters.language_of(request.headers.get("Accept-Language"), parts.settings.language)
    presenter = parts.presenters.of(request.path)
    # RFC 9110 wants a challenge with each 401, and the documents promise when to come again, whoever refuses: here, a
    # handler, or a worker's answer.
    more = {**ADDED.get(no.refusal.status, {}), **(no.headers or {})}
    response = presenter.refusal(no.refusal, language, more, request_id=request[REQUEST_ID])
    rate = request.get(RATE)
    if rate is not None:
        response.headers.extend(parts.quotas.headers(rate))
    return response


def _lacking(payload: Mapping[str, Any]) -> Refused:
    """What was asked for is beyond the scopes of the caller; of a key they are not those of its owner."""
    details = (Detail("Authorization", Problem.SCOPES, ", ".join(payload["scopes"])),) if "key" in payload else ()
    return Refused(Refusal(Code.FORBIDDEN, details))


def _known(request: web.Request) -> dict[str, Any]:
    """What finds everything else that is known of a request."""
    operations: list[UUID] = request[ASKED]
    asked = operation_fields(operations)
    return {"request": request[REQUEST_ID], **asked, **fields(headers.trace(request))}


def _refused(error: Exception) -> Refused:
    match error:
        case Refused():
            return error
        case TokenRefused():
            return Refused(Refusal(error.code), {"WWW-Authenticate": 'Bearer realm="yeoul", error="invalid_token"'})
        case Conflict():
            return Refused(Refusal(Code.OPERATION_RUNNING), AGAIN)
        case BrokerAway():
            return Refused(Refusal(Code.BROKER_AWAY), AGAIN)
        case StoresAway():
            return Refused(Refusal(Code.STORES_AWAY), AGAIN)
        case SealBroken():
            log.error("%s: is a sealing key missing? ./yeoul keys status", error)
            return Refused(Refusal(Code.STORES_AWAY), AGAIN)
        case TooMany():
            return refused(Code.ANSWER_TOO_LARGE)
        case TooBusy():
            return Refused(Refusal(Code.TOO_BUSY), {"Retry-After": str(error.retry_after_s)})
        case web.RequestPayloadError():
            if isinstance(error.__cause__, ContentEncodingError):
                return Refused(UNPACKABLE)
            if isinstance(error.__cause__, TooSlow):
                return refused(Code.REQUEST_TIMEOUT)
            return refused(Code.MALFORMED_BODY)
        case HTTPException() if error.status in _BY_STATUS:
            allowed: dict[str, str] = {hdrs.ALLOW: error.headers.get(hdrs.ALLOW, "")} if error.status == 405 else {}
            return Refused(Refusal(_BY_STATUS[error.status]), allowed)
        case asyncio.TimeoutError():
            return Refused(Refusal(Code.TOO_BUSY), AGAIN)
        case _:
            return refused(Code.INTERNAL_ERROR)
