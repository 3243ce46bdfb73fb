"""What is asked of accounts (commands), and what happens to them (events). No event says anything personal in plain."""

from datetime import datetime
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from domain import account_mails
from domain.access import Role
from domain.account_mails import Hex, Language, Sealed, Token
from domain.versions import Expected

# Commands. `expected_version`: refuse if the account has another one by then.


class CreateAccount(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Make an account whose id is the aggregate's. Any role but `user` is given by an admin or the system only.

    `verification`: the token of the mail by which the owner shows that the address is read; `verified`: nobody has to,
    which an admin or the system may say. `language`: of mails to it.
    """

    email_sealed: Sealed
    name_sealed: Sealed
    email_index: Hex
    password_sealed: Sealed
    phone_sealed: Sealed | None = None
    role: Role = Role.USER
    verification: Token | None = None
    verified: bool = False
    language: Language | None = None


class ChangeRole(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Give an account another role. For an admin or the system."""

    role: Role
    expected_version: Expected = None


class UpdateAccount(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Change what is given and keep the rest; None takes the phone or the language away. For the account itself."""

    name_sealed: Sealed | UnsetType = UNSET
    phone_sealed: Sealed | UnsetType | None = UNSET
    language: Language | UnsetType | None = UNSET
    expected_version: Expected = None


class ChangePassword(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Take another password. For the account itself, whose present one the front has checked.

    `checked_sealed`: the sealed hash it was checked against. `kept_session`: the session that asks, which goes on.
    `end_api_keys`: its API keys end, too.
    """

    password_sealed: Sealed
    checked_sealed: Sealed
    kept_session: UUID | None = None
    end_api_keys: bool = False
    expected_version: Expected = None


class DisableAccount(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Nobody may log in to it, until it is enabled again. For an admin or the system."""

    expected_version: Expected = None


class EnableAccount(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """It may be used again. For an admin or the system."""

    expected_version: Expected = None


class EraseAccount(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Make everything personal of it unreadable, for ever. For the account itself, an admin or the system."""

    expected_version: Expected = None


# Events


class AccountCreated(msgspec.Struct, frozen=True):
    """An account came to be. `verification`: the token of the mail to its owner, good until `expires_at`."""

    email_sealed: str
    name_sealed: str
    phone_sealed: str | None
    email_index: str
    password_sealed: str
    role: Role
    verification: Token | None = None
    expires_at: datetime | None = None
    verified: bool = False
    language: str | None = None


class RoleChanged(msgspec.Struct, frozen=True):
    """An account has another role than before."""

    role: Role


class AccountUpdated(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody told of itself anew: of name, phone and language what was given."""

    name_sealed: str | UnsetType = UNSET
    phone_sealed: str | UnsetType | None = UNSET
    language: str | UnsetType | None = UNSET


class PasswordChanged(msgspec.Struct, frozen=True):
    """An account has another password; of its sessions `kept_session` goes on, or none; its API keys, or none."""

    password_sealed: str
    kept_session: UUID | None
    end_api_keys: bool = False


class AccountDisabled(msgspec.Struct, frozen=True):
    """An account may not be used any more."""


class AccountEnabled(msgspec.Struct, frozen=True):
    """An account may be used again."""


class AccountErased(msgspec.Struct, frozen=True):
    """An account is gone: its key, its address and everything personal. What is its own elsewhere has to go, too."""


Command = (
    CreateAccount
    | ChangeRole
    | UpdateAccount
    | ChangePassword
    | DisableAccount
    | EnableAccount
    | EraseAccount
    | account_mails.Command
)
Event = (
    AccountCreated
    | RoleChanged
    | AccountUpdated
    | PasswordChanged
    | AccountDisabled
    | AccountEnabled
    | AccountErased
    | account_mails.Event
)

COMMANDS: dict[str, type[Command]] = {
    "create_account": CreateAccount,
    "change_role": ChangeRole,
    "update_account": UpdateAccount,
    "change_password": ChangePassword,
    "disable_account": DisableAccount,
    "enable_account": EnableAccount,
    "erase_account": EraseAccount,
    **account_mails.COMMANDS,
}
EVENTS: dict[str, type[Event]] = {
    "account.created": AccountCreated,
    "account.role_changed": RoleChanged,
    "account.updated": AccountUpdated,
    "account.password_changed": PasswordChanged,
    "account.disabled": AccountDisabled,
    "account.enabled": AccountEnabled,
    "account.erased": AccountErased,
    **account_mails.EVENTS,
}
EVENT_NAMES: dict[type[Event], str] = {kind: name for name, kind in EVENTS.items()}
