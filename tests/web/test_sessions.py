"""Sessions over HTTP: tokens that follow each other, and their end."""

import base64
import time
from typing import Any
from uuid import UUID

import msgspec
import pytest

from domain.access import Role
from domain.accounts import AccountStatus
from security.refresh import RefreshToken
from security.tokens import Tokens
from stores import StoresAway
from streams.publish import BrokerAway
from tests.web.conftest import Client, bearing
from tests.web.fakes import SETTINGS, Fakes

U = "/api/v1"
NEW = {"email": "han@example.org", "password": "rapids of a river"}
AGENT = {"User-Agent": "Yeoul/1 (a  river)\u202e \u200bé"}


async def granted(client: Client, path: str = "/auth/login", **more: Any) -> dict[str, Any]:
    answer = await client.post(U + path, json=NEW, **more)
    assert answer.status in (200, 201), await answer.text()
    assert answer.headers["Cache-Control"] == "no-store"
    return dict((await answer.json())["data"])


@pytest.fixture
async def first(client: Client) -> dict[str, Any]:
    return await granted(client, "/auth/register")


async def refreshed(client: Client, token: str, **headers: str) -> Any:
    return await client.post(f"{U}/auth/refresh", json={"refresh_token": token}, headers=headers)


async def code(answer: Any) -> tuple[int, str]:
    return answer.status, (await answer.json())["error"]["code"]


OVER = (401, "SESSION_ENDED")


async def test_register_and_login_begin_sessions(client: Client, fakes: Fakes, first: dict[str, Any]) -> None:
    second = await granted(client)
    for tokens in (first, second):
        assert (tokens["token_type"], tokens["expires_in"], tokens["refresh_expires_in"]) == ("Bearer", 900, 2_592_000)
    sessions = [fakes.tokens.verify(tokens["access_token"], time.time()).session for tokens in (first, second)]
    (state,) = fakes.stores.sessions.states.values()
    assert [one.id for one in state.held] == sessions
    assert len(set(sessions)) == 2


async def test_a_refresh_gives_new_tokens_of_the_same_session(
    client: Client, fakes: Fakes, first: dict[str, Any]
) -> None:
    answer = await refreshed(client, first["refresh_token"])
    data = (await answer.json())["data"]
    assert (answer.status, answer.headers["Cache-Control"]) == (200, "no-store")
    assert data.keys() == {"access_token", "token_type", "expires_in", "refresh_token", "refresh_expires_in"}
    assert data["refresh_token"] != first["refresh_token"]
    before, after = (fakes.tokens.verify(tokens["access_token"], time.time()) for tokens in (first, data))
    assert (before.session, before.actor) == (after.session, after.actor)
    assert (await refreshed(client, data["refresh_token"])).status == 200


async def test_a_token_used_twice_ends_the_session(client: Client, fakes: Fakes, first: dict[str, Any]) -> None:
    other = await granted(client)
    latest = (await (await refreshed(client, first["refresh_token"])).json())["data"]
    again = await refreshed(client, first["refresh_token"])
    assert await code(again) == OVER
    assert "invalid_token" in again.headers["WWW-Authenticate"]
    assert await code(await refreshed(client, latest["refresh_token"])) == OVER
    for tokens in (first, latest):
        assert await code(await client.get(f"{U}/sessions", headers=bearing(tokens))) == OVER
    assert (await client.get(f"{U}/sessions", headers=bearing(other))).status == 200


async def test_only_hashes_leave_the_front(client: Client, fakes: Fakes) -> None:
    tokens = await granted(client, "/auth/register", headers=AGENT)
    tokens = (await (await refreshed(client, tokens["refresh_token"])).json())["data"]
    parsed = RefreshToken.read(tokens["refresh_token"])
    assert parsed is not None
    state = fakes.stores.sessions.states[parsed.account]
    told = [
        *(order.data + order.fingerprint.encode() for order in fakes.commands.submitted),
        msgspec.json.encode(state),
    ]
    secrets = [
        parsed.text.encode(), parsed.secret.hex().encode(), base64.urlsafe_b64encode(parsed.secret)[:40], b"river",
        b"127.0.0.1",
    ]  # fmt: skip
    assert [secret for secret in secrets for text in told if secret in text] == []
    assert state.held[0].current == parsed.hash("local")


