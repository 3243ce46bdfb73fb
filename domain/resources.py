"""Resources: objects of any kind that clients keep, share and change. Deleting one keeps it, marked, for a restore.

When its owner is erased it is emptied: what is left has no title, which no other has, and never comes back.
"""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from domain.access import SYSTEM, Visibility, may_change, may_create, may_read
from domain.aggregates import Context, Occurrence
from domain.merging import merged, too_much
from domain.refusals import Code, Refusal
from domain.resource_messages import (
    COMMANDS,
    DEFAULT_STATUS,
    EVENT_NAMES,
    EVENTS,
    Attributes,
    Body,
    Command,
    CreateResource,
    DeleteResource,
    EraseResource,
    Event,
    ResourceCreated,
    ResourceDeleted,
    ResourceErased,
    ResourceRestored,
    ResourceUpdated,
    RestoreResource,
    Tag,
    Tags,
    Title,
    UpdateResource,
)
from domain.versions import is_stale

__all__ = [
    "COMMANDS",
    "DEFAULT_STATUS",
    "EVENTS",
    "EVENT_NAMES",
    "RESTORABLE",
    "Attributes",
    "Body",
    "CreateResource",
    "DeleteResource",
    "EraseResource",
    "Event",
    "Resource",
    "ResourceCreated",
    "ResourceDeleted",
    "ResourceErased",
    "ResourceRestored",
    "ResourceUpdated",
    "RestoreResource",
    "Tag",
    "Tags",
    "Title",
    "UpdateResource",
    "decide",
    "document",
    "encode",
    "evolve",
]

RESTORABLE = timedelta(days=30)
"""How long a deleted resource can be restored."""


class Resource(msgspec.Struct, frozen=True):
    """The state of a resource; `version` counts its events. A deleted one has `deleted_at` and is found by nobody."""

    id: UUID
    kind: str
    title: str
    body: str
    tags: tuple[str, ...]
    attributes: dict[str, Any]
    visibility: Visibility
    status: str
    owner_id: UUID
    version: int
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None = None

    @property
    def erased(self) -> bool:
        """True if nothing is left of it."""
        return not self.title


_in_order = msgspec.json.Encoder(order="deterministic").encode

NOT_FOUND = Refusal(Code.NOT_FOUND)
FORBIDDEN = Refusal(Code.FORBIDDEN)
STALE = Refusal(Code.STALE_VERSION)
EXISTS = Refusal(Code.ALREADY_EXISTS)
TOO_LATE = Refusal(Code.RESTORE_EXPIRED)


def decide(state: Resource | None, command: Command, context: Context) -> tuple[Event, ...] | Refusal:
    """What `command` makes happen. An update that changes nothing is fine and makes nothing happen: `()`."""
    if isinstance(command, CreateResource):
        return _create(state, command, context)
    if isinstance(command, RestoreResource):
        return _restore(state, command, context)
    if isinstance(command, EraseResource):
        return _erase(state, context)
    # Whoever may not read it learns nothing: neither that it exists, nor its version.
    if state is None or state.deleted_at is not None:
        return NOT_FOUND
    if not may_read(context.actor, state.owner_id, state.visibility):
        return NOT_FOUND
    if not may_change(context.actor, state.owner_id):
        return FORBIDDEN
    if is_stale(command.expected_version, state.version):
        return STALE
    if isinstance(command, UpdateResource):
        return _update(state, command)
    return (ResourceDeleted(state.kind, state.visibility, state.owner_id),)


def _create(state: Resource | None, command: CreateResource, context: Context) -> tuple[Event, ...] | Refusal:
    owner = context.actor.id
    if owner is None or not may_create(context.actor):
        return FORBIDDEN
    if state is not None:
        return EXISTS
    return (
        ResourceCreated(
            command.kind,
            command.title,
            command.body,
            _once(command.tags),
            command.attributes,
            command.visibility,
            command.status,
            owner,
        ),
    )


def _restore(state: Resource | None, command: RestoreResource, context: Context) -> tuple[Event, ...] | Refusal:
    if state is None or (state.deleted_at is not None and not may_change(context.actor, state.owner_id)):
        return NOT_FOUND
    if not may_change(context.actor, state.owner_id):
        return FORBIDDEN if may_read(context.actor, state.owner_id, state.visibility) else NOT_FOUND
    if is_stale(command.expected_version, state.version):
        return STALE
    if state.deleted_at is None:
        return ()  # it is there, which is what was wanted
    if state.erased or context.now - state.deleted_at > RESTORABLE:
        return TOO_LATE
    return (ResourceRestored(state.kind, state.visibility, state.owner_id),)


