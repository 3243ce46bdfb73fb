"""The API keys of an account, for its machines: one aggregate, whose id is the account's, so that all end in order.

A key may do what its scopes say, and never more than the role of its account. Only the SHA-256 of a key gets here, of a
secret that nobody can guess; its name is sealed with the account's key.
"""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated
from uuid import UUID

import msgspec

from domain.access import SCOPES, Role, Scope
from domain.aggregates import Context, Occurrence
from domain.refusals import Code, Detail, Problem, Refusal
from domain.sessions import ENDED_KEPT, Ended, Hash, Sealed, Version

MOST = 50
"""Keys of an account that are good at a time."""
MOST_ENDED = 1_000
"""Keys that may end within ENDED_KEPT before no new one is made."""
LONGEST_LIFE = timedelta(days=3_660)
"""How long a key that expires may be good; one that shall be good for longer has no expiry."""

Scopes = Annotated[tuple[Scope, ...], msgspec.Meta(min_length=1, max_length=len(Scope))]
Moment = Annotated[datetime, msgspec.Meta(tz=True)]


class Reason(StrEnum):
    """Why a key ended before its time."""

    REVOKED = "revoked"
    PASSWORD_CHANGED = "password_changed"  # noqa: S105 (a reason, not a secret)
    DISABLED = "disabled"
    ROLE_CHANGED = "role_changed"
    ERASED = "erased"


class ApiKey(msgspec.Struct, frozen=True):
    """A key that is good. `hash`: of the key as it is presented. `expires_at` None: until it is revoked."""

    id: UUID
    hash: str
    name_sealed: str
    scopes: tuple[Scope, ...]
    account_version: int
    """The version of the account by which it was made."""
    created_at: datetime
    expires_at: datetime | None

    def is_good(self, now: datetime) -> bool:
        """True until it expires."""
        return self.expires_at is None or self.expires_at > now


class ApiKeys(msgspec.Struct, frozen=True):
    """The state: `held` in the order in which they were made, `ended` those of the last ENDED_KEPT.

    `barred`: a key that is made by an older version of the account than this is too late.
    """

    id: UUID
    held: tuple[ApiKey, ...]
    ended: tuple[Ended, ...]
    barred: int
    version: int

    def find(self, key: UUID, now: datetime) -> ApiKey | None:
        """The key, if it is good."""
        return next((one for one in self.held if one.id == key and one.is_good(now)), None)


class CreateApiKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Make a key, for the account itself. `name` is sealed with the account's key."""

    key: UUID
    hash: Hash
    name_sealed: Sealed
    scopes: Scopes
    account_version: Version
    expires_at: Moment | None = None


class RevokeApiKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """End one key."""

    key: UUID
    reason: Reason = Reason.REVOKED


