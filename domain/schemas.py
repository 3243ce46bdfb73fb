"""JSON Schema (draft 2020-12) for attributes: which schemas are taken, and what of a value does not satisfy one.

jsonschema-rs checks. Patterns are matched by its engine of linear time, so no pattern and no text can hold it up; that
one knows neither look-around nor back-references, and a schema that has them is refused. Nothing is ever fetched.
"""

from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from typing import Any
from urllib.parse import unquote

import jsonschema_rs
import msgspec

from domain.refusals import Detail, Problem
from domain.text import join, printable

MOST_BYTES = 32_768
"""Of a schema as JSON."""
DEEPEST = 32
MOST_PARTS = 1_000
"""Objects of a schema, each counted as often as it is referred to: a few lines may say `twice the one before`."""
PATTERN_BYTES = 1_000_000
"""What a compiled pattern may take of memory."""
MOST_SHOWN = 100
MOST_LOOKS = 70_000
"""Parts of a schema times values of attributes, up to which each wrong value is named.

To find out that something is wrong takes a moment; to gather everything that is, each with its place, takes a hundred
times as long, and the library gathers all before it shows the first.
"""
DIALECT = "https://json-schema.org/draft/2020-12/schema"
ELSEWHERE = ("$id", "$anchor", "$dynamicAnchor", "$dynamicRef", "$recursiveRef", "$vocabulary")
"""Words that are for schemas of several documents."""
TYPES = "array, boolean, integer, null, number, object, string"
NAMED = frozenset({"properties", "patternProperties", "$defs", "definitions", "dependentSchemas"})
"""Words whose value has schemas by name."""
VALUES = frozenset({"const", "enum", "default", "examples"})
"""Words whose value is no schema, whatever it looks like."""
_LIMITS = f"{MOST_BYTES} bytes, {DEEPEST} levels, {MOST_PARTS} parts, each counted as often as it is referred to"

_encode = msgspec.json.Encoder().encode


def _compiled(schema: dict[str, Any]) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(
        schema,
        validate_formats=True,
        ignore_unknown_formats=True,
        offline=True,
        pattern_options=jsonschema_rs.RegexOptions(size_limit=PATTERN_BYTES, dfa_size_limit=PATTERN_BYTES),
    )


@cache
def _standard() -> jsonschema_rs.Draft202012Validator:
    """The validator of schemas, by the standard's own schema, which the library has in it."""
    return jsonschema_rs.Draft202012Validator({"$ref": DIALECT}, offline=True)


@lru_cache(maxsize=1024)
def validator(schema: str) -> jsonschema_rs.Draft202012Validator:
    """The validator of a schema that was taken, from its JSON; made once in each process."""
    return _compiled(msgspec.json.decode(schema))


@lru_cache(maxsize=1024)
def _parts_of(schema: str) -> int:
    found = msgspec.json.decode(schema)
    return _parts(found, found, (), {})


def _values(attributes: dict[str, Any]) -> int:
    """How many values there are in all; they are no deeper than a document may be."""
    stack: list[Any] = [attributes]
    seen = 0
    while stack:
        item = stack.pop()
        seen += 1
        if isinstance(item, dict):
            stack += item.values()
        elif isinstance(item, list):
            stack += item
    return seen


def refused(schema: dict[str, Any]) -> tuple[Detail, ...]:
    """Every reason why a schema is not taken, by its path below `schema`; none if it is."""
    if len(_encode(schema)) > MOST_BYTES:
        return (Detail("schema", Problem.TOO_COMPLEX, _LIMITS),)
    found: list[Detail] = []
    _look(schema, "schema", 1, found)
    if schema.get("$schema", DIALECT) != DIALECT:
        found.append(Detail("schema.$schema", Problem.CHOICE, DIALECT))
    named = {detail.field for detail in found}
    unlike = map(_unlike, _standard().iter_errors(schema))
    found += [detail for detail in unlike if detail.field not in named]
    if found:
        return tuple(dict.fromkeys(found))[:MOST_SHOWN]
    try:
        if _parts(schema, schema, (), {}) > MOST_PARTS:
            return (Detail("schema", Problem.TOO_COMPLEX, _LIMITS),)
    except LookupError as error:
        return (Detail("schema", Problem.NO_SCHEMA, f"$ref {printable(str(error.args[0]))}"),)
    except RecursionError:
        return (Detail("schema", Problem.REFERENCE),)
    try:
        _compiled(schema)
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        return tuple(dict.fromkeys(_useless(schema, "schema")))[:MOST_SHOWN] or (_wrong("schema", error),)
    return ()


def unsatisfied(schema: str, attributes: dict[str, Any]) -> tuple[Detail, ...]:
    """What of the attributes does not satisfy a schema that was taken, by path, MOST_SHOWN at most."""
    checks = validator(schema)
    if checks.is_valid(attributes):
        return ()
    if _parts_of(schema) * _values(attributes) > MOST_LOOKS:
        return (Detail("attributes", Problem.UNSATISFIED),)
    found: list[Detail] = []
    for error in checks.iter_errors(attributes):
        found += _details(error)
        if len(found) >= MOST_SHOWN:
            break
    return tuple(dict.fromkeys(found))[:MOST_SHOWN]


