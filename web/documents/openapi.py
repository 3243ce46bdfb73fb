"""The OpenAPI 3.1 documents, one for each version: every route with what it takes and everything it may answer."""

import re
from collections import defaultdict
from collections.abc import Iterable
from functools import cache
from typing import Any

from domain.refusals import STATUS, Code
from web import batches
from web.documents import replies, resources, samples
from web.documents.declared import Answer, Endpoint, Json, Parameter
from web.documents.schemas import Schemas, ref, refusal_schemas, result_schemas
from web.documents.table import API, PAGES, PLAIN
from web.permissions import InPerson, May, anyone
from web.routes import API as ROUTES
from web.routes import PLAIN as PLAIN_ROUTES
from web.routes import V1, V2, Guard, needs_scope

PREFIX = {"v1": V1, "v2": V2}
VERSION = {"v1": "1.0", "v2": "2.0"}
KEY, IF_MATCH, IF_NONE_MATCH, PREFER, LANGUAGE, REQUEST_ID, PARENT, STATE = (
    Parameter("Idempotency-Key", {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[ -~]+$"},
              "The same key and the same request: the first answer again, for 24 hours.", "header", "7f3c"),
    Parameter("If-Match", str,
              "Only if this is still the version, or one of these: ETags, or `*`. Else 412.", "header", '"1"'),
    Parameter("If-None-Match", str, "The ETag that you have; if it is still the same, 304.", "header", '"1"'),
    Parameter("Prefer", str, "`respond-async`: 202 as soon as it is safe. `wait=N`: N seconds, 30 at most.",
              "header", "wait=10"),
    Parameter("Accept-Language", str, "`ko` or `en`, for the sentences.", "header", "en"),
    Parameter("X-Request-Id", str, "Yours, 1 to 64 of `A-Z a-z 0-9 - _ .`; instead of another there is a new one.",
              "header", "my-request-1"),
    Parameter("traceparent", str, "Where in which trace you ask (W3C Trace Context). A malformed one counts as none.",
              "header", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    Parameter("tracestate", str, "Your tracing systems' own words, passed on with `traceparent`.",
              "header", "vendor=1"),
)  # fmt: skip
ASK = ("GET /operations/{id}",)
SHARED = (LANGUAGE, REQUEST_ID, PARENT, STATE)
IDS: dict[str, Json] = {
    "id": {"type": "string", "format": "uuid"},
    "kind": {"type": "string", "minLength": 1, "maxLength": 64, "pattern": "^[a-z0-9][a-z0-9_.-]*$"},
    "metric": {"type": "string", "pattern": "^[a-z][a-z0-9_]*$"},
    "code": ref("Code"),
}
NUMBERED = {"/dead-letters/{id}": {"type": "integer", "format": "int64", "minimum": 1}}
BEARER: Json = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "JWT",
    "description": "The access token of a session; or an API key (`yeoul_…`), for what its scopes cover.",
}
ABOUT = """\
Every change is an event: a write is answered when the event is there, or with 202 and an operation to ask for.
Every list is read on by its cursor, what can be changed with `If-Match` has an ETag, and every refusal has a code.

Send the access token of `/auth/login`, or an API key, as `Authorization: Bearer …`. `GET` answers `HEAD` too. Another
method than those that are named is 405 `METHOD_NOT_ALLOWED` with `Allow`, and one that HTTP does not know 501
`METHOD_UNKNOWN`.
"""


@cache
def document(version: str) -> Json:
    """The document of `v1` or `v2`."""
    endpoints = {**API, **PLAIN}
    schemas = _schemas(endpoints)
    made = _Made(version, schemas)
    paths: dict[str, Json] = defaultdict(dict)
    for method, path, guard, _handler in ROUTES:
        endpoint = API[f"{method} {path}"]
        paths[PREFIX[version] + path][method.lower()] = made.operation(method, path, endpoint, guard)
    for method, path, _plain in PLAIN_ROUTES:
        name = f"{method} {path}"
        if name not in PAGES:
            paths[path][method.lower()] = made.operation(method, path, PLAIN[name], None)
    components = {**schemas.components, **refusal_schemas(version), **result_schemas(version)}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Yeoul",
            "version": VERSION[version],
            "summary": "The envelope and Korean or English sentences."
            if version == "v1"
            else "Bare objects, and problem details (RFC 9457).",
            "description": ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "tags": [{"name": tag} for tag in dict.fromkeys(endpoint.tag for endpoint in endpoints.values())],
        "paths": dict(paths),
        "components": {
            "schemas": dict(sorted(components.items())),
            "responses": dict(sorted(made.refusals.items())),
            "headers": replies.header_components(),
            "parameters": {parameter.name: made.parameter(parameter) for parameter in made.shared_parameters},
            "securitySchemes": {"bearer": BEARER},
        },
    }


