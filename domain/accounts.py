"""Accounts. Personal fields and the password's hash are sealed before they get here; the domain never sees them plain.

What no aggregate alone can know is settled before `decide` is asked: that an address is taken only once, by claims on
`email_index`, and that one active admin is left (agents/accounts.py).
"""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec
from msgspec import UNSET

from domain.access import Role
from domain.account_changes import (
    COMMANDS,
    EVENT_NAMES,
    EVENTS,
    AccountCreated,
    AccountDisabled,
    AccountEnabled,
    AccountErased,
    AccountUpdated,
    ChangePassword,
    ChangeRole,
    Command,
    CreateAccount,
    DisableAccount,
    EnableAccount,
    EraseAccount,
    Event,
    PasswordChanged,
    RoleChanged,
    UpdateAccount,
)
from domain.aggregates import Context, Occurrence
from domain.refusals import Code, Refusal

__all__ = [
    "COMMANDS", "EVENTS", "EVENT_NAMES", "Account", "AccountCreated", "AccountDisabled", "AccountEnabled",
    "AccountErased", "AccountStatus", "AccountUpdated", "ChangePassword", "ChangeRole", "Command", "CreateAccount",
    "DisableAccount", "EnableAccount", "EraseAccount", "Event", "PasswordChanged", "RoleChanged", "UpdateAccount",
    "decide", "document", "evolve", "may_end_admin",
]  # fmt: skip


class AccountStatus(StrEnum):
    """Whether an account may be used. What is left of an erased one is its id, and that it was erased."""

    ACTIVE = "active"
    DISABLED = "disabled"
    ERASED = "erased"


class Account(msgspec.Struct, frozen=True):
    """The state of an account; `email_index` is the hex HMAC by which an address is found without being readable.

    An erased one has no personal field, no password, and None for `email_index`.
    """

    id: UUID
    email_sealed: str
    name_sealed: str
    phone_sealed: str | None
    email_index: str | None
    password_sealed: str
    role: Role
    status: AccountStatus
    version: int
    created_at: datetime
    updated_at: datetime

    @property
    def deleted_at(self) -> datetime | None:
        """When it was erased: nothing happens to it after that."""
        return self.updated_at if self.status is AccountStatus.ERASED else None


EXISTS = Refusal(Code.ALREADY_EXISTS)
FORBIDDEN = Refusal(Code.FORBIDDEN)
NOT_FOUND = Refusal(Code.NOT_FOUND)
ERASED = Refusal(Code.ACCOUNT_ERASED)
STALE = Refusal(Code.STALE_VERSION)
WRONG_PASSWORD = Refusal(Code.WRONG_PASSWORD)


def may_end_admin(command: object) -> bool:
    """True for a command after which an active admin may be none any more."""
    match command:
        case ChangeRole(role=role):
            return role is not Role.ADMIN
        case DisableAccount() | EraseAccount():
            return True
        case _:
            return False


def decide(state: Account | None, command: Command, context: Context) -> tuple[Event, ...] | Refusal:
    """What `command` makes happen. What is so already is fine, and makes nothing happen: `()`."""
    if isinstance(command, CreateAccount):
        return _create(state, command, context)
    actor = context.actor
    itself = actor.role is not Role.GUEST and actor.id == context.aggregate_id
    # Whoever may not see an account learns nothing of it, not even that it is there.
    if state is None or not (itself or actor.role is Role.ADMIN):
        return NOT_FOUND
    if state.status is AccountStatus.ERASED:
        return ERASED if itself else NOT_FOUND
    if not _may(command, context, state, itself=itself):
        return FORBIDDEN
    if command.expected_version is not None and command.expected_version != state.version:
        return STALE
    return _change(state, command)


