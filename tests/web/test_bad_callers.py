"""Whoever asks without a token that is good: told so, and nothing of what they send is on its way to a topic."""

import time
from uuid import UUID

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from domain.access import Role
from security.tokens import Tokens
from tests.web.conftest import OWNER, Client
from tests.web.fakes import SETTINGS
from tests.web.test_bad_input import GUARDED, RESOURCE, refused

pytestmark = pytest.mark.usefixtures("nothing_gets_through")


def forged() -> dict[str, tuple[str, str]]:
    """Tokens by their flaw, each with the code of its refusal."""
    now = time.time()
    claims = {
        "iss": "yeoul", "aud": "yeoul:local", "sub": str(OWNER), "role": "user", "iat": int(now), "exp": int(now) + 900,
        "jti": "j",
    }  # fmt: skip
    ours = Ed25519PrivateKey.from_private_bytes(SETTINGS.token_keys[0][1])
    theirs = Ed25519PrivateKey.from_private_bytes(b"x" * 32)
    good = Tokens(SETTINGS.token_keys, "local")
    invalid = "TOKEN_INVALID"
    return {
        "garbage": ("x.y.z", invalid),
        "no dots": ("token", invalid),
        "expired": (good.issue(OWNER, Role.USER, now - 901), "TOKEN_EXPIRED"),
        "signed none": (jwt.encode(claims, "", algorithm="none", headers={"kid": "first"}), invalid),
        "foreign kid": (jwt.encode(claims, ours, algorithm="EdDSA", headers={"kid": "third"}), invalid),
        "foreign key": (jwt.encode(claims, theirs, algorithm="EdDSA", headers={"kid": "first"}), invalid),
        "another environment": (Tokens(SETTINGS.token_keys, "production").issue(OWNER, Role.USER, now), invalid),
        "changed": (good.issue(OWNER, Role.USER, now)[:-4] + "BBBA", invalid),
    }


@pytest.mark.parametrize(
    ("method", "path"), [*GUARDED, ("GET", f"/api/v1/resources/{UUID(int=5)}"), ("GET", "/api/v1/resources")]
)
@pytest.mark.parametrize("name", forged())
async def test_tokens_that_are_none(client: Client, method: str, path: str, name: str) -> None:
    token, code = forged()[name]
    answer = await client.request(method, path, json=RESOURCE, headers={"Authorization": f"Bearer {token}"})
    await refused(answer, 401, code)
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize("header", ["Basic YTpi", "Bearer", "Bearer ", "Bearer a b", "token", "", "Bearer é"])
async def test_authorization_headers_that_are_none(client: Client, header: str) -> None:
    answer = await client.post("/api/v1/resources", json=RESOURCE, headers={"Authorization": header})
    await refused(answer, 401, "TOKEN_INVALID")


@pytest.mark.parametrize(("method", "path"), GUARDED)
async def test_guests_may_not_write(client: Client, method: str, path: str) -> None:
    await refused(await client.request(method, path, json=RESOURCE), 401, "TOKEN_MISSING")
