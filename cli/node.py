"""Node.js and the packages that the test of the documents needs: found, or installed where nobody need be asked."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

from cli import apt

FOLDER = Path(__file__).resolve().parent.parent / "tests/client"
MODULES = FOLDER / "node_modules"
MARK = MODULES / ".yeoul"
"""Holds the digest of the lock that was installed."""
OLDEST = 18
HOW = (
    f"The tests of the documents need Node.js {OLDEST} or newer and the packages of tests/client. Install nodejs and"
    " npm (apt-get, dnf, brew), then run ./yeoul test"
)


class NoNode(Exception):
    """It is not there; the text says how to get it."""


def modules() -> Path:
    """The folder of the packages, as the lock names them. Raises NoNode."""
    found = _version()
    if found is None or not _installed():
        raise NoNode(HOW)
    if found < OLDEST:
        raise NoNode(f"{HOW}. Here it is version {found}")
    return MODULES


def ensure() -> None:
    """Install what is missing: Node.js if this is root's Debian, and the packages. Else the tests fail, and say how."""
    if shutil.which("npm") is None and apt.can_install():
        print("node         is missing, and is installed by apt-get for the tests of the documents", flush=True)
        apt.install("nodejs", "npm")
    npm = shutil.which("npm")
    if npm is None or _installed():
        return
    print("npm          installs the packages of tests/client", flush=True)
    # Nothing of theirs runs while it is installed.
    if apt.run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], FOLDER):
        MARK.write_text(_digest(), encoding="utf-8")


def _version() -> int | None:
    """The major version of the Node.js on the PATH."""
    node = shutil.which("node")
    if node is None:
        return None
    said = subprocess.run([node, "--version"], check=True, capture_output=True, text=True).stdout
    return int(said.removeprefix("v").partition(".")[0])


def _installed() -> bool:
    return MARK.exists() and MARK.read_text(encoding="utf-8") == _digest()


def _digest() -> str:
    return hashlib.sha256((FOLDER / "package-lock.json").read_bytes()).hexdigest()
