"""Where a command finds the system: the environment first, then a running `up`, then defaults."""

from __future__ import annotations

from pathlib import Path

import config
from config import Settings
from embedded.errors import EmbeddedError, Others
from embedded.state import State

OTHER_PORT = "choose another: YEOUL_WEB_PORT=8090 ./yeoul up"
"""The way out where the port of the front is taken."""
NEEDS = {
    "kafka": "YEOUL_KAFKA_URL",
    "postgres": "YEOUL_POSTGRES_URL",
    "redis": "YEOUL_REDIS_URL",
    "mail": "YEOUL_SMTP_URL",
}
KEYS = tuple(variable.name for variable in config.VARIABLES if variable.name.endswith(("_KEY", "_KEYS")))


def kept(name: str) -> bool:
    """Whether `up` writes a variable's value down for who connects later; keys are in secrets.json."""
    return name not in KEYS and name != "YEOUL_METRICS_PORT"


class NotRunning(EmbeddedError):
    """Nothing runs here, and the environment names no servers."""

    def __init__(self, state_dir: Path, missing: list[str]) -> None:
        super().__init__(
            f"Nothing runs in {state_dir}. Start it with `./yeoul up` in another terminal (or with --detach), or set"
            f" what it would give: {', '.join(missing)}"
        )


def state() -> State:
    """The state folder that the environment names, `.yeoul` by default. Nothing is made or locked.

    Raises `SettingsError`.
    """
    named = {name: text for name, text in config.process_environ().items() if name == "YEOUL_STATE_DIR"}
    return State(config.load(named).state_dir)


def settings(*needs: str, keys: bool = False) -> Settings:
    """The settings for a command that needs these servers (of "kafka", "postgres", "redis"), and with `keys` all keys.

    In the environment `local` a running `up` adds its addresses and its secrets under what the environment says.
    Raises `NotRunning` when something needed is not known there; `Others` when it is another user's to know;
    `SettingsError`.
    """
    environ = {name: value for name, value in config.process_environ().items() if value}
    others: Others | None = None
    if environ.get("YEOUL_ENVIRONMENT", "local") == "local":
        place = state()
        known = {name: value for name, value in place.read("secrets").items() if name.startswith("YEOUL_")}
        try:
            if place.holder() is not None:
                known |= place.read("run").get("environ", {})
        except Others as theirs:
            others = theirs
        environ = known | {"YEOUL_STATE_DIR": str(place.folder)} | environ
    else:
        # Elsewhere nothing is found by itself: everything that is missing is named at once, secrets too.
        config.load(environ)
    names = [*(NEEDS[need] for need in needs), *(KEYS if keys else ())]
    missing = [name for name in names if not environ.get(name)]
    if missing and others is not None:
        raise others
    if missing:
        raise NotRunning(state().folder, missing)
    return config.load(environ)
