"""Sessions: commands → table, journal and events. What has ended is told to every front before anybody is answered."""

from agents.endings import EndingDecisions
from domain.sessions import COMMANDS, EVENT_NAMES, decide, document, evolve
from stores.sessions import TABLE
from streams.decisions import Noun
from streams.groups import CommandGroup

NOUN = Noun(
    name="sessions",
    table=TABLE,
    commands=COMMANDS,
    event_names=EVENT_NAMES,
    decide=decide,
    evolve=evolve,
    document=document,
)

GROUP = CommandGroup("sessions", NOUN, EndingDecisions)