class RevokeApiKeys(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """End the keys that were made by an older version of the account, but those that have none but `kept_scopes`."""

    reason: Reason
    account_version: Version
    kept_scopes: tuple[Scope, ...] = ()


class ApiKeyCreated(msgspec.Struct, frozen=True):
    """A machine may act for the account."""

    key: UUID
    hash: str
    name_sealed: str
    scopes: tuple[Scope, ...]
    account_version: int
    expires_at: datetime | None


class ApiKeyRevoked(msgspec.Struct, frozen=True):
    """A key ended before its time."""

    key: UUID
    reason: str


class ApiKeysBarred(msgspec.Struct, frozen=True):
    """Keys that are made by an older version of the account are too late from now on."""

    account_version: int


Command = CreateApiKey | RevokeApiKey | RevokeApiKeys
Event = ApiKeyCreated | ApiKeyRevoked | ApiKeysBarred

COMMANDS: dict[str, type[Command]] = {
    "create_api_key": CreateApiKey,
    "revoke_api_key": RevokeApiKey,
    "revoke_api_keys": RevokeApiKeys,
}
EVENTS: dict[str, type[Event]] = {
    "api_key.created": ApiKeyCreated,
    "api_key.revoked": ApiKeyRevoked,
    "api_keys.barred": ApiKeysBarred,
}
EVENT_NAMES: dict[type[Event], str] = {kind: name for name, kind in EVENTS.items()}

ALREADY_EXISTS = Refusal(Code.ALREADY_EXISTS)
FORBIDDEN = Refusal(Code.FORBIDDEN)
NOT_FOUND = Refusal(Code.NOT_FOUND)
STALE = Refusal(Code.STALE_VERSION)
TOO_BUSY = Refusal(Code.TOO_BUSY)
TOO_MANY = Refusal(Code.TOO_MANY_API_KEYS)


def decide(state: ApiKeys | None, command: Command, context: Context) -> tuple[Event, ...] | Refusal:
    """What `command` makes happen. Only the account itself makes keys; admins may end them."""
    own = context.actor.id == context.aggregate_id
    if isinstance(command, CreateApiKey):
        return _create(state, command, context) if own else FORBIDDEN
    if not own and context.actor.role is not Role.ADMIN:
        return FORBIDDEN
    if isinstance(command, RevokeApiKey):
        if state is None or state.find(command.key, context.now) is None:
            return NOT_FOUND
        return (ApiKeyRevoked(command.key, command.reason.value),)
    return _revoke_all(state, command, context)


def _create(state: ApiKeys | None, command: CreateApiKey, context: Context) -> tuple[Event, ...] | Refusal:
    if not set(command.scopes) <= set(SCOPES[context.actor.role]):
        return FORBIDDEN
    latest = context.now + LONGEST_LIFE
    if command.expires_at is not None and not context.now < command.expires_at <= latest:
        allowed = "–".join(f"{time:%Y-%m-%dT%H:%M:%SZ}" for time in (context.now, latest))
        return Refusal(Code.VALIDATION_ERROR, (Detail("expires_at", Problem.RANGE, allowed),))
    created = ApiKeyCreated(
        command.key, command.hash, command.name_sealed, _in_order(command.scopes), command.account_version,
        command.expires_at,
    )  # fmt: skip
    if state is None:
        return (created,)
    if command.account_version < state.barred:
        return STALE
    if command.key in {*(one.id for one in state.held), *(one.id for one in state.ended)}:
        return ALREADY_EXISTS
    if sum(one.at > context.now - ENDED_KEPT for one in state.ended) >= MOST_ENDED:
        return TOO_BUSY
    return (created,) if len(_good(state.held, context.now)) < MOST else TOO_MANY


def _in_order(scopes: tuple[Scope, ...]) -> tuple[Scope, ...]:
    """Each once, in the order in which they are declared."""
    return tuple(scope for scope in Scope if scope in scopes)


def _revoke_all(state: ApiKeys | None, command: RevokeApiKeys, context: Context) -> tuple[Event, ...]:
    events: list[Event] = [
        ApiKeyRevoked(one.id, command.reason.value)
        for one in (() if state is None else _good(state.held, context.now))
        if one.account_version < command.account_version and not set(one.scopes) <= set(command.kept_scopes)
    ]
    if state is None or state.barred < command.account_version:
        events.append(ApiKeysBarred(command.account_version))
    return tuple(events)


def _good(held: tuple[ApiKey, ...], now: datetime) -> tuple[ApiKey, ...]:
    return tuple(one for one in held if one.is_good(now))


def evolve(state: ApiKeys | None, event: Event, at: Occurrence) -> ApiKeys:
    """The account's keys after `event`; those whose time is over are left out."""
    held = () if state is None else _good(state.held, at.time)
    ended = () if state is None else tuple(one for one in state.ended if one.at > at.time - ENDED_KEPT)
    barred = 0 if state is None else state.barred
    match event:
        case ApiKeyCreated():
            made = ApiKey(
                event.key, event.hash, event.name_sealed, event.scopes, event.account_version, at.time,
                event.expires_at,
            )  # fmt: skip
            held = (*held, made)
        case ApiKeyRevoked():
            held = tuple(one for one in held if one.id != event.key)
            ended += (Ended(event.key, at.time, at.version),)
        case ApiKeysBarred():
            barred = max(barred, event.account_version)
    return ApiKeys(at.aggregate_id, held, ended, barred, at.version)


class Document(msgspec.Struct, frozen=True):
    """What an operation shows of an account's keys: which ones are good."""

    id: UUID
    api_keys: tuple[UUID, ...]
    version: int


_encode = msgspec.json.Encoder().encode


def document(state: ApiKeys) -> bytes:
    """The JSON of `Document`."""
    return _encode(Document(state.id, tuple(one.id for one in state.held), state.version))
