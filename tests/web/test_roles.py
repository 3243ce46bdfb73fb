"""Every endpoint × everybody who may come × what it answers. A route that is not in the table fails.

`owner` is whose the thing is that the address names, `stranger` another user, and `ended` has a token of a session that
has ended. `key` and `reader` are API keys of the owner, with the scopes `read` and `write` and with `read` alone: they
do what the owner does, but what their scopes don't cover and what no key may. Where an address names nobody's thing,
everybody acts on their own. What the worker decides is decided here by the same `decide` (tests/web/fakes.py);
tests/flows has it from end to end.
"""

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import msgspec
import pytest

from domain.access import Role
from domain.tables import Table
from security.refresh import RefreshToken
from tests.web.conftest import PASSWORD, Client, bearing
from tests.web.fakes import Fakes
from tests.web.test_analytics import ORDERS, SIGN_UPS
from tests.web.test_api_keys import IN_PERSON
from tests.web.test_dead_letters import letter
from web.routes import API, PLAIN

V1 = "/api/v1"
NOTE = {"kind": "note", "title": "t"}
MACHINE = {"name": "a machine", "scopes": ["read"]}
CALLERS = ("guest", "owner", "stranger", "admin", "ended")
KEYS = {"key": ["read", "write"], "reader": ["read"]}


class World:
    """Four accounts and what they have; each thing is made when it is asked for, and asked for once."""

    def __init__(self, client: Client, fakes: Fakes) -> None:
        self.client, self.fakes = client, fakes
        self.ids: dict[str, str] = {}
        self.headers: dict[str, dict[str, str]] = {"guest": {}}
        self._number = 0

    async def open(self) -> None:
        """Everybody registers; the admin becomes one; the session of `ended` is the owner's, and ends."""
        for name in ("owner", "stranger", "admin"):
            made = await self.ask("guest", "POST", "/auth/register", self.credentials(name))
            self.ids[name] = made["user"]["id"]
        states = self.fakes.stores.accounts.states
        (admin,) = [state for state in states.values() if str(state.id) == self.ids["admin"]]
        states[admin.id] = msgspec.structs.replace(admin, role=Role.ADMIN)
        for name in ("owner", "stranger", "admin"):
            self.headers[name] = bearing(await self.login(name))
        self.headers["ended"] = bearing(await self.login("owner"))
        await self.ask("ended", "POST", "/auth/logout")
        for name, scopes in KEYS.items():
            made = await self.ask("owner", "POST", "/api-keys", {"name": name, "scopes": scopes})
            self.headers[name] = {"Authorization": f"Bearer {made['key']}"}
        self.fakes.stores.reports.metrics = [ORDERS, SIGN_UPS]
        self.fakes.stores.watching.serving = {"orders": Table(1, ORDERS), "sign_ups": Table(2, SIGN_UPS)}
        self.fakes.stores.dead_letters.parked = [letter(1)]

    @staticmethod
    def credentials(name: str) -> dict[str, str]:
        return {"email": f"{name}@example.org", "password": PASSWORD}

    def fresh(self) -> dict[str, str]:
        """Credentials of nobody yet."""
        self._number += 1
        return self.credentials(f"new{self._number}")

    async def ask(self, who: str, method: str, path: str, body: Any = None, **headers: str) -> Any:
        answer = await self.client.request(method, V1 + path, json=body, headers=self.headers[who] | headers)
        assert answer.status < 300, await answer.text()
        return (await answer.json())["data"] if answer.status != 204 else None

    def forget_mails(self, name: str) -> None:
        """Which mails were asked for, as after a day."""
        states = self.fakes.stores.accounts.states
        (state,) = [state for state in states.values() if str(state.id) == self.ids[name]]
        mailing = msgspec.structs.replace(state.mailing, asked=())
        states[state.id] = msgspec.structs.replace(state, mailing=mailing)

    async def login(self, name: str) -> Any:
        return await self.ask("guest", "POST", "/auth/login", self.credentials(name))


Target = Callable[[World], Awaitable[str]]
"""What fills the braces of the address."""


