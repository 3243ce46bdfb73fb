"""Attacks that need the whole: SQL where strangers write, and races in which one wins, on real servers."""

import asyncio
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import aiohttp
import pytest

from stores.narrowing import FIELDS
from tests.flows.harness import System
from tests.flows.test_own_writes import Client
from tests.flows.test_resources import opened

pytestmark = pytest.mark.asyncio(loop_scope="session")

NOTE = {"kind": "note", "title": "mine"}
SQL = (
    "'", "''", '"', "\\", "\\'", "' OR '1'='1", "' OR 1=1--", "x') OR true --", "1; DROP TABLE resources; --", "{}",
    "{0}", "'; SELECT pg_sleep(120); --", "' UNION SELECT password_sealed FROM accounts --", "$1", "%s", "%(x)s",
    "{0.__class__}", "' || (SELECT version()) || '", "/**/OR/**/1=1", "' | !x", "a & b | !(c)", ":*", "<->",
    "x'::int", "1e309", "NaN",
    "\u02bc OR 1=1", "\uff07 OR 1=1",
)  # fmt: skip
"""Texts that mean something to SQL, to its drivers, to tsquery, or to `str.format`."""
ADDRESSES: dict[str, tuple[str, ...]] = {
    "/resources": (
        *(f"filter[{field}]" for field in FIELDS),
        *(f"filter[{field}][{op}]" for field, (_, ops) in FIELDS.items() for op in ops),
        "filter[attributes.a]", "filter[attributes.a][eq]", "filter[attributes.a.b]",
        "filter[attributes.{}]", "filter[{}]", "filter[kind][{}]", "{}", "sort", "fields",
        "q", "cursor", "limit", "total", "deleted",
    ),
    "/resources/{id}/history": ("limit", "cursor", "{}"),
    "/users": ("filter[email]", "filter[status]", "filter[role]", "cursor", "limit", "filter[{}]"),
    "/kinds": ("cursor", "limit", "{}"),
    "/dead-letters": ("filter[group]", "filter[state]", "filter[topic]", "cursor", "limit"),
    "/analytics/{metric}": ("window", "from", "to", "tz", "fill", "limit", "cursor", "format", "{group}", "group[{}]"),
    "/analytics/{metric}/dropped": ("from", "to"),
    "/analytics/{metric}/live": ("window", "since", "{group}", "group[{}]", "{}"),
}  # fmt: skip
PLACES = ("/resources/{}", "/resources/{}/history", "/kinds/{}", "/users/{}", "/operations/{}", "/dead-letters/{}",
          "/analytics/{}", "/analytics/{}/dropped", "/analytics/{}/live")  # fmt: skip


async def test_nothing_that_is_asked_for_is_ever_part_of_a_statement(served: System) -> None:
    owner, _, admin = await opened(served)
    status, mine = await owner.ask("POST", "/resources", json=NOTE | {"tags": ["a"], "attributes": {"a": 1}})
    assert status == 201
    metrics = (await admin.ask("GET", "/analytics"))[1]
    assert metrics
    metric = next((one for one in metrics if one["group_by"]), metrics[0])
    group = f"group[{metric['group_by'][0]}]" if metric["group_by"] else "window"
    tables = await counts(served)
    url, headers = admin._url, admin._headers

    few = asyncio.Semaphore(20)  # all at once could wait too long for each other

    async def ask(session: aiohttp.ClientSession, path: str, query: str) -> None:
        async with few, session.get(f"{url}{path}?{query}" if query else url + path) as answer:
            if answer.content_type == "text/event-stream":
                return  # it took the question for one, and goes on for ever
            told = await answer.text()
            assert answer.status in (200, 400, 404), (path, query, answer.status, told)
            assert not [word for word in ("asyncpg", "PostgreSQL", "syntax error", "argon2") if word in told], told

    # Less than the sleep in SQL.
    async with aiohttp.ClientSession(headers=headers, timeout=aiohttp.ClientTimeout(total=90)) as session:
        for text in SQL:
            sent = quote(text, safe="")
            asked = []
            for path, names in ADDRESSES.items():
                address = path.replace("{id}", mine["id"]).replace("{metric}", metric["name"])
                for name in names:
                    named = quote(name.replace("{group}", group).replace("{}", text), safe="")
                    asked.append(ask(session, address, f"{named}={sent}"))
            asked += [ask(session, place.replace("{}", sent), "") for place in PLACES]
            await asyncio.gather(*asked)
    assert await counts(served) == tables
    assert (await owner.ask("GET", f"/resources/{mine['id']}"))[1] == mine


async def counts(served: System) -> dict[str, int]:
    """How many rows each table has that only commands may change."""
    row = await served.stores.database.fetchrow(
        "SELECT (SELECT count(*) FROM resources) AS resources, (SELECT count(*) FROM accounts) AS accounts,"
        " (SELECT count(*) FROM kinds) AS kinds, (SELECT count(*) FROM journal) AS journal,"
        " (SELECT count(*) FROM operations) AS operations"
    )
    return dict(row)


