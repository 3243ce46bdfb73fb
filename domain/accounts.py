"""Accounts. Personal fields and the password's hash are sealed before they get here; the domain never sees them plain.

What no aggregate alone can know is settled before `decide` is asked: that an address is taken only once, by claims on
`email_index`, and that one active admin is left (agents/accounts.py).
"""

from datetime import datetime
from uuid import UUID

import msgspec
from msgspec import UNSET

from domain import account_mails
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
from domain.account_mails import (
    LIFETIMES,
    NO_TOKEN,
    NOT_FOUND,
    RequestEmailChange,
    RequestVerification,
    ResetPassword,
)
from domain.account_states import Account, AccountStatus, Mailing, Purpose, Ticket
from domain.aggregates import Context, Occurrence
from domain.refusals import Code, Refusal
from domain.versions import is_stale

__all__ = [
    "COMMANDS", "EVENTS", "EVENT_NAMES", "Account", "AccountCreated", "AccountDisabled", "AccountEnabled",
    "AccountErased", "AccountStatus", "AccountUpdated", "ChangePassword", "ChangeRole", "Command", "CreateAccount",
    "DisableAccount", "EnableAccount", "EraseAccount", "Event", "PasswordChanged", "Personal", "RoleChanged",
    "UpdateAccount", "answer", "decide", "document", "evolve", "may_end_admin", "personal",
]  # fmt: skip


EXISTS = Refusal(Code.ALREADY_EXISTS)
FORBIDDEN = Refusal(Code.FORBIDDEN)
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
    if isinstance(command, ResetPassword):
        return _reset(state, command, context)
    if isinstance(command, account_mails.OfAnybody):
        return account_mails.decide(state, command, context)
    actor = context.actor
    itself = actor.role is not Role.GUEST and actor.id == context.aggregate_id
    # Whoever may not see an account learns nothing of it, not even that it is there.
    if state is None or not (itself or actor.role is Role.ADMIN):
        return NOT_FOUND
    if state.status is AccountStatus.ERASED:
        return ERASED if itself else NOT_FOUND
    if not _may(command, context, state, itself=itself):
        return FORBIDDEN
    expected = None if isinstance(command, RequestVerification) else command.expected_version
    if is_stale(expected, state.version):
        return STALE
    return _change(state, command, context.now)


def _create(state: Account | None, command: CreateAccount, context: Context) -> tuple[Event, ...] | Refusal:
    """Who registers acts as the account that comes to be; an admin may make any."""
    actor = context.actor
    if actor.role is not Role.ADMIN and (
        actor.id != context.aggregate_id or command.role is not Role.USER or command.verified
    ):
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
            command.verification,
            None if command.verification is None else context.now + LIFETIMES[Purpose.VERIFY],
            command.verified,
            command.language,
        ),
    )


def _reset(state: Account | None, command: ResetPassword, context: Context) -> tuple[Event, ...] | Refusal:
    """Another password for whoever has read the mail, which shows as well that the address is read."""
    if state is None or account_mails.accepts(state, Purpose.RESET, command.hash, context.now) is None:
        return NO_TOKEN
    changed = PasswordChanged(command.password_sealed, None)
    return (changed,) if state.email_verified else (changed, account_mails.EmailVerified())


def _may(command: Command, context: Context, state: Account, *, itself: bool) -> bool:
    active = state.status is AccountStatus.ACTIVE
    match command:
        case UpdateAccount() | ChangePassword() | RequestVerification() | RequestEmailChange():
            return itself and active  # an admin reads what people say of themselves, and does not write it
        case EraseAccount():
            return context.actor.role is Role.ADMIN or (itself and active)
        case ChangeRole(role=Role.GUEST):
            return False
        case _:
            return context.actor.role is Role.ADMIN


