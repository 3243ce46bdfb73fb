"""What an account's owner has beside the password, as simply as it can be said: a second factor, and a mailbox."""

from __future__ import annotations

import base64
import hmac
from collections import Counter
from dataclasses import dataclass, field

RESET, VERIFY, CHANGE = "reset", "verify", "change"
"""What the token of a mail is good for."""
MOST_AN_HOUR = 3
"""Mails of a sort."""
STEP_S = 30


class No(Exception):
    """A refusal."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(status, code)
        self.status, self.code = status, code


def code_of(secret: str, step: int) -> str:
    """RFC 6238, as it stands there."""
    digest = hmac.digest(base64.b32decode(secret), step.to_bytes(8, "big"), "sha1")
    at = digest[-1] & 15
    return f"{(int.from_bytes(digest[at : at + 4], 'big') & 0x7FFFFFFF) % 1_000_000:06}"


@dataclass(frozen=True)
class Code:
    """One that somebody gives: of a step of time, or a recovery code, or wrong."""

    text: str
    step: int | None = None


@dataclass
class Factor:
    """A second factor: off, waiting for its first code, or on."""

    secret: str = ""
    pending: str = ""
    step: int = 0
    """Of the code that was used last."""
    recovery: list[str] = field(default_factory=list)
    spent: str = ""
    """A recovery code that is good for nothing any more."""

    @property
    def status(self) -> str:
        """As its owner sees it."""
        return "on" if self.secret else "pending" if self.pending else "off"

    def is_on(self) -> None:
        """What is off needs no proof."""
        if not self.secret:
            raise No(409, "SECOND_FACTOR_OFF")

    def begin(self) -> None:
        """It can't be begun while it is on."""
        if self.secret:
            raise No(409, "SECOND_FACTOR_ON")

    def confirm(self, code: Code) -> None:
        """The first code."""
        self.begin()
        if not self.pending:
            raise No(409, "SECOND_FACTOR_OFF")
        if code.step is None:
            raise No(403, "WRONG_CODE")
        self.secret, self.pending, self.step = self.pending, "", code.step

    def use(self, code: Code) -> None:
        """Each code is good once."""
        if code.step is not None and code.step > self.step:
            self.step = code.step
        elif code.text in self.recovery:
            self.recovery.remove(code.text)
            self.spent = code.text
        else:
            raise No(403, "WRONG_CODE")

    def end(self) -> None:
        """Nothing is left of it."""
        self.secret = self.pending = ""
        self.step, self.recovery, self.spent = 0, [], ""

    def reset(self) -> None:
        """By an admin."""
        if self.status == "off":
            raise No(409, "SECOND_FACTOR_OFF")
        self.end()


@dataclass
class Mailbox:
    """Mails with tokens: which are good, and which were. A mail is the address it went to, and which of its sort."""

    good: dict[str, tuple[str, int]] = field(default_factory=dict)
    old: dict[str, tuple[str, int]] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    wanted: str = ""
    """The address that takes the place of the account's once it is confirmed."""
    kept: str = ""
    """The token of the session that asked for it."""

    def too_often(self, sort: str) -> bool:
        """No more of them within the hour."""
        return self.asked[sort] >= MOST_AN_HOUR

    def ask(self, sort: str, mail: tuple[str, int]) -> None:
        """A newer one ends the older one."""
        self.end(sort)
        self.asked[sort] += 1
        self.good[sort] = mail

    def end(self, *sorts: str) -> None:
        """Tokens of these are good for nothing any more."""
        for sort in sorts:
            if sort in self.good:
                self.old[sort] = self.good.pop(sort)
            if sort == CHANGE:
                self.wanted = self.kept = ""
