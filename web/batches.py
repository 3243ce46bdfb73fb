"""Many changes in one request, each on its own: none waits for another, and one that is refused stops none."""

import asyncio
from typing import Annotated, Any, Literal
from uuid import UUID

import msgspec
import orjson
from aiohttp import web

from domain import resources
from domain.refusals import Code, Problem
from domain.text import check_json
from streams.publish import BrokerAway, Conflict
from web import headers, kinds, presenters, writes
from web.operations import pending
from web.parts import PARTS
from web.presenters import Reply
from web.refused import Refused, invalid, refused
from web.resources import BODY, PATCH, encode, location
from web.validation import Schema
from web.writes import OPERATIONS, Unfinished

MOST = 100
"""Operations of one request."""

Free = dict[str, Any]


class Operation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One change. `resource`: what a create or an update would have as its body (an update is a merge patch)."""

    op: Literal["create", "update", "delete"]
    id: UUID | None = None
    resource: Free | None = None
    if_match: Annotated[int, msgspec.Meta(ge=1)] | None = None


class Batch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a request."""

    operations: Annotated[tuple[Free, ...], msgspec.Meta(min_length=1, max_length=MOST)]

    def __post_init__(self) -> None:
        for operation in self.operations:
            check_json(operation)


BATCH = Schema(Batch)
OPERATION = Schema(Operation)


async def run(request: web.Request) -> Reply:
    """`POST /resources/batch`: 200 with an answer for each operation, in order."""
    key = headers.idempotency_key(request)
    parsed = await writes.read_body(request, BATCH)
    language = presenters.language_of(
        request.headers.get("Accept-Language"), request.app[PARTS].settings.language
    )  # fmt: skip
    answers = await asyncio.gather(
        *(
            _answer(request, document, None if key is None else f"{key}/{number}", language)
            for number, document in enumerate(parsed.value.operations)
        )
    )
    return Reply(b"[%b]" % b",".join(answers))


async def _answer(request: web.Request, document: Free, key: str | None, language: str) -> bytes:
    """Status and body of one operation, as the request of its own would have them."""
    try:
        return await _run(request, document, key)
    except Unfinished as unfinished:
        shown = pending(unfinished.operation)
        return b'{"status":202,"location":%b,"data":%b}' % (orjson.dumps(f"{OPERATIONS}{unfinished.operation}"), shown)
    except Refused as no:
        refusal = no.refusal
    except Conflict:
        refusal = refused(Code.OPERATION_RUNNING).refusal
    except BrokerAway:
        refusal = refused(Code.BROKER_AWAY).refusal
    return orjson.dumps({"status": refusal.status, "error": presenters.error(refusal, language)})


async def _run(request: web.Request, document: Free, key: str | None) -> bytes:
    operation = OPERATION.value(document)
    expected = operation.if_match
    if operation.op == "create":
        if operation.resource is None:
            raise invalid("resource", Problem.REQUIRED)
        if operation.id is not None or expected is not None:
            raise invalid("id" if operation.id is not None else "if_match", Problem.UNKNOWN)
        new = BODY.value(operation.resource)
        await kinds.check(request.app[PARTS], new.kind, new.attributes)
        return await _sent(request, document, key, "create_resource", encode(new), None, None)
    if operation.id is None:
        raise invalid("id", Problem.REQUIRED)
    if operation.op == "update":
        if operation.resource is None:
            raise invalid("resource", Problem.REQUIRED)
        change = PATCH.value(operation.resource).command(expected)
        return await _sent(request, document, key, "update_resource", encode(change), operation.id, expected)
    if operation.resource is not None:
        raise invalid("resource", Problem.UNKNOWN)
    data = encode(resources.DeleteResource(expected))
    return await _sent(request, document, key, "delete_resource", data, operation.id, expected)


async def _sent(
    request: web.Request, document: Free, key: str | None, command: str, data: bytes, id: UUID | None,
    expected: int | None,
) -> bytes:  # fmt: skip
    answer = writes.answered(
        await writes.submit(
            request,
            noun="resources",
            command=command,
            data=data,
            key=key,
            canonical=orjson.dumps(document, option=orjson.OPT_SORT_KEYS),
            aggregate_id=id,
            matching=expected,
        )
    )
    replayed = b',"replayed":true' if answer.replayed else b""
    if command == "delete_resource":
        return b'{"status":204%b,"data":null}' % replayed
    if id is not None:
        return b'{"status":200%b,"data":%b}' % (replayed, answer.document)
    where = orjson.dumps(location(answer.document))
    return b'{"status":201%b,"location":%b,"data":%b}' % (replayed, where, answer.document)
