"""What is asked of accounts by mail, and what comes of it: a forgotten password, verification, another address.

A mail carries a token that nobody can guess; commands and events carry its hash, and a nonce from which only a holder
of the installation's key can make the token (security/mail_tokens.py). Each token is good once, for one purpose and a
limited time; a newer one, another password or another address ends the older ones. Whoever asks may be anybody, so how
many mails come of it is bounded here, and no answer tells whether there is such an account.
"""

from datetime import datetime, timedelta
from typing import Annotated
from uuid import UUID

import msgspec

from domain.account_states import Account, AccountStatus, Asked, Mailing, Purpose, Ticket
from domain.aggregates import Context
from domain.refusals import Code, Refusal
from domain.sentences import LANGUAGES
from domain.versions import Expected

LIFETIMES = {Purpose.RESET: timedelta(hours=1), Purpose.VERIFY: timedelta(hours=24), Purpose.CHANGE: timedelta(hours=1)}
"""How long a token of each purpose is good."""
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
MOST_AN_HOUR, MOST_A_DAY = 3, 10
"""Mails of one sort that may be asked for about one account; what goes beyond makes nothing happen."""
TRIED = "tried"
"""The sort of mail that tells of a registration with a taken address."""

Hex = Annotated[str, msgspec.Meta(min_length=64, max_length=64)]
"""32 bytes: a hash, the index of an address, a nonce."""
Sealed = Annotated[str, msgspec.Meta(min_length=1, max_length=4_096)]
Language = Annotated[str, msgspec.Meta(pattern=rf"^({'|'.join(LANGUAGES)})\Z")]


class Token(msgspec.Struct, frozen=True):
    """A new token, without the token: 32 random bytes from which it is made, and its hash, both in hex."""

    nonce: Hex
    hash: Hex


# Commands


