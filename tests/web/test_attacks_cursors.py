"""Cursors that were changed, made by somebody else, or taken from another list: each is refused by its name."""

import base64
from typing import Any
from uuid import UUID

import orjson
import pytest

from domain.access import Role
from security import signatures
from tests.web.conftest import ADMIN, Bearer, Client, registered
from tests.web.fakes import SETTINGS, Fakes
from tests.web.test_analytics import LINES, ORDERS
from tests.web.test_dead_letters import letter

V1 = "/api/v1"
NOTE = {"kind": "note", "title": "t", "visibility": "public"}
LISTS = ("/resources", "/resources?sort=title", "/users", "/kinds", "/dead-letters", "/analytics/orders", "/history")


PURPOSES = (
    b"cursor of resources", b"cursor of users", b"cursor of kinds", b"cursor of dead letters", b"cursor of a metric",
)  # fmt: skip


@pytest.fixture
async def lists(client: Client, fakes: Fakes, bearer: Bearer) -> dict[str, str]:
    """Addresses of lists with more than one page, by their names."""
    admin = bearer(ADMIN, Role.ADMIN)
    fakes.stores.reports.metrics, fakes.stores.reports.found = [ORDERS], {"orders": LINES}
    fakes.stores.dead_letters.parked = [letter(1), letter(2), letter(3)]
    ids = []
    for number in range(3):
        answer = await client.post(f"{V1}/resources", json=NOTE, headers=bearer())
        ids.append((await answer.json())["data"]["id"])
        await client.put(f"{V1}/kinds/k{number}", json={"schema": {}}, headers=admin)
        await registered(client, f"u{number}")
    return {name: V1 + name for name in LISTS} | {"/history": f"{V1}/resources/{ids[0]}/history"}


def with_(address: str, **more: Any) -> str:
    return address + ("&" if "?" in address else "?") + "&".join(f"{name}={value}" for name, value in more.items())


async def cursor_of(client: Client, address: str, headers: dict[str, str]) -> str:
    if address.endswith("/history"):  # its store in memory is empty: the cursor is made as the list makes it
        id = UUID(address.split("/")[-2])
        return signatures.enclose(SETTINGS.cursor_key, b"cursor of a history" + id.bytes, b"[1]")
    answer = await client.get(with_(address, limit=1), headers=headers)
    assert answer.status == 200
    return str((await answer.json())["meta"]["next_cursor"])


async def problems(client: Client, address: str, cursor: str, headers: dict[str, str]) -> tuple[int, list[str]]:
    answer = await client.get(with_(address, limit=1, cursor=cursor), headers=headers)
    return answer.status, [one["field"] for one in (await answer.json()).get("error", {}).get("details", [])]


def content_of(cursor: str, lists: dict[str, str]) -> bytes:
    """What only we can read of a cursor."""
    purposes = (*PURPOSES, b"cursor of a history" + UUID(lists["/history"].split("/")[-2]).bytes)
    read = (signatures.disclose(SETTINGS.cursor_key, purpose, cursor) for purpose in purposes)
    return next(content for content in read if content is not None)


def flipped(cursor: str) -> list[str]:
    """The cursor with one bit of each of its bytes changed, and cut, and with more behind it."""
    raw = bytearray(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    changed = []
    for place in range(len(raw)):
        other = bytearray(raw)
        other[place] ^= 1 << (place % 8)
        changed.append(bytes(other))
    changed += [bytes(raw[:-1]), bytes(raw[1:]), bytes(raw) + b"]", bytes(raw[:16]), bytes(16) + bytes(raw[16:])]
    return [base64.urlsafe_b64encode(one).rstrip(b"=").decode() for one in changed]


@pytest.mark.parametrize("name", LISTS)
async def test_a_cursor_with_a_bit_changed_is_none(client: Client, bearer: Bearer, lists: Any, name: str) -> None:
    admin = bearer(ADMIN, Role.ADMIN)
    cursor = await cursor_of(client, lists[name], admin)
    assert await problems(client, lists[name], cursor, admin) == (200, [])
    for changed in flipped(cursor):
        assert await problems(client, lists[name], changed, admin) == (400, ["cursor"])


@pytest.mark.parametrize("name", LISTS)
async def test_a_cursor_that_others_made_is_none(client: Client, bearer: Bearer, lists: Any, name: str) -> None:
    admin = bearer(ADMIN, Role.ADMIN)
    cursor = await cursor_of(client, lists[name], admin)
    content = content_of(cursor, lists)
    forged = [signatures.enclose(key, purpose, content) for purpose in (*PURPOSES, b"") for key in (b"", b"x" * 32)]
    forged += [base64.urlsafe_b64encode(orjson.dumps(["x", 1])).decode(), "null", "%00", "0", "' OR 1=1--", "A" * 4_000]
    for one in forged:
        assert await problems(client, lists[name], one, admin) == (400, ["cursor"]), one
    for other in LISTS:
        if other != name:
            assert await problems(client, lists[other], cursor, admin) == (400, ["cursor"]), (name, other)


@pytest.mark.parametrize("name", LISTS)
async def test_a_cursor_tells_nothing(client: Client, bearer: Bearer, lists: Any, name: str) -> None:
    """A place may be that of a row that the reader must not see: the last of a thousand that were looked at."""
    cursor = await cursor_of(client, lists[name], bearer(ADMIN, Role.ADMIN))
    content = content_of(cursor, lists)
    raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    pieces = {content[at : at + 3] for at in range(max(len(content) - 2, 1))}
    assert len(raw) == 16 + len(content)
    assert sum(piece in raw for piece in pieces) <= 1, name  # 3 bytes are alike by chance once in 16 million


async def test_a_cursor_belongs_to_one_resources_history(client: Client, bearer: Bearer, lists: Any) -> None:
    other = await (await client.post(f"{V1}/resources", json=NOTE, headers=bearer())).json()
    cursor = await cursor_of(client, lists["/history"], bearer())
    assert await problems(client, lists["/history"], cursor, bearer()) == (200, [])
    address = f"{V1}/resources/{other['data']['id']}/history"
    assert await problems(client, address, cursor, bearer()) == (400, ["cursor"])
