"""The second factor over HTTP: begun, confirmed, asked for at a login, turned off; and what does not get past it."""

import re
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import msgspec
import pytest
from aiohttp.test_utils import TestClient, TestServer

from config.shields import Limit
from domain.access import Role
from domain.accounts import AccountStatus
from domain.second_factors import PENDING_KEPT, ConfirmSecondFactor
from security import totp
from streams.publish import Order
from tests.web.conftest import ADMIN, Client
from tests.web.fakes import SETTINGS, Fakes
from tests.web.test_attacks_guesses import counted
from web.app import create

PASSWORD = "rapids of a river"
FACTOR = "/users/me/second-factor"
WHO = {"email": "han@example.org", "password": PASSWORD}
REQUIRED, WRONG = (401, "SECOND_FACTOR_REQUIRED"), (403, "WRONG_CODE")
INVALID = (401, "INVALID_CREDENTIALS")


class Person:
    """Somebody who has registered; its clock, and ours, stand still until they are moved."""

    def __init__(self, client: Client, fakes: Fakes, clock: "Clock") -> None:
        self.client, self.fakes, self.clock = client, fakes, clock
        self.token = self.secret = ""
        self.recovery: list[str] = []
        self.version = "v1"

    async def ask(self, method: str, path: str, body: Any = None, token: str | None = None, **headers: str) -> Any:
        """Status, and data or code."""
        token = self.token if token is None else token
        headers |= {"Authorization": f"Bearer {token}"} if token else {}
        answer = await self.client.request(method, f"/api/{self.version}{path}", json=body, headers=headers)
        text = await answer.text()
        shown = msgspec.json.decode(text) if text else {}
        if answer.status >= 400:
            return answer.status, shown.get("error", shown)["code"]
        return answer.status, shown.get("data", shown) if self.version == "v1" else shown

    async def register(self, email: str = WHO["email"]) -> None:
        _, data = await self.ask("POST", "/auth/register", {"email": email, "password": PASSWORD}, "")
        self.token, self.id = data["access_token"], UUID(data["user"]["id"])

    async def begin(self) -> None:
        status, data = await self.ask("POST", FACTOR, {"password": PASSWORD})
        assert status == 201, data
        self.secret = data["secret"]

    async def enable(self) -> None:
        await self.begin()
        status, data = await self.ask("POST", f"{FACTOR}/confirm", {"code": self.code()})
        assert status == 200, data
        self.recovery = data["recovery_codes"]
        self.clock.pass_(totp.STEP_S)

    def code(self, steps: int = 0) -> str:
        return totp.code_of(self.secret, int(self.clock.now) // totp.STEP_S + steps)

    def wrong(self) -> str:
        """A code of none of the steps that are taken."""
        good = {self.code(steps) for steps in (-1, 0, 1)}
        return next(text for text in ("000000", "111111", "222222", "333333") if text not in good)

    async def login(self, code: str | None = None) -> Any:
        body = WHO | ({} if code is None else {"code": code})
        return await self.ask("POST", "/auth/login", body, "")


class Clock:
    def __init__(self) -> None:
        self.now = time.time() // totp.STEP_S * totp.STEP_S + 10

    def time(self) -> float:
        return self.now

    def pass_(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("web.second_step.time", clock)
    monkeypatch.setattr("web.second_factors.time", clock)
    return clock


@pytest.fixture
async def me(client: Client, fakes: Fakes, clock: Clock) -> Person:
    person = Person(client, fakes, clock)
    await person.register()
    return person


def sent(me: Person, kind: str) -> list[Order]:
    return [order for order in me.fakes.commands.submitted if order.type == kind]


@pytest.mark.parametrize("version", ["v1", "v2"])
async def test_begun_confirmed_and_asked_for(me: Person, version: str) -> None:
    me.version = version
    assert await me.ask("GET", FACTOR) == (200, {"status": "off", "enabled_at": None, "recovery_codes_left": 0})
    status, shown = await me.ask("POST", FACTOR, {"password": PASSWORD})
    assert (status, shown.keys()) == (201, {"secret", "uri", "expires_in"})
    assert shown["uri"].startswith("otpauth://totp/Yeoul:han%40example.org?")
    assert shown["secret"] in shown["uri"]
    me.secret = shown["secret"]
    assert (await me.ask("GET", FACTOR))[1]["status"] == "pending"
    assert (await me.login())[0] == 200  # nothing asks for codes before the first one
    assert await me.ask("POST", f"{FACTOR}/confirm", {"code": me.wrong()}) == WRONG
    status, shown = await me.ask("POST", f"{FACTOR}/confirm", {"code": me.code()})
    assert (status, len(set(shown["recovery_codes"]))) == (200, 10)
    status, shown = await me.ask("GET", FACTOR)
    assert (shown["status"], shown["recovery_codes_left"]) == ("on", 10)
    me.clock.pass_(totp.STEP_S)
    assert await me.login() == REQUIRED
    assert await me.login(me.wrong()) == WRONG
    status, tokens = await me.login(me.code())
    assert status == 200
    assert (await me.ask("GET", "/users/me", token=tokens["access_token"]))[0] == 200
    assert await me.ask("POST", FACTOR, {"password": PASSWORD}) == (409, "SECOND_FACTOR_ON")
    assert await me.ask("POST", f"{FACTOR}/confirm", {"code": me.code(1)}) == (409, "SECOND_FACTOR_ON")


async def test_without_one_a_code_is_passed_over(me: Person) -> None:
    assert (await me.login("123456"))[0] == 200
    assert (await me.ask("POST", "/auth/login", WHO | {"code": None}, ""))[0] == 200


async def test_a_code_is_good_once(me: Person) -> None:
    await me.begin()
    first = me.code()
    await me.ask("POST", f"{FACTOR}/confirm", {"code": first})
    assert await me.login(first) == WRONG  # it has confirmed
    me.clock.pass_(totp.STEP_S)
    code = me.code()
    assert (await me.login(code))[0] == 200
    for _ in range(2):
        assert await me.login(code) == WRONG
    assert await me.login(me.code(-1)) == WRONG  # nor those before it
    for method, path in (("DELETE", FACTOR), ("POST", f"{FACTOR}/recovery-codes")):
        assert await me.ask(method, path, {"code": code}) == WRONG
    me.clock.pass_(totp.STEP_S)
    assert (await me.login(me.code()))[0] == 200


async def test_whoever_proves_nothing_is_told_of_both_ways(me: Person) -> None:
    await me.enable()
    for language, said in (("en", "is required, or code in its place"), ("ko", "code")):
        headers = {"Authorization": f"Bearer {me.token}", "Accept-Language": language}
        async with me.client.post(f"/api/v1{FACTOR}/recovery-codes", json={}, headers=headers) as answer:
            (detail,) = (await answer.json())["error"]["details"]
            assert (answer.status, detail["field"], said in detail["message"]) == (400, "password", True)


async def test_a_clock_may_be_one_step_beside(me: Person) -> None:
    await me.enable()
    me.clock.pass_(10 * totp.STEP_S)
    for steps in (-2, 2, -1, 0, 1):
        status, _ = await me.login(me.code(steps))
        assert status == (200 if abs(steps) < 2 else 403), steps


async def test_each_recovery_code_is_good_once(me: Person) -> None:
    await me.enable()
    one = me.recovery[3]
    assert (await me.login(one))[0] == 200
    assert await me.login(one) == WRONG
    assert (await me.login(me.recovery[4].upper().replace("-", " ")))[0] == 200
    assert (await me.ask("GET", FACTOR))[1]["recovery_codes_left"] == 8
    status, renewed = await me.ask("POST", f"{FACTOR}/recovery-codes", {"code": me.recovery[5]})
    assert (status, len({*renewed["recovery_codes"], *me.recovery})) == (200, 20)
    assert await me.login(me.recovery[6]) == WRONG
    assert (await me.login(renewed["recovery_codes"][0]))[0] == 200
    status, _ = await me.ask("POST", f"{FACTOR}/recovery-codes", {"password": PASSWORD})
    assert status == 200
    assert await me.login(renewed["recovery_codes"][1]) == WRONG
    assert (await me.ask("GET", FACTOR))[1]["recovery_codes_left"] == 10


@pytest.mark.parametrize("by", ["password", "code", "recovery", "both"])
async def test_turned_off_by_the_password_or_a_code(me: Person, by: str) -> None:
    await me.enable()
    _, tokens = await me.login(me.code())
    me.clock.pass_(totp.STEP_S)
    assert await me.ask("DELETE", FACTOR, {"password": "another"}) == (403, "WRONG_PASSWORD")
    assert await me.ask("DELETE", FACTOR, {"code": me.wrong()}) == WRONG
    assert await me.ask("DELETE", FACTOR, {"password": PASSWORD, "code": me.wrong()}) == WRONG
    assert await me.ask("DELETE", FACTOR, {"password": "another", "code": me.code()}) == (403, "WRONG_PASSWORD")
    assert await me.ask("DELETE", FACTOR, {}) == (400, "VALIDATION_ERROR")
    bodies = {
        "password": {"password": PASSWORD}, "code": {"code": me.code()}, "recovery": {"code": me.recovery[0]},
        "both": {"password": PASSWORD, "code": me.code()},
    }  # fmt: skip
    assert await me.ask("DELETE", FACTOR, bodies[by]) == (204, {})
    assert (await me.ask("GET", FACTOR))[1] == {"status": "off", "enabled_at": None, "recovery_codes_left": 0}
    assert (await me.login())[0] == 200
    assert await me.ask("DELETE", FACTOR, bodies["password"]) == (409, "SECOND_FACTOR_OFF")
    # Whoever was logged in stays so, before and after.
    for token in (me.token, tokens["access_token"]):
        assert (await me.ask("GET", "/users/me", token=token))[0] == 200
    # Another one has nothing of it.
    old, recovery = me.secret, me.recovery
    await me.enable()
    assert me.secret != old
    assert await me.login(recovery[1]) == WRONG


async def test_a_secret_waits_for_its_first_code_half_an_hour(me: Person) -> None:
    await me.begin()
    states = me.fakes.stores.second_factors.states
    state = states[me.id]
    assert state.pending_until is not None
    states[me.id] = msgspec.structs.replace(state, pending_until=state.pending_until - PENDING_KEPT)
    assert await me.ask("POST", f"{FACTOR}/confirm", {"code": me.code()}) == (409, "SECOND_FACTOR_OFF")
    assert (await me.ask("GET", FACTOR))[1]["status"] == "off"


async def test_beginning_asks_for_the_password_and_changes_nothing_of_one_that_is_on(me: Person) -> None:
    assert await me.ask("POST", FACTOR, {"password": "another"}) == (403, "WRONG_PASSWORD")
    assert me.fakes.stores.second_factors.states == {}
    await me.enable()
    before = me.fakes.stores.second_factors.states[me.id]
    assert await me.ask("POST", FACTOR, {"password": PASSWORD}) == (409, "SECOND_FACTOR_ON")
    assert me.fakes.stores.second_factors.states[me.id] == before


async def test_an_admin_resets_it(me: Person, fakes: Fakes) -> None:
    await me.enable()
    admin = fakes.tokens.issue(ADMIN, Role.ADMIN, time.time())
    path = f"/users/{me.id}/second-factor"
    assert await me.ask("DELETE", path) == (403, "FORBIDDEN")
    assert await me.ask("DELETE", path, token=admin, **{"Idempotency-Key": "once"}) == (204, {})
    assert await me.ask("DELETE", path, token=admin, **{"Idempotency-Key": "once"}) == (204, {})
    assert await me.ask("DELETE", path, token=admin) == (409, "SECOND_FACTOR_OFF")
    assert (await me.login())[0] == 200
    assert await me.ask("DELETE", f"/users/{ADMIN}/second-factor", token=admin) == (404, "NOT_FOUND")
    # One's own is turned off like anybody's.
    await me.enable()
    own = fakes.tokens.issue(me.id, Role.ADMIN, time.time())
    assert await me.ask("DELETE", path, token=own) == (403, "FORBIDDEN")
    assert await me.login() == REQUIRED


async def test_nobody_without_the_password_learns_of_it(me: Person, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Person(me.client, me.fakes, me.clock)
    await plain.register("mina@example.org")
    await me.enable()
    seen, works = [], []
    for more in (
        {"password": "a wrong guess"}, {"password": "a wrong guess", "code": me.code()},
        {"password": "a wrong guess", "code": me.recovery[0]}, {"email": "mina@example.org", "password": "a wrong one"},
        {"email": "nobody@example.org"}, {"email": "nobody@example.org", "code": "123456"},
    ):  # fmt: skip
        with counted(monkeypatch) as work:
            answer = await me.client.post("/api/v1/auth/login", json=WHO | more)
        seen.append((answer.status, (await answer.json())["error"], set(answer.headers)))
        works.append(list(work))
    assert seen == [seen[0]] * 6
    assert seen[0][:2] == (401, {"code": "INVALID_CREDENTIALS", "message": seen[0][1]["message"]})
    assert works == [works[0]] * 6
    # A code that was right beside a wrong password is not used up.
    assert (await me.login(me.code()))[0] == 200


async def test_a_disabled_account_is_told_of_no_second_step(me: Person) -> None:
    await me.enable()
    states = me.fakes.stores.accounts.states
    states[me.id] = msgspec.structs.replace(states[me.id], status=AccountStatus.DISABLED)
    assert await me.login() == await me.login(me.code()) == await me.login(me.wrong()) == INVALID


async def test_no_secret_leaves_the_front_in_plain(me: Person, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    await me.enable()
    await me.login(me.recovery[0])
    await me.login(me.wrong())
    await me.login(me.code())
    told = [
        *(order.data + order.fingerprint.encode() for order in me.fakes.commands.submitted),
        msgspec.json.encode(me.fakes.stores.second_factors.states[me.id]), caplog.text.encode(),
    ]  # fmt: skip
    secrets = [me.secret, *me.recovery, *(code.replace("-", "") for code in me.recovery)]
    assert [secret for secret in secrets for text in told if secret.encode() in text] == []
    # Six digits stand by chance in some hash or other, where they have neighbours, and in fractions of a time.
    code = rb"(?<![0-9a-f.])%b(?![0-9a-f])" % me.code().encode()
    assert [text for text in told if re.search(code, text)] == []
    confirmed = msgspec.json.decode(sent(me, "confirm_second_factor")[0].data, type=ConfirmSecondFactor)
    assert confirmed.recovery == tuple(totp.recovery_hash(code, me.id, "local") for code in me.recovery)


async def test_a_wrong_code_causes_no_work_in_kafka(me: Person) -> None:
    await me.enable()
    before = len(me.fakes.commands.submitted)
    for code in (me.wrong(), "0000-0000-0000-0000", "x", "１２３４５６", "' OR 1=1 --", me.secret, "0" * 64):
        assert await me.login(code) == WRONG
    assert len(me.fakes.commands.submitted) == before
    for other in ("", "0" * 65, 123456, ["1"]):
        assert (await me.ask("POST", "/auth/login", WHO | {"code": other}, ""))[:2] == (400, "VALIDATION_ERROR")


async def test_what_nobody_could_see_is_not_answered_as_done(me: Person) -> None:
    status, shown = await me.ask("POST", FACTOR, {"password": PASSWORD}, Prefer="respond-async")
    assert status == 201  # it is waited for
    me.secret = shown["secret"]
    me.fakes.commands.slow = True
    away = (503, "STORES_AWAY")
    assert await me.ask("POST", FACTOR, {"password": PASSWORD}) == away
    me.fakes.commands.slow = False
    await me.enable()
    me.fakes.commands.slow = True
    assert await me.login(me.code()) == away
    me.fakes.commands.slow = False
    assert await me.login(me.code()) == WRONG  # it may have been used


@pytest.fixture
async def limited(clock: Clock) -> AsyncIterator[Person]:
    fakes = Fakes(msgspec.structs.replace(SETTINGS, limit_login_account=Limit(5, 900)))
    async with TestClient(TestServer(create(fakes.settings, fakes.open))) as client:
        person = Person(client, fakes, clock)
        await person.register()
        yield person


async def test_codes_are_guessed_as_seldom_as_passwords(limited: Person) -> None:
    await limited.enable()
    for _ in range(20):
        assert await limited.login() == REQUIRED  # the password was right: nothing was guessed
    guesses = [await limited.login(limited.wrong()) for _ in range(6)]
    assert guesses == [WRONG] * 5 + [(429, "TOO_MANY_REQUESTS")]
    # Neither the right code, nor the password at another door, gets past it.
    assert (await limited.login(limited.code()))[0] == 429
    assert (await limited.ask("DELETE", FACTOR, {"code": limited.code()}))[0] == 429
    assert (await limited.ask("DELETE", FACTOR, {"password": PASSWORD}))[0] == 429
    assert (await limited.ask("POST", f"{FACTOR}/recovery-codes", {"code": limited.recovery[0]}))[0] == 429


async def test_a_stolen_token_guesses_no_code(limited: Person) -> None:
    await limited.begin()
    assert [await limited.ask("POST", f"{FACTOR}/confirm", {"code": limited.wrong()}) for _ in range(6)] == [
        *[WRONG] * 5, (429, "TOO_MANY_REQUESTS"),
    ]  # fmt: skip


async def test_an_export_tells_of_it_and_of_no_secret(me: Person) -> None:
    await me.enable()
    answer = await me.client.get("/api/v1/users/me/export", headers={"Authorization": f"Bearer {me.token}"})
    text = await answer.text()
    shown = msgspec.json.decode(text)
    assert shown["second_factor"]["status"] == "on"
    assert shown["second_factor_history"] == []
    assert me.secret not in text
    assert not any(code in text for code in me.recovery)