async def account(world: World) -> str:
    return world.ids["owner"]


async def session(world: World) -> str:
    token = RefreshToken.read((await world.login("owner"))["refresh_token"])
    assert token is not None
    return str(token.session)


async def api_key(world: World) -> str:
    return str((await world.ask("owner", "POST", "/api-keys", MACHINE))["id"])


async def second_factor(world: World) -> str:
    if (await world.ask("owner", "GET", "/users/me/second-factor"))["status"] != "pending":
        await world.ask("owner", "POST", "/users/me/second-factor", {"password": PASSWORD})
    return world.ids["owner"]


async def private(world: World, visibility: str = "private") -> str:
    return str((await world.ask("owner", "POST", "/resources", NOTE | {"visibility": visibility}))["id"])


async def public(world: World) -> str:
    return await private(world, "public")


async def deleted(world: World) -> str:
    id = await public(world)
    await world.ask("owner", "DELETE", f"/resources/{id}")
    return id


async def kind(world: World) -> str:
    await world.ask("admin", "PUT", "/kinds/box", {"schema": {}})
    return "box"


async def operation(world: World) -> str:
    return str((await world.ask("owner", "POST", "/resources", NOTE, Prefer="respond-async"))["id"])


def named(text: str) -> Target:
    async def name(_: World) -> str:
        return text

    return name


hidden, shown, one = named("orders"), named("sign_ups"), named("1")


class Row(NamedTuple):
    """One endpoint for one kind of thing: what it answers to each of CALLERS."""

    route: str
    target: Target | None
    body: Any
    answers: tuple[int, int, int, int, int]


async def new_account(world: World) -> Any:
    return world.fresh()


async def refresh_token(world: World) -> Any:
    return {"refresh_token": (await world.login("owner"))["refresh_token"]}


async def reset_token(world: World) -> Any:
    await world.ask("guest", "POST", "/auth/forgot-password", {"email": "owner@example.org"})
    # Old enough for the next to be sent: this table asks more often than anybody may.
    world.forget_mails("owner")
    return {"token": world.fakes.mailed(), "password": PASSWORD}


async def verification(world: World) -> Any:
    await world.ask("guest", "POST", "/auth/register", world.fresh())
    return {"token": world.fakes.mailed("create_account")}


async def confirmation(world: World) -> Any:
    name = world.fresh()
    await world.ask("guest", "POST", "/auth/register", name)
    token = (await world.ask("guest", "POST", "/auth/login", name))["access_token"]
    other = {"password": PASSWORD, "email": f"other-{name['email']}"}
    await world.ask("guest", "PUT", "/users/me/email", other, Authorization=f"Bearer {token}")
    return {"token": world.fakes.mailed("request_email_change")}


async def another_email(world: World) -> Any:
    return {"password": PASSWORD, "email": world.fresh()["email"]}


