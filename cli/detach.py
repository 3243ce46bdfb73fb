"""`up --detach`: another process is `up`; this one shows what it says until it is ready."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

import config
from cli.programs import ROOT
from embedded.state import State

POLL_S = 0.1


def detach(state_dir: Path) -> int:
    """Starts `up` in a session of its own, its output in logs/up.log. 0 when it is ready, else its exit code."""
    state = State(state_dir)
    holder = state.holder()
    if holder is not None and state.read("run").get("ready"):
        print(f"It runs already (process {holder}): {state.read('run')['front']}. See `./yeoul status`.")
        return 0
    state.logs.mkdir(parents=True, exist_ok=True)
    log = state.logs / "up.log"
    # It will hold a token: made anew, for the owner alone.
    log.unlink(missing_ok=True)
    log.touch(mode=0o600)
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "cli", "up"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            cwd=ROOT,
            env=config.process_environ(),
        )
    shown = 0
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
