"""Where ids come from.

Operations are derived from what the caller sent when the caller gave a key, so that a retry is the same operation on
the same partition; else they are new (UUIDv7: time-ordered, so indexes stay dense). What is derived is a UUIDv8 of a
SHA-256.
"""

import os
import time
from hashlib import sha256
from uuid import UUID


def uuid7() -> UUID:
    """A new time-ordered id (RFC 9562, version 7; milliseconds since 1970 in the first 48 bits)."""
    bits = (time.time_ns() // 1_000_000) << 80 | int.from_bytes(os.urandom(10), "big")
    return UUID(int=bits & ~(0xF << 76) & ~(0x3 << 62) | 0x7 << 76 | 0x2 << 62)


def _derived(*parts: str) -> UUID:
    digest = sha256("\x1f".join(parts).encode()).digest()[:16]
    return UUID(int=int.from_bytes(digest, "big") & ~(0xF << 76) & ~(0x3 << 62) | 0x8 << 76 | 0x2 << 62)


def operation_id(actor: UUID | None, method: str, path: str, key: str) -> UUID:
    """The operation that this actor means by this idempotency key on this concrete path."""
    return _derived("operation", str(actor), method, path, key)


def new_operation() -> UUID:
    """An operation without an idempotency key."""
    return uuid7()


def aggregate_id(operation: UUID) -> UUID:
    """The aggregate that an operation creates: derived, so a retry lands on the same partition."""
    return _derived("aggregate", operation.hex)


def kind_id(kind: str) -> UUID:
    """The aggregate of a kind of resources: derived from its name, so there is one."""
    return _derived("kind", kind)


def event_id(operation: UUID, index: int) -> str:
    """The id of the index-th event of an operation."""
    return f"{operation}.{index}"


def consequence(event: str, noun: str, aggregate: UUID) -> UUID:
    """The operation that follows from an event for an aggregate elsewhere: the same, however often it is read."""
    return _derived("consequence", event, noun, aggregate.hex)
