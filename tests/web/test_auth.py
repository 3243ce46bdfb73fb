"""Registering, logging in, and the keys that others check tokens by."""

import asyncio
import time
from typing import Any

import jwt
import msgspec
import pytest

from domain.access import Role
from domain.accounts import AccountStatus, CreateAccount
from security import fields
from security.fields import Sealer
from security.passwords import Passwords
from stores import StoresAway
from streams.publish import BrokerAway
from tests.web.conftest import Client
from tests.web.fake_accounts import FakeAccounts
from tests.web.fakes import SETTINGS, Fakes
from web import accounts

NEW = {"email": "Han@Example.org", "password": "rapids of a river", "name": "한강", "phone": "+82 10 1234 5678"}
REGISTER, LOGIN = "/api/v1/auth/register", "/api/v1/auth/login"


async def register(client: Client, **changes: Any) -> Any:
    return await client.post(REGISTER, json={**NEW, **changes})


async def test_who_registers_gets_an_account_and_a_token(client: Client) -> None:
    answer = await register(client)
    data = (await answer.json())["data"]
    assert (answer.status, answer.headers["Cache-Control"]) == (201, "no-store")
    assert (data["token_type"], data["expires_in"]) == ("Bearer", 900)
    user = data["user"]
    assert (user["email"], user["name"], user["role"], user["version"]) == ("Han@Example.org", "한강", "user", 1)
    headers = {"Authorization": f"Bearer {data['access_token']}"}
    made = await client.post("/api/v1/resources", json={"kind": "note", "title": "t"}, headers=headers)
    assert (made.status, (await made.json())["data"]["owner_id"]) == (201, user["id"])


async def test_nothing_personal_leaves_the_front_unsealed(client: Client, fakes: Fakes) -> None:
    await register(client)
    order, _session = fakes.commands.submitted
    for plain in ("example.org", "한강", "1234 5678", "rapids"):
        assert plain not in order.data.decode().lower()
        assert plain not in order.fingerprint
    command = msgspec.json.decode(order.data, type=CreateAccount)
    wrapped = fakes.stores.accounts.keys[order.aggregate_id]
    assert fakes.sealer.open(wrapped, order.aggregate_id, "name", command.name_sealed) == "한강"
    assert command.phone_sealed is not None
    assert fakes.sealer.open(wrapped, order.aggregate_id, "phone", command.phone_sealed) == NEW["phone"]
    assert command.email_index == fields.index(SETTINGS.index_key, "han@example.org")
    assert command.role is Role.USER


async def test_an_address_is_taken_once(client: Client, fakes: Fakes) -> None:
    await register(client)
    for email in ("Han@Example.org", " han@EXAMPLE.ORG".strip()):
        answer = await register(client, email=email)
        assert (answer.status, (await answer.json())["error"]["code"]) == (409, "EMAIL_TAKEN")


async def test_two_at_once_get_one_account(client: Client, fakes: Fakes) -> None:
    answers = await asyncio.gather(*(register(client) for _ in range(5)))
    assert sorted(answer.status for answer in answers) == [201, 409, 409, 409, 409]
    assert len(fakes.stores.accounts.states) == 1


async def test_a_login_with_the_right_password_gives_a_token(client: Client, fakes: Fakes) -> None:
    user = (await (await register(client)).json())["data"]["user"]
    stale = {"Authorization": "Bearer expired.or.nonsense"}
    answer = await client.post(LOGIN, json={"email": "han@example.ORG", "password": NEW["password"]}, headers=stale)
    data = (await answer.json())["data"]
    assert (answer.status, data["expires_in"], answer.headers["Cache-Control"]) == (200, 900, "no-store")
    assert str(fakes.tokens.verify(data["access_token"], time.time()).actor.id) == user["id"]


