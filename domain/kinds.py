"""Kinds of resources: an admin may say by a JSON Schema what the attributes of a kind must be like.

The schema is asked whenever somebody sets the kind or the attributes of a resource. Changing it touches nothing that is
there: a resource which no longer satisfies it stays, and is asked when its kind or its attributes are set again.
"""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import Raw

from domain.access import Role
from domain.aggregates import Context, Occurrence
from domain.refusals import Code, Refusal
from domain.schemas import refused
from domain.text import Slug, check_json
from domain.versions import Expected, is_stale

Schema = Annotated[dict[str, Any], msgspec.Meta(max_length=256)]


class Kind(msgspec.Struct, frozen=True):
    """The state of a kind. `schema` is JSON. A removed one has `deleted_at`, and its resources may be anything."""

    id: UUID
    kind: str
    schema: str
    version: int
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None = None


class PutKind(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """From now on the attributes of this kind must satisfy this schema. `expected_version` as for resources.

    `existing`: only if there is one, of whatever version.
    """

    kind: Slug
    schema: Schema
    expected_version: Expected = None
    existing: bool = False

    def __post_init__(self) -> None:
        check_json(self.schema)


class DeleteKind(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From now on the attributes of this kind may be anything."""

    expected_version: Expected = None


class KindDefined(msgspec.Struct, frozen=True):
    """A kind got a schema, or another one."""

    kind: str
    schema: dict[str, Any]


class KindRemoved(msgspec.Struct, frozen=True):
    """A kind has no schema any more."""

    kind: str


Command = PutKind | DeleteKind
Event = KindDefined | KindRemoved

COMMANDS: dict[str, type[Command]] = {"put_kind": PutKind, "delete_kind": DeleteKind}
EVENTS: dict[str, type[Event]] = {"kind.defined": KindDefined, "kind.removed": KindRemoved}
EVENT_NAMES: dict[type[Event], str] = {kind: name for name, kind in EVENTS.items()}

_encode = msgspec.json.Encoder().encode


def decide(state: Kind | None, command: Command, context: Context) -> tuple[Event, ...] | Refusal:
    """What `command` makes happen; only admins may. A schema that stands there already makes nothing happen."""
    if context.actor.role is not Role.ADMIN:
        return Refusal(Code.FORBIDDEN)
    gone = state is None or state.deleted_at is not None
    expected = command.expected_version
    if isinstance(command, DeleteKind):
        if state is None or gone:
            return Refusal(Code.NOT_FOUND)
        return Refusal(Code.STALE_VERSION) if is_stale(expected, state.version) else (KindRemoved(state.kind),)
    if state is None or gone:
        if expected is not None or command.existing:
            return Refusal(Code.STALE_VERSION)
    elif is_stale(expected, state.version):
        return Refusal(Code.STALE_VERSION)
    if wrong := refused(command.schema):
        return Refusal(Code.VALIDATION_ERROR, wrong)
    if state is not None and not gone and state.schema == _encode(command.schema).decode():
        return ()
    return (KindDefined(command.kind, command.schema),)


def evolve(state: Kind | None, event: Event, at: Occurrence) -> Kind:
    """The kind after `event`. Raises ValueError on a history that no `decide` has made."""
    if isinstance(event, KindDefined):
        created = at.time if state is None else state.created_at
        return Kind(at.aggregate_id, event.kind, _encode(event.schema).decode(), at.version, created, at.time)
    if state is None:
        raise ValueError(f"kind.removed happened to kind {at.aggregate_id} which does not exist")
    return msgspec.structs.replace(state, version=at.version, updated_at=at.time, deleted_at=at.time)


def document(state: Kind) -> bytes:
    """The JSON object that a client sees."""
    return _encode(
        {
            "kind": state.kind,
            "schema": Raw(state.schema.encode()),
            "version": state.version,
            "created_at": state.created_at,
            "updated_at": state.updated_at,
        }
    )
