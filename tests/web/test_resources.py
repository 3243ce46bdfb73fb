"""Resources over HTTP: what a client sees."""

import asyncio
from typing import Any
from uuid import uuid4

import pytest
from yarl import URL

from domain.access import Role
from stores import StoresAway
from streams.publish import BrokerAway, Conflict
from tests.web.conftest import ADMIN, OTHER, Client
from tests.web.fakes import Fakes

PATH = "/api/v1/resources"
NOTE = {"kind": "note", "title": "안녕", "tags": ["a", "b"], "attributes": {"size": 3}}


async def make(client: Client, headers: dict[str, str], **fields: Any) -> dict[str, Any]:
    async with client.post(PATH, json={**NOTE, **fields}, headers=headers) as answer:
        assert answer.status == 201, await answer.text()
        data: dict[str, Any] = (await answer.json())["data"]
        return data


async def test_a_create_is_answered_with_the_finished_object(client: Client, bearer: Any) -> None:
    answer = await client.post(PATH, json=NOTE, headers=bearer())
    shown = await answer.json()
    assert answer.status == 201
    assert shown["success"] is True
    assert shown["meta"]["version"] == "1.0"
    assert shown["meta"]["timestamp"].endswith("Z")
    made = shown["data"]
    names = "id kind title body tags attributes visibility status owner_id version created_at updated_at"
    assert " ".join(made) == names
    assert made["title"] == "안녕"
    assert made["visibility"] == "private"
    assert answer.headers["ETag"] == '"1"'
    assert answer.headers["Location"] == f"{PATH}/{made['id']}"
    read = await client.get(answer.headers["Location"], headers=bearer())
    assert (await read.json())["data"] == made


async def test_attributes_are_shown_as_they_were_sent_and_can_be_sent_as_they_are_shown(
    client: Client, bearer: Any
) -> None:
    attributes = '{"zeta":1,"a":1e22,"m":-0.0,"n":[1.0,true,9223372036854775807,-9223372036854775808]}'
    body = f'{{"kind":"note","title":"t","attributes":{attributes}}}'
    headers = bearer(**{"Content-Type": "application/json"})
    answer = await client.post(PATH, data=body, headers=headers)
    assert answer.status == 201
    assert f'"attributes":{attributes},' in await answer.text()
    again = await client.put(answer.headers["Location"], data=body, headers=headers)
    assert (again.status, again.headers["ETag"]) == (200, '"1"')


async def test_reading_with_the_version_one_has_is_not_modified(client: Client, bearer: Any) -> None:
    made = await make(client, bearer())
    for tag in ('"1"', 'W/"1"', '"0", "1"', "*"):
        answer = await client.get(f"{PATH}/{made['id']}", headers=bearer(**{"If-None-Match": tag}))
        assert (answer.status, await answer.read()) == (304, b"")
        assert answer.headers["ETag"] == '"1"'
    answer = await client.get(f"{PATH}/{made['id']}", headers=bearer(**{"If-None-Match": '"2"'}))
    assert answer.status == 200


async def test_a_private_object_of_another_does_not_exist(client: Client, bearer: Any) -> None:
    made = await make(client, bearer())
    address = f"{PATH}/{made['id']}"
    for method, body in (("GET", None), ("PUT", NOTE), ("DELETE", None)):
        answer = await client.request(method, address, headers=bearer(OTHER), json=body)
        assert answer.status == 404, method
        assert (await answer.json())["error"]["code"] == "NOT_FOUND"
    assert (await client.get(address)).status == 404
    assert (await client.get(address, headers=bearer(ADMIN, Role.ADMIN))).status == 200


