"""Every answer that a test gets from the API is held against the documents: its status, its headers, its body."""

import json
import re
from functools import cache
from typing import Any

import jsonschema_rs

from web.documents import openapi
from web.documents.replies import HEADERS

VERSIONS = ("v1", "v2")
ADDRESSES = re.compile(r"/(api|problems|\.well-known)/")
ANYWHERE = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED", 501: "METHOD_UNKNOWN"}
"""What is answered where no operation is."""


class Undocumented(AssertionError):
    """An answer that the document does not know."""


def check(method: str, path: str, status: int, headers: Any, body: bytes | None) -> None:
    """Raises Undocumented for an answer of the API that is not as its document says. `body`: None if it isn't known."""
    if method == "OPTIONS" or not ADDRESSES.match(path):
        return
    version = "v2" if path.startswith("/api/v2/") else "v1"
    operation = find(version, "GET" if method == "HEAD" else method, path)
    what = f"{method} {path} answered {status}"
    if operation is None or status in (405, 501):
        _undeclared(version, status, headers, body, what)
        return
    response = operation["responses"].get(str(status))
    if response is None:
        raise Undocumented(f"{what}, which its operation does not declare: {(body or b'')[:300]!r}")
    place = f"{operation['operationId']} {status}"
    if "$ref" in response:
        place = response["$ref"].rpartition("/")[2]
        response = openapi.document(version)["components"]["responses"][place]
    _headers(version, response, headers, what)
    content = response.get("content", {})
    media = (headers.get("Content-Type") or "").partition(";")[0]
    if not content:
        if body:
            raise Undocumented(f"{what} with a body, and none is declared")
        return
    if media not in content:
        raise Undocumented(f"{what} as {media!r}; declared is {', '.join(content)}")
    if body is None or method == "HEAD" or not media.endswith("json"):
        return
    _validate(_validator(version, place, media, json.dumps(content[media]["schema"])), body, what)


def find(version: str, method: str, path: str) -> Any:
    """The operation at an address, None if there is none."""
    for pattern, item in _paths(version):
        if pattern.fullmatch(path):
            return item.get(method.lower())
    return None


@cache
def _paths(version: str) -> list[tuple[re.Pattern[str], Any]]:
    paths = openapi.document(version)["paths"]
    # As aiohttp, which takes what is written out before what may be anything.
    ordered = sorted(paths, key=lambda path: (path.count("{"), path))
    return [
        (re.compile(re.sub(r"\\\{\w+\\\}", "[^{}/]+", re.escape(path))), paths[path])
        for path in ordered
    ]  # fmt: skip


def _undeclared(version: str, status: int, headers: Any, body: bytes | None, what: str) -> None:
    media = (headers.get("Content-Type") or "").partition(";")[0]
    if body is None or not body or (status < 400):
        return
    if media not in ("application/json", "application/problem+json"):
        raise Undocumented(f"{what} as {media!r}")
    if status not in ANYWHERE:
        raise Undocumented(f"{what}, where no operation is")
    told = json.loads(body)
    if told.get("error", told).get("code") != ANYWHERE[status]:
        raise Undocumented(f"{what} with another code: {body[:300]!r}")
    name = "Problem" if media == "application/problem+json" else "Refused"
    schema = json.dumps({"$ref": f"#/components/schemas/{name}"})
    _validate(_validator(version, name, media, schema), body, what)
    if status == 405 and "Allow" not in headers:
        raise Undocumented(f"{what} without Allow")


def _headers(version: str, response: Any, headers: Any, what: str) -> None:
    declared = response.get("headers", {})
    for name, header in declared.items():
        meant = openapi.document(version)["components"]["headers"][name] if "$ref" in header else header
        value = headers.get(name)
        if value is None:
            if meant.get("required"):
                raise Undocumented(f"{what} without the header {name}")
        elif meant["schema"]["type"] == "integer" and not value.isdigit():
            raise Undocumented(f"{what} with {name}: {value}")
    undeclared = [name for name in HEADERS if name in headers and name not in declared]
    if undeclared:
        raise Undocumented(f"{what} with the headers {undeclared}, which are not declared")


def _validate(validator: Any, body: bytes, what: str) -> None:
    wrong = [
        f"{'.'.join(map(str, error.instance_path))}: {error.message}"
        for error in validator.iter_errors(json.loads(body))
    ]
    if wrong:
        raise Undocumented(f"{what}, and its body is not as declared: {wrong[:5]}: {body[:500]!r}")


@cache
def _validator(version: str, place: str, media: str, schema: str) -> Any:
    components = openapi.document(version)["components"]["schemas"]
    whole = {**_closed(json.loads(schema)), "components": {"schemas": _closed(components)}}
    return jsonschema_rs.Draft202012Validator(whole, validate_formats=True)


def _closed(schema: Any) -> Any:
    """The schema with no members but those it names: a client must take others, and a test must not pass over them."""
    if isinstance(schema, list):
        return [_closed(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    closed = {name: _closed(value) for name, value in schema.items()}
    if closed.get("type") == "object" and "properties" in closed:
        closed.setdefault("additionalProperties", False)
    return closed