async def test_a_key_lets_a_lost_answer_be_asked_for_again(client: Client, first: dict[str, Any]) -> None:
    key = {"Idempotency-Key": "once"}
    answers = [await refreshed(client, first["refresh_token"], **key) for _ in range(2)]
    one, two = [(await answer.json())["data"] for answer in answers]
    assert [answer.headers.get("Idempotency-Replayed") for answer in answers] == [None, "true"]
    assert one["refresh_token"] == two["refresh_token"]
    following = await refreshed(client, two["refresh_token"], **key)
    assert following.status == 200
    # Once the token that it gave was used, it is an old one like any other; it is told to nobody again.
    assert await code(await refreshed(client, first["refresh_token"], **key)) == OVER
    assert (await refreshed(client, (await following.json())["data"]["refresh_token"])).status == 200


async def test_another_key_is_another_use(client: Client, first: dict[str, Any]) -> None:
    assert (await refreshed(client, first["refresh_token"], **{"Idempotency-Key": "one"})).status == 200
    assert await code(await refreshed(client, first["refresh_token"], **{"Idempotency-Key": "two"})) == OVER


def changed(token: str, **parts: Any) -> str:
    parsed = RefreshToken.read(token)
    assert parsed is not None
    return parsed._replace(**parts).text


async def test_tokens_that_were_never_given_do_nothing(client: Client, fakes: Fakes, first: dict[str, Any]) -> None:
    other = RefreshToken.read((await granted(client))["refresh_token"])
    mine = RefreshToken.read(first["refresh_token"])
    assert other is not None
    assert mine is not None
    sent = len(fakes.commands.submitted)
    strange = RefreshToken.first(UUID(int=9), UUID(int=8))
    for token in (
        "x", "r1.", strange.text, first["access_token"], changed(mine.text, session=other.session),
        changed(mine.text, account=UUID(int=9)), changed(mine.text, family=b"f" * 16),
        changed(mine.text, family=other.family, secret=other.secret),
    ):  # fmt: skip
        assert await code(await refreshed(client, token)) == OVER
    assert len(fakes.commands.submitted) == sent  # and cause no work
    assert (await refreshed(client, mine.text)).status == 200


async def test_tokens_of_another_environment(client: Client, fakes: Fakes, first: dict[str, Any]) -> None:
    mine = RefreshToken.read(first["refresh_token"])
    assert mine is not None
    state = fakes.stores.sessions.states[mine.account]
    copied = msgspec.structs.replace(
        state.held[0], family=mine.family_hash("production"), current=mine.hash("production")
    )
    fakes.stores.sessions.states[mine.account] = msgspec.structs.replace(state, held=(copied,))
    assert await code(await refreshed(client, mine.text)) == OVER
    foreign = Tokens(SETTINGS.token_keys, "production").issue(mine.account, Role.ADMIN, time.time(), mine.session)
    answer = await client.get(f"{U}/sessions", headers={"Authorization": f"Bearer {foreign}"})
    assert await code(answer) == (401, "TOKEN_INVALID")


async def test_an_account_that_may_not_log_in_may_not_refresh(
    client: Client, fakes: Fakes, first: dict[str, Any]
) -> None:
    mine = RefreshToken.read(first["refresh_token"])
    assert mine is not None
    account = fakes.stores.accounts.states[mine.account]
    fakes.stores.accounts.states[mine.account] = msgspec.structs.replace(account, status="disabled")
    assert await code(await refreshed(client, mine.text)) == OVER
    fakes.stores.accounts.states[mine.account] = msgspec.structs.replace(
        account, status=AccountStatus.ACTIVE, role=Role.ADMIN
    )
    data = (await (await refreshed(client, mine.text)).json())["data"]
    assert fakes.tokens.verify(data["access_token"], time.time()).actor.role is Role.ADMIN
    fakes.stores.accounts.keys.clear()
    assert await code(await refreshed(client, data["refresh_token"])) == OVER


