"""The browser that the tests of pages need: found, or installed where that can be done without asking."""

from __future__ import annotations

import shutil

from cli import apt

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
HOW = (
    "The tests of pages need Chromium, and there is none on the PATH. Install it: apt-get install chromium (Debian),"
    " dnf install chromium (Fedora), brew install --cask chromium (macOS)."
)


class NoBrowser(Exception):
    """There is none; the text says how to get one."""


def find() -> str:
    """The path of a Chromium. Raises NoBrowser."""
    for name in NAMES:
        if found := shutil.which(name):
            return found
    raise NoBrowser(HOW)


def ensure() -> None:
    """Install Chromium if there is none and this is root's Debian. Otherwise the tests of pages fail, and say how."""
    if any(map(shutil.which, NAMES)) or not apt.can_install():
        return
    print("chromium     is missing, and is installed by apt-get for the tests of pages", flush=True)
    apt.install("chromium")