def _schemas(endpoints: dict[str, Endpoint]) -> Schemas:
    types: list[Any] = []
    for endpoint in endpoints.values():
        types += [parameter.schema for parameter in endpoint.parameters]
        for answer in endpoint.answers.values():
            types += [answer.shape or "", *answer.meta.values(), *answer.media.values()]
    types += [str]
    bodies = [endpoint.body.kind for endpoint in endpoints.values() if endpoint.body is not None]
    made = Schemas(types, [*bodies, batches.BatchOperation])
    resources.opened_up(made.components)
    return made


def refusals(endpoint: Endpoint, method: str, path: str, guard: Guard | None) -> dict[int, tuple[Code, ...]]:
    """Every code that a route may answer with, by status, in the order of `Code`."""
    found = {
        *endpoint.refuses, Code.MALFORMED_REQUEST, Code.EXPECTATION_FAILED, Code.HEADERS_TOO_LARGE,
        Code.REQUEST_TIMEOUT, Code.UNSUPPORTED_ENCODING, Code.INTERNAL_ERROR, Code.TOO_BUSY,
    }  # fmt: skip
    if not endpoint.bare:
        found |= {Code.VALIDATION_ERROR, Code.TOO_MANY_REQUESTS, Code.STORES_AWAY}
        if "{" in path:
            found.add(Code.NOT_FOUND)
    if isinstance(guard, InPerson):
        found.add(Code.SESSION_REQUIRED)
        guard = guard.guard
    if guard is not None:
        found |= {Code.TOKEN_INVALID, Code.TOKEN_EXPIRED, Code.SESSION_ENDED, Code.API_KEY_INVALID}
        if guard is not anyone:
            found.add(Code.TOKEN_MISSING)
        if needs_scope(method, path):
            found.add(Code.FORBIDDEN)
    if isinstance(guard, May):
        found.add(Code.FORBIDDEN)
        if guard.scope == "admin":
            found.add(Code.NOT_FOUND)
    if endpoint.body is not None:
        found |= {Code.MALFORMED_BODY, Code.BODY_TOO_LARGE, Code.UNSUPPORTED_MEDIA_TYPE}
    if endpoint.command:
        found |= {Code.BROKER_AWAY, Code.OPERATION_FAILED, Code.REFUSED}
    if endpoint.keyed:
        found |= {Code.OPERATION_RUNNING, Code.KEY_REUSED}
    if endpoint.conditional:
        found.add(Code.STALE_VERSION)
    by_status: dict[int, list[Code]] = defaultdict(list)
    for code in Code:
        if code in found:
            by_status[STATUS[code]].append(code)
    return {status: tuple(codes) for status, codes in sorted(by_status.items())}