async def test_a_public_object_is_read_by_guests_and_changed_by_its_owner(client: Client, bearer: Any) -> None:
    made = await make(client, bearer(), visibility="public")
    address = f"{PATH}/{made['id']}"
    assert (await client.get(address)).status == 200
    answer = await client.put(address, json=NOTE, headers=bearer(OTHER))
    assert (answer.status, (await answer.json())["error"]["code"]) == (403, "FORBIDDEN")
    answer = await client.delete(address)
    assert (answer.status, (await answer.json())["error"]["code"]) == (401, "TOKEN_MISSING")
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


async def test_replacing_sets_what_is_left_out_to_its_default(client: Client, bearer: Any) -> None:
    made = await make(client, bearer(), body="text", status="done")
    answer = await client.put(
        f"{PATH}/{made['id']}", json={"kind": "memo", "title": "new"}, headers=bearer(**{"If-Match": '"1"'})
    )
    new = (await answer.json())["data"]
    assert (answer.status, answer.headers["ETag"]) == (200, '"2"')
    assert (new["kind"], new["title"], new["body"], new["tags"], new["attributes"], new["status"]) == (
        "memo", "new", "", [], {}, "open",
    )  # fmt: skip
    assert (new["id"], new["owner_id"], new["created_at"]) == (made["id"], made["owner_id"], made["created_at"])


async def test_a_replacement_that_changes_nothing_keeps_the_version(client: Client, bearer: Any) -> None:
    made = await make(client, bearer())
    answer = await client.put(f"{PATH}/{made['id']}", json=NOTE, headers=bearer())
    assert (answer.status, answer.headers["ETag"]) == (200, '"1"')


@pytest.mark.parametrize(
    ("tag", "status"),
    [
        ('"1"', 200), ('W/"1"', 200), ("*", 200), ('"7"', 412), ('"abc"', 412), (f'"{10**30}"', 412),
        ('"7", "1"', 200), ('"a,b" , ,W/"1",', 200), ('"7", "8"', 412), ('""', 412), ('"1" "2"', 400), ('"1", 2', 400),
        ('"1", *', 400), ('"1"' + ', "2"' * 300, 400), ("1", 400), ("", 400),
    ],
)  # fmt: skip
async def test_if_match(client: Client, bearer: Any, fakes: Fakes, tag: str, status: int) -> None:
    made = await make(client, bearer())
    answer = await client.put(f"{PATH}/{made['id']}", json={**NOTE, "title": "x"}, headers=bearer(**{"If-Match": tag}))
    assert answer.status == status
    if status == 412:
        assert (await answer.json())["error"]["code"] == "STALE_VERSION"
    if status == 400:
        assert (await answer.json())["error"]["details"][0]["field"] == "If-Match"
        assert len(fakes.commands.submitted) == 1


@pytest.mark.parametrize("tag", ["*", '"1"', '"7"'])
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_a_change_with_if_none_match_is_refused_and_not_made(
    client: Client, bearer: Any, fakes: Fakes, method: str, tag: str
) -> None:
    made = await make(client, bearer())
    headers = bearer(**{"If-None-Match": tag})
    answer = await client.request(method, f"{PATH}/{made['id']}", json={**NOTE, "title": "x"}, headers=headers)
    assert answer.status == 400
    (detail,) = (await answer.json())["error"]["details"]
    assert (detail["field"], detail["message"]) == ("If-None-Match", "is not supported here; use If-Match")
    assert len(fakes.commands.submitted) == 1


async def test_a_deleted_object_is_gone(client: Client, bearer: Any) -> None:
    made = await make(client, bearer())
    address = f"{PATH}/{made['id']}"
    answer = await client.delete(address, headers=bearer(**{"If-Match": '"1"'}))
    assert (answer.status, await answer.read()) == (204, b"")
    assert (await client.get(address, headers=bearer())).status == 404
    assert (await client.delete(address, headers=bearer())).status == 404


