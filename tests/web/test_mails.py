"""What goes by mail, over HTTP: what is answered to whom, and what becomes of a token."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import msgspec
import pytest
from aiohttp.test_utils import TestClient, TestServer

from domain.account_states import Purpose
from security.mail_tokens import MailToken
from stores.mails import Sent
from tests.web import conftest
from tests.web.conftest import PASSWORD, Client, bearing, registered
from tests.web.fake_accounts import FakeAccounts
from tests.web.fakes import SETTINGS, Fakes
from tests.web.test_attacks_guesses import counted, told
from web.app import create

V1 = "/api/v1"
OTHER_PASSWORD = "another of these"
HAN = "han@example.org"


async def ask(client: Client, path: str, body: Any = None, method: str = "POST", **headers: str) -> tuple[int, Any]:
    return (await conftest.ask(client, method, V1 + path, body, **headers))[:2]


async def login(client: Client, password: str = PASSWORD, email: str = HAN) -> int:
    return (await ask(client, "/auth/login", {"email": email, "password": password}))[0]


async def test_a_forgotten_password_is_set_anew_with_the_token_of_the_mail(client: Client, fakes: Fakes) -> None:
    await registered(client, "han")
    accepted = 202, {"status": "accepted"}
    assert await ask(client, "/auth/forgot-password", {"email": " HAN@example.org"}) == accepted
    body = {"token": fakes.mailed(), "password": OTHER_PASSWORD}
    assert await ask(client, "/auth/reset-password", body) == (204, None)
    assert (await login(client), await login(client, OTHER_PASSWORD)) == (401, 200)
    assert await ask(client, "/auth/reset-password", body) == (403, "MAIL_TOKEN_INVALID")


async def test_a_new_password_has_to_be_one_and_costs_no_token(client: Client, fakes: Fakes) -> None:
    await registered(client, "han")
    await ask(client, "/auth/forgot-password", {"email": HAN})
    token = fakes.mailed()
    assert await ask(client, "/auth/reset-password", {"token": token, "password": "short"}) == (
        400, "VALIDATION_ERROR",
    )  # fmt: skip
    assert await ask(client, "/auth/reset-password", {"token": token, "password": OTHER_PASSWORD}) == (204, None)


async def test_forgetting_is_answered_the_same_for_whomever(
    client: Client, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    await registered(client, "han")
    seen, works, sent = [], [], []
    for email in (HAN, "nobody@example.org", "no address", HAN, HAN, HAN, HAN):
        with counted(monkeypatch) as work:
            seen.append(await told(await client.post(f"{V1}/auth/forgot-password", json={"email": email})))
        works.append(list(work))
        order = fakes.commands.submitted[-1]
        sent.append((order.type, order.actor, len(order.data), order.keyed))
    assert seen == [seen[0]] * 7
    assert seen[0][:2] == (202, {"status": "accepted"})
    assert works == [["FakeAccounts.by_email_index"]] * 7
    assert sent == [sent[0]] * 7  # a command of the same size goes out whether there is an account or not


async def test_a_token_that_is_none_is_refused_before_any_work(
    client: Client, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    han, mina = await registered(client, "han"), await registered(client, "mina")
    await ask(client, "/auth/forgot-password", {"email": HAN})
    old = fakes.mailed()
    await ask(client, "/auth/forgot-password", {"email": HAN})
    token = MailToken.read(fakes.mailed())
    assert token is not None
    nonce = msgspec.json.decode(fakes.commands.submitted[-1].data)["token"]["nonce"]
    key, theirs = SETTINGS.command_key, UUID(mina["user"]["id"])
    wrong = {
        "older": old,
        "another account": token._replace(account=theirs).text,
        "nobody": token._replace(account=UUID(int=5)).text,
        "another purpose": fakes.mailed("create_account"),
        "another environment": MailToken.made(key, "production", "reset", token.account, nonce).text,
        "another key": MailToken.made(b"x" * 32, "local", "reset", token.account, nonce).text,
        "the nonce": "m1." + nonce,
        "the hash": token.hash("local", "reset"),
        "an access token": han["access_token"][:128],
        "a refresh token": han["refresh_token"][:128],
        "nothing": "m1.",
        "text": "’; DROP TABLE accounts",
    }
    submitted, seen = len(fakes.commands.submitted), []
    for shown in wrong.values():
        with counted(monkeypatch) as work:
            answer = await client.post(f"{V1}/auth/reset-password", json={"token": shown, "password": OTHER_PASSWORD})
        seen.append(await told(answer))
        assert "Passwords.hash" not in work
    assert [status for status, _, _ in seen] == [403] * len(wrong)
    assert [error["code"] for _, error, _ in seen] == ["MAIL_TOKEN_INVALID"] * len(wrong)
    assert seen == [seen[0]] * len(wrong)
    assert len(fakes.commands.submitted) == submitted
    for path in ("/auth/verify-email", "/auth/confirm-email"):  # of another purpose, it is none there either
        assert await ask(client, path, {"token": token.text}) == (403, "MAIL_TOKEN_INVALID")
    assert (await ask(client, "/auth/reset-password", {"token": token.text, "password": OTHER_PASSWORD}))[0] == 204


async def test_no_token_is_in_what_goes_through_kafka(client: Client, fakes: Fakes) -> None:
    tokens = await registered(client, "han")
    await ask(client, "/auth/forgot-password", {"email": HAN})
    change = {"password": PASSWORD, "email": "new@example.org"}
    await ask(client, "/users/me/email", change, "PUT", **bearing(tokens))
    everything = b"".join(order.data for order in fakes.commands.submitted)
    for kind in ("create_account", "request_reset", "request_email_change"):
        token = MailToken.read(fakes.mailed(kind))
        assert token is not None
        assert token.text.encode() not in everything
        assert token.secret.hex().encode() not in everything
    assert b"new@example.org" not in everything


async def test_an_address_is_verified_with_the_mail_of_registering_or_another(client: Client, fakes: Fakes) -> None:
    tokens = await registered(client, "han")
    assert tokens["user"]["email_verified"] is False
    first = fakes.mailed("create_account")
    assert (await ask(client, "/auth/resend-verification", **bearing(tokens)))[0] == 202
    assert await ask(client, "/auth/verify-email", {"token": first}) == (403, "MAIL_TOKEN_INVALID")
    assert (await ask(client, "/auth/verify-email", {"token": fakes.mailed("request_verification")}))[0] == 204
    assert (await ask(client, "/users/me", None, "GET", **bearing(tokens)))[1]["email_verified"] is True


async def test_whoever_asks_for_mails_too_often_is_told_when_to_come_again(client: Client) -> None:
    tokens = await registered(client, "han")
    found = []
    for _ in range(4):
        async with client.post(f"{V1}/auth/resend-verification", headers=bearing(tokens)) as answer:
            found.append((answer.status, answer.headers.get("Retry-After")))
    assert found == [(202, None), (202, None), (429, "3600"), (429, "3600")]


async def test_another_address_is_the_accounts_once_it_is_confirmed(client: Client, fakes: Fakes) -> None:
    tokens = await registered(client, "han")
    who = bearing(tokens)
    await registered(client, "mina")
    for password, email, code in (
        ("a wrong guess", "new@example.org", (403, "WRONG_PASSWORD")),
        (PASSWORD, "Mina@example.org", (409, "EMAIL_TAKEN")),
        (PASSWORD, "no address", (400, "VALIDATION_ERROR")),
        (PASSWORD, "new@example.org\r\nBcc: all@example.org", (400, "VALIDATION_ERROR")),
    ):
        assert await ask(client, "/users/me/email", {"password": password, "email": email}, "PUT", **who) == code
    change = {"password": PASSWORD, "email": " New@example.org".strip()}
    assert (await ask(client, "/users/me/email", change, "PUT", **who))[0] == 202
    me = (await ask(client, "/users/me", None, "GET", **who))[1]
    assert (me["email"], me["pending_email"]) == (HAN, "New@example.org")
    assert (await ask(client, "/auth/confirm-email", {"token": fakes.mailed("request_email_change")}))[0] == 204
    me = (await ask(client, "/users/me", None, "GET", **who))[1]
    assert (me["email"], me["pending_email"], me["email_verified"]) == ("New@example.org", None, True)
    assert (await login(client), await login(client, email="new@example.org")) == (401, 200)


async def test_of_two_who_want_one_address_the_first_to_confirm_has_it(client: Client, fakes: Fakes) -> None:
    tokens = []
    for name in ("han", "mina"):
        who = bearing(await registered(client, name))
        await ask(client, "/users/me/email", {"password": PASSWORD, "email": "new@example.org"}, "PUT", **who)
        tokens.append(fakes.mailed("request_email_change"))
    found = [await ask(client, "/auth/confirm-email", {"token": token}) for token in reversed(tokens)]
    assert found == [(204, None), (409, "EMAIL_TAKEN")]


def with_(fakes: Fakes, **fields: Any) -> TestClient[Any, Any]:
    return TestClient(TestServer(create(msgspec.structs.replace(SETTINGS, **fields), fakes.open)))


async def test_a_private_registration_with_a_taken_address_tells_its_owner_alone(private: Client, fakes: Fakes) -> None:
    body = {"email": HAN, "password": PASSWORD}
    assert await ask(private, "/auth/register", body) == (202, {"status": "accepted"})
    (owner,) = fakes.stores.accounts.states
    keys = dict(fakes.stores.accounts.keys)
    assert await ask(private, "/auth/register", body | {"password": "guess of a guess"}) == (
        202, {"status": "accepted"},
    )  # fmt: skip
    order = fakes.commands.submitted[-1]
    assert (order.type, order.aggregate_id) == ("note_registration", owner)
    assert fakes.stores.accounts.keys == keys  # no key is left of an account that does not come to be
    assert [one.sort for one in fakes.stores.accounts.states[owner].mailing.asked] == [Purpose.VERIFY, "tried"]
    assert await login(private) == 200


async def test_in_private_no_change_of_address_tells_that_one_is_taken(private: Client, fakes: Fakes) -> None:
    for name in ("han", "mina"):
        await ask(private, "/auth/register", {"email": f"{name}@example.org", "password": PASSWORD})
    who = bearing((await ask(private, "/auth/login", {"email": HAN, "password": PASSWORD}))[1])
    found = [
        await ask(private, "/users/me/email", {"password": PASSWORD, "email": email}, "PUT", **who)
        for email in ("mina@example.org", "free@example.org")
    ]
    assert found == [(202, {"status": "accepted"})] * 2


async def test_where_it_is_required_nobody_logs_in_before_the_address_is_verified(fakes: Fakes) -> None:
    async with with_(fakes, email_verification="required") as client:
        body = {"email": HAN, "password": PASSWORD}
        assert await ask(client, "/auth/register", body) == (202, {"status": "accepted"})
        assert await login(client, "a wrong guess") == 401
        assert await ask(client, "/auth/login", body) == (403, "EMAIL_UNVERIFIED")
        token = fakes.mailed("request_verification")  # who knows the password gets another mail
        assert (await ask(client, "/auth/verify-email", {"token": token}))[0] == 204
        assert await login(client) == 200


async def test_the_language_of_mails_is_that_of_registering_until_it_is_changed(client: Client) -> None:
    body = {"email": HAN, "password": PASSWORD}
    _, tokens = await ask(client, "/auth/register", body, **{"Accept-Language": "ko-KR,ko;q=0.9,en;q=0.5"})
    assert tokens["user"]["language"] == "ko"
    who = bearing(tokens)
    for language, status in (("en", 200), (None, 200), ("de", 400)):
        assert (await ask(client, "/users/me", {"language": language}, "PATCH", **who))[0] == status
    assert (await ask(client, "/users/me", None, "GET", **who))[1]["language"] is None


async def test_an_export_has_the_mails(client: Client, fakes: Fakes, bearer: Callable[..., dict[str, str]]) -> None:
    tokens = await registered(client, "han")
    at = next(iter(fakes.stores.accounts.states.values())).created_at
    fakes.stores.mails.sent[UUID(tokens["user"]["id"])] = [Sent("verify", at)]
    async with client.get(f"{V1}/users/me/export", headers=bearing(tokens)) as answer:
        assert [mail["kind"] for mail in (await answer.json())["mails"]] == ["verify"]


async def test_a_worker_that_takes_its_time_is_not_waited_for(
    client: Client, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = await registered(client, "han")
    await ask(client, "/auth/forgot-password", {"email": HAN})
    token = fakes.mailed()
    fakes.commands.slow = True
    assert await ask(client, "/auth/reset-password", {"token": token, "password": OTHER_PASSWORD}) == (
        202, {"status": "accepted"},
    )  # fmt: skip
    change = {"password": OTHER_PASSWORD, "email": "new@example.org"}
    assert (await ask(client, "/users/me/email", change, "PUT", **bearing(tokens)))[0] == 202
    # The key is erased between two looks.
    fakes.commands.slow = False
    await ask(client, "/auth/forgot-password", {"email": HAN})

    async def gone(_: FakeAccounts, _id: UUID) -> None:
        return None

    monkeypatch.setattr(FakeAccounts, "key", gone)
    body = {"token": fakes.mailed(), "password": PASSWORD}
    assert await ask(client, "/auth/reset-password", body) == (403, "MAIL_TOKEN_INVALID")
