"""Sealing of personal fields with a key of the account, itself wrapped by the sealing key.

Erasing an account's wrapped key makes every sealed copy of its fields unreadable at once: in commands, events, journal
and tables. Both layers are AES-256-GCM. What is sealed for one account and field opens for no other (AAD).
"""

import base64
import hashlib
import hmac
import os
import unicodedata
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_NONCE = 12
_KEY = 32
_KEY_ID = 4
_FORMAT = "s1."
NOBODY = UUID(int=0)
"""The account of whoever has none."""


class SealBroken(Exception):
    """This can't be opened: it was sealed with another key, for another account or field, or it was changed."""


class Sealer:
    """Seals and opens fields. `master` is the sealing key (32 bytes); `older` ones still open what they wrapped."""

    def __init__(self, master: bytes, *older: bytes) -> None:
        self.current = key_id(master)
        """The id of the key that wraps."""
        self._masters = {key_id(key): AESGCM(key) for key in (master, *older)}
        # Opened where there is nothing to open; as long as the hash of a password.
        self._nobodys_key = self.new_key(NOBODY)
        self._nobodys = self.seal(self._nobodys_key, NOBODY, "password", "-" * 97)

    @property
    def older(self) -> list[bytes]:
        """The ids of the keys that only open."""
        return [id for id in self._masters if id != self.current]

    def rewrap(self, account_id: UUID, wrapped: bytes) -> bytes:
        """The same key of an account, wrapped by the newest sealing key. Raises SealBroken."""
        return self._wrap(account_id, self._opened(wrapped, account_id))

    def new_key(self, account_id: UUID) -> bytes:
        """A new key for an account, wrapped: id of the sealing key (4 bytes), nonce (12), ciphertext (48)."""
        return self._wrap(account_id, AESGCM.generate_key(256))

    def seal(self, wrapped: bytes, account_id: UUID, field: str, text: str) -> str:
        """`text` sealed for one field of one account, as URL-safe text."""
        nonce = os.urandom(_NONCE)
        content = self._unwrap(wrapped, account_id).encrypt(nonce, text.encode(), _bound(account_id, field))
        return _FORMAT + base64.urlsafe_b64encode(nonce + content).decode()

    def open(self, wrapped: bytes, account_id: UUID, field: str, sealed: str) -> str:
        """What `seal` took. Raises SealBroken."""
        if not sealed.startswith(_FORMAT):
            raise SealBroken("the sealed text has an unknown format")
        try:
            raw = base64.urlsafe_b64decode(sealed[len(_FORMAT) :])
            opened = self._unwrap(wrapped, account_id).decrypt(raw[:_NONCE], raw[_NONCE:], _bound(account_id, field))
        except (InvalidTag, ValueError) as error:
            raise SealBroken(f"the sealed {field} can't be opened") from error
        return opened.decode()

    def open_nothing(self) -> None:
        """Takes as long as `open` takes for the hash of a password."""
        self.open(self._nobodys_key, NOBODY, "password", self._nobodys)

    def _wrap(self, account_id: UUID, key: bytes) -> bytes:
        nonce = os.urandom(_NONCE)
        return self.current + nonce + self._masters[self.current].encrypt(nonce, key, b"key" + account_id.bytes)

    def _unwrap(self, wrapped: bytes, account_id: UUID) -> AESGCM:
        return AESGCM(self._opened(wrapped, account_id))

    def _opened(self, wrapped: bytes, account_id: UUID) -> bytes:
        master = self._masters.get(wrapped[:_KEY_ID])
        if master is None:
            raise SealBroken(f"the account's key was wrapped by an unknown sealing key, {wrapped[:_KEY_ID].hex()}")
        nonce, content = wrapped[_KEY_ID : _KEY_ID + _NONCE], wrapped[_KEY_ID + _NONCE :]
        try:
            key = master.decrypt(nonce, content, b"key" + account_id.bytes)
        except (InvalidTag, ValueError) as error:
            raise SealBroken("the account's key can't be unwrapped") from error
        if len(key) != _KEY:
            raise SealBroken("the account's key has another length than a key")
        return key


def key_id(key: bytes) -> bytes:
    """Four bytes that tell one sealing key from another and nothing about it."""
    return hashlib.sha256(b"yeoul sealing key id" + key).digest()[:_KEY_ID]


def normalised(email: str) -> str:
    """The form in which two spellings of one address are equal."""
    return unicodedata.normalize("NFC", email.strip()).casefold()


def index(key: bytes, email: str) -> str:
    """64 hex digits by which an address is found (HMAC-SHA256), without being readable."""
    return hmac.digest(key, normalised(email).encode(), "sha256").hex()


def _bound(account_id: UUID, field: str) -> bytes:
    return account_id.bytes + field.encode()
