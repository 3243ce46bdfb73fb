"""`up --detach`: another process is `up`; this one shows what it says until it is ready."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from pathlib import Path

import config
from cli.connection import kept
from cli.programs import ROOT
from embedded.errors import EmbeddedError
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
    """Starts `up` in a session of its own, its output in logs/up.log. 0 when it is ready, else its exit code.

    Where one runs already, 0 when that one is ready. Raises `EmbeddedError` when it ends before, and for a state
    folder that can't be used.
    """
    state = State(state_dir)
    if state.holder() is not None:
        return _join(state)
    state.make()
    log = state.logs / LOG
    try:
        # It will hold a token: for the owner alone. What an earlier run wrote, and why it ended, stays above.
        log.touch(mode=0o600)
        bound_log(log)
        shown = log.stat().st_size
        output = log.open("ab")
    except OSError as error:
        raise state.refusal(error) from None
    with output:
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
        if ready or code:
            return code or 0
        if code is not None:
            # Another was quicker, and may not be ready yet; or this one was stopped while it started.
            return _join(state)
        # Its end would wake us; its readiness is a file.
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(POLL_S)


def _join(state: State) -> int:
    """Waits until what runs already is ready, and says so: 0. Raises `EmbeddedError` when it ends before."""
    told = False
    while (holder := state.holder()) is not None:
        run = state.read("run")
        # What a crashed one left says nothing of this one.
        if run.get("ready") and run.get("pid") == holder:
            print(f"It runs already (process {holder}): {run['front']}. See `./yeoul status`.{other_settings(state)}")
            return 0
        if holder and not told:
            print(f"Process {holder} runs it and is not ready yet; waiting for it. See `./yeoul status`.", flush=True)
            told = True
        # Not a child of ours: the system tells us neither that it is ready nor that it has ended.
        time.sleep(POLL_S)
    raise EmbeddedError(f"It ended before it was ready. If it was detached, {state.logs / LOG} says why")
