"""What may be asked of resources, and what happens to them: commands and events, and the types of their fields."""

from typing import Annotated, Any
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from domain.access import Visibility
from domain.merging import MOST_MEMBERS
from domain.text import Slug, check, check_json
from domain.versions import Expected

Title = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
Body = Annotated[str, msgspec.Meta(max_length=100_000)]
Tag = Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
Tags = Annotated[tuple[Tag, ...], msgspec.Meta(max_length=32)]
Attributes = Annotated[dict[str, Any], msgspec.Meta(max_length=MOST_MEMBERS)]

DEFAULT_STATUS = "open"


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
    """Change what is given and keep the rest. `expected_version`: refuse if the resource has another one by then.

    `merge` is a patch of the attributes (RFC 7396), applied to what they are by then.
    """

    expected_version: Expected = None
    kind: Slug | UnsetType = UNSET
    title: Title | UnsetType = UNSET
    body: Body | UnsetType = UNSET
    tags: Tags | UnsetType = UNSET
    attributes: Attributes | UnsetType = UNSET
    merge: Attributes | UnsetType = UNSET
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
        if self.merge is not UNSET:
            check_json(self.merge)


class DeleteResource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Delete a resource (softly). `expected_version` as in an update."""

    expected_version: Expected = None


class RestoreResource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bring a deleted resource back as it was, within RESTORABLE."""

    expected_version: Expected = None


class EraseResource(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Delete a resource for ever, with all that is in it and was: its owner was erased. The system's alone."""


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


class ResourceRestored(msgspec.Struct, frozen=True):
    """A deleted resource came back, as it was."""

    kind: str
    visibility: Visibility
    owner_id: UUID


class ResourceErased(msgspec.Struct, frozen=True):
    """Nothing is left of a deleted resource but its id, its kind, and whose it was."""

    kind: str
    visibility: Visibility
    owner_id: UUID


Command = CreateResource | UpdateResource | DeleteResource | RestoreResource | EraseResource
Event = ResourceCreated | ResourceUpdated | ResourceDeleted | ResourceRestored | ResourceErased

COMMANDS: dict[str, type[Command]] = {
    "create_resource": CreateResource,
    "update_resource": UpdateResource,
    "delete_resource": DeleteResource,
    "restore_resource": RestoreResource,
    "erase_resource": EraseResource,
}
EVENTS: dict[str, type[Event]] = {
    "resource.created": ResourceCreated,
    "resource.updated": ResourceUpdated,
    "resource.deleted": ResourceDeleted,
    "resource.restored": ResourceRestored,
    "resource.erased": ResourceErased,
}
EVENT_NAMES: dict[type[Event], str] = {kind: name for name, kind in EVENTS.items()}
