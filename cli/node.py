"""Node.js and the packages that the test of the documents needs: found, or installed where nobody need be asked."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import config

FOLDER = Path(__file__).resolve().parent.parent / "tests/client"
MODULES = FOLDER / "node_modules"
MARK = MODULES / ".yeoul"
"""Holds the digest of the lock that was installed."""
HOW = (
    "The tests of the documents need Node.js 20 or newer and the packages of tests/client. Install nodejs and npm"
    " (apt-get, dnf, brew), then run ./yeoul test"
)


class NoNode(Exception):
    """It is not there; the text says how to get it."""


def modules() -> Path:
    """The folder of the packages, as the lock names them. Raises NoNode."""
    if shutil.which("node") is None or not _installed():
        raise NoNode(HOW)
    return MODULES


def ensure() -> None:
    """Install what is missing: Node.js if this is root's Debian, and the packages. Else the tests fail, and say how."""
    apt = shutil.which("apt-get")
    if shutil.which("npm") is None and apt is not None and os.geteuid() == 0:
        print("node         is missing, and is installed by apt-get for the tests of the documents", flush=True)
        for command in (
            [apt, "update", "-qq"],
            [apt, "install", "-qq", "-y", "--no-install-recommends", "nodejs", "npm"],
        ):
            _run(command)
    npm = shutil.which("npm")
    if npm is None or _installed():
        return
    print("npm          installs the packages of tests/client", flush=True)
    # Nothing of theirs runs while it is installed.
    if _run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]):
        MARK.write_text(_digest(), encoding="utf-8")


def _installed() -> bool:
    return MARK.exists() and MARK.read_text(encoding="utf-8") == _digest()


def _digest() -> str:
    return hashlib.sha256((FOLDER / "package-lock.json").read_bytes()).hexdigest()


def _run(command: list[str]) -> bool:
    environ = {**config.process_environ(), "DEBIAN_FRONTEND": "noninteractive"}
    finished = subprocess.run(command, check=False, env=environ, cwd=FOLDER, capture_output=True, text=True)
    if finished.returncode:
        print(finished.stdout + finished.stderr, flush=True)
    return finished.returncode == 0
