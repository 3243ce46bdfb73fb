"""Tokens that go out by mail: 256 bits that nobody can guess, of which only hashes and nonces rest anywhere.

    m1.<account (16 bytes), secret (32)>, in URL-safe base64

The secret is HMAC-SHA256, by the installation's key, of the environment, the purpose, the account and 32 random bytes
(the nonce). So whoever sends the mail makes the token from the nonce that an event tells, and whoever reads topics or
tables makes nothing of it. The hash is bound to the environment and the purpose: a token shown for another purpose, or
beside a copy of another environment's database, is none.
"""

import base64
import binascii
import hashlib
import os
from typing import NamedTuple, Self
from uuid import UUID

from security.signatures import sign

PREFIX = "m1."
LONGEST = 128
"""Characters; longer texts are no tokens of ours."""
_BYTES = 48


def new_nonce() -> str:
    """32 random bytes, in hex."""
    return os.urandom(32).hex()


class MailToken(NamedTuple):
    """A token, taken apart."""

    account: UUID
    secret: bytes

    @classmethod
    def made(cls, key: bytes, environment: str, purpose: str, account: UUID, nonce: str) -> Self:
        """The token of a nonce."""
        parts = (environment.encode(), purpose.encode(), account.bytes, nonce.encode())
        return cls(account, bytes.fromhex(sign(key, b"token of a mail", *parts)))

    @classmethod
    def read(cls, text: str) -> Self | None:
        """The token that `text` is; None if it has another form."""
        if len(text) > LONGEST or not text.startswith(PREFIX):
            return None
        try:
            raw = base64.b64decode(text[len(PREFIX) :].encode("ascii"), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        return cls(UUID(bytes=raw[:16]), raw[16:]) if len(raw) == _BYTES else None

    @property
    def text(self) -> str:
        """What the mail shows: 67 characters that need no escape anywhere."""
        return PREFIX + base64.urlsafe_b64encode(self.account.bytes + self.secret).decode()

    def hash(self, environment: str, purpose: str) -> str:
        """SHA-256 of the token for a purpose, 64 hex digits."""
        about = f"yeoul mail {environment} {purpose}\n".encode()
        return hashlib.sha256(about + self.account.bytes + self.secret).hexdigest()
