"""Small requests that want a lot of work: each is answered, by the right status, within a time that nobody notices.

Time is that of the processor, so what else runs on the machine is no matter; the bounds are many times what it takes.
"""

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import process_time
from typing import Any

import orjson
import pytest

from domain import highlights, words
from domain.access import Role
from domain.refusals import Code, Problem
from domain.schemas import refused, unsatisfied
from tests.web.conftest import ADMIN, Bearer, Client
from tests.web.fakes import Fakes
from web.batches import BATCH
from web.refused import Refused
from web.resources import BODY
from web.validation import Schema

PATH, KIND = "/api/v1/resources", "/api/v1/kinds/box"
JSON = {"Content-Type": "application/json"}
BOUND_S = 2.0
LONG = 1_000_000
"""Bytes that a body may have, about."""


@contextmanager
def bounded() -> Iterator[None]:
    begin = process_time()
    yield
    assert process_time() - begin < BOUND_S


def within(attributes: bytes) -> bytes:
    return b'{"kind":"note","title":"t","attributes":' + attributes + b"}"


def many(text: str, count: int) -> bytes:
    return ",".join(text % number for number in range(count)).encode()


BOMBS: dict[str, bytes] = {
    "lists in lists": within(b'{"a":' + b"[" * 400_000 + b"]" * 400_000 + b"}"),
    "objects in objects": within(b'{"a":' * 150_000 + b"1" + b"}" * 150_000),
    "lists that never end": within(b'{"a":' + b"[" * 900_000),
    "brackets in a string that never ends": within(b'{"a":"' + b"[{" * 400_000),
    "many attributes": within(b"{" + many('"k%d":1', 70_000) + b"}"),
    "many members": b'{"kind":"note","title":"t",' + many('"k%d":1', 70_000) + b"}",
    "one member many times": b'{"kind":"note","title":"t",' + many('"a":%d', 100_000) + b"}",
    "one attribute many times": within(b"{" + many('"a":%d', 100_000) + b"}"),
    "many tags": b'{"kind":"note","title":"t","tags":[' + many('"t%d"', 100_000) + b"]}",
    "many values": within(b'{"a":[' + many("%d", 120_000) + b"]}"),
    "many empty lists": within(b'{"a":[' + b"[]," * 300_000 + b"[]]}"),
    "a whole number of a million digits": within(b'{"a":' + b"9" * LONG + b"}"),
    "an exponent of a million digits": within(b'{"a":1e' + b"9" * LONG + b"}"),
    "a large exponent": within(b'{"a":1e999999999}'),
    "a million digits for a text": b'{"kind":' + b"1" * LONG + b',"title":"t"}',
    "many numbers out of range": within(b'{"a":[' + b"18446744073709551616," * 40_000 + b"1]}"),
    "escapes": within(b'{"a":"' + b"\\u0000" * 150_000 + b'"}'),
    "halves of pairs": within(b'{"a":"' + b"\\ud800" * 150_000 + b'"}'),
    "keys of escapes": within(b"{" + many('"\\u0000%d":1', 60_000) + b"}"),
    "a title of a million letters": b'{"kind":"note","title":"' + b"a" * LONG + b'"}',
    "a kind of a million letters": b'{"kind":"' + b"a" * LONG + b'","title":"t"}',
    "a name of a million letters": b'{"kind":"note","title":"t","' + b"a" * LONG + b'":1}',
    "spaces": b'{"kind":"note",' + b" " * LONG + b'"titel":"t"}',
    "words that begin alike": b'{"kind":"note","title":"t","visibility":"' + b"public" * 150_000 + b'"}',
}


PACK: dict[str, Callable[[bytes], bytes]] = {"": bytes, "gzip": gzip.compress, "deflate": zlib.compress}


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.parametrize("packed", PACK)
async def test_a_body_costs_no_more_than_reading_it(
    client: Client, bearer: Bearer, fakes: Fakes, name: str, packed: str
) -> None:
    body = PACK[packed](BOMBS[name])
    headers = bearer() | JSON | ({"Content-Encoding": packed} if packed else {})
    for method, path in (("POST", PATH), ("PATCH", f"{PATH}/00000000-0000-7000-8000-000000000009")):
        with bounded():
            answer = await client.request(method, path, data=body, headers=headers)
            told = await answer.read()
        assert answer.status in (400, 413), told[:300]
        assert len(told) < 64_000
    assert fakes.commands.submitted == []


