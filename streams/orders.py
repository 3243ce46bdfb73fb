"""A command on its way out: what somebody wants done, and the signed record that says so."""

from datetime import UTC, datetime
from uuid import UUID

import msgspec

from domain.access import Actor
from security.signatures import sign
from streams.envelope import COMMAND_SOURCE, CONTENT_TYPE, SIGNATURE, Command, write
from telemetry.tracecontext import to_headers


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller wants done. `data`: the JSON of the domain's command; `keyed`: with an idempotency key.

    `source`: who sends it, as an event of theirs would say.
    """

    noun: str
    type: str
    aggregate_id: UUID
    operation: UUID
    actor: Actor
    data: bytes
    fingerprint: str
    keyed: bool = False
    traceparent: str | None = None
    tracestate: str | None = None
    request_id: str = ""
    source: str = COMMAND_SOURCE


def command_record(order: Order, key: bytes, reply_to: str = "") -> tuple[bytes, bytes, list[tuple[str, bytes]]]:
    """Key, value and headers of the record, signed with `key`; whoever waits for the answer listens at `reply_to`."""
    aggregate = str(order.aggregate_id).encode()
    value = write(
        Command(
            id=str(order.operation),
            source=order.source,
            type=order.type,
            subject=order.aggregate_id,
            time=datetime.now(UTC),
            operation=order.operation,
            data=msgspec.Raw(order.data),
            actor=order.actor.id,
            actorrole=order.actor.role.value,
            fingerprint=order.fingerprint,
            replyto=reply_to,
            traceparent=order.traceparent,
            tracestate=order.tracestate,
            requestid=order.request_id,
        )
    )
    headers = [
        ("content-type", CONTENT_TYPE.encode()),
        (SIGNATURE, sign(key, order.noun.encode(), aggregate, value).encode()),
        # For tools that look at headers only; ours is the signed one, in the envelope.
        *to_headers(order.traceparent, order.tracestate),
    ]
    return aggregate, value, headers
