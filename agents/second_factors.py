"""Second factors: commands → table, journal and events. A code that two logins show at once is good for one."""

from domain.second_factors import COMMANDS, EVENT_NAMES, decide, document, evolve
from stores.second_factors import TABLE
from streams.decisions import Noun
from streams.groups import CommandGroup

NOUN = Noun(
    name="second_factors",
    table=TABLE,
    commands=COMMANDS,
    event_names=EVENT_NAMES,
    decide=decide,
    evolve=evolve,
    document=document,
)

GROUP = CommandGroup("second_factors", NOUN)
