"""Kinds of resources and their schemas, for admins; and the early look at what a write sets.

The look that counts is the worker's (agents/resources.py), which knows what is there. The one here answers most
mistakes in new resources without a way through Kafka, by a copy that is a second old at most: where that one objects,
the newest is asked before anybody is refused.
"""

from contextlib import suppress
from typing import Any

import msgspec
from aiohttp import web

from domain import kinds
from domain.refusals import Code, Problem, Refusal
from domain.schemas import refused as refused_schema
from domain.schemas import unsatisfied
from domain.text import Slug, check_json
from stores import StoresAway
from streams.identity import kind_id
from web import headers, queries, writes
from web.parts import ACTOR, PARTS
from web.presenters import Reply
from web.refused import Refused, Wrong, invalid, refused
from web.validation import Schema

DEFAULT_LIMIT, MOST = 20, 100
PARAMETERS = frozenset({"limit", "cursor"})
_CURSOR = b"cursor of kinds"

_encode = msgspec.json.Encoder().encode


class KindBody(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What an admin sends."""

    schema: kinds.Schema

    def __post_init__(self) -> None:
        check_json(self.schema)


BODY = Schema(KindBody)


async def listing(request: web.Request) -> Reply:
    """`GET /kinds`: those with a schema, by name."""
    parts = request.app[PARTS]
    wrong = Wrong()
    asked = queries.asked(request, wrong, PARAMETERS)
    limit = DEFAULT_LIMIT
    with wrong:
        limit = queries.limit(asked.get("limit"), DEFAULT_LIMIT, MOST)
    marked = None
    with wrong:
        marked = queries.marked(asked.get("cursor"), parts.settings.cursor_key, _CURSOR)
    wrong.refuse()
    found = await parts.stores.kinds.listed(limit + 1, marked[0] if marked else "")
    cursor = None
    if len(found) > limit:
        found = found[:limit]
        cursor = queries.cursor(parts.settings.cursor_key, _CURSOR, [found[-1].kind])
    return Reply(items=[kinds.document(kind) for kind in found], cursor=cursor)


async def read(request: web.Request) -> Reply:
    """`GET /kinds/{kind}`: its schema."""
    found = await request.app[PARTS].stores.kinds.get(kind_id(_name(request)))
    if found is None:
        raise refused(Code.NOT_FOUND)
    if headers.none_match(request, found.version):
        return Reply(status=304, version=found.version)
    return Reply(kinds.document(found), version=found.version)


async def put(request: web.Request) -> Reply:
    """`PUT /kinds/{kind}`: from now on the attributes of this kind must satisfy this schema."""
    wrong = Wrong()
    name = request.match_info["kind"]
    with wrong:
        if not _is_name(name):
            raise invalid("kind", Problem.PATTERN, "a-z 0-9 _ . - (1–64)")
    key, expected = writes.preconditions(request, wrong)
    parsed = None
    with wrong:
        parsed = await writes.read_body(request, BODY)
        if details := refused_schema(parsed.value.schema):
            raise Refused(Refusal(Code.VALIDATION_ERROR, details))
    wrong.refuse()
    assert parsed is not None
    existing = headers.if_there(request)
    answer = await writes.submit(
        request,
        noun="kinds",
        command="put_kind",
        data=_encode(kinds.PutKind(name, parsed.value.schema, expected, existing)),
        key=key,
        canonical=b"*" + parsed.canonical if existing else parsed.canonical,
        aggregate_id=kind_id(name),
        matching=expected,
    )
    return Reply(answer.document, version=answer.version, headers=writes.reply_headers(answer))


async def delete(request: web.Request) -> Reply:
    """`DELETE /kinds/{kind}`: from now on the attributes of this kind may be anything."""
    name = _name(request)
    wrong = Wrong()
    key, expected = writes.preconditions(request, wrong)
    wrong.refuse()
    answer = await writes.submit(
        request,
        noun="kinds",
        command="delete_kind",
        data=_encode(kinds.DeleteKind(expected)),
        key=key,
        aggregate_id=kind_id(name),
        matching=expected,
    )
    return Reply(status=204, headers=writes.reply_headers(answer))


async def check(request: web.Request, key: str | None, kind: str, attributes: dict[str, Any]) -> None:
    """Raises Refused with everything in `attributes` of a new resource that does not satisfy the schema of `kind`.

    What was asked before under the Idempotency-Key `key` gets its first answer, whatever the schema is by now.
    """
    parts = request.app[PARTS]
    with suppress(StoresAway):  # then the worker says it
        known = await parts.stores.kinds.schemas()
        schema = known.of.get(kind)
        if schema is None or not unsatisfied(schema, attributes):
            return
        newest = await parts.stores.kinds.get(kind_id(kind))
        if newest is None or not (details := unsatisfied(newest.schema, attributes)):
            return
        asked = None if key is None else await parts.commands.find(writes.operation_of(request, key), request[ACTOR])
        if asked is None:
            raise Refused(Refusal(Code.VALIDATION_ERROR, details))


def _name(request: web.Request) -> str:
    """The kind in the path; what can't be one is the address of nothing."""
    name = request.match_info["kind"]
    if not _is_name(name):
        raise refused(Code.NOT_FOUND)
    return name


def _is_name(text: str) -> bool:
    try:
        msgspec.convert(text, Slug)
    except msgspec.ValidationError:
        return False
    return True
