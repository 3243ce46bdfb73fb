"""Stores of resources, their kinds and their search, in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

import msgspec

from domain import kinds, resources
from domain.access import may_read
from domain.words import Term
from stores.kinds import Schemas
from stores.narrowing import Filter, Op
from stores.pages import Page, PageQuery, Total, order
from stores.resources import Change
from stores.resources import View as ResourceView
from stores.search import Hit, Sought


@dataclass
class FakeResources:
    states: dict[UUID, resources.Resource] = field(default_factory=dict)
    raises: Exception | None = None

    async def get(self, resource_id: UUID) -> ResourceView | None:
        if self.raises is not None:
            raise self.raises
        state = self.states.get(resource_id)
        if state is None or state.deleted_at is not None:
            return None
        return ResourceView(resources.document(state), state.owner_id, state.visibility, state.version)

    async def also_deleted(self, id: UUID) -> resources.Resource | None:
        return self.states.get(id)

    async def total(self, query: PageQuery, terms: tuple[Term, ...] = ()) -> Total:
        page = await self.page(msgspec.structs.replace(query, limit=10_000, after=None))
        return Total(len(page.items), True)

    async def history(self, id: UUID, *, limit: int, after: int, public_only: bool) -> list[Change]:
        return []

    async def page(self, query: PageQuery) -> Page:
        if self.raises is not None:
            raise self.raises
        found = [
            state
            for state in self.states.values()
            if (state.deleted_at is not None) == query.deleted
            and may_read(query.visible_to, state.owner_id, state.visibility)
            and all(wanted(state, narrowing) for narrowing in query.filters)
        ]
        found.sort(key=lambda state: state.id, reverse=query.sort[-1][1])
        for column, descending in reversed(query.sort):
            found.sort(key=lambda state, column=column: getattr(state, column), reverse=descending)  # type: ignore[misc]
        if query.after is not None:
            places = [(*(getattr(state, column) for column, _ in query.sort), state.id) for state in found]
            found = found[places.index((*query.after[: len(query.sort)], query.after[-1])) + 1 :]
        page = found[: query.limit]
        if len(found) <= query.limit:
            return Page(page, None)
        return Page(page, tuple(getattr(page[-1], column) for column, _ in order(query)))


def wanted(state: resources.Resource, narrowing: Filter) -> bool:
    """Whether a resource is as a filter says; the operators of times are for the real store (tests/stores)."""
    value = getattr(state, narrowing.field)
    match narrowing.op:
        case Op.EQ:
            return bool(value == narrowing.value)
        case Op.NE:
            return bool(value != narrowing.value)
        case Op.IN:
            return value in narrowing.value
        case _:
            return narrowing.value in value


@dataclass
class FakeKinds:
    states: dict[UUID, kinds.Kind] = field(default_factory=dict)

    def kept(self) -> list[kinds.Kind]:
        return sorted((kind for kind in self.states.values() if kind.deleted_at is None), key=lambda kind: kind.kind)

    async def get(self, id: UUID) -> kinds.Kind | None:
        return next((kind for kind in self.kept() if kind.id == id), None)

    async def listed(self, limit: int, after: str = "") -> list[kinds.Kind]:
        return [kind for kind in self.kept() if kind.kind > after][:limit]

    async def schemas(self) -> Schemas:
        return Schemas(1, {kind.kind: kind.schema for kind in self.kept()})


@dataclass
class FakeSearch:
    hits: list[Hit] = field(default_factory=list)
    sought: list[Sought] = field(default_factory=list)

    async def find(self, sought: Sought) -> list[Hit]:
        self.sought.append(sought)
        return self.hits[: sought.limit]
