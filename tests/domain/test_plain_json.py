"""Plain JSON as events, by a declaration."""

from typing import Any

import pytest

from domain.plain_json import PlainJson, Unmapped, declared, mapped
from domain.values import members

SAID: dict[str, Any] = {
    "id": "order.id", "type": "kind", "source": {"constant": "/shop"}, "time": "at", "subject": "customer",
}  # fmt: skip


def read(text: bytes, **said: Any) -> dict[str, str]:
    plain, complaints = declared({**SAID, **said})
    assert complaints == ()
    assert isinstance(plain, PlainJson)
    found = members(text)
    assert found is not None
    return mapped(plain, found)


def test_members_are_attributes() -> None:
    text = b'{"order": {"id": "a-1"}, "kind": "order.placed", "at": "2026-05-01T09:00:00Z", "customer": 7, "total": 3}'
    assert read(text) == {
        "id": "a-1", "type": "order.placed", "source": "/shop", "time": "2026-05-01T09:00:00Z", "subject": "7",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("number", "time"),
    [
        (b"1777626000", "2026-05-01T09:00:00+00:00"), (b"1777626000.5", "2026-05-01T09:00:00.500000+00:00"),
        (b"1777626000000", "2026-05-01T09:00:00+00:00"), (b"0", "1970-01-01T00:00:00+00:00"),
    ],
)  # fmt: skip
def test_times_may_be_numbers(number: bytes, time: str) -> None:
    assert read(b'{"order":{"id":1.0},"kind":"k","at":%s}' % number)["time"] == time


def test_what_need_not_be_there() -> None:
    assert read(b'{"order":{"id":"\\u0061"},"kind":"k","at":null}') == {"id": "a", "type": "k", "source": "/shop"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"{}", "'order.id' is missing"), (b'{"order":7}', "'order.id' is missing"),
        (b'{"order":{"id":null}}', "'order.id' is missing"), (b'{"order":{"id":true}}', "neither a text nor a number"),
        (b'{"order":{"id":[1]}}', "neither"), (b'{"order":{"id":1e400}}', "neither"),
        (b'{"order":{"id":"\xff"}}', "not UTF-8"), (b'{"order":{"id":1}}', "'kind' is missing"),
        (b'{"order":{"id":1},"kind":"k","at":1e30}', "no time"),
        (b'{"order":{"id":1},"kind":"k","at":-1e29}', "no time"),
        (b'{"order":{"id":1},"kind":"k","at":{}}', "neither"),
    ],
)  # fmt: skip
def test_what_lacks_something_says_what(text: bytes, says: str) -> None:
    with pytest.raises(Unmapped, match=says):
        read(text)
