"""Requests as one pastes them: curl, with `$ORIGIN` for the address of the server and `$TOKEN` for the access token."""

import shlex
from typing import Any

import orjson

from web.documents.declared import Endpoint

NAMES = {"id": "$ID", "kind": "$KIND", "metric": "$METRIC", "code": "NOT_FOUND"}


def curl(method: str, path: str, endpoint: Endpoint, guard: Any) -> str:
    """The request of `endpoint` that works, once the variables in it are set."""
    for name, value in NAMES.items():
        path = path.replace("{" + name + "}", value)
    query = f"?{endpoint.query}" if endpoint.query else ""
    streams = any("text/event-stream" in answer.media for answer in endpoint.answers.values())
    words = [
        "curl -sgN" if streams else "curl -sg",
        *([] if method == "GET" else [f"-X {method}"]),
        f'"$ORIGIN{path}{query}"',
    ]
    if guard is not None:
        words.append('-H "Authorization: Bearer $TOKEN"')
    if endpoint.body is not None:
        words.append("-H 'Content-Type: application/json'")
        body = orjson.dumps(endpoint.example or {}).decode()
        # A variable is filled in between double quotes only.
        words.append('-d "' + body.replace('"', '\\"') + '"' if "$" in body else f"-d {shlex.quote(body)}")
    return " ".join(words)
