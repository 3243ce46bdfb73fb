"""What is answered, as types. Handlers write their bytes themselves; the tests hold every answer against these."""

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from domain.access import Scope, Visibility

Json = dict[str, Any]


class User(msgspec.Struct, frozen=True):
    """An account. Its personal fields are null where its key is gone. `pending_email` waits to be confirmed."""

    id: UUID
    role: Literal["admin", "user"]
    status: Literal["active", "disabled", "erased"]
    version: int
    created_at: datetime
    updated_at: datetime
    email_verified: bool
    language: Literal["en", "ko"] | None
    email: str | None
    name: str | None
    phone: str | None
    pending_email: str | None


class Tokens(msgspec.Struct, frozen=True):
    """What a login gives. Lifetimes are in seconds."""

    access_token: str
    token_type: Literal["Bearer"]
    expires_in: int
    refresh_token: str
    refresh_expires_in: int


class Registered(Tokens, frozen=True):
    """The new account, and the tokens of its first session."""

    user: User


class Accepted(msgspec.Struct, frozen=True):
    """It was taken; log in to find out what became of it."""

    status: Literal["accepted"]


class Session(msgspec.Struct, frozen=True):
    """A session that goes on. `last_seen_at` is its last refresh."""

    id: UUID
    device: str | None
    address: str | None
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    current: bool


class HeldSession(msgspec.Struct, frozen=True):
    """A session, as an export shows it."""

    id: UUID
    device: str | None
    address: str | None
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime


class ApiKey(msgspec.Struct, frozen=True):
    """An API key that is good. `last_used_at` may be a minute or two old; `expires_at` null: until it is revoked."""

    id: UUID
    name: str | None
    scopes: tuple[Scope, ...]
    created_at: datetime
    last_used_at: datetime | None
    expires_at: datetime | None


class NewApiKey(ApiKey, frozen=True):
    """The new API key. `key` is shown this once, and null in what repeats the answer."""

    key: str | None


class SecondFactor(msgspec.Struct, frozen=True):
    """Whether a login asks for a code."""

    status: Literal["off", "pending", "on"]
    enabled_at: datetime | None
    recovery_codes_left: int


class Secret(msgspec.Struct, frozen=True):
    """What an app makes codes of, shown this once. `uri` is for a QR code; `expires_in` is in seconds."""

    secret: str
    uri: str
    expires_in: int


class RecoveryCodes(msgspec.Struct, frozen=True):
    """Each takes the place of one code of the app; shown this once."""

    recovery_codes: tuple[str, ...]


class AccountChange(msgspec.Struct, frozen=True):
    """Something that happened to an account, or to its second factor."""

    type: str
    time: datetime
    version: int


class SessionChange(msgspec.Struct, frozen=True):
    """Something that happened to a session."""

    type: str
    time: datetime
    version: int
    session: UUID | UnsetType = UNSET
    device: str | UnsetType = UNSET
    address: str | UnsetType = UNSET
    reason: str | UnsetType = UNSET


class ApiKeyChange(msgspec.Struct, frozen=True):
    """Something that happened to an API key."""

    type: str
    time: datetime
    version: int
    api_key: UUID | UnsetType = UNSET
    name: str | UnsetType = UNSET
    scopes: tuple[Scope, ...] | UnsetType = UNSET
    expires_at: datetime | UnsetType = UNSET
    reason: str | UnsetType = UNSET


class Resource(msgspec.Struct, frozen=True):
    """A resource."""

    id: UUID
    kind: str
    title: str
    body: str
    tags: tuple[str, ...]
    attributes: Json
    visibility: Visibility
    status: str
    owner_id: UUID
    version: int
    created_at: datetime
    updated_at: datetime


class HeldResource(Resource, frozen=True):
    """A resource with everything that happened to it, each as its event."""

    deleted_at: datetime | None
    history: tuple[Json, ...]


class SentMail(msgspec.Struct, frozen=True):
    """A mail that was sent."""

    kind: str
    sent_at: datetime


class Export(msgspec.Struct, frozen=True):
    """Everything that is stored of somebody."""

    exported_at: datetime
    account: User
    account_history: tuple[AccountChange, ...]
    api_keys: tuple[ApiKey, ...]
    api_key_history: tuple[ApiKeyChange, ...]
    second_factor: SecondFactor
    second_factor_history: tuple[AccountChange, ...]
    sessions: tuple[HeldSession, ...]
    session_history: tuple[SessionChange, ...]
    mails: tuple[SentMail, ...]
    resources: tuple[HeldResource, ...]


class Marked(msgspec.Struct, frozen=True):
    """Where the words stand, in `<mark>`; everything else is escaped for HTML."""

    title: str
    body: str


class ListedResource(msgspec.Struct, frozen=True):
    """A resource in a list: all of it, or the members that `fields` names. `highlight` comes with `q`."""

    id: UUID
    kind: str | UnsetType = UNSET
    title: str | UnsetType = UNSET
    body: str | UnsetType = UNSET
    tags: tuple[str, ...] | UnsetType = UNSET
    attributes: Json | UnsetType = UNSET
    visibility: Visibility | UnsetType = UNSET
    status: str | UnsetType = UNSET
    owner_id: UUID | UnsetType = UNSET
    version: int | UnsetType = UNSET
    created_at: datetime | UnsetType = UNSET
    updated_at: datetime | UnsetType = UNSET
    deleted_at: datetime | UnsetType = UNSET
    highlight: Marked | UnsetType = UNSET


class Total(msgspec.Struct, frozen=True):
    """How many a list has in all; not `exact` where that would take too long to find out."""

    count: int
    exact: bool


class ResourceChange(msgspec.Struct, frozen=True):
    """A change of a resource: its event, who made it, and the version that it made."""

    version: int
    type: str
    time: datetime
    actor: UUID | None
    data: Json


class KindSchema(msgspec.Struct, frozen=True):
    """The JSON Schema that the attributes of a kind must satisfy."""

    kind: str
    schema: Json
    version: int
    created_at: datetime
    updated_at: datetime
