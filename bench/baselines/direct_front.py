"""The direct front: aiohttp + asyncpg + PyJWT, which inserts into PostgreSQL before it answers.

What most people would build instead of Yeoul, and as good as they would build it: uvloop, several processes on one
port (SO_REUSEPORT), msgspec for validation, orjson for answers, asyncpg's statement cache and its default pool, the
token checked on each request. Its table has the indexes that it takes to list, filter, sort and search as Yeoul does,
unless it is `--bare`: then it can be read by id and owner only. No events, no idempotency, no history come with it.

It writes a line for each request to its log, as Yeoul does, by aiohttp's own access log; of its fields only those that
Yeoul's lines have too (time, request, status, seconds), which costs less than aiohttp's default.
"""

import argparse
import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

import asyncpg
import jwt
import msgspec
import orjson
import uvloop
from aiohttp import web

KEY = "a made-up key of the bench: 32 bytes or more, as HS256 wants it"

SCHEMA = """
CREATE TABLE IF NOT EXISTS resources (
    id uuid PRIMARY KEY, kind text NOT NULL, title text NOT NULL, body text NOT NULL, tags text[] NOT NULL,
    attributes jsonb NOT NULL, visibility text NOT NULL, status text NOT NULL, owner_id uuid NOT NULL,
    version integer NOT NULL, created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL);
CREATE INDEX IF NOT EXISTS resources_owner ON resources (owner_id, created_at)
"""
FINDABLE = """
ALTER TABLE resources ADD COLUMN search tsvector NOT NULL GENERATED ALWAYS AS
    (setweight(to_tsvector('simple', title), 'A') || to_tsvector('simple', body)) STORED;
CREATE INDEX resources_search ON resources USING gin (search);
CREATE INDEX resources_tags ON resources USING gin (tags);
CREATE INDEX resources_attributes ON resources USING gin (attributes jsonb_path_ops);
CREATE INDEX resources_created ON resources (created_at, id);
CREATE INDEX resources_updated ON resources (updated_at, id);
CREATE INDEX resources_kind ON resources (kind, created_at, id);
CREATE INDEX resources_status ON resources (status, created_at, id);
CREATE INDEX resources_title ON resources (title, created_at, id);
CREATE INDEX resources_public ON resources (created_at, id) WHERE visibility = 'public'
"""
"""What it takes to list, filter, sort and search as Yeoul does."""
ROW = "id, kind, title, body, tags, attributes, visibility, status, owner_id, version, created_at, updated_at"
INSERT = f"""
INSERT INTO resources ({ROW})
VALUES ($1, $2, $3, $4, $5, $6, $7, 'open', $8, 1, now(), now()) RETURNING {ROW}
"""
SELECT = f"SELECT {ROW} FROM resources WHERE id = $1"

SEEN = f"SELECT {ROW} FROM resources WHERE (visibility = 'public' OR owner_id = $1)"
PAGE = 20
MOST = 100

ACCESS_LINE = '%t "%r" %s %Tf'

Text = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
POOL: web.AppKey[Any] = web.AppKey("pool", object)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class NewResource(msgspec.Struct, forbid_unknown_fields=True):
    """What a client may send."""

    title: Text
    kind: Annotated[str, msgspec.Meta(min_length=1, max_length=64)] = "note"
    body: Annotated[str, msgspec.Meta(max_length=100_000)] = ""
    tags: Annotated[list[Text], msgspec.Meta(max_length=50)] = []
    attributes: dict[str, Any] = {}
    visibility: Literal["public", "private"] = "private"


decoder = msgspec.json.Decoder(NewResource)


def token(user: UUID) -> str:
    """A token as this front's login would issue it, good for an hour."""
    now = int(datetime.now(UTC).timestamp())
    return jwt.encode({"sub": str(user), "role": "user", "iat": now, "exp": now + 3600}, KEY, algorithm="HS256")


def answer(status: int, data: Any) -> web.Response:
    """The same envelope as Yeoul's, so that equal bytes are sent."""
    meta = {"timestamp": datetime.now(UTC), "version": "1.0"}
    content = {"success": status < 400, "data" if status < 400 else "error": data, "meta": meta}
    body = orjson.dumps(content, default=str)  # asyncpg's UUID is a subclass, which orjson doesn't know by itself
    return web.Response(status=status, body=body, content_type="application/json")


