"""Whether somebody has an account here: told by no text, no header and no work, in whatever way it is asked.

A clock sees large differences only (tests/flows/test_enumeration.py); so what takes time is counted here: hashes of
passwords, seals, and looks into stores.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest

from domain.accounts import AccountStatus
from security.fields import Sealer
from security.passwords import Passwords
from security.refresh import RefreshToken
from tests.web.conftest import PASSWORD, Client, registered
from tests.web.fake_accounts import FakeAccounts, FakeSecondFactors, FakeSessions
from tests.web.fakes import FakeLimits, Fakes

V1 = "/api/v1"
WORK = (
    (FakeAccounts, "by_email_index"), (FakeAccounts, "key"), (FakeAccounts, "get"), (FakeAccounts, "put_key"),
    (FakeSessions, "get"), (FakeSecondFactors, "get"), (FakeLimits, "is_familiar"),
    (Sealer, "open"), (Sealer, "seal"), (Sealer, "new_key"), (Passwords, "verify"),
    (Passwords, "hash"),
)  # fmt: skip


def _noted(done: Callable[..., Any], label: str, work: list[str]) -> Callable[..., Any]:
    def note(*given: Any) -> Any:
        work.append(label)
        return done(*given)

    return note


@contextmanager
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What is done within it, in order."""
    work: list[str] = []
    with monkeypatch.context() as patched:
        for kind, name in WORK:
            patched.setattr(kind, name, _noted(getattr(kind, name), f"{kind.__name__}.{name}", work))
        yield work


async def told(answer: Any) -> tuple[int, Any, set[str]]:
    """What can be seen of an answer, but for what differs each time."""
    shown = await answer.json()
    return answer.status, shown.get("error") or shown.get("data"), set(answer.headers)


def changed(fakes: Fakes, tokens: dict[str, Any], **fields: Any) -> None:
    (state,) = [one for one in fakes.stores.accounts.states.values() if str(one.id) == tokens["user"]["id"]]
    fakes.stores.accounts.states[state.id] = msgspec.structs.replace(state, **fields)


@pytest.mark.parametrize("prefix", [V1, "/api/v2"])
async def test_a_login_that_fails_is_the_same_for_whomever(
    client: Client, fakes: Fakes, monkeypatch: pytest.MonkeyPatch, prefix: str
) -> None:
    await registered(client, "han")
    disabled = await registered(client, "disabled")
    changed(fakes, disabled, status=AccountStatus.DISABLED)
    keyless = await registered(client, "keyless")
    del fakes.stores.accounts.keys[next(id for id in fakes.stores.accounts.keys if str(id) == keyless["user"]["id"])]
    seen, works = [], []
    for email, password in (
        ("han@example.org", "a wrong guess"), ("nobody@example.org", PASSWORD), ("disabled@example.org", PASSWORD),
        ("disabled@example.org", "a wrong guess"), ("keyless@example.org", PASSWORD), ("no address", PASSWORD),
        (" han@example.org", "a wrong guess"), ("a" * 254, PASSWORD),
    ):  # fmt: skip
        with counted(monkeypatch) as work:
            answer = await client.post(f"{prefix}/auth/login", json={"email": email, "password": password})
        shown = await answer.json()
        shown.pop("meta", None), shown.pop("instance", None)
        seen.append((answer.status, shown, set(answer.headers)))
        works.append(list(work))
    assert seen == [seen[0]] * 8
    assert seen[0][0] == 401
    assert works == [works[0]] * 8
    assert works[0].count("Passwords.verify") == 1


async def test_where_registration_is_private_an_address_that_is_taken_costs_what_a_free_one_does(
    private: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen, works = [], []
    for email in ("han@example.org", "HAN@example.org", "han@example.org", "other@example.org"):
        with counted(monkeypatch) as work:
            answer = await private.post(f"{V1}/auth/register", json={"email": email, "password": PASSWORD})
        seen.append(await told(answer))
        works.append(list(work))
    assert seen == [seen[0]] * 4
    assert seen[0][:2] == (202, {"status": "accepted"})
    assert works == [works[0]] * 4
    assert works[0].count("Passwords.hash") == 1


async def test_where_it_is_not_private_an_address_that_is_taken_is_told_by_one_word(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await registered(client, "han")
    with counted(monkeypatch) as work:
        answer = await client.post(f"{V1}/auth/register", json={"email": "han@example.org", "password": PASSWORD})
    assert (answer.status, (await answer.json())["error"]["code"]) == (409, "EMAIL_TAKEN")
    assert "han@" not in await answer.text()
    assert work == ["FakeAccounts.by_email_index"]  # nobody pays for a hash that is for nothing


async def test_a_refresh_that_fails_is_the_same_whyever(
    client: Client, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    han, mina = await registered(client, "han"), await registered(client, "mina")
    mine, theirs = RefreshToken.read(han["refresh_token"]), RefreshToken.read(mina["refresh_token"])
    assert mine is not None
    assert theirs is not None
    sent = len(fakes.commands.submitted)
    strangers = [
        RefreshToken.first(mine.account, mine.session).text,  # of an account and a session that there are
        RefreshToken.first(mine.account, theirs.session).text,
        RefreshToken.first(theirs.session, mine.session).text,  # of nobody
        mine._replace(account=theirs.account).text,
        mine._replace(session=theirs.session).text,
        "r1.nonsense",
    ]
    seen = []
    for token in strangers:
        with counted(monkeypatch) as work:
            answer = await client.post(f"{V1}/auth/refresh", json={"refresh_token": token})
        seen.append(await told(answer))
        # Who has no secret of a session learns nothing of its account, which is not even looked at.
        assert work in ([], ["FakeSessions.get"])
    assert seen == [seen[0]] * len(strangers)
    assert seen[0][0] == 401
    assert len(fakes.commands.submitted) == sent
    changed(fakes, han, status=AccountStatus.DISABLED)
    answer = await client.post(f"{V1}/auth/refresh", json={"refresh_token": han["refresh_token"]})
    assert await told(answer) == seen[0]


@pytest.mark.parametrize("path", ["/users/{}", "/users/{}/role", "/users/{}/status"])
async def test_users_and_guests_learn_of_no_account_by_its_id(client: Client, path: str) -> None:
    han, mina = await registered(client, "han"), await registered(client, "mina")
    headers = {"Authorization": f"Bearer {han['access_token']}"}
    seen = []
    for id in (mina["user"]["id"], han["user"]["id"], "00000000-0000-7000-8000-000000000009", "nonsense"):
        for who in (headers, {}):
            method = "GET" if path == "/users/{}" else "PUT"
            answer = await client.request(method, V1 + path.format(id), json={}, headers=who)
            seen.append(await told(answer))
    assert seen[0::2] == [seen[0]] * 4
    assert seen[1::2] == [seen[1]] * 4
    assert [one[0] for one in seen[:2]] == [403, 401]
