"""PocketBase under the load of api.*: built from its Go module, one process, its SQLite in a folder of its own."""

import asyncio
import sqlite3
import string
from collections.abc import Mapping
from datetime import timedelta
from random import Random
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import aiohttp
import orjson

from bench.api_rows import PAGE, Question
from bench.api_sides import START, Requests, Searched
from bench.processes import READY_S, Child, run
from bench.rivals import Program
from bench.sides import ready
from bench.stage import Stage

OWN = 'visibility = "public" || owner = @request.auth.id'
COLLECTION: Mapping[str, Any] = {
    "name": "resources",
    "type": "base",
    "listRule": OWN,
    "viewRule": OWN,
    "createRule": '@request.auth.id != "" && owner = @request.auth.id',
    "fields": [
        {"name": "title", "type": "text", "required": True, "max": 200},
        {"name": "kind", "type": "text", "required": True, "max": 64},
        {"name": "body", "type": "text", "max": 100_000},
        {"name": "tags", "type": "json"},
        {"name": "attributes", "type": "json"},
        {"name": "visibility", "type": "select", "values": ["public", "private"], "maxSelect": 1, "required": True},
        {"name": "owner", "type": "relation", "collectionId": "_pb_users_auth_", "maxSelect": 1, "required": True},
        {"name": "created", "type": "autodate", "onCreate": True},
        {"name": "updated", "type": "autodate", "onCreate": True, "onUpdate": True},
    ],
    "indexes": [
        "CREATE INDEX resources_created ON resources (created)",
        "CREATE INDEX resources_kind ON resources (kind, created)",
        "CREATE INDEX resources_owner ON resources (owner, created)",
    ],
}
"""What a user would click together for the same rows, with the indexes that its lists can use."""
LETTERS = string.ascii_lowercase + string.digits


class PocketBase(Searched):
    """One process that uses all cores. It has no index of words: a search is its `~`, as its users write it."""

    title = "PocketBase"
    name = "pocketbase"
    path = "/api/collections/resources/records"
    created = 200

    def __init__(self, stage: Stage, program: Program) -> None:
        super().__init__(stage)
        self.program = program
        self.data = stage.logs / f"pocketbase-{uuid4().hex}"
        self.owner = ""
        self.account = {"identity": f"bench-{uuid4().hex}@example.org", "password": uuid4().hex}

    async def start(self) -> None:
        """An administrator, the process, the collection and an account."""
        admin = (f"admin-{uuid4().hex}@example.org", uuid4().hex)
        command = [*self.program.arguments, "superuser", "upsert", *admin, "--dir", str(self.data)]
        program = [*self.program.program, *command]
        await run("pocketbase-admin", program[1:], {}, self.stage.logs, READY_S, program=program[:1])
        await self._serve()
        async with aiohttp.ClientSession(f"http://127.0.0.1:{self.port}") as session:
            identity, password = admin
            login = {"identity": identity, "password": password}
            token = (await _post(session, "/api/collections/_superusers/auth-with-password", login))["token"]
            await _post(session, "/api/collections", COLLECTION, token)
            account = {"email": self.account["identity"], "password": self.account["password"]}
            account["passwordConfirm"] = account["password"]
            self.owner = (await _post(session, "/api/collections/users/records", account))["id"]

    async def _serve(self) -> None:
        arguments = [*self.program.arguments, "serve", "--dir", str(self.data), "--http", f"127.0.0.1:{self.port}"]
        child = await Child.start(self.name, arguments, {}, self.stage.logs, program=self.program.program)
        self.children.append(child)
        await ready(f"http://127.0.0.1:{self.port}/api/health", child)

    async def token(self) -> str:
        """By login."""
        async with aiohttp.ClientSession(f"http://127.0.0.1:{self.port}") as session:
            token: str = (await _post(session, "/api/collections/users/auth-with-password", self.account))["token"]
            return token

    async def fill(self, total: int) -> None:
        """Into its file, while it does not run."""
        await self.stop()
        await asyncio.to_thread(self._insert, total)
        await self._serve()

    def _insert(self, total: int) -> None:
        random = Random(total)
        records = []
        for number in range(len(self.ids), total):
            row, id = self.rows.row(number), "".join(random.choices(LETTERS, k=15))
            at = (START + timedelta(milliseconds=number)).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + "Z"
            texts = (row["title"], row["kind"], row["body"], orjson.dumps(row["tags"]).decode())
            records.append(
                (id, *texts, orjson.dumps(row["attributes"]).decode(), row["visibility"], self.owner, at, at)
            )
            self.ids.append(id)
        with sqlite3.connect(self.data / "data.db") as connection:
            connection.executemany(
                """INSERT INTO resources
                   (id, title, kind, body, tags, attributes, visibility, owner, created, updated)
                   VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",
                records,
            )
            connection.execute("ANALYZE")
        connection.close()

    def body(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """With its owner, whom the rule compares with the token's."""
        return {**row, "owner": self.owner}

    def listing(self, limit: int) -> str:
        """With a total, as it is by default."""
        return f"{self.path}?perPage={limit}&sort=-created"

    def untotalled(self) -> Requests:
        """The same without a total."""
        return [("GET", f"{self.listing(PAGE)}&skipTotal=1", "")]

    def search(self, question: Question, limit: int) -> str:
        """The newest, without a total, which would cost it another look at all rows."""
        word, kind = question
        wanted = quote(f"kind = '{kind}' && (title ~ '{word}' || body ~ '{word}')")
        return f"{self.path}?perPage={limit}&sort=-created&skipTotal=1&filter={wanted}"

    def found(self, answer: Any) -> list[dict[str, Any]]:
        """By pages."""
        rows: list[dict[str, Any]] = answer["items"]
        return rows


async def _post(session: aiohttp.ClientSession, path: str, body: Mapping[str, Any], token: str = "") -> Any:
    async with session.post(path, json=body, headers={"Authorization": token} if token else {}) as response:
        if response.status != 200:
            raise SystemExit(f"PocketBase answers {response.status} to {path}: {await response.text()}")
        return await response.json()
