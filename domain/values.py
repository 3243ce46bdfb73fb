"""Values of events as the metrics take them: JSON undecoded in, one spelling or an exact number out.

Anybody fills these: whatever stands in a value, it means something here, and what is remembered of it is bounded.
"""

from decimal import Context, Decimal, InvalidOperation
from functools import lru_cache

import msgspec
from msgspec import Raw

LONGEST_VALUE = 256
"""Bytes of a group's or top's value, as JSON without its quotes; a longer one counts as OTHER."""
LONGEST_RAW = 6 * LONGEST_VALUE + 2
"""Bytes of a value as it came: each character may be written as an escape of six."""
LONGEST_CACHED = 64
"""Bytes of a value that is remembered with what it means, so that strangers' values never fill the memory."""
OTHER = "__other__"
DIGITS, LARGEST = 38, 30
"""The most digits of a number, and how far its exponent of ten may be from zero; others are no numbers."""
_SPELT_OTHER = msgspec.json.encode(OTHER)
NULL = b"null"
_NUMBERS = tuple(b"%c" % byte for byte in b"-0123456789")
_ZERO = Decimal(0)
_normal = Context(prec=LONGEST_RAW).normalize
_members = msgspec.json.Decoder(dict[str, Raw]).decode


def of_text(text: str | None) -> bytes:
    """A text as JSON; null for none."""
    if text is None:
        return NULL
    return _json(text) if len(text) <= LONGEST_CACHED else spell(msgspec.json.encode(text))


@lru_cache(maxsize=65_536)
def _json(text: str) -> bytes:
    return msgspec.json.encode(text)


def members(value: bytes) -> dict[str, Raw] | None:
    """The members of a JSON object, undecoded; None if it is none."""
    try:
        return _members(value)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def inside(value: bytes, path: tuple[str, ...]) -> bytes:
    """The value at a path inside of a JSON value, as it is written there; null where there is none."""
    for name in path:
        found = members(value) if value[:1] == b"{" else None
        if found is None or name not in found:
            return NULL
        value = bytes(found[name])
    return value


@lru_cache(maxsize=65_536)
def scalar(value: bytes) -> bytes:
    """The one spelling of a JSON value; OTHER if it is too long or no text, null for a list or an object.

    Numbers that are equal are spelt alike: 1, 1.0 and 1e0 are 1.
    """
    return spell(value)


def spell(value: bytes) -> bytes:
    """As `scalar`, and not remembered: for values that are long."""
    first = value[:1]
    if first in (b"{", b"["):
        return NULL
    if first != b'"':
        if first not in _NUMBERS:
            return value  # true, false, null
        found = _exact(value)
        return _SPELT_OTHER if found is None else _plain(found)
    if len(value) > LONGEST_RAW:
        return _SPELT_OTHER
    try:
        spelt = msgspec.json.encode(msgspec.json.decode(value))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return _SPELT_OTHER  # bytes that are no UTF-8: what nobody looks at is not checked when the record is read
    return spelt if len(spelt) <= LONGEST_VALUE + 2 else _SPELT_OTHER


@lru_cache(maxsize=65_536)
def number(value: bytes) -> Decimal | None:
    """A JSON number, exact and without zeros at its end; None for anything else and for what is out of bounds."""
    return _exact(value) if value[:1] in _NUMBERS else None


def _exact(value: bytes) -> Decimal | None:
    if len(value) > LONGEST_RAW:
        return None
    try:
        found = Decimal(value.decode())
    except InvalidOperation:
        return None  # an exponent that even Decimal has no room for
    if not found:
        return _ZERO  # -0.0, 0e-1000000: of one spelling, too
    if not -LARGEST <= found.adjusted() <= LARGEST:
        return None
    found = _normal(found)
    return found if len(found.as_tuple().digits) <= DIGITS else None


def _plain(found: Decimal) -> bytes:
    # As people write it while it is short; readers of JSON know both.
    return (f"{found:f}" if -7 < found.adjusted() < 20 else f"{found:e}").encode()
