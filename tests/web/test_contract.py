"""What clients may ask of resources besides: patches, restores, batches, kinds, lists in all their ways."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from domain.access import Role
from domain.resources import RESTORABLE
from stores.search import Hit
from tests.web.conftest import ADMIN, OTHER, OWNER, Client
from tests.web.fakes import Fakes
from tests.web.test_resources import NOTE, PATH, make

KINDS = "/api/v1/kinds"
SIZED = {"type": "object", "properties": {"size": {"type": "integer", "minimum": 1}}, "required": ["size"]}


async def details(answer: Any) -> dict[str, str]:
    assert answer.status == 400, await answer.text()
    return {detail["field"]: detail["message"] for detail in (await answer.json())["error"]["details"]}


async def test_a_patch_changes_what_it_names_and_null_takes_back(client: Client, bearer: Any) -> None:
    made = await make(client, bearer(), body="text", attributes={"a": {"b": 1, "c": 2}, "d": [1]}, status="done")
    address = f"{PATH}/{made['id']}"
    patch = {"title": "new", "attributes": {"a": {"b": None, "e": 3}, "d": [2]}, "status": None}
    headers = bearer(**{"Content-Type": "application/merge-patch+json", "If-Match": '"1"'})
    answer = await client.patch(address, data=msgspec.json.encode(patch), headers=headers)
    new = (await answer.json())["data"]
    assert (answer.status, answer.headers["ETag"]) == (200, '"2"')
    assert (new["title"], new["body"], new["tags"], new["status"]) == ("new", "text", ["a", "b"], "open")
    assert new["attributes"] == {"a": {"c": 2, "e": 3}, "d": [2]}
    answer = await client.patch(address, json={"attributes": None, "body": None, "tags": None}, headers=bearer())
    new = (await answer.json())["data"]
    assert (new["attributes"], new["body"], new["tags"]) == ({}, "", [])
    answer = await client.patch(address, json={}, headers=bearer())
    assert (answer.status, answer.headers["ETag"]) == (200, '"3"')
    answer = await client.patch(address, json={"title": "x"}, headers=headers | {"Content-Type": "application/json"})
    assert answer.status == 412


async def test_a_patch_names_every_wrong_field(client: Client, bearer: Any) -> None:
    made = await make(client, bearer())
    body = {"title": None, "kind": None, "owner_id": str(OTHER), "tags": [1], "attributes": {"a": "\0"}}
    answer = await client.patch(f"{PATH}/{made['id']}", json=body, headers=bearer())
    assert set(await details(answer)) == {"title", "kind", "owner_id", "tags[0]", "attributes.a"}
    answer = await client.patch(f"{PATH}/{made['id']}", data="<x/>", headers=bearer(**{"Content-Type": "text/xml"}))
    assert answer.status == 415
    assert (await client.patch(f"{PATH}/{made['id']}", json={}, headers=bearer(OTHER))).status == 404


async def test_a_merged_document_is_bounded_as_a_sent_one(client: Client, bearer: Any) -> None:
    made = await make(client, bearer(), attributes={f"a{n}": n for n in range(200)})
    answer = await client.patch(
        f"{PATH}/{made['id']}", json={"attributes": {f"b{n}": n for n in range(100)}}, headers=bearer()
    )
    assert await details(answer) == {"attributes": "must not be longer than 256"}


async def test_a_deleted_one_is_restored_by_its_owner_and_by_admins(client: Client, bearer: Any, fakes: Fakes) -> None:
    made = await make(client, bearer(), visibility="public")
    address = f"{PATH}/{made['id']}"
    answer = await client.post(f"{address}/restore", headers=bearer(OTHER))
    assert answer.status == 403  # it is there, for all to see
    for who in (bearer(), bearer(ADMIN, Role.ADMIN)):
        assert (await client.delete(address, headers=bearer())).status == 204
        assert (await client.get(address, headers=bearer())).status == 404
        assert (await client.post(f"{address}/restore", headers=bearer(OTHER))).status == 404
        assert (await client.post(f"{address}/restore")).status == 401
        answer = await client.post(f"{address}/restore", headers=who)
        assert (answer.status, (await answer.json())["data"]["title"]) == (200, made["title"])
        assert (await client.get(address)).status == 200
    again = await client.post(f"{address}/restore", headers=bearer())
    assert (again.status, again.headers["ETag"]) == (200, '"5"')
    await client.delete(address, headers=bearer())
    (state,) = fakes.stores.resources.states.values()
    assert state.deleted_at is not None
    old = msgspec.structs.replace(state, deleted_at=state.deleted_at - RESTORABLE - timedelta(minutes=1))
    fakes.stores.resources.states[state.id] = old
    answer = await client.post(f"{address}/restore", headers=bearer())
    assert (answer.status, (await answer.json())["error"]["code"]) == (410, "RESTORE_EXPIRED")


async def test_the_deleted_are_listed_for_who_may_restore_them(client: Client, bearer: Any) -> None:
    made = await make(client, bearer(), visibility="public")
    await client.delete(f"{PATH}/{made['id']}", headers=bearer())
    answer = await client.get(f"{PATH}?deleted=true", headers=bearer())
    (item,) = (await answer.json())["data"]
    assert item["id"] == made["id"]
    assert item["deleted_at"] is not None
    assert (await client.get(f"{PATH}?deleted=true")).status == 401
    answer = await client.get(f"{PATH}?deleted=true&sort=title&q=a", headers=bearer())
    assert set(await details(answer)) == {"sort"}


async def test_batches_answer_each_operation_in_order(client: Client, bearer: Any) -> None:
    mine = await make(client, bearer())
    private = await make(client, bearer(OTHER))
    operations: list[dict[str, Any]] = [
        {"op": "create", "resource": NOTE},
        {"op": "create", "resource": {"kind": "no kind"}},
        {"op": "update", "id": mine["id"], "resource": {"title": "batched"}, "if_match": 1},
        {"op": "update", "id": mine["id"], "resource": {"title": "x"}, "if_match": 7},
        {"op": "delete", "id": private["id"]},
        {"op": "delete", "id": mine["id"]},
        {"op": "create"},
        {"op": "drop", "id": "1"},
        {"op": "update", "id": str(uuid4()), "resource": {"owner_id": str(OWNER)}},
    ]
    headers = bearer(**{"Idempotency-Key": "k"})
    answer = await client.post(f"{PATH}/batch", json={"operations": operations}, headers=headers)
    first = (await answer.json())["data"]
    assert answer.status == 200
    assert [one["status"] for one in first] == [201, 400, 200, 412, 404, 204, 400, 400, 400]
    assert first[0]["location"] == f"{PATH}/{first[0]['data']['id']}"
    assert first[2]["data"]["title"] == "batched"
    assert [detail["field"] for detail in first[1]["error"]["details"]] == ["kind", "title"]
    assert {detail["field"] for detail in first[7]["error"]["details"]} == {"op", "id"}
    again = (await (await client.post(f"{PATH}/batch", json={"operations": operations}, headers=headers)).json())[
        "data"
    ]
    assert again[0]["data"] == first[0]["data"]
    assert [one.get("replayed", False) for one in again][:3] == [True, False, True]
    operations[0] = {"op": "create", "resource": {**NOTE, "title": "another"}}
    again = (await (await client.post(f"{PATH}/batch", json={"operations": operations}, headers=headers)).json())[
        "data"
    ]
    assert (again[0]["status"], again[0]["error"]["code"]) == (422, "KEY_REUSED")


@pytest.mark.parametrize(
    ("operation", "wrong"),
    [
        ({"op": "create", "resource": {}, "bogus": 1}, {"bogus"}),
        ({"op": "update", "id": str(OWNER), "if_match": 3, "zz": 1}, {"zz"}),
        ({"op": "update", "id": str(OWNER), "if_match": 0, "zz": 1}, {"if_match", "zz"}),
        ({"op": "update", "id": "x", "if_match": True}, {"id", "if_match"}),
        ({"op": "boo", "id": 1, "if_match": "1"}, {"op", "id", "if_match"}),
    ],
)
async def test_of_an_operation_only_what_is_wrong_is_named(
    client: Client, bearer: Any, operation: Any, wrong: set[str]
) -> None:
    answer = await client.post(f"{PATH}/batch", json={"operations": [operation]}, headers=bearer())
    (one,) = (await answer.json())["data"]
    assert {detail["field"] for detail in one["error"]["details"]} == wrong


@pytest.mark.parametrize("operations", [None, [], [{"op": "delete"}] * 101, "x", [1], [{"op": "\0"}]])
async def test_a_batch_that_is_none_changes_nothing(client: Client, bearer: Any, fakes: Fakes, operations: Any) -> None:
    answer = await client.post(f"{PATH}/batch", json={"operations": operations}, headers=bearer())
    assert answer.status == 400
    assert fakes.commands.submitted == []
    assert (await client.post(f"{PATH}/batch", json={"operations": []})).status == 401


async def test_an_admin_says_what_attributes_of_a_kind_are_like(client: Client, bearer: Any) -> None:
    admin = bearer(ADMIN, Role.ADMIN)
    for method in ("PUT", "GET", "DELETE"):
        answer = await client.request(method, f"{KINDS}/box", json={"schema": SIZED}, headers=bearer())
        assert answer.status == 403
    for match in ("*", '"1"'):
        answer = await client.put(f"{KINDS}/box", json={"schema": SIZED}, headers=admin | {"If-Match": match})
        assert (answer.status, (await answer.json())["error"]["code"]) == (412, "STALE_VERSION")
    for headers in (admin, admin | {"If-Match": "*"}):
        answer = await client.put(f"{KINDS}/box", json={"schema": SIZED}, headers=headers)
        assert (answer.status, answer.headers["ETag"]) == (200, '"1"')
    assert (await (await client.get(f"{KINDS}/box", headers=admin)).json())["data"]["schema"] == SIZED
    for body, fields in (
        ({"attributes": {"size": 0}}, {"attributes.size": "does not satisfy the schema of its kind: minimum 1"}),
        ({"attributes": {"size": "x"}}, {"attributes.size": "does not satisfy the schema of its kind: type integer"}),
        ({}, {"attributes.size": "is required"}),
    ):
        answer = await client.post(PATH, json={"kind": "box", "title": "t", **body}, headers=bearer())
        assert await details(answer) == fields
    assert (await client.post(PATH, json={"kind": "other", "title": "t"}, headers=bearer())).status == 201
    listed = await (await client.get(KINDS, headers=admin)).json()
    assert [kind["kind"] for kind in listed["data"]] == ["box"]
    answer = await client.delete(f"{KINDS}/box", headers=admin | {"If-Match": '"7"'})
    assert answer.status == 412
    assert (await client.delete(f"{KINDS}/box", headers=admin)).status == 204
    assert (await client.get(f"{KINDS}/box", headers=admin)).status == 404
    assert (await client.post(PATH, json={"kind": "box", "title": "t"}, headers=bearer())).status == 201


async def test_what_was_made_before_a_schema_has_its_first_answer_after_it(client: Client, bearer: Any) -> None:
    keyed, new = bearer() | {"Idempotency-Key": "k"}, {"kind": "box", "title": "t"}
    batch = {"operations": [{"op": "create", "resource": new}]}
    first, together = (
        await client.post(PATH, json=new, headers=keyed),
        await client.post(f"{PATH}/batch", json=batch, headers=keyed),
    )
    made, (one,) = await first.json(), (await together.json())["data"]
    assert (first.status, one["status"]) == (201, 201)
    answer = await client.put(f"{KINDS}/box", json={"schema": SIZED}, headers=bearer(ADMIN, Role.ADMIN))
    assert answer.status == 200
    again = await client.post(PATH, json=new, headers=keyed)
    assert (again.status, again.headers["Idempotency-Replayed"]) == (201, "true")
    assert (await again.json())["data"] == made["data"]
    (told,) = (await (await client.post(f"{PATH}/batch", json=batch, headers=keyed)).json())["data"]
    assert (told["status"], told["replayed"], told["data"]) == (201, True, one["data"])
    # A key that nothing was made with yet is not used up by what is wrong.
    other = bearer() | {"Idempotency-Key": "other"}
    assert set(await details(await client.post(PATH, json=new, headers=other))) == {"attributes.size"}
    right = new | {"attributes": {"size": 3}}
    assert (await client.post(PATH, json=right, headers=other)).status == 201


@pytest.mark.parametrize(
    ("schema", "field"),
    [
        ({"$ref": "http://169.254.169.254/latest"}, "schema.$ref"), ({"$ref": "file:///etc/passwd"}, "schema.$ref"),
        ({"$id": "http://example.com/x"}, "schema.$id"), ({"type": "nothing"}, "schema.type"),
        ({"pattern": "(?=a)b"}, "schema.pattern"), ({"pattern": "(a{1000}){1000}"}, "schema.pattern"),
        ({"pattern": "("}, "schema.pattern"), ({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, "schema"),
        ({"title": "x" * 40_000}, "schema"),
        ({"$defs": {f"d{n}": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2} for n in range(30)} | {"d30": {}},
          "$ref": "#/$defs/d0"}, "schema"),
        ({"$schema": "http://json-schema.org/draft-04/schema#"}, "schema.$schema"),
    ],
)  # fmt: skip
async def test_a_schema_that_could_hurt_is_refused(client: Client, bearer: Any, schema: Any, field: str) -> None:
    answer = await client.put(f"{KINDS}/box", json={"schema": schema}, headers=bearer(ADMIN, Role.ADMIN))
    assert list(await details(answer)) == [field]


async def test_everything_wrong_with_a_schema_is_said_of_the_schema(client: Client, bearer: Any) -> None:
    for schema, said in (
        ({"minimum": "a", "required": "x"},
         {"schema.minimum": "must be of type number", "schema.required": "must be of type array"}),
        ({"properties": {"a": {"pattern": "(?=a)"}, "b": {"pattern": "("}}},
         {f"schema.properties.{name}.pattern": "is not a pattern that can be used: it is no regular expression, has"
          " look-around or back-references, or takes too much memory" for name in "ab"}),
    ):  # fmt: skip
        answer = await client.put(f"{KINDS}/box", json={"schema": schema}, headers=bearer(ADMIN, Role.ADMIN))
        assert await details(answer) == said


async def test_a_kind_of_another_form_is_named_with_all_else_that_is_wrong(client: Client, bearer: Any) -> None:
    admin = bearer(ADMIN, Role.ADMIN)
    for name in ("BOX", "a%20b", "-box", "x" * 65):
        answer = await client.put(f"{KINDS}/{name}", json={"schema": {"minimum": "a"}}, headers=admin)
        assert await details(answer) == {
            "kind": "must look like a-z 0-9 _ . - (1–64)", "schema.minimum": "must be of type number",
        }  # fmt: skip
        assert (await client.get(f"{KINDS}/{name}", headers=admin)).status == 404
        assert (await client.delete(f"{KINDS}/{name}", headers=admin)).status == 404


@pytest.mark.parametrize(
    ("count", "said"),
    [(0, {"en": "must not have fewer items than 1", "ko": "항목이 1개 이상이어야 합니다"}),
     (101, {"en": "must not have more items than 100", "ko": "항목이 100개 이하여야 합니다"})],
)  # fmt: skip
@pytest.mark.parametrize("language", ["en", "ko"])
async def test_the_length_of_a_list_is_told_in_items(
    client: Client, bearer: Any, count: int, said: dict[str, str], language: str
) -> None:
    operations = [{"op": "delete", "id": str(ADMIN)}] * count
    headers = bearer(**{"Accept-Language": language})
    answer = await client.post(f"{PATH}/batch", json={"operations": operations}, headers=headers)
    assert await details(answer) == {"operations": said[language]}


@pytest.mark.parametrize(
    ("query", "field", "said"),
    [
        ("q=", "q", "must look like river 여울 7"), ("filter[title][contains]=!", "filter[title][contains]", None),
        ("q=river&sort=title", "sort", "can't be combined with q"),
        ("q=river&deleted=true", "deleted", "can't be combined with q"),
    ],
)  # fmt: skip
async def test_a_question_that_cannot_be_asked_is_told_the_way_out(
    client: Client, bearer: Any, query: str, field: str, said: str | None
) -> None:
    answer = await client.get(f"{PATH}?{query}", headers=bearer())
    assert await details(answer) == {field: said or "must look like river 여울 7"}


async def test_lists_show_the_fields_that_are_asked_for(client: Client, bearer: Any) -> None:
    made = await make(client, bearer())
    answer = await client.get(f"{PATH}?fields=title,status&total=true", headers=bearer())
    shown = await answer.json()
    assert shown["data"] == [{"id": made["id"], "title": "안녕", "status": "open"}]
    assert shown["meta"]["total"] == {"count": 1, "exact": True}
    assert "total" not in (await (await client.get(PATH, headers=bearer())).json())["meta"]


async def test_what_is_found_is_shown_escaped_with_marks(client: Client, bearer: Any, fakes: Fakes) -> None:
    await make(client, bearer(), title="<b>여울</b> & Co", body="x" * 300 + " 한여울에서 <script>")
    (state,) = fakes.stores.resources.states.values()
    fakes.stores.search.hits = [Hit(state, 0.5), Hit(msgspec.structs.replace(state, id=OTHER), 0.25)]
    answer = await client.get(PATH, params={"q": "여울", "limit": "1", "filter[kind]": "note"}, headers=bearer())
    shown = await answer.json()
    (item,) = shown["data"]
    assert item["highlight"]["title"] == "&lt;b&gt;<mark>여울</mark>&lt;/b&gt; &amp; Co"
    assert item["highlight"]["body"].endswith(" 한<mark>여울</mark>에서 &lt;script&gt;")
    assert item["highlight"]["body"].startswith("…x")
    params = {"q": "여울", "limit": "1", "filter[kind]": "note", "cursor": shown["meta"]["next_cursor"]}
    await client.get(PATH, params=params, headers=bearer())
    assert fakes.stores.search.sought[-1].after == (0.5, state.id)
    answer = await client.get(PATH, params={**params, "q": "다른"}, headers=bearer())
    assert set(await details(answer)) == {"cursor"}


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("filter[kind][gte]=a", "filter[kind][gte]"), ("filter[created_at]=yesterday", "filter[created_at]"),
        ("filter[created_at][gte]=2026-01-01T00:00:00", "filter[created_at][gte]"),
        ("filter[created_at][gte]=0001-01-01T00:00:00%2B23:59", "filter[created_at][gte]"),
        ("filter[created_at][in]=2026-01-01T00:00:00Z", "filter[created_at][in]"),
        ("filter[tags][eq]=a", "filter[tags][eq]"), ("filter[tags]=", "filter[tags]"),
        ("filter[tags]=%00", "filter[tags]"), ("filter[title][contains]=!!", "filter[title][contains]"),
        ("filter[attributes.]=1", "filter[attributes.]"), ("filter[attributes.a..b]=1", "filter[attributes.a..b]"),
        ("filter[attributes.a][gt]=1", "filter[attributes.a][gt]"),
        ("filter[attributes.a]=%00", "filter[attributes.a]"),
        ("filter[password]=x", "filter[password]"), ("filter[kind]]=x", "filter[kind]]"),
        ("filter[kind][in]=a,B", "filter[kind][in]"), ("filter[owner_id][in]=1", "filter[owner_id][in]"),
        ("filter[kind][in]=" + ",".join(f"k{n}" for n in range(51)), "filter[kind][in]"),
        ("filter[kind][or]=1)%20OR%201=1--", "filter[kind][or]"), ("filter[version]=1", "filter[version]"),
        ("q=", "q"), ("q=%00a", "q"), ("q=!", "q"), ("q=" + "a" * 201, "q"), ("q=a&sort=title", "sort"),
        ("fields=password", "fields"), ("fields=", "fields"), ("total=1", "total"), ("deleted=yes", "deleted"),
        ("sort=kind,title", "sort"), ("sort=title,-created_at", "sort"), ("sort=deleted_at", "sort"),
        ("sort=title;DROP", "sort"), ("sort=(select 1)", "sort"),
        ("sort=created_at,updated_at,title,kind", "sort"),
    ],
)  # fmt: skip
async def test_what_a_list_does_not_know_is_named(client: Client, bearer: Any, query: str, field: str) -> None:
    answer = await client.get(f"{PATH}?{query}", headers=bearer())
    assert list(await details(answer)) == [field]