class RequestReset(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Send the owner a mail with which the password can be set anew. Anybody may ask."""

    token: Token


class ResetPassword(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Take another password. For whoever shows the token of the mail; `hash` is the token's."""

    hash: Hex
    password_sealed: Sealed


class RequestVerification(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Send another mail by which the owner shows that the address is read. For the account itself."""

    token: Token


class VerifyEmail(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The address is read by the owner. For whoever shows the token of the mail."""

    hash: Hex


class RequestEmailChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Send a mail to another address, which becomes the account's once the mail was read. For the account itself.

    `checked_sealed`: the sealed hash of the password that the front has checked. `kept_session`: the one that asks.
    """

    email_sealed: Sealed
    email_index: Hex
    checked_sealed: Sealed
    token: Token
    kept_session: UUID | None = None
    expected_version: Expected = None


class ConfirmEmailChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The new address is read by the owner. `email_index`: of that address, which the worker claims first."""

    hash: Hex
    email_index: Hex


class NoteRegistration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Tell the owner that somebody tried to register with the address. Sent by private installations."""


# Events


class ResetRequested(msgspec.Struct, frozen=True):
    """Somebody wants to set the password anew."""

    token: Token
    expires_at: datetime


class VerificationRequested(msgspec.Struct, frozen=True):
    """The owner wants another mail to verify the address."""

    token: Token
    expires_at: datetime


class EmailVerified(msgspec.Struct, frozen=True):
    """Somebody who knows what is in the mailbox was here: the address is the owner's."""


class EmailChangeRequested(msgspec.Struct, frozen=True):
    """The owner wants another address."""

    email_sealed: str
    email_index: str
    token: Token
    expires_at: datetime
    kept_session: UUID | None = None


class EmailChanged(msgspec.Struct, frozen=True):
    """An account has another address, which was `was_sealed`; of its sessions only `kept_session` goes on."""

    email_sealed: str
    email_index: str
    was_sealed: str
    kept_session: UUID | None = None


class RegistrationTried(msgspec.Struct, frozen=True):
    """Somebody tried to register with the account's address."""


OfAnybody = RequestReset | VerifyEmail | ConfirmEmailChange | NoteRegistration
"""Commands that ask for no role: a token permits them, or anybody may."""
Own = RequestVerification | RequestEmailChange
"""Commands of the account itself."""
Command = OfAnybody | Own | ResetPassword
Event = (
    ResetRequested
    | VerificationRequested
    | EmailVerified
    | EmailChangeRequested
    | EmailChanged
    | RegistrationTried
)  # fmt: skip

COMMANDS: dict[str, type[Command]] = {
    "request_reset": RequestReset,
    "reset_password": ResetPassword,
    "request_verification": RequestVerification,
    "verify_email": VerifyEmail,
    "request_email_change": RequestEmailChange,
    "confirm_email_change": ConfirmEmailChange,
    "note_registration": NoteRegistration,
}
EVENTS: dict[str, type[Event]] = {
    "account.reset_requested": ResetRequested,
    "account.verification_requested": VerificationRequested,
    "account.email_verified": EmailVerified,
    "account.email_change_requested": EmailChangeRequested,
    "account.email_changed": EmailChanged,
    "account.registration_tried": RegistrationTried,
}

NOT_FOUND = Refusal(Code.NOT_FOUND)
NO_TOKEN = Refusal(Code.MAIL_TOKEN_INVALID)
TOO_OFTEN = Refusal(Code.TOO_MANY_REQUESTS)


def accepts(state: Account | None, purpose: Purpose, shown: str, now: datetime) -> Ticket | None:
    """The ticket whose token has the hash `shown`, if it is good now."""
    if state is None or state.status is not AccountStatus.ACTIVE:
        return None
    ticket = state.mailing.ticket(purpose)
    return ticket if ticket is not None and ticket.hash == shown and ticket.expires_at > now else None


def decide(state: Account | None, command: OfAnybody, context: Context) -> tuple[Event, ...] | Refusal:
    """What `command` makes happen, whoever sends it."""
    match command:
        case RequestReset():
            if state is None or state.status is not AccountStatus.ACTIVE:
                return NOT_FOUND
            expires = context.now + LIFETIMES[Purpose.RESET]
            return () if too_often(state, Purpose.RESET, context.now) else (ResetRequested(command.token, expires),)
        case NoteRegistration():
            if state is None or state.status is AccountStatus.ERASED:
                return NOT_FOUND
            return () if too_often(state, TRIED, context.now) else (RegistrationTried(),)
        case VerifyEmail(hash=shown):
            return NO_TOKEN if accepts(state, Purpose.VERIFY, shown, context.now) is None else (EmailVerified(),)
        case ConfirmEmailChange(hash=shown, email_index=index):
            ticket = accepts(state, Purpose.CHANGE, shown, context.now)
            if state is None or ticket is None or ticket.email_sealed is None or ticket.email_index != index:
                return NO_TOKEN
            return (EmailChanged(ticket.email_sealed, index, state.email_sealed, ticket.kept_session),)


def ask_own(state: Account, command: Own, now: datetime) -> tuple[Event, ...] | Refusal:
    """What the owner's wish for a mail makes happen. Who asks too often is told so."""
    if isinstance(command, RequestVerification):
        if state.email_verified:
            return ()
        if too_often(state, Purpose.VERIFY, now):
            return TOO_OFTEN
        return (VerificationRequested(command.token, now + LIFETIMES[Purpose.VERIFY]),)
    if command.email_index == state.email_index:
        return ()
    if too_often(state, Purpose.CHANGE, now):
        return TOO_OFTEN
    expires = now + LIFETIMES[Purpose.CHANGE]
    return (
        EmailChangeRequested(
            command.email_sealed, command.email_index, command.token, expires, command.kept_session
        ),
    )  # fmt: skip


def too_often(state: Account, sort: str, now: datetime) -> bool:
    """True if as many mails of this sort were asked for as may be."""
    times = [one.at for one in state.mailing.asked if one.sort == sort and one.at > now - DAY]
    return len(times) >= MOST_A_DAY or sum(at > now - HOUR for at in times) >= MOST_AN_HOUR


def evolve(state: Account, event: Event, now: datetime) -> Account:
    """The account after `event`, whose version and time its caller has set."""
    match event:
        case ResetRequested(token=token, expires_at=expires):
            return _with(state, Ticket(Purpose.RESET, token.hash, expires), now)
        case VerificationRequested(token=token, expires_at=expires):
            return _with(state, Ticket(Purpose.VERIFY, token.hash, expires), now)
        case EmailChangeRequested():
            ticket = Ticket(
                Purpose.CHANGE, event.token.hash, event.expires_at, event.email_sealed, event.email_index,
                event.kept_session,
            )  # fmt: skip
            return _with(state, ticket, now)
        case RegistrationTried():
            return msgspec.structs.replace(state, mailing=_asked(state.mailing, TRIED, now))
        case EmailVerified():
            return msgspec.structs.replace(state, email_verified=True, mailing=without(state.mailing, Purpose.VERIFY))
        case _:
            # Tokens in the old mailbox are worth nothing any more.
            return msgspec.structs.replace(
                state, email_sealed=event.email_sealed, email_index=event.email_index, email_verified=True,
                mailing=without(state.mailing, *Purpose),
            )  # fmt: skip


def without(mailing: Mailing, *purposes: Purpose) -> Mailing:
    """The same without tickets for these."""
    return Mailing(tuple(one for one in mailing.tickets if one.purpose not in purposes), mailing.asked)


def opened(mailing: Mailing, ticket: Ticket, now: datetime) -> Mailing:
    """The same with one more ticket, which takes the place of an older one for its purpose."""
    kept = without(mailing, ticket.purpose)
    return _asked(Mailing((*kept.tickets, ticket), kept.asked), ticket.purpose, now)


def _with(state: Account, ticket: Ticket, now: datetime) -> Account:
    return msgspec.structs.replace(state, mailing=opened(state.mailing, ticket, now))


def _asked(mailing: Mailing, sort: str, now: datetime) -> Mailing:
    return Mailing(mailing.tickets, (*(one for one in mailing.asked if one.at > now - DAY), Asked(str(sort), now)))
