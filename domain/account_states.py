"""What an account is between two events, and what of its correspondence is under way."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec

from domain.access import Role


class AccountStatus(StrEnum):
    """Whether an account may be used. What is left of an erased one is its id, and that it was erased."""

    ACTIVE = "active"
    DISABLED = "disabled"
    ERASED = "erased"


class Purpose(StrEnum):
    """What the token of a mail is good for; it is good for nothing else."""

    RESET = "reset"
    VERIFY = "verify"
    CHANGE = "change"


class Ticket(msgspec.Struct, frozen=True, omit_defaults=True):
    """A token that is about, of which only the hash is known; one for each purpose, the latest.

    Of a change of address it has the new one, and the session that asked, which goes on.
    """

    purpose: Purpose
    hash: str
    expires_at: datetime
    email_sealed: str | None = None
    email_index: str | None = None
    kept_session: UUID | None = None


class Asked(msgspec.Struct, frozen=True):
    """A mail that was asked for: of which sort, and when."""

    sort: str
    at: datetime


class Mailing(msgspec.Struct, frozen=True, omit_defaults=True):
    """The correspondence with an account: tokens that are about, and what was asked for within a day."""

    tickets: tuple[Ticket, ...] = ()
    asked: tuple[Asked, ...] = ()

    def ticket(self, purpose: Purpose) -> Ticket | None:
        """The ticket for a purpose, also one that has expired."""
        return next((one for one in self.tickets if one.purpose is purpose), None)


class Account(msgspec.Struct, frozen=True):
    """The state of an account; `email_index` is the hex HMAC by which an address is found without being readable.

    An erased one has no personal field, no password, and None for `email_index`. `language`: of mails to it; None is
    the installation's.
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
    email_verified: bool = False
    language: str | None = None
    mailing: Mailing = Mailing()

    @property
    def deleted_at(self) -> datetime | None:
        """When it was erased: nothing happens to it after that."""
        return self.updated_at if self.status is AccountStatus.ERASED else None
