"""Resources: objects of any kind that clients keep, share and change. Deleting one keeps it, marked, for a restore."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from domain.access import Visibility, may_change, may_create, may_read
from domain.aggregates import Context, Occurrence
from domain.refusals import Code, Refusal
from domain.text import Slug, check, check_json

Title = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Body = Annotated[str, msgspec.Meta(max_length=100_000)]
Tag = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Tags = Annotated[tuple[Tag, ...], msgspec.Meta(max_length=32)]
Attributes = Annotated[dict[str, Any], msgspec.Meta(max_length=256)]

DEFAULT_STATUS = "open"


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


# Commands


class CreateResource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Make a resource whose id is the aggregate's; who asks becomes its owner."""

    kind: Slug
    title: Title
    body: Body = ""
    tags: Tags = ()
    attributes: Attributes = {}
    visibility: Visibility = Visibility.PRIVATE
    status: Slug = DEFAULT_STATUS

    def __post_init__(self) -> None:
        check(self.title, self.body, *self.tags)
        if self.attributes:
            check_json(self.attributes)


class UpdateResource(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Change what is given and keep the rest. `expected_version`: refuse if the resource has another one by then."""

    expected_version: int | None = None
    kind: Slug | UnsetType = UNSET
    title: Title | UnsetType = UNSET
    body: Body | UnsetType = UNSET
    tags: Tags | UnsetType = UNSET
    attributes: Attributes | UnsetType = UNSET
    visibility: Visibility | UnsetType = UNSET
    status: Slug | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.title is not UNSET:
            check(self.title)
        if self.body is not UNSET:
            check(self.body)
        if self.tags is not UNSET:
            check(*self.tags)
        if self.attributes is not UNSET:
            check_json(self.attributes)


class DeleteResource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Delete a resource (softly). `expected_version` as in an update."""

    expected_version: int | None = None


# Events. Each names kind, visibility and owner, so that its readers know whom it concerns without asking a store.


class ResourceCreated(msgspec.Struct, frozen=True):
    """A resource came to be, with everything in it."""

    kind: str
    title: str
    body: str
    tags: tuple[str, ...]
    attributes: dict[str, Any]
    visibility: Visibility
    status: str
    owner_id: UUID


class ResourceUpdated(msgspec.Struct, frozen=True, kw_only=True):
    """A resource changed: of title, body, tags, attributes and status only what differs; the rest as it is after."""

    kind: str
    visibility: Visibility
    owner_id: UUID
    title: str | UnsetType = UNSET
    body: str | UnsetType = UNSET
    tags: tuple[str, ...] | UnsetType = UNSET
    attributes: dict[str, Any] | UnsetType = UNSET
    status: str | UnsetType = UNSET


class ResourceDeleted(msgspec.Struct, frozen=True):
    """A resource was deleted."""

    kind: str
    visibility: Visibility
    owner_id: UUID


Command = CreateResource | UpdateResource | DeleteResource
Event = ResourceCreated | ResourceUpdated | ResourceDeleted

COMMANDS: dict[str, type[Command]] = {
    "create_resource": CreateResource,
    "update_resource": UpdateResource,
    "delete_resource": DeleteResource,
}
EVENTS: dict[str, type[Event]] = {
    "resource.created": ResourceCreated,
    "resource.updated": ResourceUpdated,
    "resource.deleted": ResourceDeleted,
}
EVENT_NAMES: dict[type[Event], str] = {kind: name for name, kind in EVENTS.items()}

_in_order = msgspec.json.Encoder(order="deterministic").encode

NOT_FOUND = Refusal(Code.NOT_FOUND)
FORBIDDEN = Refusal(Code.FORBIDDEN)
STALE = Refusal(Code.STALE_VERSION)
EXISTS = Refusal(Code.ALREADY_EXISTS)


def decide(state: Resource | None, command: Command, context: Context) -> tuple[Event, ...] | Refusal:
    """What `command` makes happen. An update that changes nothing is fine and makes nothing happen: `()`."""
    if isinstance(command, CreateResource):
        return _create(state, command, context)
    # Whoever may not read it learns nothing: neither that it exists, nor its version.
    if state is None or state.deleted_at is not None:
        return NOT_FOUND
    if not may_read(context.actor, state.owner_id, state.visibility):
        return NOT_FOUND
    if not may_change(context.actor, state.owner_id):
        return FORBIDDEN
    if command.expected_version is not None and command.expected_version != state.version:
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


def _update(state: Resource, command: UpdateResource) -> tuple[Event, ...]:
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
        attributes=UNSET if _same(command.attributes, state.attributes) else command.attributes,
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


_encode = msgspec.json.Encoder().encode


def document(state: Resource) -> bytes:
    """The JSON object that a client sees."""
    return _encode(
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
