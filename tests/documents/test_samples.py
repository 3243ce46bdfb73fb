"""The requests that the documents show are pasted into a shell, and answered as the documents say."""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import aiohttp
import pytest
from aiohttp.test_utils import TestServer

from domain.access import Role
from domain.metrics import declared
from domain.tables import Table
from security import totp
from stores.dead_letters import Parked
from tests.web.conftest import ADMIN
from tests.web.fakes import SETTINGS, Fakes
from web.app import create
from web.documents import openapi
from web.documents.accounts import WHO
from web.documents.resources import NOTE

SAMPLES = [
    (version, operation)
    for version in ("v1", "v2")
    for item in openapi.document(version)["paths"].values()
    for operation in item.values()
]
(METRIC,), _ = declared({"orders": {"events": ["order.*"], "windows": {"hour": "2d"}, "public": True}})


@pytest.fixture
def fakes() -> Fakes:
    fakes = Fakes()
    fakes.stores.reports.metrics = [METRIC]
    fakes.stores.watching.serving = {METRIC.name: Table(1, METRIC)}
    fakes.stores.dead_letters.parked = [
        Parked(
            id=4, group="g", topic="t", topic_id=UUID(int=1), partition=0, offset=1, key=b"k", value=b"v", headers=(),
            produced_at=None, code="not_json", error="e", handler="h", attempts=1, state="parked",
            parked_at=datetime(2027, 1, 1, tzinfo=UTC),
        )
    ]  # fmt: skip
    return fakes


@pytest.fixture
async def origin(fakes: Fakes) -> AsyncIterator[str]:
    async with TestServer(create(SETTINGS, fakes.open)) as server:
        yield str(server.make_url("")).rstrip("/")


class Caller:
    """Makes what a sample needs to be there."""

    def __init__(self, origin: str, fakes: Fakes) -> None:
        self._url = origin + "/api/v1"
        self._fakes = fakes
        self.token = ""

    async def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        who = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        async with (
            aiohttp.ClientSession(headers=who) as session,
            session.request(method, self._url + path, json=body, headers=headers) as answer,
        ):
            assert answer.status < 300, await answer.text()
            return (await answer.json())["data"] if answer.status != 204 else None

    async def variables(self, path: str, operation: Any) -> dict[str, str]:
        """What stands behind the dollar signs."""
        # Who registers by the example must not be there yet.
        who = WHO | {"email": "jun@example.org"} if path == "/auth/register" else WHO
        granted = await self.ask("POST", "/auth/register", who)
        self.token = granted["access_token"]
        found = {"REFRESH": granted["refresh_token"], "METRIC": METRIC.name, "KIND": "box"}
        if path.endswith("/reset-password"):
            await self.ask("POST", "/auth/forgot-password", {"email": WHO["email"]})
            found["MAIL_TOKEN"] = self._fakes.mailed()
        elif path.endswith("/verify-email"):
            found["MAIL_TOKEN"] = self._fakes.mailed("create_account")
        elif path.endswith("/confirm-email"):
            await self.ask("PUT", "/users/me/email", {"password": WHO["password"], "email": "mina@example.com"})
            found["MAIL_TOKEN"] = self._fakes.mailed("request_email_change")
        if path.startswith("/sessions"):
            found["ID"] = (await self.ask("GET", "/sessions"))[0]["id"]
        elif path.startswith("/resources"):
            found["ID"] = (await self.ask("POST", "/resources", NOTE))["id"]
        elif path.startswith("/api-keys"):
            found["ID"] = (await self.ask("POST", "/api-keys", {"name": "a machine", "scopes": ["read"]}))["id"]
        elif path.startswith("/operations"):
            found["ID"] = (await self.ask("POST", "/resources", NOTE, Prefer="respond-async"))["id"]
        elif path.startswith("/users/{"):
            found["ID"] = granted["user"]["id"]
        elif path.startswith("/dead-letters"):
            found["ID"] = "4"
        if "second-factor" in path and operation["operationId"] != "postUsersMeSecondFactor":
            password = {"password": WHO["password"]}
            secret = (await self.ask("POST", "/users/me/second-factor", password))["secret"]
            found["CODE"] = totp.code_of(secret, int(time.time()) // totp.STEP_S)
            if not path.endswith("/confirm"):
                await self.ask("POST", "/users/me/second-factor/confirm", {"code": found["CODE"]})
        if path.endswith("/restore"):
            await self.ask("DELETE", f"/resources/{found['ID']}")
        if {"bearer": ["admin"]} in operation["security"]:
            self.token = self._fakes.tokens.issue(ADMIN, Role.ADMIN, time.time())
        if path.startswith("/kinds/"):
            await self.ask("PUT", "/kinds/box", {"schema": {"type": "object"}})
        return {**found, "TOKEN": self.token}


@pytest.mark.parametrize(("version", "operation"), SAMPLES, ids=[f"{v}-{o['operationId']}" for v, o in SAMPLES])
async def test_it_works(version: str, operation: Any, origin: str, fakes: Fakes, tmp_path: Path) -> None:
    source = operation["x-codeSamples"][0]["source"]
    address = source.split("$ORIGIN", 1)[1].partition('"')[0].partition("?")[0]
    path = address.removeprefix(f"/api/{version}").replace("$ID", "{id}")
    variables = {"ORIGIN": origin, **await Caller(origin, fakes).variables(path, operation)}
    got = tmp_path / "body"
    command = source.replace("curl -sg", f"curl -o '{got}' -w '%{{stderr}}%{{http_code}}' -sg", 1)
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", command, env={**variables, "PATH": os.environ["PATH"]}, stderr=asyncio.subprocess.PIPE
    )
    if path.endswith("/live"):  # goes on until somebody ends it
        async with asyncio.timeout(30):
            while not (got.exists() and b"event: snapshot" in got.read_bytes()):
                await asyncio.sleep(0.02)
        process.terminate()
        await process.communicate()
        return
    async with asyncio.timeout(30):
        _, status = await process.communicate()
    good = sorted((int(one) for one in operation["responses"] if one < "300"), key=lambda one: (one == 202, one))
    assert (process.returncode, int(status)) == (0, good[0]), got.read_text()