async def test_a_wrong_login_tells_nobody_whether_the_address_exists(
    client: Client, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    await register(client)
    work: list[str] = []

    def noted(kind: type, name: str) -> None:
        done = getattr(kind, name)

        def note(*given: Any) -> Any:
            work.append(name)
            return done(*given)

        monkeypatch.setattr(kind, name, note)

    for kind, name in (
        (FakeAccounts, "by_email_index"), (FakeAccounts, "key"), (Sealer, "open"), (Passwords, "verify"),
    ):  # fmt: skip
        noted(kind, name)
    erased = {"email": "erased@example.org"}
    await register(client, **erased)
    fakes.stores.accounts.keys.popitem()
    bodies, works = [], []
    for email in (NEW["email"], "nobody@example.org", erased["email"]):
        work.clear()
        answer = await client.post(LOGIN, json={"email": email, "password": "wrong password"})
        assert answer.status == 401
        bodies.append((await answer.json())["error"])
        works.append(list(work))
    assert bodies[0] == bodies[1] == bodies[2]
    assert bodies[0]["code"] == "INVALID_CREDENTIALS"
    # Time can't be measured well enough here; what takes it can be counted.
    assert works == [["by_email_index", "key", "open", "verify"]] * 3


async def test_a_registration_that_goes_on_is_accepted(client: Client, fakes: Fakes) -> None:
    fakes.commands.slow = True
    assert (await register(client)).status == 202


@pytest.mark.parametrize(("raised", "code"), [(BrokerAway("x"), "BROKER_AWAY"), (StoresAway("x"), "STORES_AWAY")])
async def test_outages(client: Client, fakes: Fakes, raised: Exception, code: str) -> None:
    fakes.commands.raises = raised
    answer = await register(client)
    assert (answer.status, (await answer.json())["error"]["code"]) == (503, code)


async def test_private_registration_answers_everybody_alike(private: Client, fakes: Fakes) -> None:
    seen = set()
    for _ in range(2):
        answer = await register(private)
        shown = await answer.json()
        seen.add((answer.status, str(shown["data"]), str(sorted(set(answer.headers) - {"Date"}))))
    assert len(seen) == 1
    assert answer.status == 202
    assert len(fakes.stores.accounts.states) == 1


async def test_the_public_keys_check_our_tokens(client: Client) -> None:
    token = (await (await register(client)).json())["data"]["access_token"]
    keys = (await (await client.get("/.well-known/jwks.json")).json())["keys"]
    assert [key["kid"] for key in keys] == ["first", "second"]
    assert all("d" not in key for key in keys)
    key = jwt.PyJWK(next(key for key in keys if key["kid"] == jwt.get_unverified_header(token)["kid"]))
    assert jwt.decode(token, key, algorithms=["EdDSA"], audience="yeoul:local", issuer="yeoul")["role"] == "user"


async def test_a_token_for_the_command_line(fakes: Fakes) -> None:
    async with fakes.open(SETTINGS) as parts:
        first = await accounts._token(parts, "admin@example.org", Role.ADMIN)
        again = await accounts._token(parts, "Admin@example.org", Role.USER)
        assert parts.tokens.verify(first, time.time()).actor == parts.tokens.verify(again, time.time()).actor
        assert parts.tokens.verify(first, time.time()).actor.role is Role.ADMIN
        await accounts._token(parts, "user@example.org", Role.USER)
        with pytest.raises(accounts.NoToken, match="email must look like"):
            await accounts._token(parts, "nonsense", Role.USER)
        with pytest.raises(accounts.NoToken, match="another address"):
            await accounts._token(parts, "user@example.org", Role.ADMIN)


async def test_the_command_line_gives_no_token_of_a_disabled_account(fakes: Fakes) -> None:
    async with fakes.open(SETTINGS) as parts:
        await accounts._token(parts, "user@example.org", Role.USER)
        ((id, state),) = fakes.stores.accounts.states.items()
        fakes.stores.accounts.states[id] = msgspec.structs.replace(state, status=AccountStatus.DISABLED)
        with pytest.raises(accounts.NoToken, match="is disabled"):
            await accounts._token(parts, "user@example.org", Role.USER)


def test_tokens_for_the_command_line_are_local() -> None:
    with pytest.raises(accounts.NoToken, match="production"):
        accounts.token_for(msgspec.structs.replace(SETTINGS, environment="production"), "a@example.org")


async def test_no_key_is_left_of_an_account_that_did_not_come_to_be(
    client: Client, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    await register(client)
    (kept,) = fakes.stores.accounts.keys

    async def nobody_yet(_: str) -> None:
        """Two register at once: neither sees the other."""

    monkeypatch.setattr(fakes.stores.accounts, "by_email_index", nobody_yet)
    assert (await register(client)).status == 409
    assert set(fakes.stores.accounts.keys) == {kept}
    fakes.commands.raises = BrokerAway("away")
    assert (await register(client, email="other@example.org")).status == 503
    assert set(fakes.stores.accounts.keys) == {kept}


async def test_a_key_that_may_be_needed_stays(client: Client, fakes: Fakes) -> None:
    fakes.commands.slow = True
    assert (await register(client)).status == 202
    assert len(fakes.stores.accounts.keys) == 1
