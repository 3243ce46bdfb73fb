"""What the API promises, as simply as it can be said: dictionaries in memory, and no code of the product.

A refusal is raised as `No`; else a method gives what a good answer has to show. Callers are accounts of the model, or
None for a guest.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from tests.flows.model_accounts import Account, Accounts, Caller, Machine
from tests.flows.model_proofs import No

Json = dict[str, Any]
SCHEMAS: tuple[Json, ...] = (
    {"properties": {"n": {"type": "string"}}},
    {"properties": {"n": {"type": "array"}}},
    {"required": ["n"]},
)
"""What the attributes of a kind may have to be like."""
WRITABLE = {"body": "", "tags": [], "attributes": {}, "visibility": "private", "status": "open"}


@dataclass
class Resource:
    """Its fields as a client sees them, and what happened to it."""

    id: str
    owner: Account
    fields: Json
    created_at: datetime
    version: int = 1
    deleted: bool = False
    history: list[tuple[int, str, bool]] = field(default_factory=list)
    """Version, type, and whether it was public then."""

    def happened(self, what: str) -> None:
        """One more change."""
        if what != "resource.created":
            self.version += 1
        self.history.append((self.version, what, self.fields["visibility"] == "public"))

    def shown(self) -> Json:
        """What of it can be foretold."""
        return {"id": self.id, "owner_id": self.owner.id, "version": self.version, **self.fields}


def whole(given: Json) -> Json:
    """The fields of a resource as a body sets them; a tag counts once."""
    found = {**WRITABLE, **given}
    found["tags"] = list(dict.fromkeys(found["tags"]))
    return found


def merge(into: Any, patch: Any) -> Any:
    """RFC 7396, as it stands there."""
    if not isinstance(patch, dict):
        return patch
    result = dict(into) if isinstance(into, dict) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merge(result.get(name), value)
    return result


def satisfies(schema: Json | None, attributes: Json) -> bool:
    """What the few SCHEMAS ask for."""
    if schema is None:
        return True
    wanted = {"string": str, "array": list}
    good = all(
        name not in attributes or isinstance(attributes[name], wanted[one["type"]])
        for name, one in schema.get("properties", {}).items()
    )
    return good and all(name in attributes for name in schema.get("required", ()))


def same(one: Any, other: Any) -> bool:
    """Equal as JSON: to Python `True == 1 == 1.0`."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


