"""Access tokens: JWTs signed with Ed25519, chosen by `kid` among known keys, bound to one environment, 15 minutes.

A verified token is remembered until it expires, by its hash, so that a hot one costs a look-up instead of a signature
check. Whether its session was ended meanwhile is asked at each use, of whoever knows (stores/revocations.py).
"""

import base64
import hashlib
import secrets
from typing import Any, NamedTuple
from uuid import UUID

import jwt
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from domain.access import SCOPES, Actor, Role
from domain.refusals import Code

LIFETIME_S = 900
LEEWAY_S = 60
"""How far the clocks of two machines of ours may be apart."""
ISSUER = "yeoul"
LONGEST = 4_096
"""Longer texts are no tokens of ours; nothing is parsed of them."""

_CLAIMS = ("iss", "aud", "sub", "role", "iat", "exp", "jti")


class TokenRefused(Exception):
    """The token can't be accepted; `code` says why: TOKEN_INVALID, TOKEN_EXPIRED, SESSION_ENDED or API_KEY_INVALID."""

    def __init__(self, code: Code) -> None:
        super().__init__(code)
        self.code = code


class Verified(NamedTuple):
    """A token that was checked: `payload` is its claims and `scopes`, what its role may do; `expires` is Unix time.

    `session` is that of its claim `sid`; None for a token of an older version, which belongs to none. Of an API key
    it is the id of that.
    """

    actor: Actor
    payload: dict[str, Any]
    expires: float
    session: UUID | None = None


class Tokens:
    """Issues and verifies tokens. `keys` are (kid, Ed25519 seed of 32 bytes): the first signs, all verify."""

    def __init__(self, keys: tuple[tuple[str, bytes], ...], environment: str, remembered: int = 20_000) -> None:
        private = {kid: Ed25519PrivateKey.from_private_bytes(seed) for kid, seed in keys}
        self._kid = keys[0][0]
        self._private = private[self._kid]
        self._public: dict[str, Ed25519PublicKey] = {kid: key.public_key() for kid, key in private.items()}
        self._audience = f"{ISSUER}:{environment}"
        self._remembered = remembered
        self._verified: dict[bytes, Verified] = {}

    def issue(self, account_id: UUID, role: Role, now: float, session: UUID | None = None) -> str:
        """A token for an account's session, valid for LIFETIME_S from `now` (Unix seconds)."""
        claims = {
            "iss": ISSUER,
            "aud": self._audience,
            "sub": str(account_id),
            "role": role.value,
            "iat": int(now),
            "exp": int(now) + LIFETIME_S,
            "jti": secrets.token_urlsafe(12),
        }
        if session is not None:
            claims["sid"] = str(session)
        return jwt.encode(claims, self._private, algorithm="EdDSA", headers={"kid": self._kid})

    def verify(self, token: str, now: float) -> Verified:
        """Who the token speaks for. Raises TokenRefused."""
        known = hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
        found = self._verified.get(known)
        if found is None:
            found = self._check(token, now)
            if len(self._verified) >= self._remembered:
                del self._verified[next(iter(self._verified))]  # the oldest; a hot one comes back at its next use
            self._verified[known] = found
        if found.expires <= now:
            self._verified.pop(known, None)
            raise TokenRefused(Code.TOKEN_EXPIRED)
        return found

    def _check(self, token: str, now: float) -> Verified:
        if len(token) > LONGEST:
            raise TokenRefused(Code.TOKEN_INVALID)
        try:
            kid = jwt.get_unverified_header(token).get("kid")
            public = self._public.get(kid) if isinstance(kid, str) else None
            if public is None:
                raise TokenRefused(Code.TOKEN_INVALID)
            claims = jwt.decode(
                token,
                public,
                algorithms=["EdDSA"],  # fixed here: what the token says of itself decides nothing
                audience=self._audience,
                issuer=ISSUER,
                # Time is asked of `verify`, at each use, not of the clock here.
                options={"require": list(_CLAIMS), "verify_exp": False, "verify_iat": False, "verify_nbf": False},
            )
            role = Role(claims["role"])
            actor = Actor(UUID(claims["sub"]), role)
            session = UUID(claims["sid"]) if "sid" in claims else None
            expires = _expiry(claims, now)
        except (jwt.InvalidTokenError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise TokenRefused(Code.TOKEN_INVALID) from None
        return Verified(actor, {**claims, "scopes": SCOPES[role]}, expires, session)

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """The public halves of all keys, as a JSON Web Key Set (RFC 7517, RFC 8037)."""
        return {
            "keys": [
                {"kty": "OKP", "crv": "Ed25519", "use": "sig", "alg": "EdDSA", "kid": kid, "x": _public_text(key)}
                for kid, key in self._public.items()
            ]
        }


def _expiry(claims: dict[str, Any], now: float) -> int:
    """When the token ends, Unix seconds. Raises ValueError if its times are none that we would give a token.

    They are checked although our own key signed them: a mistake in whatever else may sign with it shall not make a
    token that lives for ever.
    """
    times = [claims["iat"], claims["exp"], claims.get("nbf", claims["iat"])]
    if any(type(time) is not int for time in times):
        raise ValueError("a time that is no whole number")
    issued, expires, valid_from = times
    if max(issued, valid_from) > now + LEEWAY_S:
        raise ValueError("a token from the future")
    if expires - issued > LIFETIME_S + LEEWAY_S:
        raise ValueError("a token that lives too long")
    return int(expires)


def _public_text(key: Ed25519PublicKey) -> str:
    raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
