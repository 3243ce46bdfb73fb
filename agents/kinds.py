"""Kinds: commands → table, journal and events."""

from domain.kinds import COMMANDS, EVENT_NAMES, decide, document, evolve
from stores.kinds import TABLE
from streams.decisions import Noun
from streams.groups import CommandGroup

NOUN = Noun(
    name="kinds",
    table=TABLE,
    commands=COMMANDS,
    event_names=EVENT_NAMES,
    decide=decide,
    evolve=evolve,
    document=document,
)

GROUP = CommandGroup("kinds", NOUN)