class Model(Accounts):
    """All that was promised so far."""

    def __init__(self) -> None:
        super().__init__()
        self.resources: dict[str, Resource] = {}
        self.schema: Json | None = None
        """That of the kind of all resources."""
        self.defined = 0
        """The version of that."""

    def looks(self, caller: Caller | None) -> None:
        """Guests read what is public."""
        if caller is not None:
            self.may(caller, "read")

    # -- kinds -------------------------------------------------------------------------------------------------------

    def kind(self, caller: Caller | None) -> Json:
        """Its schema."""
        if caller is not None:
            self.may(caller, "read")
        self.may(caller, "admin")
        if self.schema is None:
            raise No(404, "NOT_FOUND")
        return self.schema

    def define(self, caller: Caller | None, schema: Json, expected: Any) -> int:
        """PUT; its version then."""
        self.may(caller, "admin")
        if expected is not None and (self.schema is None or expected not in ("*", self.defined)):
            raise No(412, "STALE_VERSION")
        if self.schema != schema:
            self.schema = schema
            self.defined += 1
        return self.defined

    def undefine(self, caller: Caller | None, expected: Any) -> None:
        """DELETE."""
        self.may(caller, "admin")
        if self.schema is None:
            raise No(404, "NOT_FOUND")
        if expected not in (None, "*", self.defined):
            raise No(412, "STALE_VERSION")
        self.schema = None
        self.defined += 1

    def satisfied(self, attributes: Json) -> None:
        """Whoever sets attributes must set such as the kind's schema has."""
        if not satisfies(self.schema, attributes):
            raise No(400, "VALIDATION_ERROR")

    # -- resources ---------------------------------------------------------------------------------------------------

    def create(self, caller: Caller | None, given: Json) -> Account:
        """POST; whose it is."""
        owner = self.may(caller, "write")
        self.satisfied(whole(given)["attributes"])
        return owner.account if isinstance(owner, Machine) else owner

    @staticmethod
    def owns(caller: Caller | None, found: Resource) -> bool:
        """Who may change it."""
        return caller is not None and (caller.role == "admin" or caller.id == found.owner.id)

    def sees(self, caller: Caller | None, found: Resource) -> bool:
        """Who may read it."""
        return found.fields["visibility"] == "public" or self.owns(caller, found)

    def read(self, caller: Caller | None, id: str) -> Resource:
        """The resource, for who may read it."""
        self.looks(caller)
        return self._seen(caller, id)

    def _seen(self, caller: Caller | None, id: str) -> Resource:
        found = self.resources.get(id)
        if found is None or found.deleted or not self.sees(caller, found):
            raise No(404, "NOT_FOUND")
        return found

    def _changed(self, caller: Caller | None, id: str, expected: Any) -> Resource:
        self.may(caller, "write")
        found = self._seen(caller, id)
        if not self.owns(caller, found):
            raise No(403, "FORBIDDEN")
        self.matches(found, expected)
        return found

    def _set(self, found: Resource, fields: Json) -> Resource:
        if not same(fields, found.fields):
            if not same(fields["attributes"], found.fields["attributes"]):
                self.satisfied(fields["attributes"])
            found.fields = fields
            found.happened("resource.updated")
        return found

    def replace(self, caller: Caller | None, id: str, given: Json, expected: Any) -> Resource:
        """PUT."""
        return self._set(self._changed(caller, id, expected), whole(given))

    def patch(self, caller: Caller | None, id: str, given: Json, expected: Any) -> Resource:
        """PATCH: null takes a field back to its default."""
        found = self._changed(caller, id, expected)
        fields = dict(found.fields)
        for name, value in given.items():
            if value is None:
                fields[name] = WRITABLE[name]
            elif name == "attributes":
                fields[name] = merge(fields[name], value)
            else:
                fields[name] = value
        return self._set(found, whole(fields))

    def delete(self, caller: Caller | None, id: str, expected: Any) -> Resource:
        """DELETE."""
        found = self._changed(caller, id, expected)
        found.deleted = True
        found.happened("resource.deleted")
        return found

    def restore(self, caller: Caller | None, id: str, expected: Any) -> Resource:
        """Only its owner and admins know that there is something to restore."""
        self.may(caller, "write")
        found = self.resources.get(id)
        if found is None or not (self.owns(caller, found) or (not found.deleted and self.sees(caller, found))):
            raise No(404, "NOT_FOUND")
        if not self.owns(caller, found):
            raise No(403, "FORBIDDEN")
        self.matches(found, expected)
        if found.deleted:
            found.deleted = False
            found.happened("resource.restored")
        return found

    def history(self, caller: Caller | None, id: str) -> list[tuple[int, str]]:
        """All of it for who may change it; for others what happened in public."""
        self.looks(caller)
        found = self.resources.get(id)
        if found is None or not (self.owns(caller, found) or (not found.deleted and self.sees(caller, found))):
            raise No(404, "NOT_FOUND")
        return [(version, what) for version, what, public in found.history if public or self.owns(caller, found)]

    def listing(self, caller: Caller | None, sort: str, filters: dict[str, str]) -> list[str]:
        """Ids in order."""
        self.looks(caller)
        found = [one for one in self.resources.values() if not one.deleted and self.sees(caller, one)]
        found = [one for one in found if all(_fits(one, name, text) for name, text in filters.items())]
        column = sort.removeprefix("-")

        def key(one: Resource) -> tuple[Any, datetime, str]:
            first = one.created_at if column == "created_at" else one.fields[column]
            return (first, one.created_at, one.id)

        return [one.id for one in sorted(found, key=key, reverse=sort.startswith("-"))]

    def bin(self, caller: Caller | None) -> set[str]:
        """What the caller may restore."""
        self.may(caller, "read")
        return {one.id for one in self.resources.values() if one.deleted and self.owns(caller, one)}


def _fits(one: Resource, name: str, text: str) -> bool:
    if name == "tags":
        return text in one.fields["tags"]
    if name.startswith("attributes."):
        value: Any = one.fields["attributes"]
        for step in name.split(".")[1:]:
            if not isinstance(value, dict) or step not in value:
                return False
            value = value[step]
        # `7` is the number and the text.
        return isinstance(value, str | int | float) and (value if isinstance(value, str) else json.dumps(value)) == text
    if name == "owner_id":
        return one.owner.id == text
    return bool(one.fields[name] == text)
