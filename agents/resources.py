"""Resources: commands → table, journal and events. What is set must satisfy the schema of its kind.

A worker has a copy of all schemas. The statement that commits looks whether they are still the ones in force, and
writes nothing if not: then the batch is decided again with the new ones. So the schema that counts is the one at the
commit, and no batch waits for a look at it.
"""

from typing import Any

from msgspec import UNSET

from domain.aggregates import Context
from domain.refusals import Code, Refusal
from domain.resources import (
    COMMANDS,
    EVENT_NAMES,
    Resource,
    ResourceCreated,
    ResourceUpdated,
    decide,
    document,
    evolve,
)
from domain.schemas import unsatisfied
from stores.kinds import CHANGE, NONE, schemas
from stores.resources import TABLE, cached
from streams.decisions import Decisions, Noun
from streams.groups import CommandGroup

NOUN = Noun(
    name="resources",
    table=TABLE,
    commands=COMMANDS,
    creating=frozenset({"create_resource"}),
    event_names=EVENT_NAMES,
    decide=decide,
    evolve=evolve,
    document=document,
    cached=cached,
    guard=CHANGE,
)


class ResourceDecisions(Decisions):
    """Decisions on resources, with the schemas of their kinds."""

    _schemas = NONE

    @property
    def guarded(self) -> int:
        """The change that the copy of the schemas is of."""
        return self._schemas.change

    async def reload(self, connection: Any) -> None:
        """The schemas in force."""
        self._schemas = await schemas(connection)

    def decide(self, state: Resource | None, command: Any, context: Context) -> Any:
        """See domain/resources.py; then what was set is looked at."""
        events = decide(state, command, context)
        if not self._schemas.of or isinstance(events, Refusal):
            return events
        for event in events:
            if isinstance(event, ResourceCreated):
                attributes = event.attributes
            elif isinstance(event, ResourceUpdated) and state is not None:
                if event.attributes is UNSET and event.kind == state.kind:
                    continue
                attributes = state.attributes if event.attributes is UNSET else event.attributes
            else:
                continue
            schema = self._schemas.of.get(event.kind)
            if schema is not None and (wrong := unsatisfied(schema, attributes)):
                return Refusal(Code.VALIDATION_ERROR, wrong)
        return events


GROUP = CommandGroup("resources", NOUN, ResourceDecisions)
