"""Metrics over HTTP: who sees which, what may be asked, how answers look."""

import io
import json
import time
from decimal import Decimal
from typing import Any

import pytest
from pyarrow import parquet

from domain.access import Role
from domain.metrics import declared
from domain.reports import Line
from stores import StoresAway
from stores.reports import Dropped
from stores.selecting import TooMany
from tests.web.conftest import ADMIN, Client
from tests.web.fakes import Fakes

PATH = "/api/v1/analytics"
(ORDERS, SIGN_UPS), _ = declared(
    {
        "orders": {
            "events": ["order.*"], "group_by": ["type", "data.kind"], "windows": {"minute": "2d", "10m/1m": "2d"},
            "measures": {"revenue": {"sum": "data.total"}},
        },
        "sign_ups": {"title": "Sign-ups", "events": ["account.created"], "windows": {"day": "5y"}, "public": True},
    }
)  # fmt: skip
START = 1_800_000_000
LINES = [
    Line(START + 60 * minute, f'["{kind}",null]', {"count": minute, "revenue": Decimal("0.10") + 2**60})
    for minute in range(3)
    for kind in ("a", "b")
]


@pytest.fixture(autouse=True)
def metrics(fakes: Fakes) -> None:
    fakes.stores.reports.metrics = [ORDERS, SIGN_UPS]
    fakes.stores.reports.found = {"orders": LINES}


@pytest.fixture
def admin(bearer: Any) -> dict[str, str]:
    return bearer(ADMIN, Role.ADMIN)  # type: ignore[no-any-return]


async def test_events_in_no_window_are_told_by_hour_and_reason(client: Client, fakes: Fakes, admin: Any) -> None:
    fakes.stores.reports.left_out = [Dropped(START, "late", 3), Dropped(START + 3600, "future", 1)]
    answer = await client.get(f"{PATH}/orders/dropped?from=2027-01-15&to=2027-01-15T08:30:00Z", headers=admin)
    assert (await answer.json())["data"] == [{"start": "2027-01-15T08:00:00Z", "reason": "late", "count": 3}]
    now = int(time.time())
    fakes.stores.reports.left_out = [Dropped(now - 8 * 86_400, "late", 5), Dropped(now - 3600, "late", 2)]
    answer = await client.get(f"{PATH}/orders/dropped", headers=admin)
    assert [line["count"] for line in (await answer.json())["data"]] == [2]  # of the last week
    assert (await client.get(f"{PATH}/orders/dropped")).status == 404
    answer = await client.get(f"{PATH}/orders/dropped?from=yesterday&what=1", headers=admin)
    assert answer.status == 400
    assert [detail["field"] for detail in (await answer.json())["error"]["details"]] == ["what", "from"]


async def test_what_one_may_not_see_is_as_what_does_not_exist(client: Client, bearer: Any, admin: Any) -> None:
    for headers, names in (({}, ["sign_ups"]), (bearer(), ["sign_ups"]), (admin, ["orders", "sign_ups"])):
        answer = await client.get(PATH, headers=headers)
        assert [metric["name"] for metric in (await answer.json())["data"]] == names
    told = []
    for name in ("orders", "nothing"):
        for headers in ({}, bearer()):
            answer = await client.get(f"{PATH}/{name}?window=rubbish", headers=headers)
            told.append((answer.status, (await answer.json())["error"]))
    assert told == [told[0]] * 4
    assert told[0][0] == 404
    assert (await client.get(f"{PATH}/sign_ups")).status == 200
    assert (await client.get(f"{PATH}/nothing", headers=admin)).status == 404


async def test_lines_are_exact_and_come_page_by_page(client: Client, admin: Any, fakes: Fakes) -> None:
    shown: list[dict[str, Any]] = []
    cursor: str | None = ""
    pages = 0
    while cursor is not None:
        asked = {"limit": "4", "group[type]": "a", **({"cursor": cursor} if cursor else {})}
        answer = await client.get(f"{PATH}/orders", params=asked, headers=admin)
        assert answer.status == 200, await answer.text()
        page = json.loads(await answer.text(), parse_float=Decimal)
        shown += page["data"]
        cursor = page["meta"]["next_cursor"]
        pages += 1
    assert pages == 2
    assert shown[0] == {
        "start": "2027-01-15T08:00:00Z", "group": {"type": "a", "data.kind": None}, "count": 0,
        "revenue": 2**60 + Decimal("0.10"),
    }  # fmt: skip
    assert [line["count"] for line in shown] == [0, 0, 1, 1, 2, 2]
    first, second = fakes.stores.reports.asked
    # What was left to the clock stays as it was for the first page.
    assert (first.since, first.until) == (second.since, second.until)
    assert first.where == {0: ('"a"',)}


