"""Accounts. Personal fields and the password's hash are sealed before they get here; the domain never sees them plain.

That an address is taken only once is settled by claims on `email_index` before `decide` is asked: no aggregate alone
can know it.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

import msgspec

from domain.access import Role
from domain.aggregates import Context, Occurrence
from domain.refusals import Code, Refusal

Sealed = Annotated[str, msgspec.Meta(min_length=1, max_length=4_096)]
Index = Annotated[str, msgspec.Meta(min_length=64, max_length=64)]


class AccountStatus(StrEnum):
    """Whether an account may be used."""

    ACTIVE = "active"


class Account(msgspec.Struct, frozen=True):
    """The state of an account; `email_index` is the hex HMAC by which an address is found without being readable."""

    id: UUID
    email_sealed: str
    name_sealed: str
    phone_sealed: str | None
    email_index: str
    password_sealed: str
    role: Role
    status: AccountStatus
    version: int
    created_at: datetime
    updated_at: datetime


class CreateAccount(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Make an account whose id is the aggregate's. Any role but `user` is given by an admin or the system only."""

    email_sealed: Sealed
    name_sealed: Sealed
    email_index: Index
    password_sealed: Sealed
    phone_sealed: Sealed | None = None
    role: Role = Role.USER


class AccountCreated(msgspec.Struct, frozen=True):
    """An account came to be."""

    email_sealed: str
    name_sealed: str
    phone_sealed: str | None
    email_index: str
    password_sealed: str
    role: Role


class ChangeRole(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Give an account another role. For an admin or the system."""

    role: Role


class RoleChanged(msgspec.Struct, frozen=True):
    """An account has another role than before."""

    role: Role


Command = CreateAccount | ChangeRole
Event = AccountCreated | RoleChanged

COMMANDS: dict[str, type[Command]] = {"create_account": CreateAccount, "change_role": ChangeRole}
EVENTS: dict[str, type[Event]] = {"account.created": AccountCreated, "account.role_changed": RoleChanged}
EVENT_NAMES: dict[type[Event], str] = {kind: name for name, kind in EVENTS.items()}

EXISTS = Refusal(Code.ALREADY_EXISTS)
FORBIDDEN = Refusal(Code.FORBIDDEN)
NOT_FOUND = Refusal(Code.NOT_FOUND)


def decide(state: Account | None, command: Command, context: Context) -> tuple[Event, ...] | Refusal:
    """What `command` makes happen. Who registers acts as the account that comes to be; an admin may make any."""
    if isinstance(command, ChangeRole):
        return _change_role(state, command, context)
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


def _change_role(state: Account | None, command: ChangeRole, context: Context) -> tuple[Event, ...] | Refusal:
    if context.actor.role is not Role.ADMIN or command.role is Role.GUEST:
        return FORBIDDEN
    if state is None:
        return NOT_FOUND
    return () if state.role is command.role else (RoleChanged(command.role),)


def evolve(state: Account | None, event: Event, at: Occurrence) -> Account:
    """The account after `event`."""
    if isinstance(event, RoleChanged):
        if state is None:
            raise ValueError("a role changes of an account that came to be")
        return msgspec.structs.replace(state, role=event.role, version=at.version, updated_at=at.time)
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
