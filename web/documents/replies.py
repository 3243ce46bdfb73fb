"""The responses of a document: good ones in the dress of a version, refusals by their codes, and their headers."""

from collections.abc import Iterable

from domain.refusals import STATUS, Code
from domain.sentences import message
from web.documents.declared import Answer, Json
from web.documents.schemas import Schemas, meta, ref
from web.problems import PROBLEM_JSON, PROBLEMS

JSON = "application/json"
ALWAYS = ("X-Request-Id",)
LIMITED = ("RateLimit-Policy", "RateLimit")
REQUIRED = frozenset({"X-Request-Id", "ETag", "Location", "Allow", "WWW-Authenticate"})
"""Headers that are there whenever they are named; others may be."""
HEADERS: dict[str, str] = {
    "X-Request-Id": "The id of the request: yours, or a new one.",
    "RateLimit-Policy": "The limits that count this request (draft-ietf-httpapi-ratelimit-headers).",
    "RateLimit": "What is left of each, and the seconds until its window ends.",
    "Retry-After": "Seconds after which to try again.",
    "Content-Language": "The language of the sentences: `en` or `ko`.",
    "ETag": "The version, in quotes.",
    "Location": "The address of what was made, or of the operation that goes on.",
    "Idempotency-Replayed": "`true`: this Idempotency-Key was used before, and this is the first answer.",
    "WWW-Authenticate": "Which token is wanted, and whether the one that came is bad.",
    "Content-Disposition": "The name of the file.",
    "X-Next-Cursor": "The cursor of the next page of a download.",
    "Accept": "The type of body that is taken here.",
    "Accept-Encoding": "How a body may be compressed.",
}
BY_STATUS: dict[int, tuple[str, ...]] = {
    401: ("WWW-Authenticate",),
    409: ("Retry-After", "Idempotency-Replayed"),
    415: ("Accept", "Accept-Encoding"),
    429: ("Retry-After",),
    503: ("Retry-After",),
    **dict.fromkeys((403, 404, 410, 412, 422, 500), ("Idempotency-Replayed",)),
}
SURE = frozenset({429, 503})
"""Statuses that always say after how long to try again."""
UNADDRESSED = frozenset({400, 408, 431})
"""Statuses of what may not even be HTTP: such a request has no address yet, and is answered as in v1."""


def headers(names: Iterable[str], sure: frozenset[str] = frozenset()) -> Json:
    """References to headers; of those in `sure` a copy that is required."""
    return {name: _header(name, required=True) if name in sure else _reference(name) for name in dict.fromkeys(names)}


def _reference(name: str) -> Json:
    return {"$ref": f"#/components/headers/{name}"}


def _header(name: str, *, required: bool) -> Json:
    found: Json = {"description": HEADERS[name], "schema": {"type": "integer" if name == "Retry-After" else "string"}}
    return {**found, "required": True} if required else found


def header_components() -> Json:
    """Every header, by name."""
    return {name: _header(name, required=name in REQUIRED) for name in HEADERS}


def good(answer: Answer, schemas: Schemas, version: str, names: Iterable[str], *, bare: bool) -> Json:
    """A good answer in the dress of `version`."""
    found: Json = {"description": answer.says, "headers": headers([*ALWAYS, *names, *answer.headers])}
    content: Json = {}
    if answer.shape is not None:
        shape = schemas.of(answer.shape)
        content[JSON] = {"schema": shape if bare else _dressed(answer, shape, schemas, version)}
    content |= {media: {"schema": schemas.of(kind)} for media, kind in answer.media.items()}
    if content:
        found["content"] = content
    return found


def _dressed(answer: Answer, shape: Json, schemas: Schemas, version: str) -> Json:
    if not answer.many:
        return shape if version == "v2" else _envelope(shape, meta())
    items: Json = {"type": "array", "items": shape}
    cursor: Json = {"type": ["string", "null"], "description": "Of the next page; null on the last one."}
    more = {name: schemas.of(kind) for name, kind in answer.meta.items()}
    if version == "v2":
        return {
            "type": "object",
            "required": ["data", "next_cursor"],
            "properties": {"data": items, "next_cursor": cursor, **more},
        }
    about = meta(next_cursor=cursor)
    about["properties"] |= more
    return _envelope(items, about)


def _envelope(data: Json, about: Json) -> Json:
    return {
        "type": "object",
        "required": ["success", "data", "meta"],
        "properties": {"success": {"const": True}, "data": data, "meta": about},
    }


def refusal_name(codes: Iterable[Code]) -> str:
    """The name of the response for these codes of one status."""
    return ".".join(code.value for code in codes)


def refusal(codes: tuple[Code, ...], version: str, *, bare: bool = False) -> Json:
    """The response for these codes, all of one status."""
    status = STATUS[codes[0]]
    v2 = version == "v2" and not bare
    only: Json = {"properties": {"code": {"enum": [code.value for code in codes]}}}
    if not v2:
        only = {"properties": {"error": only}}
    schema = {"allOf": [ref("Problem" if v2 else "Refused"), only]}
    content: Json = {PROBLEM_JSON if v2 else JSON: {"schema": schema, "example": _example(codes[0], v2=v2)}}
    if v2 and status in UNADDRESSED:
        content[JSON] = {"schema": ref("Refused")}
    names = [*ALWAYS, "Content-Language", *LIMITED, *BY_STATUS.get(status, ())]
    sure = frozenset({"Retry-After"}) if status in SURE else frozenset()
    return {
        "description": "\n".join(f"- `{code}`: {message(code, 'en')}" for code in codes),
        "headers": headers(names, sure),
        "content": content,
    }


def _example(code: Code, *, v2: bool) -> Json:
    text = message(code, "en")
    if not v2:
        about = {"timestamp": "2026-11-23T08:44:38.470Z", "version": "1.0"}
        return {"success": False, "error": {"code": code.value, "message": text}, "meta": about}
    return {
        "type": PROBLEMS + code.value, "title": text, "status": STATUS[code], "detail": text, "code": code.value,
        "instance": "5c1d0a4b",
    }  # fmt: skip