@pytest.mark.parametrize("layers", [2, 3])
async def test_a_body_is_unpacked_once(client: Client, bearer: Bearer, layers: int) -> None:
    body = b" " * 50_000_000
    for _ in range(layers):
        body = gzip.compress(body)
    for encoding, status in (
        ("gzip", 400),
        (", ".join(["gzip"] * layers), 415),
        ("x-gzip", 415),
        ("GZIP, identity", 415),
    ):
        with bounded():
            answer = await client.post(PATH, data=body, headers=bearer() | JSON | {"Content-Encoding": encoding})
        assert answer.status in (status, 413), (encoding, await answer.text())


async def test_a_batch_of_bombs_is_one_body(client: Client, bearer: Bearer) -> None:
    deep: Any = 1
    for _ in range(60):
        deep = [deep]
    operations = [{"op": "create", "resource": {"kind": "note", "title": "t", "attributes": {"a": deep}}}] * 100
    with bounded():
        answer = await client.post(f"{PATH}/batch", json={"operations": operations}, headers=bearer())
    # Deeper than a document may be, as a whole: a resource of its own might have been taken.
    assert answer.status == 400


# JSON Schema: what a few lines can ask for


def doubled(reference: str, **of: Any) -> dict[str, Any]:
    """A schema in which each level of a value is looked at twice, and its parts twice again."""
    again = {"$ref": reference}
    return {
        "$defs": {"a": {"type": "object", "properties": {"x": {"allOf": [again, again]}}}, **of},
        "$ref": "#/$defs/a",
    }