def _change(state: Account, command: Command, now: datetime) -> tuple[Event, ...] | Refusal:
    match command:
        case UpdateAccount(name_sealed=name, phone_sealed=phone, language=language):
            if name is UNSET and phone is UNSET and language is UNSET:
                return ()
            return (AccountUpdated(name_sealed=name, phone_sealed=phone, language=language),)
        case RequestVerification():
            return account_mails.ask_own(state, command, now)
        case RequestEmailChange():
            if command.checked_sealed != state.password_sealed:
                return WRONG_PASSWORD
            return account_mails.ask_own(state, command, now)
        case ChangePassword():
            if command.checked_sealed != state.password_sealed:
                return WRONG_PASSWORD  # it was right when it was checked, and is another since
            return (PasswordChanged(command.password_sealed, command.kept_session, command.end_api_keys),)
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
            event.verified,
            event.language,
            _first(event, at),
        )
    if state is None:
        raise ValueError(f"{EVENT_NAMES[type(event)]} happened to account {at.aggregate_id} which does not exist")
    after = msgspec.structs.replace(state, version=at.version, updated_at=at.time)
    match event:
        case AccountUpdated(name_sealed=name, phone_sealed=phone, language=language):
            return msgspec.structs.replace(
                after,
                name_sealed=state.name_sealed if name is UNSET else name,
                phone_sealed=state.phone_sealed if phone is UNSET else phone,
                language=state.language if language is UNSET else language,
            )
        case PasswordChanged():
            # Who knew the old one may have asked for another address: that ends with it.
            mailing = account_mails.without(state.mailing, Purpose.RESET, Purpose.CHANGE)
            return msgspec.structs.replace(after, password_sealed=event.password_sealed, mailing=mailing)
        case RoleChanged():
            return msgspec.structs.replace(after, role=event.role)
        case AccountDisabled():
            return msgspec.structs.replace(after, status=AccountStatus.DISABLED)
        case AccountEnabled():
            return msgspec.structs.replace(after, status=AccountStatus.ACTIVE)
        case AccountErased():
            return msgspec.structs.replace(
                after,
                email_sealed="",
                name_sealed="",
                phone_sealed=None,
                email_index=None,
                password_sealed="",
                role=Role.USER,
                status=AccountStatus.ERASED,
                email_verified=False,
                language=None,
                mailing=Mailing(),
            )
        case _:
            return account_mails.evolve(after, event, at.time)


def _first(event: AccountCreated, at: Occurrence) -> Mailing:
    """The correspondence of a new account: the mail by which its address is verified."""
    if event.verification is None or event.expires_at is None:
        return Mailing()
    ticket = Ticket(Purpose.VERIFY, event.verification.hash, event.expires_at)
    return account_mails.opened(Mailing(), ticket, at.time)


class _Document(msgspec.Struct, frozen=True):
    """What of an account may be shown without its key; the front adds the opened personal fields."""

    id: UUID
    role: str
    status: str
    version: int
    created_at: datetime
    updated_at: datetime
    email_verified: bool
    language: str | None


class Personal(msgspec.Struct, frozen=True):
    """What of an account can be shown with its key only, sealed as it is kept.

    `pending_email`: the address that takes the place of the account's, if it is confirmed until `pending_until`.
    """

    email: str
    name: str
    phone: str | None
    pending_email: str | None
    pending_until: datetime | None


_encode = msgspec.json.Encoder().encode


def document(state: Account) -> bytes:
    """The JSON object that a client sees, without personal fields."""
    return _encode(
        _Document(
            state.id, state.role, state.status, state.version, state.created_at, state.updated_at,
            state.email_verified, state.language,
        )
    )  # fmt: skip


def personal(state: Account) -> Personal:
    """The personal fields of an account."""
    ticket = state.mailing.ticket(Purpose.CHANGE)
    pending = (None, None) if ticket is None else (ticket.email_sealed, ticket.expires_at)
    return Personal(state.email_sealed, state.name_sealed, state.phone_sealed, *pending)


def answer(state: Account) -> bytes:
    """What is answered to a command: the document with `sealed` in it, so that a retry is shown the same account."""
    return document(state)[:-1] + b',"sealed":' + _encode(personal(state)) + b"}"