@pytest.mark.parametrize(
    "text", ["1", "x" * 36, "{0190aaaa-0000-7000-8000-000000000001}", "%00", "0190aaaa00007000800000000000001"]
)
async def test_what_is_no_id_is_the_address_of_nothing(client: Client, bearer: Any, text: str) -> None:
    for method in ("GET", "PUT", "DELETE"):
        body = NOTE if method == "PUT" else None
        answer = await client.request(method, f"{PATH}/{text}", headers=bearer(), json=body)
        assert (answer.status, (await answer.json())["error"]["code"]) == (404, "NOT_FOUND")


async def test_an_idempotency_key_makes_a_repeat_the_same_operation(client: Client, bearer: Any, fakes: Fakes) -> None:
    first = await client.post(PATH, json=NOTE, headers=bearer(**{"Idempotency-Key": "k"}))
    # The same body in another spelling is the same body.
    spelled = '{ "title": "\\uc548\\ub155", "tags":["a","b"], "attributes":{"size":3}, "kind":"note"}'
    again = await client.post(
        PATH, data=spelled, headers=bearer(**{"Idempotency-Key": "k", "Content-Type": "application/json"})
    )
    assert (again.status, again.headers["Idempotency-Replayed"]) == (201, "true")
    assert (await again.json())["data"] == (await first.json())["data"]
    assert "Idempotency-Replayed" not in first.headers
    other = await client.post(PATH, json={**NOTE, "title": "y"}, headers=bearer(**{"Idempotency-Key": "k"}))
    assert (other.status, (await other.json())["error"]["code"]) == (422, "KEY_REUSED")
    somebody = await client.post(PATH, json=NOTE, headers=bearer(OTHER, **{"Idempotency-Key": "k"}))
    assert "Idempotency-Replayed" not in somebody.headers
    assert len({order.operation for order in fakes.commands.submitted}) == 2


async def test_deletes_are_idempotent_by_key_too(client: Client, bearer: Any) -> None:
    made = await make(client, bearer())
    headers = bearer(**{"Idempotency-Key": "d"})
    for replayed in (None, "true"):
        answer = await client.delete(f"{PATH}/{made['id']}", headers=headers)
        assert (answer.status, answer.headers.get("Idempotency-Replayed")) == (204, replayed)
    answer = await client.delete(f"{PATH}/{made['id']}", headers={**headers, "If-Match": '"1"'})
    assert answer.status == 422


@pytest.mark.parametrize("key", ["", "x" * 256, "é"])
async def test_a_key_that_is_none_is_refused_by_name(client: Client, bearer: Any, fakes: Fakes, key: str) -> None:
    answer = await client.post(PATH, json=NOTE, headers=bearer(**{"Idempotency-Key": key}))
    assert answer.status == 400
    assert (await answer.json())["error"]["details"][0]["field"] == "Idempotency-Key"
    assert fakes.commands.submitted == []


async def test_an_unfinished_write_says_where_to_ask(client: Client, bearer: Any, fakes: Fakes) -> None:
    answer = await client.post(PATH, json=NOTE, headers=bearer(Prefer="respond-async"))
    assert answer.status == 202
    address = answer.headers["Location"]
    assert address == f"/api/v1/operations/{(await answer.json())['data']['id']}"
    done = (await (await client.get(address, headers=bearer())).json())["data"]
    assert (done["status"], done["result"]["title"]) == ("succeeded", "안녕")
    fakes.commands.slow = True
    waiting = await client.get(address, headers=bearer())
    assert ((await waiting.json())["data"]["status"], waiting.headers["Retry-After"]) == ("pending", "1")
    assert (await client.get(address, headers=bearer(OTHER))).status == 404
    assert (await client.get(address)).status == 401
    assert (await client.get(f"/api/v1/operations/{uuid4()}", headers=bearer())).status == 404
    assert (await client.get("/api/v1/operations/nothing", headers=bearer())).status == 404


