"""Schemas of kinds: what is wrong is named by its path, and nothing takes long or reaches out."""

from time import process_time
from typing import Any

import msgspec
import pytest

from domain.merging import merged
from domain.refusals import Problem
from domain.schemas import DIALECT, MOST_SHOWN, TYPES, refused, unsatisfied


def wrong(schema: dict[str, Any], attributes: dict[str, Any]) -> dict[str, str]:
    assert refused(schema) == ()
    found = unsatisfied(msgspec.json.encode(schema).decode(), attributes)
    return {detail.field: detail.allowed or detail.problem.value for detail in found}


def test_every_wrong_attribute_is_named_by_its_path() -> None:
    schema = {
        "properties": {"b": {}, "size": {"type": "integer", "minimum": 3}, "when": {"format": "date"},
                       "one": {"enum": [1, 2]}, "list": {"items": {"type": ["string", "null"]}}},
        "required": ["b"], "additionalProperties": False,
    }  # fmt: skip
    attributes = {"size": 1, "when": "soon", "one": 3, "list": ["a", 1], "more": 1}
    assert wrong(schema, attributes) == {
        "attributes.size": "minimum 3", "attributes.when": "format date", "attributes.one": "enum 1, 2",
        "attributes.list[1]": "type null, string", "attributes.more": "unknown", "attributes.b": "required",
    }  # fmt: skip
    assert wrong(schema, {"size": 3}) == {"attributes.b": "required"}


def named(schema: dict[str, Any]) -> dict[str, str]:
    return {detail.field: detail.allowed or detail.problem.value for detail in refused(schema)}


def test_everything_that_is_wrong_with_a_schema_is_named() -> None:
    schema = {"type": "int", "minimum": "a", "required": "x", "properties": [], "minLength": -1, "$id": "here",
              "$schema": 7, "$defs": {"a": {"$ref": "http://elsewhere"}, "b": {"multipleOf": 0,
              "maximum": []}}}  # fmt: skip
    assert named(schema) == {
        "schema.$id": "reference", "schema.$defs.a.$ref": "reference", "schema.$schema": DIALECT, "schema.type": TYPES,
        "schema.minimum": "number", "schema.required": "array", "schema.properties": "object",
        "schema.minLength": "minimum 0", "schema.$defs.b.multipleOf": "exclusiveMinimum 0",
        "schema.$defs.b.maximum": "number",
    }  # fmt: skip


def test_every_pattern_that_cannot_be_used_is_named_where_it_is_one() -> None:
    ahead, back, none = "(?=a)b", r"(a)\1", "(a"
    schema = {
        "properties": {"a": {"pattern": ahead}, "enum": {"items": {"pattern": back}}, "pattern": {"pattern": "fine"}},
        "patternProperties": {none: {}}, "anyOf": [{"not": {"pattern": "a{1000000}"}}],
        "const": {"pattern": ahead}, "enum": [{"pattern": ahead}],
    }  # fmt: skip
    assert named(schema) == dict.fromkeys(
        ("schema.properties.a.pattern", "schema.properties.enum.items.pattern", f"schema.patternProperties.{none}",
         "schema.anyOf[0].not.pattern"), "no_pattern",
    )  # fmt: skip
    del schema["properties"], schema["patternProperties"], schema["anyOf"]
    assert named(schema) == {}


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {f"p{n}": {"type": 1, "minimum": "a"} for n in range(990)}},
        {"properties": {f"p{n}": {"pattern": "(?=a)"} for n in range(990)}},
        {"properties": {f"p{n}": {"pattern": "a{100000}"} for n in range(990)}},
        {"type": ["int"] * 6000},
    ],
    ids=["rules", "patterns", "sizes", "types"],
)
def test_a_schema_that_is_wrong_everywhere_takes_a_moment(schema: dict[str, Any]) -> None:
    begin = process_time()
    assert 1 <= len(refused(schema)) <= MOST_SHOWN
    assert process_time() - begin < 2


def test_parts_of_the_same_schema_may_be_referred_to() -> None:
    schema = {"$defs": {"n": {"type": "integer"}}, "properties": {"a": {"$ref": "#/$defs/n"}}}
    assert wrong(schema, {"a": "x"}) == {"attributes.a": "type integer"}
    assert wrong(schema, {"a": 1}) == {}


@pytest.mark.parametrize("pattern", ["^(a+)+$", "^(a|a)*$", "(.*a){20}", r"^(\w+\s?)*$"])
def test_no_pattern_takes_longer_than_its_text(pattern: str) -> None:
    attributes = {"text": "a" * 50_000 + "!"}
    begin = process_time()
    wrong({"properties": {"text": {"pattern": pattern}}}, attributes)
    assert process_time() - begin < 2


def test_a_schema_of_many_parts_is_refused_before_it_is_made() -> None:
    bomb = {f"d{n}": {"anyOf": [{"$ref": f"#/$defs/d{n + 1}"}] * 9} for n in range(25)} | {"d25": {}}
    begin = process_time()
    (detail,) = refused({"$defs": bomb, "$ref": "#/$defs/d0"})
    assert detail.problem is Problem.TOO_COMPLEX
    assert process_time() - begin < 1


@pytest.mark.parametrize(
    ("target", "patch", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}), ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}), ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}), ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}), ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)  # fmt: skip
def test_merging_is_as_the_standard_shows_it(target: Any, patch: Any, result: Any) -> None:
    assert merged(target, patch) == result  # RFC 7396, appendix A