def _erase(state: Resource | None, context: Context) -> tuple[Event, ...] | Refusal:
    if context.actor != SYSTEM or state is None:
        return NOT_FOUND
    if state.erased:
        return ()
    erased = ResourceErased(state.kind, state.visibility, state.owner_id)
    if state.deleted_at is not None:
        return (erased,)
    return ResourceDeleted(state.kind, state.visibility, state.owner_id), erased


def _update(state: Resource, command: UpdateResource) -> tuple[Event, ...] | Refusal:
    attributes = command.attributes
    if command.merge is not UNSET:
        attributes = merged(state.attributes if attributes is UNSET else attributes, command.merge)
        if wrong := too_much(attributes):
            return Refusal(Code.VALIDATION_ERROR, wrong)
    kind = state.kind if command.kind is UNSET else command.kind
    visibility = state.visibility if command.visibility is UNSET else command.visibility
    tags = command.tags if command.tags is UNSET else _once(command.tags)
    event = ResourceUpdated(
        kind=kind,
        visibility=visibility,
        owner_id=state.owner_id,
        title=UNSET if command.title == state.title else command.title,
        body=UNSET if command.body == state.body else command.body,
        tags=UNSET if tags == state.tags else tags,
        attributes=UNSET if _same(attributes, state.attributes) else attributes,
        status=UNSET if command.status == state.status else command.status,
    )
    unchanged = (
        kind == state.kind
        and visibility == state.visibility
        and event.title is UNSET
        and event.body is UNSET
        and event.tags is UNSET
        and event.attributes is UNSET
        and event.status is UNSET
    )
    return () if unchanged else (event,)


def _once(tags: tuple[str, ...]) -> tuple[str, ...]:
    """Each tag once, in the order given: a repeated one says nothing new."""
    return tags if len(tags) < 2 else tuple(dict.fromkeys(tags))


def _same(new: dict[str, Any] | UnsetType, old: dict[str, Any]) -> bool:
    """Equal as JSON, members in any order: to Python `True == 1 == 1.0`, to a client they differ."""
    return new is not UNSET and new == old and _in_order(new) == _in_order(old)


def evolve(state: Resource | None, event: Event, at: Occurrence) -> Resource:
    """The resource after `event`. Raises ValueError on a history that no `decide` has made."""
    if isinstance(event, ResourceCreated):
        return Resource(
            at.aggregate_id,
            event.kind,
            event.title,
            event.body,
            event.tags,
            event.attributes,
            event.visibility,
            event.status,
            event.owner_id,
            at.version,
            at.time,
            at.time,
        )
    if state is None:
        raise ValueError(f"{EVENT_NAMES[type(event)]} happened to resource {at.aggregate_id} which does not exist")
    if isinstance(event, ResourceDeleted):
        return msgspec.structs.replace(state, version=at.version, updated_at=at.time, deleted_at=at.time)
    if isinstance(event, ResourceErased):
        return msgspec.structs.replace(
            state, title="", body="", tags=(), attributes={}, status="", version=at.version, updated_at=at.time
        )
    if isinstance(event, ResourceRestored):
        return msgspec.structs.replace(state, version=at.version, updated_at=at.time, deleted_at=None)
    return Resource(
        state.id,
        event.kind,
        state.title if event.title is UNSET else event.title,
        state.body if event.body is UNSET else event.body,
        state.tags if event.tags is UNSET else event.tags,
        state.attributes if event.attributes is UNSET else event.attributes,
        event.visibility,
        state.status if event.status is UNSET else event.status,
        state.owner_id,
        at.version,
        state.created_at,
        at.time,
        state.deleted_at,
    )


class _Document(msgspec.Struct, frozen=True):
    """A resource as a client of v1 sees it; the order of the members is part of the document."""

    id: UUID
    kind: str
    title: str
    body: str
    tags: tuple[str, ...]
    attributes: dict[str, Any]
    visibility: str
    status: str
    owner_id: UUID
    version: int
    created_at: datetime
    updated_at: datetime


encode = msgspec.json.Encoder().encode


def document(state: Resource) -> bytes:
    """The JSON object that a client sees."""
    return encode(
        _Document(
            state.id,
            state.kind,
            state.title,
            state.body,
            state.tags,
            state.attributes,
            state.visibility,
            state.status,
            state.owner_id,
            state.version,
            state.created_at,
            state.updated_at,
        )
    )
