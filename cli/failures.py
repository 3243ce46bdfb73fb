"""What a command says when it can't do its work: one sentence with the way out, for each failure that is expected.

By name and not by class: `./yeoul help` must not import Kafka's client to know what it might raise.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import config

NOT_STARTED = "is it started? `./yeoul status` shows what runs, `./yeoul up` starts it"
THEIRS = "that address was set here: is the server started, and is the address right? `./yeoul doctor` tries it"


def _hint(variable: str) -> str:
    """The way out: `up` starts nothing at an address that the environment names."""
    return THEIRS if config.process_environ().get(variable) else NOT_STARTED


def _as_it_says(error: BaseException) -> str:
    return str(error) or _first_line(error)


def _first_line(error: BaseException) -> str:
    """What the class says of itself: an exception's docstring is a message for people."""
    return (type(error).__doc__ or type(error).__name__).strip().splitlines()[0]


def _postgres_away(error: BaseException) -> str:
    return f"{_as_it_says(error).rstrip('.')}. PostgreSQL (YEOUL_POSTGRES_URL): {_hint('YEOUL_POSTGRES_URL')}"


def _postgres_refuses(error: BaseException) -> str:
    return f"PostgreSQL refuses: {error}. Check the user, password and database of YEOUL_POSTGRES_URL"


def _no_tables(error: BaseException) -> str:
    return f"PostgreSQL: {error}. The tables are not up to date: ./yeoul migrate"


def _postgres_unfit(error: BaseException) -> str | None:
    # What PostgreSQL itself said; a statement of ours that it can't read is a defect.
    return None if error.__cause__ is None else sentence(error.__cause__)


def _kafka_away(error: BaseException) -> str:
    # aiokafka names itself and how sockets are made before and between the addresses.
    said = re.sub(r", <AddressFamily\.\w+: \d+>", "", _as_it_says(error)).removeprefix("KafkaConnectionError: ")
    return f"Kafka is away: {said}. Kafka (YEOUL_KAFKA_URL): {_hint('YEOUL_KAFKA_URL')}"


def _busy(error: BaseException) -> str:
    return f"{_as_it_says(error)}; try again in a moment"


EXPECTED: dict[str, Callable[[BaseException], str | None]] = {
    "config.variables.SettingsError": _as_it_says,
    "embedded.errors.EmbeddedError": _as_it_says,
    "stores.postgres.StoresUnfit": _postgres_unfit,
    "stores.postgres.StoresAway": _postgres_away,
    "asyncpg.exceptions.InvalidAuthorizationSpecificationError": _postgres_refuses,
    "asyncpg.exceptions.InvalidCatalogNameError": _postgres_refuses,
    "asyncpg.exceptions.InsufficientPrivilegeError": _postgres_refuses,
    "asyncpg.exceptions.UndefinedTableError": _no_tables,
    "asyncpg.exceptions.UndefinedColumnError": _no_tables,
    "stores.selecting.TooMany": _first_line,
    "streams.admin.WrongTopic": _as_it_says,
    "streams.publish.BrokerAway": _kafka_away,
    "aiokafka.errors.KafkaError": _kafka_away,
    "security.passwords.TooBusy": _busy,
    "web.accounts.NoToken": _as_it_says,
    "web.accounts.NotMade": _as_it_says,
    "security.fields.SealBroken": _as_it_says,
}
"""Full names of exceptions, theirs and those of what derives from them, and what is said of each."""


def sentence(error: BaseException) -> str | None:
    """What to tell a person about `error`; None if it is none that is expected, so a defect of ours."""
    for kind in type(error).__mro__:
        say = EXPECTED.get(f"{kind.__module__}.{kind.__qualname__}")
        if say is not None:
            return say(error)
    return None