async def test_no_session_is_chosen_by_its_client(client: Client, fakes: Fakes, first: dict[str, Any]) -> None:
    mine = RefreshToken.read(first["refresh_token"])
    assert mine is not None
    for field in ("session", "sid", "refresh_token"):
        answer = await client.post(f"{U}/auth/login", json={**NEW, field: str(mine.session)})
        assert await code(answer) == (400, "VALIDATION_ERROR")
    again = await granted(client, headers=bearing(first, Cookie=f"session={mine.session}"))
    assert RefreshToken.read(again["refresh_token"]).session != mine.session  # type: ignore[union-attr]


async def test_the_list_shows_ones_own(client: Client, fakes: Fakes, first: dict[str, Any]) -> None:
    second = await granted(client, headers=AGENT)
    other = await client.post(f"{U}/auth/register", json=NEW | {"email": "b@example.org"})
    answer = await client.get(f"{U}/sessions", headers=bearing(second))
    shown = await answer.json()
    assert (answer.status, answer.headers["Cache-Control"], shown["meta"]["next_cursor"]) == (200, "no-store", None)
    newest, oldest = shown["data"]
    assert newest.keys() == {"id", "device", "address", "created_at", "last_seen_at", "expires_at", "current"}
    assert (newest["device"], newest["address"], newest["current"]) == ("Yeoul/1 (a river) é", "127.0.0.1", True)
    assert oldest["current"] is False
    (alone,) = (await (await client.get(f"{U}/sessions", headers=bearing((await other.json())["data"]))).json())["data"]
    assert alone["id"] not in (newest["id"], oldest["id"])
    assert (await client.get(f"{U}/sessions?limit=1", headers=bearing(second))).status == 400
    assert await code(await client.get(f"{U}/sessions")) == (401, "TOKEN_MISSING")


@pytest.mark.parametrize(("agent", "shown"), [(None, "unknown device"), ("x" * 5_000, "x" * 200), ("<b>", "<b>")])
async def test_what_a_device_calls_itself_is_bounded(client: Client, agent: str | None, shown: str) -> None:
    await granted(client, "/auth/register")
    skip = {"skip_auto_headers": ["User-Agent"]} if agent is None else {"headers": {"User-Agent": agent}}
    tokens = await granted(client, **skip)
    (newest, _) = (await (await client.get(f"{U}/sessions", headers=bearing(tokens))).json())["data"]
    assert newest["device"] == shown


async def test_logout_ends_this_session(client: Client, first: dict[str, Any]) -> None:
    second = await granted(client)
    assert (await client.post(f"{U}/auth/logout", headers=bearing(first))).status == 204
    for method, path in (("GET", "/sessions"), ("POST", "/auth/logout"), ("GET", "/resources")):
        assert await code(await client.request(method, U + path, headers=bearing(first))) == OVER
    assert await code(await refreshed(client, first["refresh_token"])) == OVER
    assert len((await (await client.get(f"{U}/sessions", headers=bearing(second))).json())["data"]) == 1
    assert await code(await client.post(f"{U}/auth/logout")) == (401, "TOKEN_MISSING")


async def test_logout_everywhere_ends_them_all(client: Client, fakes: Fakes, first: dict[str, Any]) -> None:
    second = await granted(client)
    assert (await client.post(f"{U}/auth/logout-all", headers=bearing(second))).status == 204
    (state,) = fakes.stores.sessions.states.values()
    assert (state.held, len(state.ended)) == ((), 2)
    for tokens in (first, second):
        assert await code(await refreshed(client, tokens["refresh_token"])) == OVER
    assert await code(await client.get(f"{U}/sessions", headers=bearing(second))) == OVER


