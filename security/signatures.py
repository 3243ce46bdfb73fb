"""Keyed signatures over several parts, and texts such as list cursors, which nobody else can make or read."""

import base64
import hmac

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESSIV


def sign(key: bytes, *parts: bytes) -> str:
    """HMAC-SHA256 of `parts` as 64 hex digits. Each part goes in with its length, so ("ab", "c") is not ("a", "bc")."""
    return _digest(key, parts).hex()


def verify(key: bytes, signature: str, *parts: bytes) -> bool:
    """True if `signature` is that of `parts`. The time taken doesn't depend on where it differs."""
    return hmac.compare_digest(_digest(key, parts).hex().encode(), signature.encode(errors="replace"))


def _digest(key: bytes, parts: tuple[bytes, ...]) -> bytes:
    message = b"".join([len(part).to_bytes(8, "big") + part for part in parts])
    return hmac.digest(key, message, "sha256")


def enclose(key: bytes, purpose: bytes, content: bytes) -> str:
    """`content` as URL-safe text that only a holder of `key` can make and read; the same one each time."""
    return base64.urlsafe_b64encode(_cipher(key).encrypt(content, [purpose])).rstrip(b"=").decode()


def disclose(key: bytes, purpose: bytes, text: str) -> bytes | None:
    """What `enclose` took, or None if `text` was made by somebody else or for another purpose."""
    try:
        raw = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
        return _cipher(key).decrypt(raw, [purpose])
    except (InvalidTag, ValueError):
        return None


def _cipher(key: bytes) -> AESSIV:
    """Of a key of its own, for `key` signs other things; it needs no nonce (RFC 5297)."""
    return AESSIV(_digest(key, (b"enclose",)))
