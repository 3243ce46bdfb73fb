"""Accounts as the API promises them, as simply as it can be said: who may what, second factors, mailboxes.

A refusal is raised as `No`. Callers are accounts of the model, or None for a guest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.flows.model_proofs import CHANGE, RESET, VERIFY, Code, Factor, Mailbox, No


@dataclass
class Account:
    """Somebody who registered."""

    name: str
    email: str
    password: str
    id: str
    role: str = "user"
    status: str = "active"
    version: int = 1
    token: str = ""
    """Of its session that goes on; empty without one."""
    ended: str = ""
    """A token that is good for nothing any more."""
    factor: Factor = field(default_factory=Factor)
    mailbox: Mailbox = field(default_factory=Mailbox)
    verified: bool = False
    """Somebody has read a mail to its address."""

    @property
    def scopes(self) -> tuple[str, ...]:
        """What its sessions may do."""
        return ("read", "write", "admin") if self.role == "admin" else ("read", "write")


@dataclass
class Machine:
    """Whoever comes with an API key of an account."""

    account: Account
    key: str
    scopes: tuple[str, ...]
    token: str
    ended: str = ""

    @property
    def id(self) -> str:
        """For whom it speaks."""
        return self.account.id

    @property
    def name(self) -> str:
        """Who it is."""
        return f"a machine of {self.account.name}"

    @property
    def role(self) -> str:
        """Its account's, if it may make use of it."""
        return "admin" if "admin" in self.scopes else "user"


Caller = Account | Machine


