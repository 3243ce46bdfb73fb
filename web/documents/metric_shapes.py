"""What is answered of metrics, dead letters and this server, as types; see shapes.py."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

Json = dict[str, Any]


class Measure(msgspec.Struct, frozen=True):
    """A measure of a metric, and how it adds events up."""

    name: str
    kind: Literal["count", "sum", "min", "max", "mean", "distinct", "percentiles", "top"]


class Window(msgspec.Struct, frozen=True):
    """A window of a metric, kept for so many seconds."""

    name: str
    kept: int


class Metric(msgspec.Struct, frozen=True):
    """What can be asked of a metric."""

    name: str
    title: str
    group_by: tuple[str, ...]
    measures: tuple[Measure, ...]
    windows: tuple[Window, ...]


class Dropped(msgspec.Struct, frozen=True):
    """Events in no window, in the hour from `start`."""

    start: datetime
    reason: str
    count: int


LINE: Json = {
    "title": "Line",
    "description": "A window of a group. Each measure of the metric is a member besides: a number,"
    " `{percentile: number}`, a list of `{value, count}`, or null where nothing was measured.",
    "type": "object",
    "required": ["start", "group"],
    "properties": {"start": {"type": "string", "format": "date-time"}, "group": {"type": "object"}},
    "additionalProperties": {"type": ["number", "object", "array", "null"]},
}


class ListedLetter(msgspec.Struct, frozen=True):
    """A record that could not be handled. `size`: bytes of its value, null of none."""

    id: int
    state: Literal["parked", "requested", "replayed", "dropped"]
    group: str
    topic: str
    partition: int
    offset: int
    code: str
    error: str
    handler: str
    attempts: int
    parked_at: datetime
    size: int | None


class Shown(msgspec.Struct, frozen=True):
    """Bytes: `text` if they are UTF-8, else `base64`."""

    text: str | UnsetType = UNSET
    base64: str | UnsetType = UNSET


class LetterHeader(msgspec.Struct, frozen=True):
    """A header of a record."""

    name: str
    value: Shown | None


class Letter(msgspec.Struct, frozen=True):
    """A record that could not be handled, with everything that came."""

    id: int
    state: Literal["parked", "requested", "replayed", "dropped"]
    group: str
    topic: str
    topic_id: UUID
    partition: int
    offset: int
    code: str
    error: str
    handler: str
    attempts: int
    parked_at: datetime
    produced_at: datetime | None
    key: Shown | None
    headers: tuple[LetterHeader, ...]
    value: Shown | None


class PublicKey(msgspec.Struct, frozen=True):
    """The public half of a key (RFC 7517, RFC 8037)."""

    kty: Literal["OKP"]
    crv: Literal["Ed25519"]
    use: Literal["sig"]
    alg: Literal["EdDSA"]
    kid: str
    x: str


class PublicKeys(msgspec.Struct, frozen=True):
    """The keys by which anybody can check our tokens."""

    keys: tuple[PublicKey, ...]


class Live(msgspec.Struct, frozen=True):
    """The process lives."""

    live: Literal[True]


READY: Json = {
    "title": "Ready",
    "description": "Each dependency by its name: `ok`, or a word for what is wrong.",
    "type": "object",
    "required": ["ready"],
    "properties": {"ready": {"type": "boolean"}},
    "additionalProperties": {"type": "string"},
}


class Meaning(msgspec.Struct, frozen=True):
    """What a code means, in each language."""

    code: str
    status: int
    title: dict[str, str]