async def test_a_refused_operation_shows_why(client: Client, bearer: Any) -> None:
    made = await make(client, bearer())
    answer = await client.delete(f"{PATH}/{made['id']}", headers=bearer(Prefer="respond-async", **{"If-Match": '"9"'}))
    shown = await client.get(answer.headers["Location"], headers=bearer(**{"Accept-Language": "ko"}))
    data = (await shown.json())["data"]
    assert (data["status"], data["error"]["code"]) == ("refused", "STALE_VERSION")
    assert "변경" in data["error"]["message"]


@pytest.mark.parametrize(
    ("raised", "status", "code"),
    [
        (BrokerAway("x"), 503, "BROKER_AWAY"),
        (StoresAway("x"), 503, "STORES_AWAY"),
        (Conflict("x"), 409, "OPERATION_RUNNING"),
    ],
)
async def test_outages_ask_to_come_again(
    client: Client, bearer: Any, fakes: Fakes, raised: Exception, status: int, code: str
) -> None:
    fakes.commands.raises = raised
    answer = await client.post(PATH, json=NOTE, headers=bearer())
    assert (answer.status, (await answer.json())["error"]["code"]) == (status, code)
    assert int(answer.headers["Retry-After"]) >= 1
    fakes.stores.resources.raises = StoresAway("x")
    for path in (PATH, f"{PATH}/{uuid4()}"):
        read = await client.get(path, headers=bearer())
        assert (read.status, "Retry-After" in read.headers) == (503, True)


async def test_a_failed_operation_and_a_bug_are_told_without_details(client: Client, bearer: Any, fakes: Fakes) -> None:
    fakes.commands.raises = RuntimeError("secret inner thing")
    answer = await client.post(PATH, json=NOTE, headers=bearer())
    assert (answer.status, (await answer.json())["error"]["code"]) == (500, "INTERNAL_ERROR")
    assert "secret" not in await answer.text()


async def test_lists_go_page_by_page_without_gaps(client: Client, bearer: Any) -> None:
    made = [(await make(client, bearer(), title=f"t{i % 3}"))["id"] for i in range(7)]
    await make(client, bearer(OTHER))
    for sort in ("", "created_at", "-title", "-title,-created_at"):
        seen: list[str] = []
        query = {"limit": "3", **({"sort": sort} if sort else {})}
        while True:
            page = await (await client.get(PATH, params=query, headers=bearer())).json()
            seen += [item["id"] for item in page["data"]]
            if page["meta"]["next_cursor"] is None:
                break
            assert len(page["data"]) == 3
            query["cursor"] = page["meta"]["next_cursor"]
        assert sorted(seen) == sorted(made), sort
        if sort == "created_at":
            assert seen == made


async def test_lists_filter_and_show_only_what_one_may_see(client: Client, bearer: Any) -> None:
    mine = await make(client, bearer(), kind="a", status="done")
    public = await make(client, bearer(OTHER), kind="b", visibility="public")
    await make(client, bearer(OTHER), kind="b")

    async def ids(headers: dict[str, str], **query: str) -> set[str]:
        answer = await client.get(
            PATH, params={f"filter[{key}]": value for key, value in query.items()}, headers=headers
        )
        assert answer.status == 200
        return {item["id"] for item in (await answer.json())["data"]}

    assert await ids(bearer()) == {mine["id"], public["id"]}
    assert await ids({}) == {public["id"]}
    assert await ids(bearer(), kind="a") == {mine["id"]}
    assert await ids(bearer(), status="open", visibility="public") == {public["id"]}
    assert await ids(bearer(), owner_id=str(OTHER)) == {public["id"]}
    assert len(await ids(bearer(ADMIN, Role.ADMIN))) == 3


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("limit=0", "limit"), ("limit=101", "limit"), ("limit=x", "limit"), ("limit=٣", "limit"),
        (f"limit={10**30}", "limit"),
        ("sort=body", "sort"), ("sort=title,title", "sort"), ("sort=", "sort"), ("sort=--title", "sort"),
        ("cursor=x", "cursor"), ("cursor=", "cursor"), ("cursor=%F0%9F", "cursor"), ("page=2", "page"),
        ("filter[kind]=A+B", "filter[kind]"), ("filter[visibility]=secret", "filter[visibility]"),
        ("filter[owner_id]=1", "filter[owner_id]"), ("filter[nope]=1", "filter[nope]"), ("limit=1&limit=2", "limit"),
        ("filter[kind]=a%00", "filter[kind]"),
    ],
)  # fmt: skip
async def test_wrong_query_parameters_are_named(client: Client, query: str, field: str) -> None:
    answer = await client.get(f"{PATH}?{query}")
    assert answer.status == 400
    assert [detail["field"] for detail in (await answer.json())["error"]["details"]] == [field]


