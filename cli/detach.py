"""`up --detach`: another process is `up`; this one shows what it says until it is ready."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import config
from cli.programs import ROOT
from embedded.processes import bound_log
from embedded.state import State

POLL_S = 0.1
LOG = "up.log"
"""In the folder of logs: what a detached `up` says, from one run to the next."""


def other_port(state: State) -> str:
    """What to say when YEOUL_WEB_PORT asks for another port than that of the front that runs; else nothing."""
    wanted = config.process_environ().get("YEOUL_WEB_PORT")
    port = urlsplit(str(state.read("run").get("front", ""))).port
    if not wanted or port is None or wanted in ("0", str(port)):
        return ""
    return (
        f" It stays on port {port}; for port {wanted} stop it first:"
        f" ./yeoul down && YEOUL_WEB_PORT={wanted} ./yeoul up --detach"
    )


def detach(state_dir: Path) -> int:
    """Starts `up` in a session of its own, its output in logs/up.log. 0 when it is ready, else its exit code."""
    state = State(state_dir)
    holder = state.holder()
    if holder is not None and state.read("run").get("ready"):
        front = state.read("run")["front"]
        print(f"It runs already (process {holder}): {front}. See `./yeoul status`.{other_port(state)}")
        return 0
    state.logs.mkdir(parents=True, exist_ok=True)
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
