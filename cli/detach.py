"""`up --detach`: another process is `up`; this one shows what it says until it is ready."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import config
from cli.connection import kept
from cli.programs import ROOT
from embedded.processes import bound_log
from embedded.state import State

POLL_S = 0.1
LOG = "up.log"
"""In the folder of logs: what a detached `up` says, from one run to the next."""


def other_settings(state: State) -> str:
    """What to say when the environment asks for other settings than those of what runs; else nothing.

    Keys and the port of metrics are not kept, so not compared; and nothing is before all settings are known.
    """
    given, run = config.process_environ(), state.read("run")
    if run.get("pid") != state.holder():
        return ""
    wanted = config.load(given).environ()
    others = [
        name
        for variable in config.VARIABLES
        if given.get(name := variable.name)
        and kept(name)
        and wanted.get(name) != run["environ"].get(name)
        and name != "YEOUL_STATE_DIR"  # by which it was found
        and (name, wanted.get(name)) != ("YEOUL_WEB_PORT", "0")
    ]
    if not others:
        return ""
    return (
        f" It goes on with the settings of its start; for {', '.join(others)} as given now stop it first:"
        " ./yeoul down, then ./yeoul up"
    )


def detach(state_dir: Path) -> int:
    """Starts `up` in a session of its own, its output in logs/up.log. 0 when it is ready, else its exit code."""
    state = State(state_dir)
    holder = state.holder()
    if holder is not None and state.read("run").get("ready"):
        front = state.read("run")["front"]
        print(f"It runs already (process {holder}): {front}. See `./yeoul status`.{other_settings(state)}")
        return 0
    state.make()
    log = state.logs / LOG
    # It will hold a token: for the owner alone. What an earlier run wrote, and why it ended, stays above.
    log.touch(mode=0o600)
    bound_log(log)
    shown = log.stat().st_size
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "cli", "up", "--detached"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=ROOT,
            env=config.process_environ(),
        )
    while True:
        code = process.poll()
        run = state.read("run")
        ready = bool(run.get("ready")) and run.get("pid") == process.pid
        with log.open("rb") as file:
            file.seek(shown)
            text = file.read()
        shown += len(text)
        sys.stdout.write(text.decode(errors="replace"))
        sys.stdout.flush()
        if ready or code is not None:
            return code or 0
        # Its end would wake us; its readiness is a file.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(POLL_S)
