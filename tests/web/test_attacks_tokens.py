"""Access tokens that nobody gave, at an endpoint that guests may use: a bad token is no guest, it is refused.

Every forgery comes from one forger, which can also make a good token: what is refused is the flaw and nothing else.
"""

import base64
import hmac
import json
import time
from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from domain.access import Role
from security.api_keys import ApiKey
from security.tokens import LEEWAY_S, LIFETIME_S, Tokens
from tests.web.conftest import OWNER, Client, bearing, registered
from tests.web.fakes import SETTINGS, Fakes

PATHS = ("/api/v1/resources", "/api/v2/resources")
OURS, THEIRS = (Ed25519PrivateKey.from_private_bytes(seed) for seed in (SETTINGS.token_keys[0][1], b"x" * 32))
SECOND = Ed25519PrivateKey.from_private_bytes(SETTINGS.token_keys[1][1])
RAW = OURS.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
PEM = OURS.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
JWK = {"kty": "OKP", "crv": "Ed25519", "x": base64.urlsafe_b64encode(RAW).rstrip(b"=").decode()}
THEIR_JWK = JWK | {
    "x": base64.urlsafe_b64encode(THEIRS.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
    .rstrip(b"=")
    .decode()
}

Sign = Callable[[bytes], bytes]


def part(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


def forged(header: dict[str, Any] | None = None, claims: dict[str, Any] | None = None, sign: Sign = OURS.sign) -> str:
    """A good token, but for the members that are given; one of None is left out."""
    now = int(time.time())
    good = {
        "iss": "yeoul", "aud": "yeoul:local", "sub": str(OWNER), "role": "admin", "iat": now, "exp": now + LIFETIME_S,
        "jti": "j",
    }  # fmt: skip
    head = {"alg": "EdDSA", "kid": "first", "typ": "JWT"} | (header or {})
    body = good | (claims or {})
    text = ".".join(part({name: value for name, value in of.items() if value is not None}) for of in (head, body))
    return f"{text}.{base64.urlsafe_b64encode(sign(text.encode())).rstrip(b'=').decode()}"


def hs256(secret: bytes) -> Sign:
    return lambda text: hmac.digest(secret, text, "sha256")


def nothing(_: bytes) -> bytes:
    return b""


def soon(seconds: int) -> int:
    return int(time.time()) + seconds


def changed(token: str) -> str:
    """The claims of an admin under the signature of a user's token."""
    head, _, signature = token.split(".")
    return f"{head}.{forged().split('.')[1]}.{signature}"


FORGERIES: dict[str, Callable[[], str]] = {
    **{f"alg {alg}": partial(forged, {"alg": alg}, sign=nothing) for alg in ("none", "None", "NONE", "nOnE")},
    "alg none with a signature": lambda: forged({"alg": "none"}),
    "no alg": lambda: forged({"alg": None}),
    "alg empty": lambda: forged({"alg": ""}),
    "alg a list": lambda: forged({"alg": ["EdDSA"]}),
    **{
        f"another alg, {alg}": partial(forged, {"alg": alg})
        for alg in ("RS256", "ES256", "PS256", "HS256", "ES256K", "Ed25519")
    },
    "HS256 with the raw public key": lambda: forged({"alg": "HS256"}, sign=hs256(RAW)),
    "HS256 with the PEM of the public key": lambda: forged({"alg": "HS256"}, sign=hs256(PEM)),
    "HS256 with the text of the JWK": lambda: forged({"alg": "HS256"}, sign=hs256(JWK["x"].encode())),
    "HS256 with nothing": lambda: forged({"alg": "HS256"}, sign=hs256(b"")),
    "kid of a file that is empty": lambda: forged({"alg": "HS256", "kid": "../../../../dev/null"}, sign=hs256(b"")),
    "kid of a path": lambda: forged({"kid": "/etc/passwd"}),
    "kid as SQL": lambda: forged({"alg": "HS256", "kid": "x' UNION SELECT 'k' -- "}, sign=hs256(b"k")),
    "kid as SQL behind a known one": lambda: forged({"kid": "first' OR '1'='1"}),
    "kid of a URL": lambda: forged({"kid": "https://evil.example/jwks.json"}, sign=THEIRS.sign),
    "kid as a command": lambda: forged({"kid": "first|id"}),
    "kid unknown": lambda: forged({"kid": "third"}),
    "kid in capitals": lambda: forged({"kid": "FIRST"}),
    "kid with NUL": lambda: forged({"kid": "first\0"}),
    "kid empty": lambda: forged({"kid": ""}),
    "kid a number": lambda: forged({"kid": 0}),
    "kid a list": lambda: forged({"kid": ["first"]}),
    "kid an object": lambda: forged({"kid": {"first": 1}}),
    "no kid": lambda: forged({"kid": None}),
    "kid of our other key": lambda: forged({"kid": "second"}),
    "a key of its own": lambda: forged({"jwk": THEIR_JWK}, sign=THEIRS.sign),
    "a key of its own and no kid": lambda: forged({"jwk": THEIR_JWK, "kid": None}, sign=THEIRS.sign),
    "an address of keys": lambda: forged({"jku": "https://evil.example/jwks.json"}, sign=THEIRS.sign),
    "an address of a certificate": lambda: forged({"x5u": "https://evil.example/c.pem"}, sign=THEIRS.sign),
    "a certificate": lambda: forged({"x5c": ["MIIB"]}, sign=THEIRS.sign),
    "a stranger's key under our kid": lambda: forged(sign=THEIRS.sign),
    "a key that was dropped": lambda: Tokens((("gone", b"g" * 32),), "local").issue(OWNER, Role.ADMIN, time.time()),
    "another environment": lambda: Tokens(SETTINGS.token_keys, "production").issue(OWNER, Role.ADMIN, time.time()),
    "claims of another token": lambda: changed(
        Tokens(SETTINGS.token_keys, "local").issue(OWNER, Role.USER, time.time())
    ),
    "no signature": lambda: forged(sign=nothing),
    "half a signature": lambda: forged()[:-43],
    "one part more": lambda: forged() + ".x",
    "five parts": lambda: ".".join([*forged().split("."), "x", "y"]),
    "two parts": lambda: ".".join(forged().split(".")[:2]),
    "not valid yet": lambda: forged(claims={"nbf": soon(LEEWAY_S + 300)}),
    "issued in the future": lambda: forged(claims={"iat": soon(LEEWAY_S + 300)}),
    "valid for ever": lambda: forged(claims={"exp": soon(10**8)}),
    "valid without end": lambda: forged(claims={"exp": float("inf")}),
    **{f"without {name}": partial(forged, claims={name: None}) for name in
       ("iss", "aud", "sub", "role", "iat", "exp", "jti")},
    "a role that there is not": lambda: forged(claims={"role": "root"}),
    "two roles": lambda: forged(claims={"role": ["user", "admin"]}),
    "a list of environments, ours not among them": lambda: forged(claims={"aud": ["yeoul:production", "yeoul"]}),
    "another issuer": lambda: forged(claims={"iss": "https://evil.example"}),
    "no subject's id": lambda: forged(claims={"sub": "admin"}),
    "a session that is none": lambda: forged(claims={"sid": "../admin"}),
}  # fmt: skip


async def asked(client: Client, path: str, token: str) -> tuple[int, str]:
    answer = await client.get(path, headers={"Authorization": f"Bearer {token}"})
    told = await answer.json()
    return answer.status, (told.get("error") or told).get("code", "")


async def test_the_forger_can_make_good_ones(client: Client) -> None:
    for path in PATHS:
        assert await asked(client, path, forged()) == (200, "")
        assert await asked(client, path, forged({"kid": "second"}, sign=SECOND.sign)) == (200, "")


@pytest.mark.parametrize("name", FORGERIES)
async def test_a_forged_token_is_refused(client: Client, name: str) -> None:
    for path in PATHS:
        assert await asked(client, path, FORGERIES[name]()) == (401, "TOKEN_INVALID")


async def test_a_token_that_has_expired_is_told_so(client: Client) -> None:
    late = forged(claims={"iat": soon(-LIFETIME_S - 1), "exp": soon(-1)})
    for path in PATHS:
        assert await asked(client, path, late) == (401, "TOKEN_EXPIRED")


async def test_a_token_of_one_kind_is_none_of_the_other(client: Client, fakes: Fakes) -> None:
    tokens = await registered(client)
    assert await asked(client, PATHS[0], tokens["refresh_token"]) == (401, "TOKEN_INVALID")
    before = len(fakes.commands.submitted)
    answer = await client.post("/api/v1/auth/refresh", json={"refresh_token": tokens["access_token"]})
    assert (answer.status, (await answer.json())["error"]["code"]) == (401, "SESSION_ENDED")
    assert len(fakes.commands.submitted) == before  # and whoever sends it ends no session by that
    assert await asked(client, PATHS[0], tokens["access_token"]) == (200, "")


@pytest.mark.parametrize(
    "headers",
    [{"Cookie": "token={}; access_token={}; session={}"}, {"X-Access-Token": "{}"},
     {"Proxy-Authorization": "Bearer {}"}, {"X-Forwarded-User": "admin"}, {"X-Original-URL": "/api/v1/livez"},
     {"X-HTTP-Method-Override": "OPTIONS"}],
    ids=lambda headers: next(iter(headers)),
)  # fmt: skip
async def test_a_token_counts_in_its_header_only(client: Client, headers: dict[str, str]) -> None:
    token = forged()
    answer = await client.get("/api/v1/kinds", headers={n: text.replace("{}", token) for n, text in headers.items()})
    assert (answer.status, (await answer.json())["error"]["code"]) == (401, "TOKEN_MISSING")
    answer = await client.get("/api/v1/kinds", headers={"Authorization": f"Bearer {token}"})
    assert answer.status == 200


@pytest.mark.parametrize("name", ["access_token", "token", "authorization", "jwt"])
async def test_a_token_in_an_address_is_a_mistake(client: Client, name: str) -> None:
    answer = await client.get(PATHS[0], params={name: forged()})
    told = await answer.text()
    assert answer.status == 400
    assert forged()[:20] not in told


async def test_an_ended_session_is_not_found_again_by_another_spelling(client: Client, fakes: Fakes) -> None:
    session = UUID("0190aaaa-0000-7000-8000-0000000000ff")
    fakes.stores.revoked.add(session)
    for spelled in (str(session), str(session).upper(), session.hex, f"{{{session}}}", session.urn):
        assert await asked(client, PATHS[0], forged(claims={"sid": spelled})) == (401, "SESSION_ENDED")


async def test_a_mangled_api_key_is_refused(client: Client, fakes: Fakes) -> None:
    tokens = await registered(client)
    headers = bearing(tokens)
    body = {"name": "a machine", "scopes": ["read"]}
    key = (await (await client.post("/api/v1/api-keys", json=body, headers=headers)).json())["data"]["key"]
    read = ApiKey.read(key)
    assert read is not None
    flipped = read._replace(secret=bytes((read.secret[0] ^ 1, *read.secret[1:])))  # with a checksum that fits
    at = next(place for place in range(6, len(key)) if key[place] != key[place + 1])
    exchanged = key[:at] + key[at + 1] + key[at] + key[at + 2 :]
    mangled = [
        key[:-1], key + "0", key[:-6], key[:6] + key[6:].swapcase(), "yeoul_", "yeoul_" + "0" * 71, "yeoul_" + "z" * 71,
        exchanged, flipped.text, read._replace(account=OWNER).text, ApiKey.new(OWNER).text,
        "yeoul_'OR'1'='1", "yeoul_" + "1" * 7_000, f"yeoul_{tokens['access_token']}",
    ]  # fmt: skip
    for path in PATHS:
        assert await asked(client, path, key) == (200, "")
        for text in mangled:
            assert await asked(client, path, text) == (401, "API_KEY_INVALID"), text
        assert await asked(client, path, key.removeprefix("yeoul_")) == (401, "TOKEN_INVALID")