class Accounts:
    """Who there is, and what is promised to them."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.machines: dict[str, Machine] = {}

    @staticmethod
    def may(caller: Caller | None, scope: str) -> Caller:
        """Who has it: of guests nobody."""
        if caller is None:
            raise No(401, "TOKEN_MISSING")
        if scope not in caller.scopes:
            raise No(403, "FORBIDDEN")
        return caller

    @staticmethod
    def matches(found: Any, expected: Any) -> None:
        if expected not in (None, "*") and expected != found.version:
            raise No(412, "STALE_VERSION")

    def administered(self, caller: Caller | None, who: Account, expected: Any) -> Account:
        """An account as admins find it."""
        self.may(caller, "admin")
        self.matches(who, expected)
        return who

    def administer(self, caller: Caller | None, who: Account, what: str, value: str, expected: Any) -> list[Caller]:
        """Another role or status; who is ended by it: sessions, and keys that may do more than the account."""
        self.administered(caller, who, expected)
        if getattr(who, what) == value:
            return []
        setattr(who, what, value)
        who.version += 1
        machine = self.machines.get(who.name)
        ended: list[Caller] = [who] if what == "role" or value == "disabled" else []
        if machine is not None and (value == "disabled" or not set(machine.scopes) <= set(who.scopes)):
            ended.append(machine)
        return ended

    def make_key(self, caller: Account | None, scopes: tuple[str, ...]) -> Account:
        """A key for no more than its account may."""
        if caller is None:
            raise No(401, "TOKEN_MISSING")
        if not set(scopes) <= set(caller.scopes):
            raise No(403, "FORBIDDEN")
        return caller

    @staticmethod
    def log_in(who: Account, password: str, code: Code | None) -> None:
        """A disabled account says no more than a wrong password does, and only who has the right one hears of codes."""
        if who.status != "active" or who.password != password:
            raise No(401, "INVALID_CREDENTIALS")
        if who.factor.secret:
            if code is None:
                raise No(401, "SECOND_FACTOR_REQUIRED")
            who.factor.use(code)

    # -- what only the owner may ------------------------------------------------------------------------------------

    @staticmethod
    def own(caller: Account | None, password: str | None) -> Account:
        """The caller, whose password is asked for once more unless it is None."""
        if caller is None:
            raise No(401, "TOKEN_MISSING")
        if password not in (None, caller.password):
            raise No(403, "WRONG_PASSWORD")
        return caller

    def begin(self, caller: Account | None, password: str) -> Account:
        """A second factor."""
        who = self.own(caller, password)
        who.factor.begin()
        return who

    def confirm(self, caller: Account | None, code: Code) -> Account:
        """It is on."""
        who = self.own(caller, None)
        who.factor.confirm(code)
        return who

    def prove(self, caller: Account | None, password: str | None, code: Code | None) -> Account:
        """By the password, by a code, or by both: then it may be ended, and have other recovery codes."""
        if caller is not None and password is None and code is None:
            raise No(400, "VALIDATION_ERROR")
        who = self.own(caller, password)
        who.factor.is_on()
        if code is not None:
            who.factor.use(code)
        return who

    def reset_factor(self, caller: Caller | None, who: Account) -> None:
        """Admins help others."""
        self.may(caller, "admin")
        if caller is who:
            raise No(403, "FORBIDDEN")
        who.factor.reset()

    def change_password(self, caller: Account | None, password: str, new: str) -> Account:
        """What was asked for by who knew the old one is over."""
        who = self.own(caller, password)
        self._password(who, new)
        return who

    @staticmethod
    def _password(who: Account, new: str) -> None:
        who.password = new
        who.version += 1
        who.mailbox.end(RESET, CHANGE)

    def ask_verification(self, caller: Account | None, mail: tuple[str, int]) -> bool:
        """Whether there is another mail."""
        who = self.own(caller, None)
        if who.verified:
            return False
        self._asks(who, VERIFY, mail)
        return True

    def ask_change(self, caller: Account | None, password: str, mail: tuple[str, int]) -> bool:
        """Whether there is a mail to the new address."""
        who, email = self.own(caller, password), mail[0]
        if any(other.email == email for other in self.accounts.values() if other is not who):
            raise No(409, "EMAIL_TAKEN")
        if email == who.email:
            return False
        self._asks(who, CHANGE, mail)
        who.mailbox.wanted, who.mailbox.kept = email, who.token
        return True

    @staticmethod
    def _asks(who: Account, sort: str, mail: tuple[str, int]) -> None:
        if who.mailbox.too_often(sort):
            raise No(429, "TOO_MANY_REQUESTS")
        who.mailbox.ask(sort, mail)
        who.version += 1

    @staticmethod
    def forget_password(who: Account | None, mail: tuple[str, int]) -> bool:
        """Whether there is a mail; the answer is the same."""
        if who is None or who.status != "active" or who.mailbox.too_often(RESET):
            return False
        who.mailbox.ask(RESET, mail)
        who.version += 1
        return True

    @staticmethod
    def shown(who: Account, sort: str, *, good: bool) -> None:
        """The token of a mail, or another one."""
        if not good or sort not in who.mailbox.good or who.status != "active":
            raise No(403, "MAIL_TOKEN_INVALID")

    def verify(self, who: Account, *, good: bool) -> None:
        """The mail was read."""
        self.shown(who, VERIFY, good=good)
        self._verified(who)

    @staticmethod
    def _verified(who: Account) -> None:
        who.verified = True
        who.version += 1
        who.mailbox.end(VERIFY)

    def reset_password(self, who: Account, new: str, *, good: bool) -> None:
        """Who has read the mail has shown that the address is read."""
        self.shown(who, RESET, good=good)
        self._password(who, new)
        if not who.verified:
            self._verified(who)

    def confirm_change(self, who: Account, *, good: bool) -> str:
        """The account has the other address; whose session goes on."""
        self.shown(who, CHANGE, good=good)
        email, kept = who.mailbox.wanted, who.mailbox.kept
        if any(other.email == email for other in self.accounts.values()):
            raise No(409, "EMAIL_TAKEN")
        who.email, who.verified = email, True
        who.version += 1
        who.mailbox.end(RESET, VERIFY, CHANGE)
        return kept
