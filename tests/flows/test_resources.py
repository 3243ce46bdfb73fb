"""The contract of resources on real servers, as their writer and others meet it."""

from typing import Any
from uuid import uuid4

import pytest

from domain.access import Role
from tests.flows.clients import address_of
from tests.flows.harness import System
from tests.flows.test_own_writes import NOTE, Client

pytestmark = pytest.mark.asyncio(loop_scope="session")

SCHEMA = {"schema": {"properties": {"size": {"type": "integer"}}, "required": ["size"]}}


async def opened(served: System) -> tuple[Client, Client, Client]:
    """Its owner, somebody else, and an admin."""
    mine, theirs = [await served.token(address_of(name)) for name in ("mine", "theirs")]
    admin = await served.token("admin@example.com", Role.ADMIN)
    return Client(served.url, mine), Client(served.url, theirs), Client(served.url, admin)


async def test_the_contract_from_end_to_end(served: System) -> None:
    owner, other, admin = await opened(served)
    for number in range(10):
        note = {"kind": "note", "title": f"한여울 {number}", "tags": [f"t{number}"], "attributes": {"n": number}}
        status, made = await owner.ask("POST", "/resources", json=note)
        assert status == 201
        # What was answered is found at once, by any front, in every way; and by nobody else.
        for params in (
            {"q": f"여울 {number}"}, {"filter[tags]": f"t{number}"}, {"filter[attributes.n]": str(number)},
            {"filter[title][contains]": str(number)}, {"filter[title]": note["title"]}, {"limit": "1"},
            {"filter[created_at][gte]": made["created_at"]}, {"sort": "-title", "limit": "1"},
        ):  # fmt: skip
            status, items = await owner.ask("GET", "/resources", params=params)
            assert (status, [item["id"] for item in items]) == (200, [made["id"]]), params
            assert (await other.ask("GET", "/resources", params=params))[1] == [], params
    address = f"/resources/{made['id']}"
    patch: dict[str, Any] = {"attributes": {"n": None, "m": 1}, "visibility": "public"}
    status, changed = await owner.ask("PATCH", address, json=patch)
    assert (status, changed["attributes"], changed["version"]) == (200, {"m": 1}, 2)
    assert [change["version"] for change in (await owner.ask("GET", f"{address}/history"))[1]] == [1, 2]
    seen = (await other.ask("GET", f"{address}/history"))[1]
    assert [(change["type"], change["data"]["attributes"]) for change in seen] == [("resource.updated", {"m": 1})]
    assert (await other.raw("DELETE", address))[0] == 403
    assert (await owner.raw("DELETE", address))[0] == 204
    assert (await owner.ask("GET", "/resources", params={"q": "여울 9"}))[1] == []
    assert [item["id"] for item in (await owner.ask("GET", "/resources", params={"deleted": "true"}))[1]] == [
        made["id"]
    ]
    for client, status in ((owner, 200), (other, 404), (admin, 200)):
        assert (await client.raw("GET", f"{address}/history"))[0] == status
    assert (await other.raw("POST", f"{address}/restore"))[0] == 404
    status, restored = await owner.ask("POST", f"{address}/restore")
    assert (status, restored["title"], restored["version"]) == (200, "한여울 9", 4)
    assert len((await owner.ask("GET", "/resources", params={"q": "여울 9"}))[1]) == 1
    assert (await owner.raw("GET", f"/resources/{uuid4()}/history"))[0] == 404


async def test_a_schema_counts_from_its_answer_on_and_touches_nothing_that_is_there(served: System) -> None:
    owner, _, admin = await opened(served)
    status, old = await owner.ask("POST", "/resources", json={"kind": "box", "title": "old"})
    assert status == 201
    for round_ in range(5):
        assert (await admin.ask("PUT", "/kinds/box", json=SCHEMA))[0] == 200
        status, error = await owner.raw("POST", "/resources", json={"kind": "box", "title": f"new {round_}"})
        assert (status, error["error"]["details"][0]["field"]) == (400, "attributes.size")
        # What sets neither kind nor attributes is not asked; what does is, with what it makes of them.
        assert (await owner.ask("PATCH", f"/resources/{old['id']}", json={"title": f"t {round_}"}))[0] == 200
        status, error = await owner.raw(
            "PATCH", f"/resources/{old['id']}", json={"attributes": {"x": round_}}
        )  # fmt: skip
        assert (status, error["error"]["details"][0]["field"]) == (400, "attributes.size")
        replaced: Any = {"kind": "box", "title": "put", "attributes": {"x": 1}}
        status, error = await owner.raw("PUT", f"/resources/{old['id']}", json=replaced)
        assert (status, error["error"]["details"][0]["field"]) == (400, "attributes.size")
        assert (await owner.raw("PUT", f"/resources/{uuid4()}", json=replaced))[0] == 404
        replaced["attributes"] = (await owner.ask("GET", f"/resources/{old['id']}"))[1]["attributes"]
        assert (await owner.ask("PUT", f"/resources/{old['id']}", json=replaced))[0] == 200
        status, _ = await owner.ask("PATCH", f"/resources/{old['id']}", json={"attributes": {"size": round_}})
        assert status == 200
        assert (await admin.raw("DELETE", "/kinds/box"))[0] == 204
        status, _ = await owner.ask("POST", "/resources", json={"kind": "box", "title": f"free {round_}"})
        assert status == 201
        assert (await owner.ask("PATCH", f"/resources/{old['id']}", json={"attributes": None}))[0] == 200


async def test_a_batch_is_many_operations_each_once(served: System) -> None:
    owner, other, _ = await opened(served)
    operations: list[dict[str, Any]] = [
        {"op": "create", "resource": {"kind": "note", "title": f"batched {number}"}} for number in range(100)
    ]
    operations[50] = {"op": "create", "resource": {"kind": "note"}}
    headers = {"Idempotency-Key": "batch"}
    _, first = await owner.ask("POST", "/resources/batch", json={"operations": operations}, headers=headers)
    assert [answer["status"] for answer in first] == [201] * 50 + [400] + [201] * 49
    assert [answer["data"]["title"] for answer in first if "data" in answer] == [
        f"batched {number}" for number in range(100) if number != 50
    ]
    _, again = await owner.ask("POST", "/resources/batch", json={"operations": operations}, headers=headers)
    assert [answer.get("data") for answer in again] == [answer.get("data") for answer in first]
    ids = [answer["data"]["id"] for answer in first if "data" in answer]
    deletes = [{"op": "delete", "id": id} for id in ids]
    _, answers = await other.ask("POST", "/resources/batch", json={"operations": deletes})
    assert {answer["status"] for answer in answers} == {404}
    _, answers = await owner.ask("POST", "/resources/batch", json={"operations": deletes})
    assert {answer["status"] for answer in answers} == {204}


async def test_asking_for_an_old_operation_brings_no_old_version_back(served: System) -> None:
    client = (await opened(served))[2]
    order = served.create(1)
    await served.submit(order, wait=30)
    id = str(order.aggregate_id)
    assert (await client.ask("PUT", f"/resources/{id}", json=NOTE))[0] == 200
    # As a minute later: nothing is cached.
    await served.stores.redis.client.delete(served.stores.cache.key("resources", order.aggregate_id))
    _status, operation = await client.ask("GET", f"/operations/{order.operation}")
    assert operation["result"]["version"] == 1
    assert await client.version(id) == 2
