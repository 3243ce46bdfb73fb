"""Commands as `./yeoul` runs them, in processes of their own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


class Finished:
    """What a command printed, and its exit code."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr


def yeoul(state_dir: Path, environ: dict[str, str], *arguments: str) -> Finished:
    """Runs a command as `./yeoul` does."""
    command = [sys.executable, "-m", "cli", *arguments]
    own = environ | {"YEOUL_STATE_DIR": str(state_dir)}
    return Finished(
        subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True, check=False, timeout=120)
    )
