"""What every aggregate shares: the context of a decision, the occurrence of an event, and the fold over both.

An aggregate module offers
    decide(state | None, command, context) -> tuple[event, ...] | Refusal     what happens, if anything
    evolve(state | None, event, at) -> state                                  what is true after it
Both are functions of their arguments alone. The version of a state is the number of events that made it.
"""

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Protocol, TypeVar
from uuid import UUID

import msgspec

from domain.access import Actor


class Context(msgspec.Struct, frozen=True):
    """What surrounds a decision: who asks, about which aggregate, and when (aware UTC; no clock is asked)."""

    actor: Actor
    aggregate_id: UUID
    now: datetime


class Occurrence(msgspec.Struct, frozen=True):
    """What surrounds an event: the version is the one the aggregate has after it, from 1 on."""

    aggregate_id: UUID
    version: int
    time: datetime


class Versioned(Protocol):
    """A state which knows how many events made it."""

    @property
    def version(self) -> int:
        """The number of events."""
        ...


S = TypeVar("S", bound=Versioned)


def fold(
    evolve: Callable[[S | None, Any, Occurrence], S], state: S | None, events: Iterable[Any], context: Context
) -> S | None:
    """The state after `events` have happened to `state`, in order; the same state if there are none."""
    version = 0 if state is None else state.version
    for event in events:
        version += 1
        at = Occurrence(context.aggregate_id, version, context.now)
        state = evolve(state, event, at)
    return state
