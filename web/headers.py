"""The request headers that mean something here. Wrong ones are refused by name."""

import random
import re

from aiohttp import web

from domain.refusals import Problem
from domain.versions import Expected
from telemetry import tracing
from telemetry.tracecontext import TraceContext
from telemetry.tracing import Span
from web.refused import invalid

LONGEST_WAIT_S = 30.0
LONGEST_KEY = 255
ENCODINGS = {"Accept-Encoding": "gzip, deflate"}
"""What a refusal of another Content-Encoding says (RFC 9110, 12.5.3)."""
NO_VERSION = -1
"""The version of nothing: an If-Match that is well-formed and can't match."""
LONGEST_IF_MATCH = 1_000
"""Characters; a list of tags is mostly of one."""
TAG = re.compile(r'(?:W/)?"([^"]*)"')
TAGS = re.compile(rf"[ \t]*+{TAG.pattern}(?:[ \t]*+,[ \t,]*+{TAG.pattern})*+[ \t,]*+")
VERSION = re.compile("[0-9]{1,18}")

SPAN: web.RequestKey[Span | None] = web.RequestKey("span", Span)
"""The span of the request; None if nobody traces."""

_ID_SIGNS = str.maketrans("", "", "-_.")


def request_id(request: web.BaseRequest) -> str:
    """The caller's X-Request-Id if it is 1 to 64 of `A-Z a-z 0-9 - _ .`; else a new one, which is no secret."""
    given = request.headers.get("X-Request-Id")
    if given and len(given) <= 64 and given.isascii() and given.translate(_ID_SIGNS).isalnum():
        return given
    return f"{random.getrandbits(128):032x}"


def traced(request: web.BaseRequest) -> Span | None:
    """The span of the request, in the caller's trace if it names one (W3C Trace Context); None if nobody traces."""
    given = request.headers.getall("traceparent", None)
    if given is not None and len(given) > 1:
        given = None  # of two, who knows which one was meant
    state = None if given is None else ",".join(request.headers.getall("tracestate", ()))
    return tracing.request(None if given is None else given[0], state, request.method)


def trace(request: web.Request) -> TraceContext | None:
    """Where in which trace the request stands, for what it causes."""
    span = request.get(SPAN)
    return None if span is None else span.context


def traceparent(request: web.Request) -> str | None:
    """The header that names it."""
    context = trace(request)
    return None if context is None else context.traceparent


def tracestate(request: web.Request) -> str | None:
    """The tracing systems' own words, which travel along unread."""
    context = trace(request)
    return None if context is None else context.tracestate


def idempotency_key(request: web.Request) -> str | None:
    """The Idempotency-Key: 1 to 255 printable ASCII characters."""
    key = _one(request, "Idempotency-Key")
    if key is not None and not (key and len(key) <= LONGEST_KEY and key.isascii() and key.isprintable()):
        raise invalid("Idempotency-Key", Problem.PATTERN, "1–255 printable ASCII characters")
    return key


def if_match(request: web.Request) -> Expected:
    """The version that If-Match asks for, or those; None if any will do (no header, or `*`)."""
    given = _one(request, "If-Match")
    if given is None or given.strip() == "*":
        return None
    if len(given) > LONGEST_IF_MATCH or TAGS.fullmatch(given) is None:
        raise invalid("If-Match", Problem.PATTERN, '"<version>"')
    # What is no number between its quotes is a tag of somebody: it matches no version, which is for `decide` to say.
    versions = tuple(int(tag) if VERSION.fullmatch(tag) else NO_VERSION for tag in TAG.findall(given))
    return versions[0] if len(versions) == 1 else versions


def if_there(request: web.Request) -> bool:
    """True if If-Match is `*`: what is to be replaced has to be there (RFC 9110, 13.1.1)."""
    return request.headers.get("If-Match", "").strip() == "*"


def no_none_match(request: web.Request) -> None:
    """Refuses If-None-Match on a change: a precondition that is not looked at must not be passed over."""
    if "If-None-Match" in request.headers:
        raise invalid("If-None-Match", Problem.UNSUPPORTED, "If-Match")


def none_match(request: web.Request, version: int) -> bool:
    """True if If-None-Match names this version (weakly compared), so that the caller has it already."""
    return names(request, f'"{version}"')


def names(request: web.Request, tag: str) -> bool:
    """True if If-None-Match names this ETag, weakly compared."""
    given = request.headers.get("If-None-Match")
    if given is None:
        return False
    return any(part.strip().removeprefix("W/") in (tag, "*") for part in given.split(","))


def _one(request: web.Request, name: str) -> str | None:
    """A header that may be there once: of two, who knows which one was meant. Raises Refused."""
    given = request.headers.getall(name, None)
    if given is None:
        return None
    if len(given) > 1:
        raise invalid(name, Problem.TWICE)
    return given[0]


def authorization(request: web.Request) -> str | None:
    """The Authorization header. Raises Refused if there are several."""
    return _one(request, "Authorization")


def wait(request: web.Request, default: float) -> float:
    """Seconds to wait for an answer. Prefer (RFC 7240): `respond-async` is 0, `wait=N` at most 30; else `default`."""
    given = request.headers.get("Prefer")
    if given is None:
        return default
    seconds = default
    for preference in given.split(","):
        name, _, value = preference.strip().partition("=")
        name = name.strip().lower()
        if name == "respond-async":
            return 0.0
        number = value.strip().strip('"')
        if name == "wait" and number.isascii() and number.isdigit():
            seconds = min(float(number[:4]), LONGEST_WAIT_S)
    return seconds


def unpacked(content_encoding: str | None) -> bool:
    """True for a body that comes as it is, or in an encoding that the server unpacks."""
    return content_encoding is None or content_encoding.strip().lower() in ("identity", "gzip", "deflate")


def is_merge_patch(content_type: str | None) -> bool:
    """True for application/merge-patch+json (RFC 7396)."""
    return (content_type or "").partition(";")[0].strip().lower() == "application/merge-patch+json"


def is_json(content_type: str | None) -> bool:
    """True for application/json, alone or in UTF-8."""
    if content_type == "application/json":
        return True
    kind, _, parameters = (content_type or "").lower().partition(";")
    if kind.strip() != "application/json":
        return False
    charset = parameters.strip().removeprefix("charset=").strip('"') if "charset" in parameters else "utf-8"
    return charset in ("utf-8", "utf8")
