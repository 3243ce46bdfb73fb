"""The way of a write through the front: an order to the command path, and its answer as a reply."""

from hashlib import sha256
from uuid import UUID

import msgspec
from aiohttp import web

from domain.access import Actor
from domain.refusals import Code, Detail, Problem, Refusal
from domain.versions import Expected
from security.signatures import sign
from streams import identity
from streams.publish import Answer, Order, Pending
from web import headers
from web.parts import ACTOR, PARTS, REQUEST_ID, operations_of
from web.refused import Refused, Wrong, refused
from web.validation import WHOLE, Parsed, Schema, T

OPERATIONS = "/api/v1/operations/"


async def read_body(
    request: web.Request, schema: Schema[T], at_most: int | None = None, *, merging: bool = False
) -> Parsed[T]:
    """The body as a value of `schema`; `at_most` bytes, if that is less than the settings allow.

    `merging`: it may also be application/merge-patch+json.

    Raises Refused: 415, 413, 400.
    """
    given = request.headers
    content_type = given.get("Content-Type")
    if not headers.is_json(content_type) and not (merging and headers.is_merge_patch(content_type)):
        # Without a body there is no type to be wrong: what is missing is the body.
        if not request.body_exists:
            raise refused(Code.MALFORMED_BODY)
        raise refused(Code.UNSUPPORTED_MEDIA_TYPE, Accept="application/json")
    if not headers.unpacked(given.get("Content-Encoding")):
        raise Refused(Refusal(Code.UNSUPPORTED_ENCODING), headers.ENCODINGS)
    limit = request.app[PARTS].settings.body_limit
    if at_most is not None and at_most < limit:
        limit = at_most
    length = request.content_length
    if length is not None and length > limit:
        raise _too_large(limit)
    try:
        body = await request.read()  # unpacked
    except web.HTTPRequestEntityTooLarge:  # longer than the settings allow
        raise _too_large(limit) from None
    if len(body) > limit:
        raise _too_large(limit)
    return schema.read(body)


def _too_large(limit: int) -> Refused:
    return Refused(Refusal(Code.BODY_TOO_LARGE, (Detail(WHOLE, Problem.TOO_LONG, f"{limit} bytes"),)))


def preconditions(request: web.Request, wrong: Wrong) -> tuple[str | None, Expected]:
    """The Idempotency-Key and the version that If-Match asks for, of a change of something that is there."""
    key = expected = None
    with wrong:
        key = headers.idempotency_key(request)
    with wrong:
        expected = headers.if_match(request)
    with wrong:
        headers.no_none_match(request)
    return key, expected


async def submit(
    request: web.Request,
    *,
    noun: str,
    command: str,
    data: bytes,
    key: str | None,
    canonical: bytes = b"",
    aggregate_id: UUID | None = None,
    matching: Expected = None,
    personal: bool = False,
    awaited: bool = False,
) -> Answer:
    """Sends a command of the caller and waits for its answer as the caller prefers. Raises Refused, Unfinished.

    `key`: the caller's Idempotency-Key. `canonical` (the body) and `matching` (If-Match) are what makes two requests
    with one key the same; of a `personal` body nobody without the key may guess anything by trying.
    `awaited`: what can't be answered later is waited for, whatever the caller prefers, and never Unfinished.
    Without `aggregate_id` the aggregate's id is derived from the operation, so a retry creates the same one.
    """
    actor = request[ACTOR]
    parts = request.app[PARTS]
    same = b"%b %b\n%b\n%b" % (request.method.encode(), request.path.encode(), _text(matching), canonical)
    operation = identity.new_operation() if key is None else operation_of(request, key)
    order = order_of(
        origin_of(request), noun, command, identity.aggregate_id(operation) if aggregate_id is None else aggregate_id,
        actor, data, operation=operation, keyed=key is not None,
        fingerprint=sign(parts.settings.index_key, b"fingerprint", same) if personal else sha256(same).hexdigest(),
    )  # fmt: skip
    if awaited:
        return finished(await parts.commands.submit(order, wait=patience(request)))
    return answered(await parts.commands.submit(order, wait=headers.wait(request, parts.settings.answer_wait_s)))


def operation_of(request: web.Request, key: str) -> UUID:
    """The operation that the caller's Idempotency-Key stands for."""
    return identity.operation_id(request[ACTOR].id, request.method, request.path, key)


class Origin(msgspec.Struct, frozen=True):
    """The request that commands come from. `operations`: where it gathers what it asks for."""

    request_id: str
    traceparent: str | None = None
    tracestate: str | None = None
    operations: list[UUID] = []


def origin_of(request: web.Request) -> Origin:
    """That of this request."""
    return Origin(
        request[REQUEST_ID], headers.traceparent(request), headers.tracestate(request), operations_of(request)
    )


def order_of(
    origin: Origin, noun: str, kind: str, aggregate: UUID, actor: Actor, data: bytes, *,
    operation: UUID | None = None, fingerprint: str | None = None, keyed: bool = False,
) -> Order:  # fmt: skip
    """A command on its way out, noted where the log looks for it. Without `operation` nobody can repeat it.

    Without `fingerprint` nothing of `data` goes into one.
    """
    operation = operation or identity.new_operation()
    origin.operations.append(operation)
    return Order(
        noun=noun, type=kind, aggregate_id=aggregate, operation=operation, actor=actor, data=data,
        fingerprint=fingerprint or operation.hex, keyed=keyed, traceparent=origin.traceparent,
        tracestate=origin.tracestate, request_id=origin.request_id,
    )  # fmt: skip


LEAST_WAIT_S = 5.0


def patience(request: web.Request) -> float:
    """Seconds to wait for what can't be answered later, whatever the caller prefers."""
    return max(LEAST_WAIT_S, headers.wait(request, request.app[PARTS].settings.answer_wait_s))


def finished(answer: Answer | Pending) -> Answer:
    """As `answered`, of what can't be asked for later. Raises Refused."""
    if isinstance(answer, Pending):
        raise refused(Code.STORES_AWAY)
    return answered(answer)


def answered(answer: Answer | Pending) -> Answer:
    """The answer of an operation that succeeded. Raises Refused for a refused or failed one, Unfinished for neither."""
    if isinstance(answer, Pending):
        raise Unfinished(answer.operation)
    replayed = REPLAYED if answer.replayed else None
    if answer.outcome == "refused" and answer.refusal is not None:
        raise Refused(answer.refusal, replayed)
    if answer.outcome != "succeeded":
        raise Refused(_FAILED, replayed)
    return answer


class Unfinished(Exception):
    """The operation goes on; the caller is told where to ask for it (202)."""

    def __init__(self, operation: UUID) -> None:
        super().__init__(operation)
        self.operation = operation


REPLAYED = {"Idempotency-Replayed": "true"}
_FAILED = Refusal(Code.OPERATION_FAILED)


def reply_headers(answer: Answer, **more: str) -> dict[str, str] | None:
    """Headers of the reply to a write; None if there are none."""
    if answer.replayed:
        return {**REPLAYED, **more}
    return more or None


def _text(matching: Expected) -> bytes:
    if matching is None:
        return b""
    return ",".join(map(str, matching if isinstance(matching, tuple) else (matching,))).encode()
