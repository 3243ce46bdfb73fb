"""What is logged of requests: whose, what for, how long; and nothing that anybody wrote or is known by."""

import io
import json
import logging
import re
import time
from typing import Any

import pytest

from config import Settings
from security import totp
from telemetry.logs import Json, People
from tests.web.conftest import OWNER, Client
from tests.web.fakes import Fakes
from web.access import AccessLog, Line, operation_fields
from web.parts import ACCESS

REGISTER, LOGIN, REFRESH = "/api/v1/auth/register", "/api/v1/auth/login", "/api/v1/auth/refresh"
PATH = "/api/v1/resources"
FACTOR = "/api/v1/users/me/second-factor"
NEW = {"email": "Kim.Minsu@example.org", "password": "rapids of a river", "name": "김민수", "phone": "+82 10 1234 5678"}
NOTE = {
    "kind": "note", "title": "a blue boat", "body": "sails at dawn", "tags": ["regatta"],
    "attributes": {"harbour": "Mokpo"},
}  # fmt: skip
AGENT = "Lighthouse/7 (of Kim)"
WRITTEN = (
    "minsu",
    "김민수",
    "1234 5678",
    "rapids",
    "tide",
    "blue boat",
    "dawn",
    "regatta",
    "mokpo",
    "lighthouse",
    "of kim",
)
"""Parts of everything that is sent below, in lower case."""


