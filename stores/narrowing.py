"""By what a list is narrowed, and the conditions that come of it: for rows that are walked, and for an index."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import msgspec

from domain import words
from domain.access import Actor, Role, Visibility
from domain.text import Slug
from stores import vectors


class Op(StrEnum):
    """How a field is compared."""

    EQ = "eq"
    NE = "ne"
    IN = "in"
    CONTAINS = "contains"
    GTE = "gte"
    GT = "gt"
    LTE = "lte"
    LT = "lt"


_CHOICE = (Op.EQ, Op.NE, Op.IN)
_TIME = (Op.EQ, Op.GTE, Op.GT, Op.LTE, Op.LT)
FIELDS: Mapping[str, tuple[Any, tuple[Op, ...]]] = {
    "kind": (Slug, _CHOICE),
    "status": (Slug, _CHOICE),
    "visibility": (Visibility, _CHOICE),
    "owner_id": (UUID, _CHOICE),
    "created_at": (datetime, _TIME),
    "updated_at": (datetime, _TIME),
    "title": (str, (Op.EQ, Op.CONTAINS)),
    "tags": (str, (Op.CONTAINS,)),
}
"""The fields by which a list may be narrowed, with the type of their values and how they are compared.

`attributes.<path>` is one besides, for equality.
"""
ATTRIBUTES = "attributes."
_SIGNS = {Op.EQ: "=", Op.NE: "<>", Op.GTE: ">=", Op.GT: ">", Op.LTE: "<=", Op.LT: "<"}


class Filter(msgspec.Struct, frozen=True):
    """One condition. `value`: of the field's type; a tuple of them for IN; JSON texts for an attribute."""

    field: str
    op: Op
    value: Any


class Condition(msgspec.Struct, frozen=True):
    """A piece of SQL with `{}` for each of its values."""

    sql: str
    values: tuple[Any, ...] = ()


class Statement:
    """The values of a statement, in the order in which its text was put together."""

    def __init__(self) -> None:
        self.arguments: list[Any] = []

    def argument(self, value: Any) -> str:
        """The place of a value."""
        self.arguments.append(value)
        return f"${len(self.arguments)}"

    def put(self, condition: Condition) -> str:
        """A condition as text."""
        return condition.sql.format(*map(self.argument, condition.values))

    def all_of(self, conditions: Sequence[Condition]) -> str:
        """Every one of them."""
        return " AND ".join(map(self.put, conditions)) or "true"


class Narrowed:
    """The conditions of a list.

    `plain` are on short columns, `deep` on long ones; `scope` is what the caller may see. `leads` are the equalities
    that an index in order of creation begins with, by field; `ranges` those that an index of the field can go by.
    """

    def __init__(self, filters: Sequence[Filter], actor: Actor, text: str = "") -> None:
        self.plain: list[Condition] = []
        self.deep: list[Condition] = []
        self.scope: list[Condition] = []
        self.leads: dict[str, Condition] = {}
        self.ranges: dict[str, list[Condition]] = {}
        self._marks = [f"({text})"] if text else []
        self._visible = vectors.visible(actor)
        self._inside: list[Condition] = []
        for narrowing in filters:
            self._narrow(narrowing)
        if actor.id is None and actor.role is not Role.ADMIN:
            self.scope.append(_PUBLIC)
            self.leads["visibility"] = _PUBLIC
        elif actor.role is not Role.ADMIN:
            self.scope.append(Condition(f"({_PUBLIC.sql} OR owner_id = {{}})", (actor.id,)))

    def indexed(self, *, scoped: bool = True) -> list[Condition]:
        """What the index of contents is asked for, or a range; empty if there is nothing to go by.

        `scoped`: also for what the caller may see, which is much to look through where it is nearly everything.
        """
        found = list(self._inside)
        marks = [*self._marks, f"({self._visible})"] if scoped and self._visible else self._marks
        if marks:
            found.append(Condition("search @@ {}::text::tsquery", (" & ".join(marks),)))
        return found or next(iter(self.ranges.values()), [])

    def lead(self) -> Condition | None:
        """The one equality that an index in order of creation can begin with."""
        fields = ("owner_id", "kind", "status", "visibility")
        return next((self.leads[field] for field in fields if field in self.leads), None)

    def _narrow(self, narrowing: Filter) -> None:
        field, op, value = narrowing.field, narrowing.op, narrowing.value
        if field.startswith(ATTRIBUTES):
            one_of = " OR ".join(["attributes::jsonb @> {}::text::jsonb"] * len(value))
            self._inside.append(Condition(f"({one_of})", tuple(value)))
            self.deep.append(self._inside[-1])
            return
        kind, ops = FIELDS[field]
        if op not in ops:
            raise ValueError(f"{field} {op}")
        if op is Op.CONTAINS:
            mark = vectors.mark(field, value) if field == "tags" else vectors.query(words.terms(value), "A")
            self._marks.append(f"({mark})")
            self.deep.append(Condition("search @@ {}::text::tsquery", (mark,)))
            return
        if op is Op.IN:
            self.plain.append(Condition(f"{field} = ANY({{}}::{'uuid' if kind is UUID else 'text'}[])", (list(value),)))
            self._marks.append(f"({' | '.join(vectors.mark(field, _text(one)) for one in value)})")
            return
        condition = Condition(f"{field} {_SIGNS[op]} {{}}", (value,))
        if field == "visibility" and op is Op.EQ and value == Visibility.PUBLIC:
            condition = _PUBLIC
        self.plain.append(condition)
        if op is Op.EQ and field in vectors.MARKS:
            self.leads[field] = condition
            self._marks.append(vectors.mark(field, _text(value)))
        elif op is not Op.NE:
            self.ranges.setdefault(field, []).append(condition)


_PUBLIC = Condition("visibility = 'public'")
"""As the index of the public ones has it."""


def _text(value: Any) -> str:
    return value.hex if isinstance(value, UUID) else str(value)
