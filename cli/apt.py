"""Packages of Debian that tests need, installed where nobody need be asked: by root, with apt-get."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import config


def can_install() -> bool:
    """True if this is root's Debian."""
    return shutil.which("apt-get") is not None and os.geteuid() == 0


def install(*packages: str) -> None:
    """Install these, with what they cannot do without. What fails is printed, and the tests say how to go on."""
    run(["apt-get", "update", "-qq"])
    run(["apt-get", "install", "-qq", "-y", "--no-install-recommends", *packages])


def run(command: list[str], folder: Path | None = None) -> bool:
    """True if it succeeds; else what it said is printed."""
    environ = {**config.process_environ(), "DEBIAN_FRONTEND": "noninteractive"}
    finished = subprocess.run(command, check=False, env=environ, cwd=folder, capture_output=True, text=True)
    if finished.returncode:
        print(finished.stdout + finished.stderr, flush=True)
    return finished.returncode == 0