def _details(error: jsonschema_rs.ValidationError) -> list[Detail]:
    path = _at("attributes", error.instance_path)
    kind = error.kind
    if isinstance(kind, jsonschema_rs.ValidationErrorKind.Required):
        return [Detail(printable(join(path, str(kind.property))), Problem.REQUIRED)]
    if isinstance(kind, jsonschema_rs.ValidationErrorKind.AdditionalProperties):
        return [Detail(printable(join(path, name)), Problem.UNKNOWN) for name in kind.unexpected]
    return [Detail(printable(path), Problem.SCHEMA, _rule(error))]


def _rule(error: jsonschema_rs.ValidationError) -> str:
    """The rule that is not kept, with its value if that is short. The attributes themselves are not repeated."""
    name = str(error.schema_path[-1]) if error.schema_path else "schema"
    value = getattr(error.kind, _VALUES.get(name, ""), None)
    if value is None:
        return name
    shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return f"{name} {printable(shown)}"


_VALUES = {
    "type": "types", "minimum": "limit", "maximum": "limit", "exclusiveMinimum": "limit", "exclusiveMaximum": "limit",
    "minLength": "limit", "maxLength": "limit", "minItems": "limit", "maxItems": "limit", "minProperties": "limit",
    "maxProperties": "limit", "multipleOf": "multiple_of", "pattern": "pattern", "format": "format", "enum": "options",
    "const": "expected_value",
}  # fmt: skip


def _unlike(error: jsonschema_rs.ValidationError) -> Detail:
    """What of a schema is not as the standard's own schema of schemas has it."""
    at, kind = printable(_at("schema", error.instance_path)), error.kind
    if isinstance(kind, jsonschema_rs.ValidationErrorKind.Type):
        return Detail(at, Problem.TYPE, ", ".join(kind.types))
    if isinstance(kind, jsonschema_rs.ValidationErrorKind.AnyOf):  # it has one, of `type`
        return Detail(at, Problem.CHOICE, TYPES)
    return Detail(at, Problem.NO_SCHEMA, _rule(error))


def _useless(schema: Any, path: str) -> Iterator[Detail]:
    """Patterns that the engine does not take, wherever a schema or a list of schemas may have one."""
    if isinstance(schema, list):
        for index, inner in enumerate(schema):
            yield from _useless(inner, f"{path}[{index}]")
    elif isinstance(schema, dict):
        for name, value in schema.items():
            at = join(path, name)
            if name == "pattern":
                yield from _pattern(value, at)
            elif name in NAMED and isinstance(value, dict):
                for key, inner in value.items():
                    if name == "patternProperties":
                        yield from _pattern(key, join(at, key))
                    yield from _useless(inner, join(at, key))
            elif name not in VALUES:
                yield from _useless(value, at)


def _pattern(pattern: str, path: str) -> Iterator[Detail]:
    try:
        _compiled({"pattern": pattern})
    except ValueError:
        yield Detail(printable(path), Problem.NO_PATTERN)


def _wrong(path: str, error: Exception) -> Detail:
    steps = getattr(error, "schema_path", ())
    at = printable(_at(path, getattr(error, "instance_path", ())))
    return Detail(at, Problem.NO_SCHEMA, str(steps[-1]) if steps else "")


def _at(path: str, steps: Iterable[str | int]) -> str:
    """The path of what is these steps below another."""
    for step in steps:
        path = f"{path}[{step}]" if isinstance(step, int) else join(path, step)
    return path


def _look(value: Any, path: str, depth: int, found: list[Detail]) -> None:
    """Adds what can be said of each part alone: how deep it is, and where it refers to."""
    if depth > DEEPEST:
        found.append(Detail(printable(path), Problem.TOO_DEEP, str(DEEPEST)))
    elif isinstance(value, dict):
        for name, inner in value.items():
            at = join(path, name)
            if name in ELSEWHERE or (name == "$ref" and not (isinstance(inner, str) and inner.startswith("#/"))):
                found.append(Detail(printable(at), Problem.REFERENCE))
            else:
                _look(inner, at, depth + 1, found)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _look(inner, f"{path}[{index}]", depth + 1, found)


def _parts(value: Any, root: dict[str, Any], within: tuple[str, ...], known: dict[str, int]) -> int:
    """Objects in `value` with what they refer to. Raises LookupError for a reference to nothing, RecursionError."""
    if isinstance(value, list):
        return sum(_parts(inner, root, within, known) for inner in value)
    if not isinstance(value, dict):
        return 0
    total = 1
    for name, inner in value.items():
        if name == "$ref" and isinstance(inner, str):
            if inner in within:
                raise RecursionError
            if inner not in known:
                known[inner] = _parts(_target(inner, root), root, (*within, inner), known)
            total += known[inner]
        else:
            total += _parts(inner, root, within, known)
    return total


def _target(reference: str, root: dict[str, Any]) -> Any:
    """What a JSON pointer in a URI leads to (RFC 6901, 6). Raises LookupError.

    It must lead where the library finds it, or a part could refer to itself unseen. So what is written with `%` is read
    as it is meant, and a sign that means something to pointers or to URIs may not be written so.
    """
    at: Any = root
    if any(sign in reference.lower() for sign in ("%2f", "%7e", "%25")):
        raise LookupError(reference)
    try:
        pointer = unquote(reference, errors="strict").removeprefix("#/")
    except UnicodeDecodeError:
        raise LookupError(reference) from None
    for step in pointer.split("/"):
        name = step.replace("~1", "/").replace("~0", "~")
        try:
            at = at[int(name)] if isinstance(at, list) else at[name]
        except (KeyError, IndexError, ValueError, TypeError):
            raise LookupError(reference) from None
    return at
