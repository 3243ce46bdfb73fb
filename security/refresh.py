"""Refresh tokens: opaque texts of which only hashes are kept.

    r1.<account (16 bytes), session (16), family (16), secret (32)>, in URL-safe base64

`family` is random, the same for all tokens of a session: who has it has had one of them. `secret` is new each time.
The hashes are bound to the environment: a token is worth nothing beside a copy of another environment's database.
"""

import base64
import binascii
import hashlib
import hmac
import os
from typing import NamedTuple
from uuid import UUID

from security.signatures import sign

PREFIX = "r1."
LONGEST = 128
"""Characters; longer texts are no tokens of ours."""
_BYTES = 80


class RefreshToken(NamedTuple):
    """A refresh token, taken apart."""

    account: UUID
    session: UUID
    family: bytes
    secret: bytes

    @classmethod
    def first(cls, account: UUID, session: UUID) -> "RefreshToken":
        """The first token of a new session."""
        return cls(account, session, os.urandom(16), os.urandom(32))

    @classmethod
    def read(cls, text: str) -> "RefreshToken | None":
        """The token that `text` is; None if it has another form."""
        if len(text) > LONGEST or not text.startswith(PREFIX):
            return None
        try:
            raw = base64.b64decode(text[len(PREFIX) :].encode("ascii") + b"=", altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        if len(raw) != _BYTES:
            return None
        return cls(UUID(bytes=raw[:16]), UUID(bytes=raw[16:32]), raw[32:48], raw[48:])

    @property
    def text(self) -> str:
        """What the client gets."""
        raw = self.account.bytes + self.session.bytes + self.family + self.secret
        return PREFIX + base64.urlsafe_b64encode(raw).rstrip(b"=").decode()

    def next(self, key: bytes, idempotency_key: str | None) -> "RefreshToken":
        """The token after this one: random, or always the same for an Idempotency-Key, so that it can be told again.

        Only a holder of `key` can tell it from this one.
        """
        if idempotency_key is None:
            return self._replace(secret=os.urandom(32))
        told = sign(key, b"the refresh token after", self.text.encode(), idempotency_key.encode())
        return self._replace(secret=bytes.fromhex(told))

    def family_hash(self, environment: str) -> str:
        """SHA-256 of what all tokens of the session share, 64 hex digits."""
        return _hash(b"family", environment, self.account.bytes + self.session.bytes + self.family)

    def hash(self, environment: str) -> str:
        """SHA-256 of the token, 64 hex digits."""
        raw = self.account.bytes + self.session.bytes + self.family + self.secret
        return _hash(b"token", environment, raw)


def same(one: str, other: str) -> bool:
    """True if two hashes are equal. The time taken doesn't depend on where they differ."""
    return hmac.compare_digest(one, other)


def _hash(what: bytes, environment: str, content: bytes) -> str:
    return hashlib.sha256(b"yeoul refresh %b %b\n%b" % (what, environment.encode(), content)).hexdigest()
