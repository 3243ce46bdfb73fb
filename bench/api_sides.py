"""The four that api.* compares: Yeoul, the direct front, PocketBase and the full-stack FastAPI template.

Each has the same rows (api_rows.py) of one account, whose token each request carries. Yeoul gets them by its API; those
that have nothing to do for a row but keep it get them where they keep it.
"""

import abc
import asyncio
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import aiohttp
import asyncpg
import orjson

from bench import sides
from bench.api_rows import MOST, PAGE, Question, Rows, number_of, wrong
from bench.processes import READY_S, Child, run
from bench.rivals import Program
from bench.sides import Side, ready
from bench.stage import Stage

Requests = Sequence[tuple[str, str, str]]
Get = Callable[[str], Awaitable[Any]]
BODIES = 500
FILLERS = 12
CHECKED = 20
"""Answers of each kind that are compared whole before a side is measured."""
START = datetime(2026, 11, 1, tzinfo=UTC)
COLUMNS = (
    "id", "kind", "title", "body", "tags", "attributes", "visibility", "status", "owner_id", "version", "created_at",
    "updated_at",
)  # fmt: skip


class Api(Side):
    """A side that gets, lists and creates. `ids` are of the rows, by number."""

    title: str

    def prepared(self, rows: Rows) -> None:
        """Which rows it is to have."""
        self.rows = rows
        self.ids: list[str] = []

    @abc.abstractmethod
    async def fill(self, total: int) -> None:
        """Add rows until there are `total`."""

    @abc.abstractmethod
    def listing(self, limit: int) -> str:
        """The path of a list of the newest."""

    @abc.abstractmethod
    def found(self, answer: Any) -> list[dict[str, Any]]:
        """The rows of a list."""

    def one(self, answer: Any) -> dict[str, Any]:
        """The row of a get."""
        row: dict[str, Any] = answer
        return row

    def body(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """What is sent for a new row."""
        return row

    def gets(self) -> Requests:
        """A read of every row, in a random order that is the same in every run."""
        paths = [("GET", f"{self.path}/{id}", "") for id in self.ids]
        random.Random(len(paths)).shuffle(paths)
        return paths

    def lists(self) -> Requests:
        """Reads of the newest."""
        return [("GET", self.listing(PAGE), "")]

    def creates(self) -> Requests:  # type: ignore[override]  # a list is a sequence, of another row
        """Requests that create, each another row than those that are there."""
        path = f"{self.path}{'/' if self.path.endswith('items') else ''}"
        numbers = range(self.rows.total, self.rows.total + BODIES)
        return [("POST", path, orjson.dumps(self.body(self.rows.row(number))).decode()) for number in numbers]

    async def check(self) -> None:
        """Compare answers with what they have to be. Raises `SystemExit`."""
        headers = await self.headers()
        async with aiohttp.ClientSession(f"http://127.0.0.1:{self.port}", headers=headers) as session:

            async def get(path: str) -> Any:
                async with session.get(path) as response:
                    if response.status != 200:
                        raise SystemExit(f"{self.title} answers {response.status} to {path}: {await response.text()}")
                    return await response.json()

            for number in random.Random(1).sample(range(len(self.ids)), CHECKED):
                row = self.one(await get(f"{self.path}/{self.ids[number]}"))
                self._judge([row], {number}, f"get of row {number}")
            newest = self.found(await get(self.listing(PAGE)))
            self._judge(newest, None, "list")
            self._full(newest, "list")
            await self._check_more(get)

    async def _check_more(self, get: Get) -> None:
        """What only some can do."""

    def _judge(self, found: list[dict[str, Any]], numbers: frozenset[int] | set[int] | None, what: str) -> None:
        told = wrong(self.rows, found)
        if told is None and numbers is not None and {number_of(row) for row in found} != numbers:
            told = f"it has rows {sorted(number_of(row) for row in found)}, not {sorted(numbers)}"
        if told is not None:
            raise SystemExit(f"{self.title}, {what}: {told}")

    def _full(self, page: list[dict[str, Any]], what: str) -> None:
        if len(page) != PAGE:
            raise SystemExit(f"{self.title}, {what}: {len(page)} rows, not {PAGE}")


class Searched(Api):
    """A side that finds, too."""

    @abc.abstractmethod
    def search(self, question: Question, limit: int) -> str:
        """The path of a search."""

    def finds(self) -> Requests:
        """Searches by a kind and a word, each for another."""
        return [("GET", self.search(question, PAGE), "") for question in self.rows.questions()]

    async def _check_more(self, get: Get) -> None:
        if len(self.ids) < self.rows.total:
            return
        for question, numbers in list(self.rows.questions().items())[:CHECKED]:
            self._judge(self.found(await get(self.search(question, MOST))), numbers, f"search for {question}")
            page = self.found(await get(self.search(question, PAGE)))
            self._judge(page, {number_of(row) for row in page} & numbers, f"search for {question}")
            self._full(page, f"search for {question}")


class Yeoul(Searched, sides.Yeoul):
    """The product."""

    title = "Yeoul"

    async def fill(self, total: int) -> None:
        """By batches of 100."""
        headers = await self.headers()
        wanted = iter([range(at, min(at + MOST, total)) for at in range(len(self.ids), total, MOST)])
        self.ids += [""] * (total - len(self.ids))

        async def send(session: aiohttp.ClientSession) -> None:
            for numbers in wanted:
                operations = [{"op": "create", "resource": self.rows.row(number)} for number in numbers]
                async with session.post(f"{self.path}/batch", json={"operations": operations}) as response:
                    answer = await response.json()
                for number, result in zip(numbers, answer["data"], strict=True):
                    if result["status"] != 201:
                        raise SystemExit(f"Yeoul answers a create of a batch with {result}")
                    self.ids[number] = result["data"]["id"]

        async with aiohttp.ClientSession(f"http://127.0.0.1:{self.port}", headers=headers) as session:
            await asyncio.gather(*(send(session) for _ in range(FILLERS)))
        await vacuumed(self.stage.postgres)

    def listing(self, limit: int) -> str:
        """Without a total, as it is by default."""
        return f"{self.path}?limit={limit}"

    def search(self, question: Question, limit: int) -> str:
        """By `q` and a filter; with highlights, as it is."""
        word, kind = question
        return f"{self.path}?q={word}&filter%5Bkind%5D={kind}&limit={limit}"

    def found(self, answer: Any) -> list[dict[str, Any]]:
        """In the envelope."""
        rows: list[dict[str, Any]] = answer["data"]
        return rows

    def one(self, answer: Any) -> dict[str, Any]:
        """In the envelope."""
        row: dict[str, Any] = answer["data"]
        return row


class Direct(Searched, sides.Direct):
    """`baselines/direct_front.py`."""

    title = "the direct front"

    def __init__(self, stage: Stage) -> None:
        sides.Direct.__init__(self, stage)
        self.name = "direct-api"

    async def fill(self, total: int) -> None:
        """By COPY."""
        records = []
        for number in range(len(self.ids), total):
            row, id, at = self.rows.row(number), uuid4(), START + timedelta(milliseconds=number)
            attributes = orjson.dumps(row["attributes"]).decode()
            values = (row["kind"], row["title"], row["body"], row["tags"], attributes, row["visibility"])
            records.append((id, *values, "open", self.user, 1, at, at))
            self.ids.append(str(id))
        connection = await asyncpg.connect(self.dsn)
        try:
            await connection.copy_records_to_table("resources", records=records, columns=COLUMNS)
        finally:
            await connection.close()
        await vacuumed(self.dsn)

    def listing(self, limit: int) -> str:
        """Without a total."""
        return f"{self.path}?limit={limit}"

    def search(self, question: Question, limit: int) -> str:
        """By the index of words and a filter."""
        word, kind = question
        return f"{self.path}?q={word}&kind={kind}&limit={limit}"

    found = Yeoul.found
    one = Yeoul.one


class Template(Api):
    """`baselines/fastapi_template.py`: items of title and description, no search."""

    title = "FastAPI template"
    name = "template"
    path = "/api/v1/items"
    created = 200

    def __init__(self, stage: Stage, program: Program) -> None:
        super().__init__(stage)
        self.program = program
        self.email, self.password = "bench@example.com", uuid4().hex

    async def start(self) -> None:
        """A database of its own, then two workers of uvicorn."""
        self.dsn = await self.stage.database("bench_template")
        environ = {"DATABASE_URL": self.dsn, "USER_EMAIL": self.email, "USER_PASSWORD": self.password}
        program, (module,) = self.program.program, self.program.arguments
        await run(f"{self.name}-tables", [module], environ, self.stage.logs, READY_S, program=program)
        arguments = ["uvicorn", f"{module}:app", "--workers", "2", "--host", "127.0.0.1", "--port", str(self.port)]
        child = await Child.start(self.name, arguments, environ, self.stage.logs, program=program)
        self.children.append(child)
        await ready(f"http://127.0.0.1:{self.port}/api/v1/utils/health-check/", child)

    async def token(self) -> str:
        """By login."""
        form = {"username": self.email, "password": self.password}
        async with (
            aiohttp.ClientSession(f"http://127.0.0.1:{self.port}") as session,
            session.post("/api/v1/login/access-token", data=form) as response,
        ):
            if response.status != 200:
                raise SystemExit(f"login of the template answers {response.status}: {await response.text()}")
            token: str = (await response.json())["access_token"]
            return token

    async def fill(self, total: int) -> None:
        """By COPY."""
        connection = await asyncpg.connect(self.dsn)
        try:
            owner = await connection.fetchval('SELECT id FROM "user" WHERE email = $1', self.email)
            records = []
            for number in range(len(self.ids), total):
                row, id = self.rows.row(number), uuid4()
                records.append((id, row["title"], row["body"], START + timedelta(milliseconds=number), owner))
                self.ids.append(str(id))
            columns = ("id", "title", "description", "created_at", "owner_id")
            await connection.copy_records_to_table("item", records=records, columns=columns)
        finally:
            await connection.close()
        await vacuumed(self.dsn)

    def body(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        """The members that an item has."""
        return {"title": row["title"], "description": row["body"]}

    def listing(self, limit: int) -> str:
        """With a total, there is no other."""
        return f"{self.path}/?limit={limit}"

    found = Yeoul.found


async def vacuumed(dsn: str) -> None:
    """What autovacuum does a minute after so many rows came in, done at once for everybody."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute("VACUUM ANALYZE")
    finally:
        await connection.close()
