"""Every endpoint × everybody who may come × what it answers: what test_roles.py here and in tests/flows hold fronts to.

`owner` is whose the thing is that the address names, `stranger` another user, and `ended` has a token of a session that
has ended. `key` and `reader` are API keys of the owner, with the scopes `read` and `write` and with `read` alone: they
do what the owner does, but what their scopes don't cover and what no key may. Where an address names nobody's thing,
everybody acts on their own.
"""

from __future__ import annotations

import asyncio
import itertools
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import aiohttp

from domain.mail_texts import Kind
from security.refresh import RefreshToken
from tests.web.conftest import PASSWORD, Client, bearing
from tests.web.test_api_keys import IN_PERSON
from web.routes import API

V1 = "/api/v1"
NOTE = {"kind": "note", "title": "t"}
MACHINE = {"name": "a machine", "scopes": ["read"]}
CALLERS = ("guest", "owner", "stranger", "admin", "ended")
KEYS = {"key": ["read", "write"], "reader": ["read"]}
_numbers = itertools.count(1)


class World(ABC):
    """Three accounts and what they have; each thing is made when it is asked for, and asked for once.

    Beside them there are two metrics, `orders` for admins and `sign_ups` for everybody, and a dead letter. Worlds may
    share an installation: no account of theirs is in two of them. `always`: headers of every request.
    """

    def __init__(self, client: Client | aiohttp.ClientSession, **always: str) -> None:
        self.client = client
        self.ids: dict[str, str] = {}
        self._always = always
        self.headers: dict[str, dict[str, str]] = {"guest": always}
        self._number = next(_numbers)
        self._fresh = itertools.count(1)

    @abstractmethod
    async def promote(self, name: str) -> None:
        """Makes the account of this name an admin."""

    @abstractmethod
    async def mailed(self, kind: Kind, address: str) -> str:
        """The token of the one mail of this kind to an address."""

    @abstractmethod
    async def letter(self) -> int:
        """The id of a dead letter."""

    async def open(self) -> None:
        """Everybody registers; the admin becomes one; the session of `ended` is the owner's, and ends."""
        await asyncio.gather(*map(self._register, ("owner", "stranger", "admin")))
        await self.promote("admin")  # which ends the session it had
        admin, ended = await asyncio.gather(self.login("admin"), self.login("owner"))
        self.headers |= {"admin": bearing(admin, **self._always), "ended": bearing(ended, **self._always)}
        await asyncio.gather(self.ask("ended", "POST", "/auth/logout"), *map(self._make_key, KEYS))

    async def _register(self, name: str) -> None:
        made = await self.ask("guest", "POST", "/auth/register", self.credentials(name))
        self.ids[name] = made["user"]["id"]
        self.headers[name] = bearing(made, **self._always)

    async def _make_key(self, name: str) -> None:
        made = await self.ask("owner", "POST", "/api-keys", {"name": name, "scopes": KEYS[name]})
        self.headers[name] = bearing({"access_token": made["key"]}, **self._always)

    def credentials(self, name: str) -> dict[str, str]:
        return {"email": f"{name}-{self._number}@example.org", "password": PASSWORD}

    def fresh(self) -> dict[str, str]:
        """Credentials of nobody yet."""
        return self.credentials(f"new{next(self._fresh)}")

    async def ask(self, who: str, method: str, path: str, body: Any = None, **headers: str) -> Any:
        async with self.client.request(method, V1 + path, json=body, headers=self.headers[who] | headers) as answer:
            assert answer.status < 300, (method, path, who, await answer.text())
            return (await answer.json())["data"] if answer.status != 204 else None

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


async def dead_letter(world: World) -> str:
    return str(await world.letter())


hidden, shown = named("orders"), named("sign_ups")


class Row(NamedTuple):
    """One endpoint for one kind of thing: what it answers to each of CALLERS."""

    route: str
    target: Target | None
    body: Any
    answers: tuple[int, int, int, int, int]

    def __str__(self) -> str:
        return f"{self.route} {self.target.__name__ if self.target else ''}".rstrip()


async def new_account(world: World) -> Any:
    return world.fresh()


async def refresh_token(world: World) -> Any:
    return {"refresh_token": (await world.login("owner"))["refresh_token"]}


async def login(world: World) -> Any:
    return world.credentials("owner")


async def forgotten(world: World) -> Any:
    return {"email": world.credentials("owner")["email"]}


async def somebody(world: World) -> tuple[str, dict[str, str]]:
    """Somebody new, who got no mail before: the address, and the headers."""
    new = world.fresh()
    return new["email"], bearing(await world.ask("guest", "POST", "/auth/register", new))


async def reset_token(world: World) -> Any:
    email, _ = await somebody(world)
    await world.ask("guest", "POST", "/auth/forgot-password", {"email": email})
    return {"token": await world.mailed(Kind.RESET, email), "password": PASSWORD}


async def verification(world: World) -> Any:
    email, _ = await somebody(world)
    return {"token": await world.mailed(Kind.VERIFY, email)}


async def confirmation(world: World) -> Any:
    email, headers = await somebody(world)
    other = f"other-{email}"
    await world.ask("guest", "PUT", "/users/me/email", {"password": PASSWORD, "email": other}, **headers)
    return {"token": await world.mailed(Kind.CHANGE, other)}


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
    Row("POST /auth/login", None, login, (200, 200, 200, 200, 200)),
    Row("POST /auth/refresh", None, refresh_token, (200, 200, 200, 200, 200)),
    Row("POST /auth/forgot-password", None, forgotten, (202, 202, 202, 202, 202)),
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
    Row("GET /dead-letters/{id}", dead_letter, None, ADMINS),
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


async def meet(world: World, row: Row, prefix: str) -> None:
    """Everybody asks for what the row says, and is answered as it says."""
    method, _, path = row.route.partition(" ")
    address, body, left = prefix + path, row.body, False
    # Who may do it does it last: afterwards the thing may be gone, and the owner with it.
    for who in ("guest", "ended", "reader", "key", "stranger", "owner", "admin"):
        # What was only looked at, or refused, is there as before: so nothing was done to it by whoever was refused.
        if not left:
            if row.target is not None:
                thing = await row.target(world)
                address = prefix + path.format(**dict.fromkeys(("id", "kind", "metric", "file", "code"), thing))
            body = await row.body(world) if callable(row.body) else row.body
        for asked in (method, "HEAD") if method == "GET" else (method,):
            async with world.client.request(
                asked, address, json=body, headers=world.headers[who], allow_redirects=False
            ) as answer:
                status = expected(row, who)
                assert answer.status == status, f"{answer.status} instead of {status}: {asked} {address} by {who}"
                if asked != "HEAD" and who in CODES and answer.status == 401:
                    told = await answer.json()
                    assert (told["error"] if prefix == V1 else told)["code"] == CODES[who]
                    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        left = method == "GET" or answer.status >= 400