@web.middleware
async def authenticated(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Check the bearer token of every request."""
    scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
    try:
        claims = jwt.decode(bearer, KEY, algorithms=["HS256"], options={"require": ["exp", "sub"]})
    except jwt.InvalidTokenError:
        return answer(401, {"code": "UNAUTHORIZED"})
    if scheme != "Bearer":
        return answer(401, {"code": "UNAUTHORIZED"})
    request["user"] = UUID(claims["sub"])
    return await handler(request)


async def create(request: web.Request) -> web.Response:
    """Validate, insert, answer the row."""
    try:
        new = decoder.decode(await request.read())
    except msgspec.DecodeError as reason:
        return answer(400, {"code": "VALIDATION_ERROR", "message": str(reason)})
    row = await request.app[POOL].fetchrow(
        INSERT, uuid4(), new.kind, new.title, new.body, new.tags, new.attributes, new.visibility, request["user"]
    )
    return answer(201, dict(row))


async def read(request: web.Request) -> web.Response:
    """Select one row; a private one only for its owner."""
    try:
        resource = UUID(request.match_info["id"])
    except ValueError:
        return answer(404, {"code": "NOT_FOUND"})
    row = await request.app[POOL].fetchrow(SELECT, resource)
    if row is None or (row["visibility"] == "private" and row["owner_id"] != request["user"]):
        return answer(404, {"code": "NOT_FOUND"})
    return answer(200, dict(row))


async def listing(request: web.Request) -> web.Response:
    """What the caller may see, of a `kind` if one is asked for: the newest, or the best that have the words of `q`."""
    asked = request.query
    arguments: list[Any] = [request["user"]]
    statement, order = SEEN, "created_at DESC, id DESC"
    limit = asked.get("limit", str(PAGE))
    if not (limit.isascii() and limit.isdigit() and 1 <= int(limit) <= MOST):
        return answer(400, {"code": "VALIDATION_ERROR", "message": f"limit: 1 to {MOST}"})
    if "kind" in asked:
        arguments.append(asked["kind"])
        statement += f" AND kind = ${len(arguments)}"
    if "q" in asked:
        arguments.append(asked["q"])
        query = f"websearch_to_tsquery('simple', ${len(arguments)})"
        statement += f" AND search @@ {query}"
        order = f"ts_rank(search, {query}) DESC, id DESC"
    arguments.append(int(limit))
    rows = await request.app[POOL].fetch(f"{statement} ORDER BY {order} LIMIT ${len(arguments)}", *arguments)
    return answer(200, [dict(row) for row in rows])


async def prepare(connection: Any) -> None:
    """JSON columns as Python values."""
    await connection.set_type_codec(
        "jsonb",
        schema="pg_catalog",
        format="binary",
        encoder=lambda value: b"\x01" + orjson.dumps(value),
        decoder=lambda raw: orjson.loads(raw[1:]),
    )


async def unreset(_connection: Any) -> None:
    """Give a connection back as it is: nothing here changes its session."""


def build(dsn: str, reset: bool) -> web.Application:
    """The application of one process."""

    async def pool(app: web.Application) -> AsyncIterator[None]:
        app[POOL] = await asyncpg.create_pool(dsn, init=prepare, reset=None if reset else unreset)
        yield
        await app[POOL].close()

    app = web.Application(middlewares=[authenticated])
    app.cleanup_ctx.append(pool)
    app.router.add_post("/resources", create)
    app.router.add_get("/resources", listing)
    app.router.add_get("/resources/{id}", read)
    return app


async def migrate(dsn: str, bare: bool) -> None:
    """Create the table, before any process serves."""
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(SCHEMA)
        if not bare:
            await connection.execute(FINDABLE)
    finally:
        await connection.close()


def serve(options: argparse.Namespace) -> None:
    """Serve in this process until SIGTERM."""
    uvloop.install()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    app = build(options.dsn, options.reset)
    web.run_app(
        app, host="127.0.0.1", port=options.port, reuse_port=True, access_log_format=ACCESS_LINE, print=lambda _: None
    )


def main() -> None:
    """Fork the processes, serve in each, end together."""
    parser = argparse.ArgumentParser(description="aiohttp + asyncpg, inserting directly")
    parser.add_argument("--dsn", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--no-reset", dest="reset", action="store_false")
    parser.add_argument("--bare", action="store_true")
    options = parser.parse_args()
    asyncio.run(migrate(options.dsn, options.bare))
    children: list[int] = []
    for _ in range(options.processes - 1):
        child = os.fork()
        if not child:
            serve(options)
            return
        children.append(child)
    try:
        serve(options)
    finally:
        for child in children:
            os.kill(child, signal.SIGTERM)
            os.waitpid(child, 0)


if __name__ == "__main__":
    main()