async def test_a_cursor_belongs_to_its_question(client: Client, admin: Any) -> None:
    answer = await client.get(f"{PATH}/orders?limit=1", headers=admin)
    cursor = (await answer.json())["meta"]["next_cursor"]
    for path, problem in (
        (f"orders?cursor={cursor}&fill=true", "belongs to another"), (f"sign_ups?cursor={cursor}", "belongs to"),
        (f"orders?cursor={cursor[:-2]}", "is not valid"), ("orders?cursor=%00", "is not valid"),
    ):  # fmt: skip
        answer = await client.get(f"{PATH}/{path}", headers=admin)
        (detail,) = (await answer.json())["error"]["details"]
        assert (answer.status, detail["field"]) == (400, "cursor")
        assert problem in detail["message"]


async def test_everything_wrong_is_named_at_once(client: Client, admin: Any) -> None:
    asked = "window=year&from=yesterday&to=2027-01-01T00:00+09:00&tz=Mars/North&fill=1&format=xml&limit=0&cursor=x"
    address = f"{PATH}/orders?{asked}&group[type]=%00&group[source]=a&what=&what=&group[data.kind]=a&group[data.kind]=b"
    answer = await client.get(address, headers=admin)
    assert answer.status == 400
    fields = [detail["field"] for detail in (await answer.json())["error"]["details"]]
    assert sorted(fields) == sorted(
        ["window", "from", "to", "tz", "fill", "format", "limit", "cursor", "group[type]", "group[source]", "what",
         "group[data.kind]"]
    )  # fmt: skip
    korean = {**admin, "Accept-Language": "ko"}
    answer = await client.get(f"{PATH}/sign_ups?tz=Asia/Seoul", headers=korean)
    (detail,) = (await answer.json())["error"]["details"]
    assert detail["field"] == "tz"
    assert "hour" in detail["message"]
    for name in ("Europe", "../etc/passwd", "/etc/passwd", "%00", "a" * 5000):
        assert (await client.get(f"{PATH}/orders?tz={name}", headers=admin)).status == 400, name
    for path in ("?limit=3", "/orders?limit=1001", "/orders?format=csv&limit=10001"):
        assert (await client.get(f"{PATH}{path}", headers=admin)).status == 400, path


async def test_times_are_those_of_the_zone(client: Client, admin: Any, fakes: Fakes) -> None:
    answer = await client.get(f"{PATH}/orders?tz=Asia/Seoul&window=10m/1m&from=2026-01-01", headers=admin)
    assert (await answer.json())["data"][0]["start"] == "2027-01-15T17:00:00+09:00"
    (question,) = fakes.stores.reports.asked
    assert question.frame == ORDERS.windows[1].window


async def test_downloads(client: Client, admin: Any) -> None:
    answer = await client.get(f"{PATH}/orders?format=csv&window=10m/1m", headers=admin)
    assert answer.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="orders-10m-1m.csv"'
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    rows = (await answer.text()).splitlines()
    assert rows[:2] == ["start,type,data.kind,count,revenue", "2027-01-15T08:00:00Z,a,,0,1152921504606846976.10"]
    assert len(rows) == 7
    answer = await client.get(f"{PATH}/orders?format=parquet&limit=4", headers=admin)
    assert answer.headers["Content-Type"] == "application/vnd.apache.parquet"
    table = parquet.read_table(io.BytesIO(await answer.read()))
    assert table.column("revenue").to_pylist() == [2**60 + Decimal("0.10")] * 4
    cursor = answer.headers["X-Next-Cursor"]
    answer = await client.get(f"{PATH}/orders?format=parquet&limit=4&cursor={cursor}", headers=admin)
    assert parquet.read_table(io.BytesIO(await answer.read())).num_rows == 2
    assert "X-Next-Cursor" not in answer.headers


async def test_what_would_be_too_much_is_refused_and_not_cut(client: Client, admin: Any, fakes: Fakes) -> None:
    fakes.stores.reports.found["orders"] = [
        Line(START + number, '["a",null]', {"count": 1, "revenue": None}) for number in range(10_001)
    ]
    answer = await client.get(f"{PATH}/orders?format=csv", headers=admin)
    assert (answer.status, (await answer.json())["error"]["code"]) == (422, "ANSWER_TOO_LARGE")
    fakes.stores.reports.raises = TooMany()
    answer = await client.get(f"{PATH}/orders", headers=admin)
    assert (answer.status, (await answer.json())["error"]["code"]) == (422, "ANSWER_TOO_LARGE")
    fakes.stores.reports.raises = StoresAway()
    assert (await client.get(f"{PATH}/orders", headers=admin)).status == 503
