"""A browser for the tests of pages: installed where that can be done without asking, else said how."""

import os
import stat
from pathlib import Path

import pytest

from cli import browser

APT = """#!/bin/sh
echo "$@" >> "$0.asked"
if [ "$1" = install ]; then printf '#!/bin/sh\\n' > "${0%/*}/chromium"; chmod +x "${0%/*}/chromium"; fi
"""


def program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The only folder on the PATH, but for the shell."""
    monkeypatch.setenv("PATH", f"{tmp_path}")
    for name in ("chmod", "sh"):
        (tmp_path / name).symlink_to(f"/bin/{name}")
    return tmp_path


def test_without_a_browser_people_are_told_how_to_get_one(programs: Path) -> None:
    browser.ensure()  # no apt-get, nothing to do
    with pytest.raises(browser.NoBrowser, match="apt-get install chromium"):
        browser.find()


@pytest.mark.parametrize("user", [0, 1000])
def test_only_root_installs(programs: Path, monkeypatch: pytest.MonkeyPatch, user: int) -> None:
    program(programs / "apt-get", APT)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    browser.ensure()
    asked = programs / "apt-get.asked"
    if user:
        assert not asked.exists()
        return
    assert [line.split()[0] for line in asked.read_text().splitlines()] == ["update", "install"]
    assert browser.find() == str(programs / "chromium")
    browser.ensure()
    assert len(asked.read_text().splitlines()) == 2  # it is there: nothing is asked again
