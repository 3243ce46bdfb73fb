"""What Schemathesis can't know by itself: loaded by it, in its own process, as its hooks (`SCHEMATHESIS_HOOKS`)."""

from __future__ import annotations

import itertools
import os
from datetime import UTC, datetime, timedelta
from typing import Any

import schemathesis
from schemathesis import GenerationMode

import config
from domain.access import Role

ROLE = Role(os.environ["ANY_REQUEST_ROLE"])
STEPS = os.environ["ANY_REQUEST_PHASES"] == "stateful"
NUMBERS = itertools.count(1)
LARGEST = 2**63 - 1
SOON = (datetime.now(UTC) + timedelta(days=1)).isoformat()
"""A key expires in the future, and no schema knows what time it is."""
ENDED = ("SESSION_ENDED", "TOKEN_EXPIRED")


class Caller:
    """Who asks. It may end its own session or erase itself; then there is another one."""

    token = ""

    def __init__(self) -> None:
        from web.accounts import token_for  # what a guest has no need to wait for

        self._token_for = token_for
        self._settings = config.load({n: v for n, v in config.process_environ().items() if n.startswith("YEOUL_")})

    def get(self, case: Any, context: Any) -> str:
        """The token of now."""
        if not Caller.token:
            Caller.token = self._token_for(self._settings, f"{ROLE}-{os.getpid()}-{next(NUMBERS)}@example.org", ROLE)
        return Caller.token

    def set(self, case: Any, data: str, context: Any) -> None:
        """Puts it where it belongs."""
        case.headers = {**(case.headers or {}), "Authorization": f"Bearer {data}"}


if ROLE is not Role.GUEST:
    schemathesis.auth(refresh_interval=None, retry_on=[])(Caller)


@schemathesis.hook
def after_call(context: Any, case: Any, response: Any) -> None:
    """A token whose session has ended is good for nothing any more."""
    given = response.request.headers.get("Authorization")
    if response.status_code == 401 and given == f"Bearer {Caller.token}" and any(c in response.text for c in ENDED):
        Caller.token = ""


def _within(value: Any) -> Any:
    """The same JSON with no whole number beyond 64 bits: in what may hold any JSON no schema has a place to say so."""
    if isinstance(value, dict):
        return {name: _within(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_within(inner) for inner in value]
    return value if not isinstance(value, int) or isinstance(value, bool) else max(-LARGEST, min(value, LARGEST))


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    """Leaves out of a good request what no schema can say is bad; each of these has tests of its own."""
    if case.operation.path.endswith("/kinds/{kind}"):
        # A schema that was made up for a kind would refuse good resources of that kind.
        case.path_parameters["kind"] = f"made.up.{case.path_parameters['kind']}"[:64]
    if case.meta is None or case.meta.generation.mode is not GenerationMode.POSITIVE:
        return
    if STEPS and case.headers and "Idempotency-Key" in case.headers:
        # A scenario begins as another did, with the same keys: it would get answers from before the other's deletions.
        case.headers["Idempotency-Key"] = f"step-{os.getpid()}-{next(NUMBERS)}"
    if isinstance(case.body, dict):
        case.body = _within(case.body)
        if case.operation.path.endswith("/api-keys") and "expires_at" in case.body:
            case.body["expires_at"] = SOON
    query = case.query or {}
    query.pop("cursor", None)  # it is encrypted: only the server can make one
    if case.operation.path.endswith("/resources"):
        deleted = query.get("deleted") == "true"
        if not any(sign.isalnum() for sign in query.get("q", "x")):
            del query["q"]  # nothing to look for: there is no word in it
        if not any(sign.isalnum() for sign in query.get("filter[title][contains]", "x")):
            del query["filter[title][contains]"]
        if "q" in query or deleted or "," in query.get("sort", "") or "deleted" in query.get("sort", ""):
            query.pop("sort", None)  # which orders go with what else, and which columns may follow which
        if "q" in query:
            query.pop("deleted", None)
