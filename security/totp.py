"""Codes of a second factor: time-based ones (RFC 6238) as apps make them, and recovery codes.

The defaults that every app takes: SHA-1, six digits, a new one each 30 seconds. (What weakens SHA-1 elsewhere is no
matter of HMAC.) A recovery code is 80 random bits, too many to be guessed from a hash.
"""

import base64
import hashlib
import hmac
import os
from uuid import UUID

from cryptography.hazmat.primitives.hashes import SHA1
from cryptography.hazmat.primitives.twofactor.hotp import HOTP
from cryptography.hazmat.primitives.twofactor.totp import TOTP

DIGITS = 6
STEP_S = 30
DRIFT = 1
"""Steps that the clock of the app may be before or behind ours."""
ISSUER = "Yeoul"
_SECRET = 20
_RECOVERY = 10
_SIGNS = "0123456789abcdefghjkmnpqrstvwxyz"
"""Crockford's base 32: without the letters that are taken for others."""
_AS_READ = str.maketrans({"o": "0", "i": "1", "l": "1", "-": None, " ": None})
_GROUP = 4


def new_secret() -> str:
    """A secret that nobody has had yet, in base 32 as apps take it: 160 bits, as RFC 4226 recommends."""
    return base64.b32encode(os.urandom(_SECRET)).decode()


def uri(secret: str, account: str) -> str:
    """The otpauth address that apps read from a QR code; `account` is what they show beside `ISSUER`."""
    totp = TOTP(base64.b32decode(secret), DIGITS, SHA1(), STEP_S)  # noqa: S303 (see above)
    return totp.get_provisioning_uri(account, ISSUER)


def code_of(secret: str, step: int) -> str:
    """The code of a step."""
    return HOTP(base64.b32decode(secret), DIGITS, SHA1()).generate(step).decode()  # noqa: S303 (see above)


def step_of(secret: str, code: str, now: float) -> int | None:
    """The step whose code this is, of now (Unix seconds) or DRIFT beside it; None if it is the code of none.

    Whichever it is of, or none, takes the same time.
    """
    given = code.replace(" ", "").encode("utf-8", "surrogatepass")
    present, found = int(now) // STEP_S, None
    for step in range(max(0, present - DRIFT), present + DRIFT + 1):
        if hmac.compare_digest(code_of(secret, step).encode(), given):
            found = step
    return found


def recovery_code() -> str:
    """A recovery code that nobody has had yet: 16 letters and digits in groups of four."""
    number, signs = int.from_bytes(os.urandom(_RECOVERY), "big"), ""
    for _ in range(_RECOVERY * 8 // 5):
        number, place = divmod(number, len(_SIGNS))
        signs += _SIGNS[place]
    return "-".join(signs[at : at + _GROUP] for at in range(0, len(signs), _GROUP))


def recovery_hash(code: str, account: UUID, environment: str) -> str:
    """SHA-256 of a recovery code, however it was typed, 64 hex digits: for one account in one environment."""
    typed = code.lower().translate(_AS_READ).encode("utf-8", "surrogatepass")
    return hashlib.sha256(b"yeoul recovery code %b %b\n%b" % (environment.encode(), account.bytes, typed)).hexdigest()