async def test_what_is_no_ones_own_is_not_found_by_sql(served: System) -> None:
    owner, other, _ = await opened(served)
    await owner.ask("POST", "/resources", json=NOTE | {"tags": ["a"], "attributes": {"a": "b"}})
    for text in SQL:
        for name in ("filter[title]", "filter[tags]", "filter[attributes.a]", "filter[title][contains]", "q"):
            status, told = await other.raw("GET", "/resources", params={name: text})
            assert status in (200, 400), (name, text)
            assert status == 400 or "mine" not in [one["title"] for one in told["data"]], (name, text)
        # What is stored is stored to the letter, and found by it.
        status, made = await other.ask("POST", "/resources", json={"kind": "sql", "title": text, "tags": [text]})
        assert (status, made["title"], made["tags"]) == (201, text, [text])
        for name in ("filter[title]", "filter[tags]"):
            _, found = await other.ask("GET", "/resources", params={name: text, "filter[kind]": "sql"})
            assert [one["id"] for one in found] == [made["id"]], (name, text)


async def test_the_cursor_of_another_shows_what_its_holder_may_see(served: System) -> None:
    owner, other, _ = await opened(served)
    ids: dict[Client, list[str]] = {owner: [], other: []}
    for number in range(8):
        who = (owner, other)[number % 2]
        ids[who].append((await who.ask("POST", "/resources", json=NOTE | {"title": f"word {number}"}))[1]["id"])
    for query in ({}, {"sort": "title"}, {"q": "word"}, {"filter[kind]": "note"}):
        _, page = await owner.raw("GET", "/resources", params={**query, "limit": "1"})
        asked = {**query, "cursor": page["meta"]["next_cursor"], "limit": "100"}
        for who in (owner, other):
            status, found = await who.ask("GET", "/resources", params=asked)
            assert status == 200
            assert {one["id"] for one in found} <= set(ids[who]), query


async def test_of_changes_with_one_etag_one_is_made(served: System) -> None:
    owner, _, admin = await opened(served)
    _, made = await owner.ask("POST", "/resources", json=NOTE)
    address = f"/resources/{made['id']}"
    for version in range(1, 6):
        tag = {"If-Match": f'"{version}"'}
        asked = [
            who.raw(method, address, json=NOTE | {"title": f"{version} by {number}"}, headers=tag)
            for number, (who, method) in enumerate([(owner, "PUT"), (admin, "PATCH")] * 4)
        ]
        answers = await asyncio.gather(*asked)
        assert sorted(status for status, _ in answers) == [200, *[412] * 7]
        won = next(told["data"] for status, told in answers if status == 200)
        assert won["version"] == version + 1
        assert (await owner.ask("GET", address))[1] == won
    _, history = await owner.ask("GET", f"{address}/history")
    assert [change["version"] for change in history] == [1, 2, 3, 4, 5, 6]


async def test_a_key_is_spent_once_whoever_is_faster(served: System) -> None:
    owner, other, _ = await opened(served)
    owners: set[str] = set()
    for round_ in range(5):
        key = {"Idempotency-Key": f"key {round_}"}
        same = [owner.raw("POST", "/resources", json=NOTE, headers=key) for _ in range(8)]
        else_ = [owner.raw("POST", "/resources", json=NOTE | {"title": str(n)}, headers=key) for n in range(4)]
        theirs = [other.raw("POST", "/resources", json=NOTE, headers=key) for _ in range(2)]
        answers = await asyncio.gather(*same, *else_, *theirs)
        made = {told["data"]["id"] for status, told in answers[:12] if status == 201}
        assert len(made) == 1
        owners |= {told["data"]["owner_id"] for status, told in answers if status == 201}
        # One that came while it ran is told so; of two bodies the first to arrive is the key's.
        assert {status for status, _ in answers[:12]} <= {201, 409, 422}
        assert made.isdisjoint(told["data"]["id"] for status, told in answers[12:] if status == 201)
    _, found = await owner.raw("GET", "/resources", params={"limit": "100", "total": "true"})
    assert found["meta"]["total"]["count"] == 5
    batch = {"operations": [{"op": "create", "resource": NOTE}] * 20}
    key = {"Idempotency-Key": str(uuid4())}
    answers = await asyncio.gather(*(owner.raw("POST", "/resources/batch", json=batch, headers=key) for _ in range(4)))
    seen: list[set[Any]] = [set() for _ in range(20)]
    for _, told in answers:
        for number, one in enumerate(told["data"]):
            assert one["status"] in (201, 409)
            seen[number] |= {one["data"]["id"]} if one["status"] == 201 else set()
    assert [len(ids) for ids in seen] == [1] * 20
    assert len(owners) == 2
    rows = await served.stores.database.fetchrow("SELECT count(*) FROM resources WHERE owner_id = ANY($1)", owners)
    assert rows["count"] <= 5 + 5 + 20