@pytest.mark.parametrize(
    ("query", "fields"),
    [
        ("limit=0&sort=x&nope=1", ["limit", "nope", "sort"]),
        ("a=1&b=2&filter[kind]=A&filter[visibility]=x&filter[owner_id]=1&cursor=x&limit=x",
         ["a", "b", "cursor", "filter[kind]", "filter[owner_id]", "filter[visibility]", "limit"]),
        ("limit=1&limit=0&nope=1&nope=2&sort=x", ["limit", "nope", "sort"]),
        ("%ED%A0%80=1&" + "x" * 300 + "=1&limit=0", ["limit", "x" * 199 + "…", "���"]),
        ("&".join(f"n{number}" for number in range(300)), None),
    ],
)  # fmt: skip
async def test_every_wrong_query_parameter_is_named_at_once(
    client: Client, query: str, fields: list[str] | None
) -> None:
    answer = await client.get(URL(f"{PATH}?{query}", encoded=True))
    assert answer.status == 400
    named = sorted(detail["field"] for detail in (await answer.json())["error"]["details"])
    assert len(named) == 100 if fields is None else named == fields


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_wrong_headers_and_wrong_members_are_named_at_once(
    client: Client, bearer: Any, fakes: Fakes, method: str
) -> None:
    path = PATH if method == "POST" else f"{PATH}/{uuid4()}"
    body = None if method == "DELETE" else {"kind": "no kind", "color": "red"}
    headers = bearer(**{"Idempotency-Key": "é", "If-Match": "7"})
    answer = await client.request(method, path, json=body, headers=headers)
    assert answer.status == 400
    named = {detail["field"] for detail in (await answer.json())["error"]["details"]}
    assert (
        named
        == {
            "POST": {"Idempotency-Key", "kind", "color", "title"},
            "PUT": {"Idempotency-Key", "If-Match", "kind", "color", "title"},
            "DELETE": {"Idempotency-Key", "If-Match"},
        }[method]
    )
    assert fakes.commands.submitted == []


async def test_a_cursor_belongs_to_its_list(client: Client, bearer: Any) -> None:
    for _ in range(3):
        await make(client, bearer())
    page = await (await client.get(f"{PATH}?limit=1", headers=bearer())).json()
    cursor = page["meta"]["next_cursor"]
    for query in ({"sort": "title"}, {"filter[kind]": "note"}):
        answer = await client.get(PATH, params={"limit": "1", "cursor": cursor, **query}, headers=bearer())
        assert answer.status == 400
        (detail,) = (await answer.json())["error"]["details"]
        assert detail == {"field": "cursor", "message": "belongs to another sort, filter or question"}
    forged = cursor[:-2] + ("AA" if cursor[-2:] != "AA" else "BB")
    assert (await client.get(PATH, params={"cursor": forged}, headers=bearer())).status == 400


async def test_many_at_once_each_get_their_own(client: Client, bearer: Any) -> None:
    made = await asyncio.gather(*(make(client, bearer(), title=f"t{i}") for i in range(50)))
    assert [item["title"] for item in made] == [f"t{i}" for i in range(50)]
    assert len({item["id"] for item in made}) == 50
