"""API keys: opaque texts of which only hashes are kept.

    yeoul_<account (16 bytes), secret (32), in 65 digits of base 62><CRC-32 of all before it, in 6 digits>

The beginning and the checksum are for scanners that look for secrets where they should not be: a match of
`yeoul_[0-9A-Za-z]{71}` whose checksum is right is a key. They add nothing to what nobody can guess. The hash is bound
to the environment: a key is worth nothing beside a copy of another environment's database.
"""

import hashlib
import os
import zlib
from typing import NamedTuple
from uuid import UUID

PREFIX = "yeoul_"
_DIGITS = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_BYTES = 48
_BODY, _CHECK = 65, 6
LENGTH = len(PREFIX) + _BODY + _CHECK
"""Characters of every key."""


class ApiKey(NamedTuple):
    """An API key, taken apart."""

    account: UUID
    secret: bytes

    @classmethod
    def new(cls, account: UUID) -> "ApiKey":
        """A key that nobody has had yet."""
        return cls(account, os.urandom(32))

    @classmethod
    def read(cls, text: str) -> "ApiKey | None":
        """The key that `text` is; None if it has another form, or a wrong checksum."""
        if len(text) != LENGTH or not text.startswith(PREFIX) or not text.isascii():
            return None
        signs = text[:-_CHECK]
        if text[-_CHECK:] != _checksum(signs):
            return None
        try:
            number = _number(signs[len(PREFIX) :])
            raw = number.to_bytes(_BYTES, "big")
        except (ValueError, OverflowError):
            return None
        return cls(UUID(bytes=raw[:16]), raw[16:])

    @property
    def text(self) -> str:
        """What the machine gets."""
        signs = PREFIX + _digits(int.from_bytes(self.account.bytes + self.secret, "big"), _BODY)
        return signs + _checksum(signs)

    def hash(self, environment: str) -> str:
        """SHA-256 of the key, 64 hex digits."""
        content = b"yeoul api key %b\n%b" % (environment.encode(), self.account.bytes + self.secret)
        return hashlib.sha256(content).hexdigest()


def _checksum(signs: str) -> str:
    return _digits(zlib.crc32(signs.encode()), _CHECK)


def _digits(number: int, length: int) -> str:
    found = []
    for _ in range(length):
        number, digit = divmod(number, len(_DIGITS))
        found.append(_DIGITS[digit])
    return "".join(reversed(found))


def _number(signs: str) -> int:
    """Raises ValueError for a sign that is no digit."""
    number = 0
    for sign in signs:
        number = number * len(_DIGITS) + _DIGITS.index(sign)
    return number
