"""The second factor on real servers, through fronts of several processes and a worker."""

from __future__ import annotations

import asyncio
import time
from typing import Any
from uuid import UUID

import pytest

from cli.orders import NotDone, order
from domain.access import Role
from domain.second_factors import ResetSecondFactor
from security import totp
from security.fields import Sealer
from tests.flows.clients import PASSWORD, PROMISED_S, Browser
from tests.flows.harness import System, until

pytestmark = pytest.mark.asyncio(loop_scope="session")

FACTOR = "/users/me/second-factor"
REQUIRED, WRONG = (401, "SECOND_FACTOR_REQUIRED"), (403, "WRONG_CODE")


class App:
    """Somebody with an app. A code of the next step is taken, too, so nobody waits for a step to pass."""

    def __init__(self, browser: Browser, tokens: Any) -> None:
        self.browser, self.tokens = browser, tokens
        self.account = UUID(tokens["user"]["id"])
        self.secret = ""
        self.recovery: list[str] = []

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        return await self.browser.ask(method, path, self.tokens["access_token"], body)

    def code(self, steps: int = 0) -> str:
        return totp.code_of(self.secret, int(time.time()) // totp.STEP_S + steps)

    async def enable(self) -> None:
        """With the code of now: that of the next step is left."""
        status, shown = await self.ask("POST", FACTOR, {"password": PASSWORD})
        assert status == 201, shown
        self.secret = shown["secret"]
        status, shown = await self.ask("POST", f"{FACTOR}/confirm", {"code": self.code()})
        assert status == 200, shown
        self.recovery = shown["recovery_codes"]

    async def login(self, code: str | None = None) -> tuple[int, Any]:
        body = self.browser.who | ({} if code is None else {"code": code})
        return await self.browser.ask("POST", "/auth/login", body=body)


async def app(served: System) -> App:
    browser = Browser(served.url)
    mine = App(browser, await browser.register())
    await mine.enable()
    return mine


async def test_of_logins_with_one_code_at_once_one_gets_in(served: System) -> None:
    mine = await app(served)
    assert await mine.login() == REQUIRED
    for code in (mine.code(1), mine.recovery[0]):
        answers = await asyncio.gather(*(mine.login(code) for _ in range(4)))
        assert sorted(status for status, _ in answers) == [200, 403, 403, 403]
    assert await mine.login(mine.recovery[0]) == WRONG
    assert (await mine.login(mine.recovery[1]))[0] == 200  # who got in from here before is not kept out
    _, shown = await mine.ask("GET", FACTOR)
    assert (shown["status"], shown["recovery_codes_left"]) == ("on", 8)
    await served.until_published()
    applied = await served.events_of(mine.account, "events.second_factors")
    assert [event["type"].removeprefix("second_factor.") for event in applied] == [
        "begun", "enabled", "code_used", "recovery_code_used", "recovery_code_used",
    ]  # fmt: skip
    assert {event["source"] for event in applied} == {"/yeoul/second_factors"}


async def test_nothing_of_it_rests_in_plain_and_an_erasure_ends_it(served: System) -> None:
    mine = await app(served)
    assert (await mine.login(mine.recovery[0]))[0] == 200
    stores = served.stores
    factor, key = await stores.second_factors.get(mine.account), await stores.accounts.key(mine.account)
    assert factor is not None
    assert factor.secret_sealed is not None
    assert key is not None
    sealer = Sealer(*served.settings.sealing_keys)
    assert sealer.open(key, mine.account, "second_factor", factor.secret_sealed) == mine.secret
    whole = await mine.browser.export(mine.tokens["access_token"])
    assert (whole["second_factor"]["status"], whole["second_factor"]["recovery_codes_left"]) == ("on", 9)
    assert [event["type"] for event in whole["second_factor_history"]] == [
        "second_factor.begun", "second_factor.enabled", "second_factor.recovery_code_used",
    ]  # fmt: skip
    assert (await mine.ask("DELETE", "/users/me", {"password": PASSWORD}))[0] == 204
    assert await stores.accounts.key(mine.account) is None

    async def ended() -> bool:
        state = await stores.second_factors.get(mine.account)
        return state is not None and not state.on and state.recovery == ()

    await until(ended, 30, "the second factor has ended with the account")
    await served.until_published()
    texts = [path.read_text() for path in sorted(served._folder.glob("*.log"))] + [str(whole)]
    for table in ("second_factors", "journal", "operations"):
        rows = await stores.database.fetch(f"SELECT to_json(t)::text FROM {table} t")
        assert rows
        texts += [row[0] for row in rows]
    texts += [str(event) for event in (await served.events("events.second_factors"))[0]]
    secrets = [mine.secret, *mine.recovery, *(code.replace("-", "") for code in mine.recovery)]
    assert [secret for secret in secrets for text in texts if secret in text] == []


async def test_a_disabled_account_keeps_no_session_and_is_asked_for_no_code(served: System) -> None:
    mine = await app(served)
    # Sessions from before it was on go on, and so do those from before it is off.
    status, tokens = await mine.login(mine.code(1))
    assert status == 200
    admin = await served.token("admin@example.org", Role.ADMIN)
    assert (await mine.browser.ask("DELETE", f"/users/{mine.account}/second-factor", admin))[0] == 204
    email = mine.browser.who["email"]
    for who, told in ((email, "there is nothing to turn off"), ("nobody@example.org", "there is no account")):
        with pytest.raises(NotDone, match=told):
            await order(served.settings, who, "second_factors", "reset_second_factor", ResetSecondFactor())
    assert await mine.browser.takes(mine.tokens) == await mine.browser.takes(tokens) == {200}
    assert (await mine.login())[0] == 200
    await mine.enable()
    assert await mine.login() == REQUIRED
    await order(served.settings, email, "second_factors", "reset_second_factor", ResetSecondFactor())
    assert (await mine.login())[0] == 200
    await mine.enable()
    path = f"/users/{mine.account}/status"
    assert (await mine.browser.ask("PUT", path, admin, {"status": "disabled"}))[0] == 200
    await mine.browser.refused_everywhere(tokens, time.monotonic(), 2 * PROMISED_S)  # by the event
    assert await mine.browser.takes(mine.tokens) == {401}
    assert await mine.login() == await mine.login(mine.code(1)) == (401, "INVALID_CREDENTIALS")
    # Enabled again it asks for codes as before.
    assert (await mine.browser.ask("PUT", path, admin, {"status": "active"}))[0] == 200
    assert await mine.login() == REQUIRED
    assert (await mine.login(mine.code(1)))[0] == 200