async def test_one_of_ones_own_is_ended_by_its_id(client: Client, first: dict[str, Any]) -> None:
    second = await granted(client)
    id = RefreshToken.read(second["refresh_token"]).session  # type: ignore[union-attr]
    headers = bearing(first, **{"Idempotency-Key": "k"})
    for replayed in (None, "true"):
        answer = await client.delete(f"{U}/sessions/{id}", headers=headers)
        assert (answer.status, answer.headers.get("Idempotency-Replayed")) == (204, replayed)
    assert await code(await client.get(f"{U}/sessions", headers=bearing(second))) == OVER
    assert await code(await client.delete(f"{U}/sessions/{id}", headers=bearing(first))) == (404, "NOT_FOUND")


async def test_those_of_others_are_not_there(client: Client, fakes: Fakes, first: dict[str, Any]) -> None:
    answer = await client.post(f"{U}/auth/register", json=NEW | {"email": "b@example.org"})
    other = (await answer.json())["data"]
    id = RefreshToken.read(first["refresh_token"]).session  # type: ignore[union-attr]
    for address in (id, UUID(int=5), "nonsense", id.hex):
        answer = await client.delete(f"{U}/sessions/{address}", headers=bearing(other))
        assert await code(answer) == (404, "NOT_FOUND")
    assert (await client.get(f"{U}/sessions", headers=bearing(first))).status == 200


async def test_a_token_without_a_session_has_none_to_end(client: Client, bearer: Any) -> None:
    assert await code(await client.post(f"{U}/auth/logout", headers=bearer())) == (404, "NOT_FOUND")
    assert (await (await client.get(f"{U}/sessions", headers=bearer())).json())["data"] == []


@pytest.mark.parametrize("body", [{}, {"refresh_token": ""}, {"refresh_token": 1}, {"refresh_token": "x" * 600}])
async def test_bad_bodies(client: Client, body: dict[str, Any]) -> None:
    answer = await client.post(f"{U}/auth/refresh", json=body | {"more": 1})
    assert await code(answer) == (400, "VALIDATION_ERROR")
    assert {each["field"] for each in (await answer.json())["error"]["details"]} == {"refresh_token", "more"}


async def test_outages(client: Client, fakes: Fakes, first: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    fakes.commands.raises = BrokerAway("away")
    for answer in (await refreshed(client, first["refresh_token"]), await client.post(f"{U}/auth/login", json=NEW)):
        assert await code(answer) == (503, "BROKER_AWAY")
        assert answer.headers["Retry-After"] == "1"
    fakes.commands.raises = None
    fakes.commands.state = "away"

    async def never(*_: Any) -> bool:
        raise AssertionError("the password was checked for nothing")

    monkeypatch.setattr("security.passwords.Passwords.verify", never)
    assert await code(await client.post(f"{U}/auth/login", json=NEW)) == (503, "BROKER_AWAY")
    fakes.commands.state = "ok"

    async def away(_: UUID) -> None:
        raise StoresAway("away")

    monkeypatch.setattr(fakes.stores.sessions, "get", away)
    assert await code(await refreshed(client, first["refresh_token"])) == (503, "STORES_AWAY")


async def test_a_refresh_that_takes_too_long_is_asked_again_with_its_key(
    client: Client, fakes: Fakes, first: dict[str, Any]
) -> None:
    key = {"Idempotency-Key": "k"}
    fakes.commands.slow = True
    answer = await refreshed(client, first["refresh_token"], **key)
    assert (await code(answer), answer.headers["Retry-After"]) == ((503, "STORES_AWAY"), "1")
    fakes.commands.slow = False
    answer = await refreshed(client, first["refresh_token"], **key)
    assert answer.status == 200
    assert (await refreshed(client, (await answer.json())["data"]["refresh_token"])).status == 200


async def test_a_registration_whose_session_waits_is_accepted(client: Client, fakes: Fakes) -> None:
    real = fakes.commands.submit

    async def submit(order: Any, *, wait: float) -> Any:
        if order.noun == "sessions":
            raise BrokerAway("just now")
        return await real(order, wait=wait)

    fakes.commands.submit = submit  # type: ignore[method-assign]
    assert (await client.post(f"{U}/auth/register", json=NEW)).status == 202
    assert len(fakes.stores.accounts.states) == 1
