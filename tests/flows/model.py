"""What the API promises, as simply as it can be said: dictionaries in memory, and no code of the product.

A refusal is raised as `No`; else a method gives what a good answer has to show. Callers are accounts of the model, or
None for a guest.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
WRITABLE = {"body": "", "tags": [], "attributes": {}, "visibility": "private", "status": "open"}


class No(Exception):
    """A refusal."""

    def __init__(self, status: int, code: str) -> None:
        super().__init__(status, code)
        self.status, self.code = status, code


@dataclass
class Account:
    """Somebody who registered."""

    name: str
    email: str
    password: str
    id: str
    role: str = "user"
    status: str = "active"
    version: int = 1
    token: str = ""
    """Of its session that goes on; empty without one."""
    ended: str = ""
    """A token that is good for nothing any more."""


@dataclass
class Resource:
    """Its fields as a client sees them, and what happened to it."""

    id: str
    owner: Account
    fields: Json
    created_at: str
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


def same(one: Any, other: Any) -> bool:
    """Equal as JSON: to Python `True == 1 == 1.0`."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


class Model:
    """All that was promised so far."""

    def __init__(self) -> None:
        self.accounts: dict[str, Account] = {}
        self.resources: dict[str, Resource] = {}

    @staticmethod
    def may_create(caller: Account | None) -> Account:
        """Whoever has an account."""
        if caller is None:
            raise No(401, "TOKEN_MISSING")
        return caller

    # -- resources ---------------------------------------------------------------------------------------------------

    @staticmethod
    def owns(caller: Account | None, found: Resource) -> bool:
        """Who may change it."""
        return caller is not None and (caller.role == "admin" or caller is found.owner)

    def sees(self, caller: Account | None, found: Resource) -> bool:
        """Who may read it."""
        return found.fields["visibility"] == "public" or self.owns(caller, found)

    def read(self, caller: Account | None, id: str) -> Resource:
        """The resource, for who may read it."""
        found = self.resources.get(id)
        if found is None or found.deleted or not self.sees(caller, found):
            raise No(404, "NOT_FOUND")
        return found

    def _changed(self, caller: Account | None, id: str, expected: Any) -> Resource:
        if caller is None:
            raise No(401, "TOKEN_MISSING")
        found = self.read(caller, id)
        if not self.owns(caller, found):
            raise No(403, "FORBIDDEN")
        self._matches(found, expected)
        return found

    @staticmethod
    def _matches(found: Resource | Account, expected: Any) -> None:
        if expected not in (None, "*") and expected != found.version:
            raise No(412, "STALE_VERSION")

    def _set(self, found: Resource, fields: Json) -> Resource:
        if not same(fields, found.fields):
            found.fields = fields
            found.happened("resource.updated")
        return found

    def replace(self, caller: Account | None, id: str, given: Json, expected: Any) -> Resource:
        """PUT."""
        return self._set(self._changed(caller, id, expected), whole(given))

    def patch(self, caller: Account | None, id: str, given: Json, expected: Any) -> Resource:
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

    def delete(self, caller: Account | None, id: str, expected: Any) -> Resource:
        """DELETE."""
        found = self._changed(caller, id, expected)
        found.deleted = True
        found.happened("resource.deleted")
        return found

    def restore(self, caller: Account | None, id: str, expected: Any) -> Resource:
        """Only its owner and admins know that there is something to restore."""
        if caller is None:
            raise No(401, "TOKEN_MISSING")
        found = self.resources.get(id)
        if found is None or not (self.owns(caller, found) or (not found.deleted and self.sees(caller, found))):
            raise No(404, "NOT_FOUND")
        if not self.owns(caller, found):
            raise No(403, "FORBIDDEN")
        self._matches(found, expected)
        if found.deleted:
            found.deleted = False
            found.happened("resource.restored")
        return found

    def history(self, caller: Account | None, id: str) -> list[tuple[int, str]]:
        """All of it for who may change it; for others what happened in public."""
        found = self.resources.get(id)
        if found is None or not (self.owns(caller, found) or (not found.deleted and self.sees(caller, found))):
            raise No(404, "NOT_FOUND")
        return [(version, what) for version, what, public in found.history if public or self.owns(caller, found)]

    def listing(self, caller: Account | None, sort: str, filters: dict[str, str]) -> list[str]:
        """Ids in order."""
        found = [one for one in self.resources.values() if not one.deleted and self.sees(caller, one)]
        found = [one for one in found if all(_fits(one, name, text) for name, text in filters.items())]
        column = sort.removeprefix("-")

        def key(one: Resource) -> tuple[str, str, str]:
            first = one.created_at if column == "created_at" else one.fields[column]
            return (first, one.created_at, one.id)

        return [one.id for one in sorted(found, key=key, reverse=sort.startswith("-"))]

    def bin(self, caller: Account | None) -> set[str]:
        """What the caller may restore."""
        if caller is None:
            raise No(401, "TOKEN_MISSING")
        return {one.id for one in self.resources.values() if one.deleted and self.owns(caller, one)}

    # -- accounts ----------------------------------------------------------------------------------------------------

    def administered(self, caller: Account | None, who: Account, expected: Any) -> Account:
        """An account as admins find it."""
        if caller is None:
            raise No(401, "TOKEN_MISSING")
        if caller.role != "admin":
            raise No(403, "FORBIDDEN")
        self._matches(who, expected)
        return who

    def administer(self, caller: Account | None, who: Account, what: str, value: str, expected: Any) -> bool:
        """Another role or status; True if that ended its sessions."""
        self.administered(caller, who, expected)
        if getattr(who, what) == value:
            return False
        setattr(who, what, value)
        who.version += 1
        return what == "role" or value == "disabled"

    def may_log_in(self, who: Account, password: str) -> bool:
        """A disabled account says no more than a wrong password does."""
        return who.status == "active" and who.password == password


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
