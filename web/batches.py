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
from streams.publish import Answer, BrokerAway, Conflict
from web import headers, kinds, writes
from web.operations import pending
from web.parts import ACTOR, PARTS
from web.presenters import Presenter, Reply, language_of
from web.quotas import Kind
from web.refused import Refused, invalid, refused
from web.resources import BODY, PATCH, change, encode, location
from web.validation import Schema
from web.writes import OPERATIONS, Unfinished

MOST = 100
"""Operations of one request."""

MOST_VERSION = 2**63 - 1
Free = dict[str, Any]


class BatchOperation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One change. `resource`: what a create or an update would have as its body (an update is a merge patch)."""

    op: Literal["create", "update", "delete"]
    id: UUID | None = None
    resource: Free | None = None
    if_match: Annotated[int, msgspec.Meta(ge=1, le=MOST_VERSION)] | None = None


class Batch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a request."""

    operations: Annotated[tuple[Free, ...], msgspec.Meta(min_length=1, max_length=MOST)]

    def __post_init__(self) -> None:
        for operation in self.operations:
            check_json(operation)


MOST_VALUES = 50_000
"""Values in all operations of one request."""
BATCH = Schema(Batch, MOST_VALUES)
OPERATION = Schema(BatchOperation)


async def run(request: web.Request) -> Reply:
    """`POST /resources/batch`: 200 with an answer for each operation, in order."""
    parts = request.app[PARTS]
    key = headers.idempotency_key(request)
    parsed = await writes.read_body(request, BATCH)
    language = language_of(request.headers.get("Accept-Language"), parts.settings.language)
    parts.quotas.more(Kind.WRITE, request, request[ACTOR], len(parsed.value.operations))
    presenter = parts.presenters.of(request.path)
    answers = await asyncio.gather(
        *(
            _answer(request, document, None if key is None else f"{key}/{number}", presenter, language)
            for number, document in enumerate(parsed.value.operations)
        )
    )
    return Reply(items=answers)


async def _answer(
    request: web.Request, document: Free, key: str | None, presenter: Presenter, language: str
) -> bytes:  # fmt: skip
    """Status and body of one operation, as the request of its own would have them."""
    try:
        return await _run(request, document, key, presenter)
    except Unfinished as unfinished:
        where = orjson.dumps(presenter.address(f"{OPERATIONS}{unfinished.operation}"))
        return b'{"status":202,"location":%b,"data":%b}' % (where, pending(unfinished.operation))
    except Refused as no:
        refusal = no.refusal
    except Conflict:
        refusal = refused(Code.OPERATION_RUNNING).refusal
    except BrokerAway:
        refusal = refused(Code.BROKER_AWAY).refusal
    return orjson.dumps({"status": refusal.status, "error": presenter.error(refusal, language)})


async def _run(request: web.Request, document: Free, key: str | None, presenter: Presenter) -> bytes:
    operation = OPERATION.value(document)
    expected = operation.if_match

    async def sent(command: str, data: bytes) -> Answer:
        canonical = orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
        return await change(request, operation.id, command, data, key, expected, canonical)

    if operation.op == "create":
        if operation.resource is None:
            raise invalid("resource", Problem.REQUIRED)
        if operation.id is not None or expected is not None:
            raise invalid("id" if operation.id is not None else "if_match", Problem.UNKNOWN)
        new = BODY.value(operation.resource)
        await kinds.check(request, key, new.kind, new.attributes)
        made = await sent("create_resource", encode(new))
        where = orjson.dumps(presenter.address(location(made.document)))
        return b'{"status":201%b,"location":%b,"data":%b}' % (_replayed(made), where, made.document)
    if operation.id is None:
        raise invalid("id", Problem.REQUIRED)
    if operation.op == "update":
        if operation.resource is None:
            raise invalid("resource", Problem.REQUIRED)
        update = PATCH.value(operation.resource).command(expected)
        changed = await sent("update_resource", encode(update))
        return b'{"status":200%b,"data":%b}' % (_replayed(changed), changed.document)
    if operation.resource is not None:
        raise invalid("resource", Problem.UNKNOWN)
    data = encode(resources.DeleteResource(expected))
    gone = await sent("delete_resource", data)
    return b'{"status":204%b,"data":null}' % _replayed(gone)


def _replayed(answer: Answer) -> bytes:
    return b',"replayed":true' if answer.replayed else b""
