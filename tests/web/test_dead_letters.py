"""Dead letters over HTTP: for admins only, and nothing of what came is shown as more than it is."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from domain.access import Role
from stores.dead_letters import Parked
from tests.web.conftest import ADMIN, Client
from tests.web.fakes import Fakes

PATH = "/api/v1/dead-letters"


def letter(id: int, **fields: Any) -> Parked:
    given: dict[str, Any] = {
        "group": "yeoul.analytics", "topic": "yeoul.ingest", "topic_id": UUID(int=1), "partition": 2, "offset": 40 + id,
        "key": b"key", "value": b'{"a":"\0<script>"}', "headers": (), "produced_at": 1_800_000_000_123,
        "code": "not_json", "error": "what\x1b[31m", "handler": "analytics.metrics", "attempts": 1, "state": "parked",
        "parked_at": datetime(2027, 1, 1, tzinfo=UTC),
    }  # fmt: skip
    return Parked(id=id, **{**given, **fields})


@pytest.fixture(autouse=True)
def parked(fakes: Fakes) -> None:
    fakes.stores.dead_letters.parked = [
        letter(1), letter(2, state="dropped"), letter(3, topic="yeoul.commands.resources", group="yeoul.resources"),
        letter(4, value=b"\xff\0", key=None, headers=(("h", b"\xfe"), ("g", None)), produced_at=2**62), letter(5),
    ]  # fmt: skip


@pytest.fixture
def admin(bearer: Any) -> dict[str, str]:
    return bearer(ADMIN, Role.ADMIN)  # type: ignore[no-any-return]


async def test_only_admins(client: Client, bearer: Any) -> None:
    for path in (PATH, f"{PATH}/1", f"{PATH}/99"):
        assert (await client.get(path)).status == 401
        assert (await client.get(path, headers=bearer())).status == 403


async def test_a_list_is_filtered_and_paged_and_holds_nothing_of_what_came(client: Client, admin: Any) -> None:
    found: list[dict[str, Any]] = []
    cursor: str | None = ""
    while cursor is not None:
        asked = {"limit": "2", "filter[state]": "parked", **({"cursor": cursor} if cursor else {})}
        answer = await client.get(PATH, params=asked, headers=admin)
        assert answer.status == 200
        page = await answer.json()
        found += page["data"]
        cursor = page["meta"]["next_cursor"]
    assert [one["id"] for one in found] == [1, 3, 4, 5]
    assert found[0] == {
        "id": 1, "state": "parked", "group": "yeoul.analytics", "topic": "yeoul.ingest", "partition": 2, "offset": 41,
        "code": "not_json", "error": "what\x1b[31m", "handler": "analytics.metrics", "attempts": 1,
        "parked_at": "2027-01-01T00:00:00Z", "size": 17,
    }  # fmt: skip
    for name, value, ids in (
        ("topic", "yeoul.commands.resources", [3]),
        ("group", "yeoul.resources", [3]),
        ("group", "x", []),
    ):
        answer = await client.get(PATH, params={f"filter[{name}]": value}, headers=admin)
        assert [one["id"] for one in (await answer.json())["data"]] == ids


async def test_everything_wrong_is_named_at_once(client: Client, admin: Any) -> None:
    answer = await client.get(f"{PATH}?limit=101&filter[state]=x&filter[group]=%00&cursor=a&sort=id", headers=admin)
    fields = {detail["field"] for detail in (await answer.json())["error"]["details"]}
    assert (answer.status, fields) == (400, {"limit", "filter[state]", "filter[group]", "cursor", "sort"})
    cursor = (await (await client.get(f"{PATH}?limit=1", headers=admin)).json())["meta"]["next_cursor"]
    answer = await client.get(f"{PATH}?filter[state]=parked&cursor={cursor}", headers=admin)
    assert (answer.status, (await answer.json())["error"]["details"][0]["field"]) == (400, "cursor")


async def test_one_is_shown_with_everything_that_came(client: Client, admin: Any) -> None:
    shown = (await (await client.get(f"{PATH}/1", headers=admin)).json())["data"]
    assert shown["value"] == {"text": '{"a":"\0<script>"}'}
    assert (shown["key"], shown["produced_at"]) == ({"text": "key"}, "2027-01-15T08:00:00.123000Z")
    assert shown["topic_id"] == str(UUID(int=1))
    shown = (await (await client.get(f"{PATH}/4", headers=admin)).json())["data"]
    assert shown["value"] == {"base64": "/wA="}
    assert (shown["key"], shown["produced_at"]) == (None, None)
    assert shown["headers"] == [{"name": "h", "value": {"base64": "/g=="}}, {"name": "g", "value": None}]
    for id in ("99", "01", "x", "-1", "1" * 19, "%D9%A1"):
        assert (await client.get(f"{PATH}/{id}", headers=admin)).status == 404, id
