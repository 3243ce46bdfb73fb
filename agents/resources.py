"""Resources: commands → table, journal and events."""

from domain.resources import COMMANDS, EVENT_NAMES, decide, document, evolve
from stores.resources import TABLE, cached
from streams.decisions import Noun
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
)

GROUP = CommandGroup("resources", NOUN)
