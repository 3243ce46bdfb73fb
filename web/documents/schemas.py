"""From types to the schemas of a document: JSON Schema 2020-12 as OpenAPI 3.1 has it, patterns as ECMA-262 has them."""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from domain.refusals import STATUS, Code, Problem
from domain.sentences import message
from web.documents.declared import Json

REF = "#/components/schemas/{name}"
NO_NUL = "^[^\\u0000]*$"
"""Text of ours holds no NUL, which no type says; the types check it by themselves."""
TIME = {"type": "string", "format": "date-time"}


def ref(name: str) -> Json:
    """A reference to a schema of ours."""
    return {"$ref": REF.format(name=name)}


class Schemas:
    """The schemas of `types`, by type, and the components that they refer to.

    A type is a type, a JSON Schema, or the name of a component that is made elsewhere. Within `bodies` text is bounded
    as the bodies of requests are.
    """

    def __init__(self, types: Iterable[Any], bodies: Iterable[type]) -> None:
        wanted = [kind for kind in dict.fromkeys(map(_hashable, types)) if not isinstance(kind, str)]
        within = list(dict.fromkeys(bodies))
        schemas, self.components = msgspec.json.schema_components([*wanted, *within], ref_template=REF)
        self._of = dict(zip([*wanted, *within], map(clean, schemas), strict=True))
        self.components = {name: clean(schema) for name, schema in self.components.items()}
        for kind in within:
            _bound(self.components[kind.__name__])

    def of(self, kind: Any) -> Json:
        """The schema of one of the types."""
        if isinstance(kind, Mapping):
            return dict(kind)
        if isinstance(kind, str):
            return ref(kind)
        return dict(self._of[kind])


def _hashable(kind: Any) -> Any:
    return "" if isinstance(kind, Mapping) else kind


def clean(schema: Any) -> Any:
    """The same schema with ECMA's patterns."""
    if isinstance(schema, dict):
        cleaned = {name: clean(value) for name, value in schema.items()}
        if cleaned.get("type") == "object" and not {"properties", "additionalProperties"} & cleaned.keys():
            cleaned["additionalProperties"] = True  # free JSON: to some readers an object without members has none
        if isinstance(cleaned.get("pattern"), str):
            cleaned["pattern"] = cleaned["pattern"].replace("\\Z", "$")
        return cleaned
    if isinstance(schema, list):
        return [clean(item) for item in schema]
    return schema


def _bound(schema: Any) -> None:
    """No string of a body holds NUL."""
    if isinstance(schema, dict):
        if schema.get("type") == "string" and not {"pattern", "format", "enum", "const"} & schema.keys():
            schema["pattern"] = NO_NUL
        for name, value in schema.items():
            if name not in ("default", "examples"):
                _bound(value)
    elif isinstance(schema, list):
        for item in schema:
            _bound(item)


def refusal_schemas(version: str) -> dict[str, Json]:
    """What both versions say of refusals, and what only this one does."""
    meanings = "\n".join(f"- `{code}` ({STATUS[code]}): {message(code, 'en')}" for code in Code)
    code: Json = {
        "type": "string",
        "enum": [code.value for code in Code],
        "description": f"Program against these.\n\n{meanings}",
    }
    error: Json = {
        "type": "object",
        "description": "Why it was refused. `details` names every wrong field at once; it is left out where none is.",
        "required": ["code", "message"],
        "properties": {
            "code": ref("Code"),
            "message": {"type": "string", "description": "For people, in the language that they asked for."},
            "details": {"type": "array", "items": ref("Detail")},
        },
    }
    detail: Json = {
        "type": "object",
        "description": "A wrong field: its path in the body, or a parameter or a header.",
        "required": ["field", "message"],
        "properties": {"field": {"type": "string"}, "message": {"type": "string"}},
    }
    found: dict[str, Json] = {"Code": code, "Error": error, "Detail": detail, "Refused": _enveloped_error()}
    if version == "v2":
        found |= {"Problem": _problem(instance=True), "InnerProblem": _problem(instance=False)}
        found["ProblemDetail"] = {
            "type": "object",
            "description": "A wrong field: its path in the body, or a parameter or a header.",
            "required": ["field", "code", "detail"],
            "properties": {
                "field": {"type": "string"},
                "code": {"type": "string", "enum": [problem.value for problem in Problem]},
                "detail": {"type": "string"},
            },
        }
    return found


def _enveloped_error() -> Json:
    return {
        "type": "object",
        "description": "A refusal in the envelope of v1. What can't be read as HTTP has no version, and gets this one.",
        "required": ["success", "error", "meta"],
        "properties": {"success": {"const": False}, "error": ref("Error"), "meta": meta()},
    }


def _problem(*, instance: bool) -> Json:
    texts: Json = {name: {"type": "string"} for name in ("type", "title", "detail")}
    properties: Json = {
        **texts,
        "status": {"type": "integer"},
        "code": ref("Code"),
        "errors": {"type": "array", "items": ref("ProblemDetail")},
    }
    if instance:
        properties["instance"] = {"type": "string", "description": "The request's id."}
    return {
        "type": "object",
        "description": "Problem details (RFC 9457). `errors` names every wrong field at once.",
        "required": [name for name in properties if name != "errors"],
        "properties": properties,
    }


def meta(**more: Json) -> Json:
    """The `meta` of v1, with `more` in it that is always there."""
    properties: Json = {"timestamp": TIME, "version": {"const": "1.0"}, **more}
    return {"type": "object", "required": list(properties), "properties": properties}


def result_schemas(version: str) -> dict[str, Json]:
    """Documents in which a refusal stands, in the version's dress."""
    error = ref("Error" if version == "v1" else "InnerProblem")
    operation = {
        "type": "object",
        "description": "What became of a write. `result` is the finished object, null after a delete.",
        "required": ["id", "status", "result", "error"],
        "properties": {
            "id": {"type": "string", "format": "uuid"},
            "status": {"type": "string", "enum": ["pending", "succeeded", "refused", "failed"]},
            "result": {"description": "Any JSON."},
            "error": {"anyOf": [error, {"type": "null"}]},
        },
    }
    batch = {
        "type": "object",
        "description": "What one operation of a batch answers: its status, and `data` or `error`.",
        "required": ["status"],
        "properties": {
            "status": {"type": "integer"},
            "replayed": {"const": True},
            "location": {"type": "string"},
            "data": {"anyOf": [ref("Resource"), ref("Operation"), {"type": "null"}]},
            "error": error,
        },
    }
    return {"Operation": operation, "BatchAnswer": batch}