REFERENCES = {
    "itself": {"$ref": "#"},
    "itself by a pointer": {"$ref": "#/"},
    "a part of itself": {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
    "each other": {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
    "itself through values": doubled("#/$defs/a"),
    "itself, spelled otherwise": doubled("#/%24defs/a") | {"%24defs": {"a": {}}},
    "itself, in capitals": doubled("#/%24def%73/%61") | {"%24def%73": {"%61": {}}},
    "itself, its slash escaped": doubled("#/$defs%2Fa") | {"$defs%2Fa": {}},
    "itself, its escape escaped": doubled("#/$defs/b~1", **{"b/": {"$ref": "#/$defs/a"}}),
    "itself, escaped twice": doubled("#/%2524defs/a") | {"%24defs": {"a": {}}, "%2524defs": {"a": {}}},
    "itself by a number": {"allOf": [{}, {"properties": {"x": {"$ref": "#/allOf/01"}}}]},
    "itself by a signed number": {"allOf": [{}, {"properties": {"x": {"$ref": "#/allOf/+1"}}}]},
    "itself by an anchor": {"$anchor": "a", "properties": {"x": {"$ref": "#a"}}},
    "itself by its name": {"$id": "urn:a", "properties": {"x": {"$ref": "urn:a"}}},
    "whatever is above": {"$dynamicAnchor": "a", "properties": {"x": {"$dynamicRef": "#a"}}},
    "a server": {"$ref": "http://169.254.169.254/latest/meta-data"},
    "a file": {"$ref": "file:///etc/passwd"},
    "a standard": {"$ref": "https://json-schema.org/draft/2020-12/schema"},
    "nothing": {"$ref": "#/$defs/none"},
    "a path upwards": {"$ref": "../../secret.json"},
    "no text": {"$ref": ["#/$defs/a"]},
}


@pytest.mark.parametrize("name", REFERENCES)
async def test_a_schema_refers_to_nothing_but_its_parts_and_never_to_itself(
    client: Client, bearer: Bearer, fakes: Fakes, name: str
) -> None:
    with bounded():
        answer = await client.put(KIND, json={"schema": REFERENCES[name]}, headers=bearer(ADMIN, Role.ADMIN))
    assert answer.status == 400, await answer.text()
    assert fakes.commands.submitted == []


def test_parts_whose_names_need_escapes_can_still_be_referred_to() -> None:
    schema = {"$defs": {"주소": {"type": "integer"}}, "properties": {"a": {"$ref": "#/$defs/%EC%A3%BC%EC%86%8C"}}}
    assert refused(schema) == ()
    assert [detail.field for detail in unsatisfied(json.dumps(schema), {"a": "x"})] == ["attributes.a"]


WORK: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "patterns": ({"additionalProperties": {"pattern": "^(a+)+$"}}, {"a": "a" * 900_000 + "!"}),
    "patterns of names": ({"patternProperties": {"^(a|a)*$": {"type": "null"}}}, {"a" * 900_000: 1}),
    "many patterns": (
        {"additionalProperties": {"allOf": [{"pattern": f"(a|b|ab)*c{n}"} for n in range(100)]}}, {"a": "ab" * 50_000},
    ),
    "many parts, many values": (
        {"additionalProperties": {"items": {"allOf": [{"not": {"type": "string"}}] * 490}}}, {"a": ["s"] * 9_900},
    ),
    "many choices, many values": (
        {"additionalProperties": {"items": {"anyOf": [{"type": "object"}] * 900}}}, {"a": ["s"] * 9_900},
    ),
    "one of many": (
        {"additionalProperties": {"items": {"oneOf": [{"type": "string"}] * 900}}}, {"a": ["s"] * 9_900},
    ),
    "choices in choices": (
        {"additionalProperties": {"items": {"anyOf": [{"anyOf": [{"anyOf": [{"type": "null"}] * 9}] * 9}] * 9}}},
        {"a": ["s"] * 9_900},
    ),
    "all different": ({"additionalProperties": {"uniqueItems": True}}, {"a": [[n] for n in range(4_900)] + [[0]]}),
    "wrong everywhere": ({"additionalProperties": {"items": {"type": "integer"}}}, {"a": ["s"] * 9_900}),
    "lists in lists": (
        {"$defs": {f"d{n}": {"items": {"allOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 2}} for n in range(5)}
         | {"d5": {"type": "null"}}, "additionalProperties": {"$ref": "#/$defs/d0"}},
        {"a": [[[[["s"] * 9_000]]]]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WORK)
def test_what_satisfies_no_schema_is_found_out_in_time(name: str) -> None:
    schema, attributes = WORK[name]
    assert refused(schema) == ()
    with bounded():
        found = unsatisfied(json.dumps(schema), attributes)
    assert 0 < len(found) <= 100
    assert {detail.problem for detail in found} <= {Problem.SCHEMA, Problem.UNSATISFIED}


TEXTS = (
    "a" * 14_000,
    "ab " * 4_600,
    "가" * 14_000,
    "가나 " * 4_600,
    "\u0130" * 14_000,
    "\u0301" * 14_000,
    "<" * 14_000,
    "a" + "\u0301\u0323" * 50_000,
)
QUESTIONS = (
    "a" * 200,
    "a b ab ba aa bb aab abb",
    "가" * 200,
    "가나 나가 가가 나나",
    "\u0130" * 200,
    "a" + "\u0301" * 199,
)


@pytest.mark.parametrize("question", QUESTIONS)
def test_a_question_takes_no_longer_than_its_text(question: str) -> None:
    with bounded():
        sought = words.terms(question)
        for text in TEXTS:
            list(words.tokens(text))
            highlights.highlight(text[:200], sought)
            assert len(highlights.excerpt((text * 7)[:100_000], sought)) < 20_000


@pytest.mark.parametrize("piece", [b"[]", b"{}", b"0", b'""', b"[[[]]]", b'"\\""', b'{"[":[]}'])
@pytest.mark.parametrize(("schema", "member"), [(BODY, "attributes"), (BATCH, "operations")])
def test_a_body_of_very_many_values_is_refused_before_anything_is_made_of_it(
    monkeypatch: pytest.MonkeyPatch, piece: bytes, schema: Schema[Any], member: str
) -> None:
    def never(body: bytes) -> None:
        raise AssertionError("it was parsed")

    monkeypatch.setattr(orjson, "loads", never)
    many = b"[" + b",".join([piece] * (LONG // (len(piece) + 1))) + b"]"
    body = b'{"kind":"note","title":"x","%b":{"a":%b}}' % (member.encode(), many)
    with pytest.raises(Refused) as no:
        schema.read(body)
    (detail,) = no.value.refusal.details
    assert (no.value.refusal.code, detail.field, detail.problem) == (Code.VALIDATION_ERROR, member, Problem.TOO_LONG)


def test_signs_within_text_are_no_values() -> None:
    text = '[{,"\\' * 12_000
    body = json.dumps({"kind": "note", "title": "x", "body": text}).encode()
    assert BODY.read(body).value.body == text