BATCH = {"operations": [{"op": "create", "resource": NOTE}]}
OTHER_PASSWORD = {"current_password": PASSWORD, "new_password": "another of these"}
ANYBODY, ADMINS = (200, 200, 200, 200, 401), (401, 403, 403, 200, 401)
NONE_ON = (401, 409, 409, 409, 401)
"""There is nothing that could be confirmed or taken away; how that is done: tests/web/test_second_factors.py."""
MINE, HIDDEN = (401, 200, 200, 200, 401), (404, 200, 404, 200, 401)
TABLE = (
    Row("POST /auth/register", None, new_account, (201, 201, 201, 201, 201)),
    Row("POST /auth/login", None, World.credentials("owner"), (200, 200, 200, 200, 200)),
    Row("POST /auth/refresh", None, refresh_token, (200, 200, 200, 200, 200)),
    Row("POST /auth/forgot-password", None, {"email": "owner@example.org"}, (202, 202, 202, 202, 202)),
    Row("POST /auth/reset-password", None, reset_token, (204, 204, 204, 204, 204)),
    Row("POST /auth/verify-email", None, verification, (204, 204, 204, 204, 204)),
    Row("POST /auth/confirm-email", None, confirmation, (204, 204, 204, 204, 204)),
    Row("POST /auth/resend-verification", None, None, (401, 202, 202, 202, 401)),
    Row("POST /auth/logout", None, None, (401, 204, 204, 204, 401)),
    Row("POST /auth/logout-all", None, None, (401, 204, 204, 204, 401)),
    Row("GET /sessions", None, None, MINE),
    Row("DELETE /sessions/{id}", session, None, (401, 204, 404, 404, 401)),
    Row("GET /api-keys", None, None, MINE),
    Row("POST /api-keys", None, MACHINE, (401, 201, 201, 201, 401)),
    Row("DELETE /api-keys/{id}", api_key, None, (401, 204, 404, 404, 401)),
    Row("GET /users/me", None, None, MINE),
    Row("PATCH /users/me", None, {"name": "N"}, MINE),
    Row("DELETE /users/me", None, {"password": PASSWORD}, (401, 204, 204, 204, 401)),
    Row("PUT /users/me/password", None, OTHER_PASSWORD, (401, 204, 204, 204, 401)),
    Row("PUT /users/me/email", None, another_email, (401, 202, 202, 202, 401)),
    Row("GET /users/me/export", None, None, MINE),
    Row("GET /users/me/second-factor", None, None, MINE),
    Row("POST /users/me/second-factor", None, {"password": PASSWORD}, (401, 201, 201, 201, 401)),
    Row("POST /users/me/second-factor/confirm", None, {"code": "000000"}, NONE_ON),
    Row("POST /users/me/second-factor/recovery-codes", None, {"password": PASSWORD}, NONE_ON),
    Row("DELETE /users/me/second-factor", None, {"password": PASSWORD}, NONE_ON),
    Row("DELETE /users/{id}/second-factor", second_factor, None, (401, 403, 403, 204, 401)),
    Row("GET /users", None, None, ADMINS),
    Row("GET /users/{id}", account, None, ADMINS),
    Row("DELETE /users/{id}", account, None, (401, 403, 403, 204, 401)),
    Row("PUT /users/{id}/role", account, {"role": "admin"}, ADMINS),
    Row("PUT /users/{id}/status", account, {"status": "disabled"}, ADMINS),
    Row("GET /resources", None, None, ANYBODY),
    Row("POST /resources", None, NOTE, (401, 201, 201, 201, 401)),
    Row("POST /resources/batch", None, BATCH, MINE),
    Row("GET /resources/{id}", private, None, HIDDEN),
    Row("GET /resources/{id}", public, None, ANYBODY),
    Row("GET /resources/{id}", deleted, None, (404, 404, 404, 404, 401)),
    Row("PUT /resources/{id}", private, NOTE, (401, 200, 404, 200, 401)),
    Row("PUT /resources/{id}", public, NOTE, (401, 200, 403, 200, 401)),
    Row("PATCH /resources/{id}", private, {"title": "x"}, (401, 200, 404, 200, 401)),
    Row("PATCH /resources/{id}", public, {"title": "x"}, (401, 200, 403, 200, 401)),
    Row("DELETE /resources/{id}", private, None, (401, 204, 404, 204, 401)),
    Row("DELETE /resources/{id}", public, None, (401, 204, 403, 204, 401)),
    Row("POST /resources/{id}/restore", private, None, (401, 200, 404, 200, 401)),
    Row("POST /resources/{id}/restore", public, None, (401, 200, 403, 200, 401)),
    Row("POST /resources/{id}/restore", deleted, None, (401, 200, 404, 200, 401)),
    Row("GET /resources/{id}/history", private, None, HIDDEN),
    Row("GET /resources/{id}/history", public, None, ANYBODY),
    Row("GET /resources/{id}/history", deleted, None, HIDDEN),
    Row("GET /kinds", None, None, ADMINS),
    Row("GET /kinds/{kind}", kind, None, ADMINS),
    Row("PUT /kinds/{kind}", kind, {"schema": {"type": "object"}}, ADMINS),
    Row("DELETE /kinds/{kind}", kind, None, (401, 403, 403, 204, 401)),
    Row("GET /analytics", None, None, ANYBODY),
    Row("GET /analytics/{metric}", hidden, None, (404, 404, 404, 200, 401)),
    Row("GET /analytics/{metric}", shown, None, ANYBODY),
    Row("GET /analytics/{metric}/dropped", hidden, None, (404, 404, 404, 200, 401)),
    Row("GET /analytics/{metric}/dropped", shown, None, ANYBODY),
    Row("GET /analytics/{metric}/live", hidden, None, (404, 404, 404, 200, 401)),
    Row("GET /analytics/{metric}/live", shown, None, ANYBODY),
    Row("GET /dead-letters", None, None, ADMINS),
    Row("GET /dead-letters/{id}", one, None, ADMINS),
    Row("GET /operations/{id}", operation, None, (401, 200, 404, 200, 401)),
)
OUTSIDE = tuple(
    Row(route, target, None, (status,) * 5)
    for route, target, status in (
        ("GET /.well-known/jwks.json", None, 200), ("GET /livez", None, 200), ("GET /readyz", None, 200),
        ("GET /", None, 302), ("GET /live", None, 200), ("GET /live/{file}", named("page.js"), 200),
        ("GET /docs", None, 200), ("GET /docs/{file}", named("docs.js"), 200),
        ("GET /problems/{code}", named("NOT_FOUND"), 200), ("GET /api/v1/openapi.json", None, 200),
        ("GET /api/v2/openapi.json", None, 200), ("GET /api/asyncapi.json", None, 200),
    )
)  # fmt: skip
CODES = {"guest": "TOKEN_MISSING", "ended": "SESSION_ENDED"}
NOT_BY_KEYS = {f"{method} {path}" for method, path in IN_PERSON}
ANY_TOKEN = {f"{method} {path}" for method, path, guard, _ in API if guard is None}
"""Where a token is not even looked at."""