class _Made:
    """What is gathered while the operations of one version are made."""

    def __init__(self, version: str, schemas: Schemas) -> None:
        self._version = version
        self._schemas = schemas
        self.refusals: dict[str, Json] = {}
        self.shared_parameters = (KEY, IF_MATCH, IF_NONE_MATCH, PREFER, *SHARED)

    def operation(self, method: str, path: str, endpoint: Endpoint, guard: Guard | None) -> Json:
        """One operation."""
        address = path if endpoint.bare else PREFIX[self._version] + path
        found: Json = {
            "operationId": _operation_id(method, path),
            "tags": [endpoint.tag],
            "summary": endpoint.summary,
            "description": endpoint.says,
            "security": _security(guard),
            "parameters": self._parameters(path, endpoint),
            "responses": self._responses(method, path, endpoint, guard),
            "x-codeSamples": [
                {"lang": "Shell", "label": "curl", "source": samples.curl(method, address, endpoint, guard)}
            ],
        }
        if endpoint.body is not None:
            found["requestBody"] = self._body(endpoint)
        return {name: value for name, value in found.items() if value not in ("", []) or name == "security"}

    def _body(self, endpoint: Endpoint) -> Json:
        assert endpoint.body is not None
        content: Json = {"schema": self._schemas.of(endpoint.body.kind) | endpoint.besides}
        if endpoint.example is not None:
            content["example"] = endpoint.example
        types = [replies.JSON, *(["application/merge-patch+json"] if endpoint.merging else [])]
        return {"required": True, "content": dict.fromkeys(types, content)}

    def _parameters(self, path: str, endpoint: Endpoint) -> list[Json]:
        found = []
        for name in re.findall(r"\{(\w+)\}", path):
            schema = NUMBERED.get(path, IDS[name])
            found.append({"name": name, "in": "path", "required": True, "schema": schema})
        found += [self.parameter(parameter) for parameter in endpoint.parameters]
        names = []
        if endpoint.keyed:
            names.append(KEY.name)
        if endpoint.conditional:
            names.append(IF_MATCH.name)
        if endpoint.tagged:
            names.append(IF_NONE_MATCH.name)
        if endpoint.command:
            names.append(PREFER.name)
        if not endpoint.bare:
            names += [parameter.name for parameter in SHARED]
        return found + [{"$ref": f"#/components/parameters/{name}"} for name in names]

    def parameter(self, parameter: Parameter) -> Json:
        """A parameter."""
        found: Json = {
            "name": parameter.name,
            "in": parameter.place,
            "description": parameter.says,
            "schema": self._schemas.of(parameter.schema),
        }
        if parameter.deep:
            found |= {"style": "deepObject", "explode": True}
        if parameter.example is not None:
            found["example"] = parameter.example
        return found

    def _links(self, names: Iterable[str]) -> Json:
        """What may be done next with the id in an answer."""
        where = f"$response.body#/{'data/' if self._version == 'v1' else ''}id"
        ids = [_operation_id(*name.split(" ")) for name in names]
        return {id: {"operationId": id, "parameters": {"id": where}} for id in ids}

    def _responses(self, method: str, path: str, endpoint: Endpoint, guard: Guard | None) -> Json:
        limited = () if endpoint.bare else replies.LIMITED
        answers = dict(endpoint.answers)
        tagged = ("ETag",) if endpoint.tagged else ()
        if endpoint.tagged:
            answers[304] = Answer(says="You have it already.", headers=tagged)
        if endpoint.command and endpoint.answers.keys().isdisjoint({202}) and not endpoint.awaited:
            answers[202] = Answer(
                says="Taken, and not done yet: ask for the operation.",
                shape="Operation",
                headers=("Location", "Retry-After"),
            )
        found: dict[str, Json] = {}
        for status, answer in sorted(answers.items()):
            more = [*limited, *(tagged if status == 200 else ())]
            more += ["Idempotency-Replayed"] if endpoint.keyed else []
            made = replies.good(answer, self._schemas, self._version, more, bare=endpoint.bare)
            if next_ones := (ASK if answer.shape == "Operation" and status == 202 else endpoint.links.get(status)):
                made["links"] = self._links(next_ones)
            found[str(status)] = made
        for status, codes in refusals(endpoint, method, path, guard).items():
            name = replies.refusal_name(codes) + (".bare" if endpoint.bare else "")
            self.refusals.setdefault(name, replies.refusal(codes, self._version, bare=endpoint.bare))
            found[str(status)] = {"$ref": f"#/components/responses/{name}"}
        return found


def _security(guard: Guard | None) -> list[Json]:
    if guard is None:
        return []
    if guard is anyone:
        return [{}, {"bearer": []}]
    if isinstance(guard, InPerson):
        guard = guard.guard
    return [{"bearer": ["admin"] if isinstance(guard, May) and guard.scope == "admin" else []}]


def _operation_id(method: str, path: str) -> str:
    """`getResourcesById` of `GET /resources/{id}`."""
    words = re.sub(r"\{(\w+)\}", r"by-\1", path.removeprefix("/api")).replace("{", "")
    parts = [part for part in re.split(r"[^A-Za-z0-9]+", words) if part]
    return method.lower() + "".join(part[:1].upper() + part[1:] for part in parts)
