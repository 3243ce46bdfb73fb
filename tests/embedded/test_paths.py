"""Clones lie where people put them: spaces, quotes and letters of any script are no obstacle; no data lands outside."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedded.stack import PARTS

ROOT = Path(__file__).resolve().parent.parent.parent
TWICE = """
import asyncio, json, os, sys
from pathlib import Path
from embedded.stack import Stack

async def main():
    seen = []
    for _ in range(2):
        async with Stack(Path(sys.argv[1]), Path(sys.argv[2]), os.environ) as stack:
            seen.append([sorted(stack.pids), stack.settings_environ])
    print(json.dumps(seen))

asyncio.run(main())
"""


ODD = 'it\'s a \\ place, "여울 é"'


@pytest.fixture
def odd(cache_dir: Path) -> Iterator[Path]:
    """A folder of an odd name, with our code and the broker's files in it; PostgreSQL's user can pass through."""
    with tempfile.TemporaryDirectory(prefix="yeoul-paths-") as outer:
        Path(outer).chmod(0o711)
        folder = Path(outer) / ODD
        for room in ("embedded", "config"):
            shutil.copytree(ROOT / room, folder / room, ignore=shutil.ignore_patterns("__pycache__"))
        ignored = shutil.ignore_patterns("parts", "*.aot", "*.log")
        shutil.copytree(cache_dir, folder / "cache", ignore=ignored, copy_function=_link)
        yield folder


def _link(source: str, target: str) -> None:
    """The same file under another name, where both are on one disk: the broker's jars are many megabytes."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


@pytest.mark.usefixtures("stack")
def test_the_servers_run_in_a_folder_of_any_name(odd: Path, process_environ: dict[str, str]) -> None:
    # Without a locale Java takes file names for ASCII.
    environ = {name: value for name, value in process_environ.items() if name not in ("LANG", "LC_ALL", "LC_CTYPE")}
    command = [sys.executable, "-c", TWICE, str(odd / "state"), str(odd / "cache")]
    done = subprocess.run(command, cwd=odd, env=environ, capture_output=True, text=True, check=False, timeout=180)
    logs = "".join(log.read_text() for log in (odd / "state" / "logs").glob("*.log"))
    assert done.returncode == 0, done.stderr + logs
    first, second = json.loads(done.stdout)
    assert first == second
    assert first[0] == sorted(PARTS)
    assert list(odd.parent.iterdir()) == [odd]
    assert (odd / "state" / "kafka" / "data" / "meta.properties").exists()