def _create(state: Account | None, command: CreateAccount, context: Context) -> tuple[Event, ...] | Refusal:
    """Who registers acts as the account that comes to be; an admin may make any."""
    actor = context.actor
    if actor.role is not Role.ADMIN and (actor.id != context.aggregate_id or command.role is not Role.USER):
        return FORBIDDEN
    if command.role is Role.GUEST:
        return FORBIDDEN  # a guest is whoever has no account
    if state is not None:
        return EXISTS
    return (
        AccountCreated(
            command.email_sealed,
            command.name_sealed,
            command.phone_sealed,
            command.email_index,
            command.password_sealed,
            command.role,
        ),
    )


def _may(command: Command, context: Context, state: Account, *, itself: bool) -> bool:
    active = state.status is AccountStatus.ACTIVE
    match command:
        case UpdateAccount() | ChangePassword():
            return itself and active  # an admin reads what people say of themselves, and does not write it
        case EraseAccount():
            return context.actor.role is Role.ADMIN or (itself and active)
        case ChangeRole(role=Role.GUEST):
            return False
        case _:
            return context.actor.role is Role.ADMIN


def _change(state: Account, command: Command) -> tuple[Event, ...] | Refusal:
    match command:
        case UpdateAccount(name_sealed=name, phone_sealed=phone):
            return () if name is UNSET and phone is UNSET else (AccountUpdated(name_sealed=name, phone_sealed=phone),)
        case ChangePassword():
            if command.checked_sealed != state.password_sealed:
                return WRONG_PASSWORD  # it was right when it was checked, and is another since
            return (PasswordChanged(command.password_sealed, command.kept_session),)
        case ChangeRole(role=role):
            return () if state.role is role else (RoleChanged(role),)
        case DisableAccount():
            return () if state.status is AccountStatus.DISABLED else (AccountDisabled(),)
        case EnableAccount():
            return () if state.status is AccountStatus.ACTIVE else (AccountEnabled(),)
        case _:
            return (AccountErased(),)


def evolve(state: Account | None, event: Event, at: Occurrence) -> Account:
    """The account after `event`. Raises ValueError on a history that no `decide` has made."""
    if isinstance(event, AccountCreated):
        return Account(
            at.aggregate_id,
            event.email_sealed,
            event.name_sealed,
            event.phone_sealed,
            event.email_index,
            event.password_sealed,
            event.role,
            AccountStatus.ACTIVE,
            at.version,
            at.time,
            at.time,
        )
    if state is None:
        raise ValueError(f"{EVENT_NAMES[type(event)]} happened to account {at.aggregate_id} which does not exist")
    after = msgspec.structs.replace(state, version=at.version, updated_at=at.time)
    match event:
        case AccountUpdated(name_sealed=name, phone_sealed=phone):
            return msgspec.structs.replace(
                after,
                name_sealed=state.name_sealed if name is UNSET else name,
                phone_sealed=state.phone_sealed if phone is UNSET else phone,
            )
        case PasswordChanged():
            return msgspec.structs.replace(after, password_sealed=event.password_sealed)
        case RoleChanged():
            return msgspec.structs.replace(after, role=event.role)
        case AccountDisabled():
            return msgspec.structs.replace(after, status=AccountStatus.DISABLED)
        case AccountEnabled():
            return msgspec.structs.replace(after, status=AccountStatus.ACTIVE)
        case _:
            return msgspec.structs.replace(
                after,
                email_sealed="",
                name_sealed="",
                phone_sealed=None,
                email_index=None,
                password_sealed="",
                role=Role.USER,
                status=AccountStatus.ERASED,
            )


class _Document(msgspec.Struct, frozen=True):
    """What of an account may be shown without its key; the front adds the opened personal fields."""

    id: UUID
    role: str
    status: str
    version: int
    created_at: datetime
    updated_at: datetime


_encode = msgspec.json.Encoder().encode


def document(state: Account) -> bytes:
    """The JSON object that a client sees, without personal fields."""
    return _encode(_Document(state.id, state.role, state.status, state.version, state.created_at, state.updated_at))