@pytest.fixture(params=[Json("web"), People()], ids=["json", "people"])
def everything(
    request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> io.StringIO:
    """What all loggers write together, down to the finest level."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(request.param)
    handler.addFilter(lambda record: record.name != "aiohttp.access")  # of the tests' server; fronts have none
    root = logging.getLogger()
    monkeypatch.setattr(root, "handlers", [*root.handlers, handler])
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, "yeoul.web")
    return stream


def read(client: Client, lines: io.StringIO) -> list[dict[str, Any]]:
    assert client.app is not None
    client.app[ACCESS].flush()
    return [json.loads(line) for line in lines.getvalue().splitlines()]


async def data(answer: Any, status: int) -> Any:
    assert answer.status == status, await answer.text()
    return (await answer.json())["data"] if status < 300 else None


async def test_nothing_that_anybody_wrote_is_in_a_line(client: Client, fakes: Fakes, everything: io.StringIO) -> None:
    seen = {"User-Agent": AGENT}
    made = await data(await client.post(REGISTER, json=NEW, headers=seen), 201)
    await data(await client.post(REGISTER, json=NEW, headers=seen), 409)
    wrong = NEW | {"email": "minsu", "password": "tide", "minsu": 1}
    await data(await client.post(REGISTER, json=wrong, headers=seen), 400)
    login = {name: NEW[name] for name in ("email", "password")}
    known = await data(await client.post(LOGIN, json=login, headers=seen), 200)
    await data(await client.post(LOGIN, json=login | {"password": "rapids of a tide"}, headers=seen), 401)
    await data(await client.post(LOGIN, json=login | {"email": "other.minsu@example.org"}, headers=seen), 401)
    bearer = seen | {"Authorization": f"Bearer {known['access_token']}"}
    keyed = bearer | {"Idempotency-Key": "minsu"}
    await data(await client.post(PATH, json=NOTE, headers=keyed), 201)
    await data(await client.post(PATH, json=NOTE | {"title": 1, "regatta": "Mokpo"}, headers=bearer), 400)
    await data(
        await client.post(PATH, data=b'{"title": "blue boat', headers=bearer | {"Content-Type": "application/json"}),
        400,
    )
    await data(await client.get(f"{PATH}?filter[title][contains]=blue+boat&regatta=Mokpo", headers=bearer), 400)
    await data(await client.get("/minsu@example.org/rapids", headers=bearer), 404)
    await data(await client.get("/api/v1/users/me", headers={"Authorization": f"Bearer {known['access_token']}x"}), 401)
    fakes.commands.raises = RuntimeError("a defect")
    await data(await client.post(PATH, json=NOTE, headers=bearer), 500)
    fakes.commands.raises = None
    passwords = {"current_password": NEW["password"], "new_password": "rapids at high tide"}
    await client.put("/api/v1/users/me/password", json=passwords, headers=bearer)
    fresh = await data(await client.post(REFRESH, json={"refresh_token": known["refresh_token"]}, headers=seen), 200)
    await client.post(REFRESH, json={"refresh_token": known["refresh_token"]}, headers=seen)
    assert client.app is not None
    client.app[ACCESS].flush()
    told = everything.getvalue()
    assert told.count(REGISTER) == 3
    assert "a defect" in told  # what is our own is told
    tokens = [given[name] for given in (made, known, fresh) for name in ("access_token", "refresh_token")]
    for secret in (
        *WRITTEN,
        *(token.lower() for token in tokens),
        *(token.rpartition(".")[2].lower() for token in tokens),
    ):
        assert secret not in told.lower(), secret


async def test_a_line_says_whose_request_it_was_and_what_for(
    client: Client, bearer: Any, fakes: Fakes, lines: Any
) -> None:
    await client.post(PATH, json=NOTE, headers=bearer(**{"X-Request-Id": "mine"}))
    (order,) = fakes.commands.submitted
    await client.get(f"{PATH}/{order.aggregate_id}?title=x", headers=bearer())
    await client.get(f"/nothing/{OWNER}")
    made, got, missed = read(client, lines)
    assert made["message"] == f"POST {PATH} 201"
    assert (made["level"], made["request"], made["status"]) == ("info", "mine", 201)
    assert (made["user"], made["operation"]) == (str(OWNER), str(order.operation))
    assert 0 < made["ms"] < 60_000
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", made["time"])
    assert (got["message"], got["user"], "operation" in got) == (f"GET {PATH}/{{id}} 400", str(OWNER), False)
    assert (missed["message"], "user" in missed) == ("GET unmatched 404", False)
    assert len({line["request"] for line in (made, got, missed)}) == 3


async def test_a_line_names_every_operation_of_a_batch_and_those_of_sessions(
    client: Client, bearer: Any, fakes: Fakes, lines: Any
) -> None:
    operations = [{"op": "create", "resource": {"kind": "note", "title": "t"}} for _ in range(3)]
    answer = await client.post(f"{PATH}/batch", json={"operations": operations}, headers=bearer())
    assert answer.status == 200, await answer.text()
    (line,) = read(client, lines)
    assert line["operations"] == [str(order.operation) for order in fakes.commands.submitted]
    assert len(line["operations"]) == 3
    made = await data(await client.post(REGISTER, json=NEW), 201)
    await data(await client.post(REFRESH, json={"refresh_token": made["refresh_token"]}), 200)
    _, registered, refreshed = read(client, lines)
    *_, account, session, refresh = (str(order.operation) for order in fakes.commands.submitted)
    assert registered["operations"] == [account, session]
    assert refreshed["operation"] == refresh


async def test_a_line_of_a_login_names_the_code_that_was_used_up_too(client: Client, fakes: Fakes, lines: Any) -> None:
    made = await data(await client.post(REGISTER, json=NEW), 201)
    bearer = {"Authorization": f"Bearer {made['access_token']}"}
    begun = await data(await client.post(FACTOR, json={"password": NEW["password"]}, headers=bearer), 201)
    now = int(time.time()) // totp.STEP_S
    confirmed = {"code": totp.code_of(begun["secret"], now)}
    await data(await client.post(f"{FACTOR}/confirm", json=confirmed, headers=bearer), 200)
    who = {name: NEW[name] for name in ("email", "password")}
    trace = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01", "tracestate": "vendor=1"}
    given = who | {"code": totp.code_of(begun["secret"], now + 1)}
    await data(await client.post(LOGIN, json=given, headers=trace), 200)
    *_, login = read(client, lines)
    *_, used, session = fakes.commands.submitted
    assert used.type == "use_second_factor"
    assert login["operations"] == [str(used.operation), str(session.operation)]
    assert used.tracestate == session.tracestate == "vendor=1"


async def test_people_are_told_the_same(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(People())
    monkeypatch.setattr(logging.getLogger(), "handlers", [handler])
    caplog.set_level(logging.INFO, "yeoul.web")
    log = AccessLog()
    log.note(Line("GET", "/x/{id}", 200, "r", 0.0123, OWNER, [OWNER]))
    log.flush()
    assert (
        f"info    web: GET /x/{{id}} 200 request=r status=200 ms=12.3 user={OWNER} operation={OWNER}\n"
        in stream.getvalue()
    )
    assert operation_fields([]) == {}
    assert operation_fields([OWNER, OWNER]) == {"operations": [str(OWNER)] * 2}


async def test_who_wants_to_hear_of_errors_alone_hears_of_no_request(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[logging.LogRecord] = []

    class Reports(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            heard.append(record)

    stream = io.StringIO()
    errors, lines = Reports(logging.ERROR), logging.StreamHandler(stream)
    lines.setFormatter(Json("web"))
    lines.setLevel(logging.ERROR)
    monkeypatch.setattr(logging.getLogger(), "handlers", [errors, lines, Reports(logging.INFO)])
    caplog.set_level(logging.INFO, "yeoul.web")
    log = AccessLog()
    log.note(Line("GET", "/x", 200, "r", 0.0123))
    log.flush()
    assert [record.levelname for record in heard] == ["INFO"]
    assert stream.getvalue() == ""


async def test_the_settings_say_from_which_level_on(client: Client, lines: io.StringIO) -> None:
    logging.getLogger("yeoul.web").setLevel(Settings(log_level="warning").log_level.upper())
    await client.get("/nothing")
    assert read(client, lines) == []