def expected(row: Row, who: str) -> int:
    """What a row answers to one of CALLERS or KEYS."""
    if who in CALLERS:
        return row.answers[CALLERS.index(who)]
    asks_only = row.route.startswith("GET ")
    outside = row in OUTSIDE or row.route in ANY_TOKEN
    if not outside and (row.route in NOT_BY_KEYS or not (asks_only or who == "key")):
        return 403
    return row.answers[CALLERS.index("owner")]


def test_every_route_is_in_the_table() -> None:
    assert {row.route for row in TABLE} == {f"{method} {path}" for method, path, _, _ in API}
    assert {row.route for row in OUTSIDE} == {f"{method} {path}" for method, path, _ in PLAIN}


@pytest.fixture
async def world(client: Client, fakes: Fakes) -> World:
    made = World(client, fakes)
    await made.open()
    return made


@pytest.mark.parametrize("prefix", [V1, "/api/v2"])
@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.route} {row.target.__name__ if row.target else ''}")
async def test_everybody_meets_every_endpoint(world: World, row: Row, prefix: str) -> None:
    await meet(world, row, prefix)


@pytest.mark.parametrize("row", OUTSIDE, ids=lambda row: row.route)
async def test_what_stands_outside_of_the_api_is_for_everybody(world: World, row: Row) -> None:
    await meet(world, row, "")


async def meet(world: World, row: Row, prefix: str) -> None:
    method, _, path = row.route.partition(" ")
    # Who may do it does it last: afterwards the thing may be gone, and the owner with it.
    for who in ("guest", "ended", "reader", "key", "stranger", "owner", "admin"):
        for asked in (method, "HEAD") if method == "GET" else (method,):
            address = prefix + path
            if row.target is not None:
                address = address.format(
                    **dict.fromkeys(("id", "kind", "metric", "file", "code"), await row.target(world))
                )
            body = await row.body(world) if callable(row.body) else row.body
            async with world.client.request(
                asked, address, json=body, headers=world.headers[who], allow_redirects=False
            ) as answer:
                assert answer.status == expected(row, who), (asked, address, who)
                if asked != "HEAD" and who in CODES and answer.status == 401:
                    told = await answer.json()
                    assert (told["error"] if prefix == V1 else told)["code"] == CODES[who]
                    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
