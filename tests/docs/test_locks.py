"""Locks say what is installed, by digest, and never from where: that is for whoever installs it to say."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHON = sorted(ROOT.glob("requirements*.lock"))
ROOMS = [path for path in sorted(ROOT.iterdir()) if not path.name.startswith(".")]
NODE = [lock for room in ROOMS for lock in room.rglob("package-lock.json") if "node_modules" not in lock.parts]
PINNED = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(\[[\w,.-]+\])?==[\w.+!-]+( ; [^\n]+)?")
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def wrong_lines(lock: str) -> list[str]:
    """What is neither a package of one version nor a digest of it; and a package without a digest."""
    entries = re.sub(r"\\\n\s*", " ", re.sub(r"(?m)^\s*#.*\n?", "", lock)).splitlines()
    return [
        entry
        for entry in filter(str.strip, entries)
        if not (words := HASH.split(entry))[1:] or not PINNED.fullmatch(words[0].strip()) or "".join(words[1:]).strip()
    ]


@pytest.mark.parametrize("lock", PYTHON, ids=lambda path: path.name)
def test_a_lock_of_python_holds_versions_and_digests_only(lock: Path) -> None:
    text = lock.read_text("utf-8")
    assert wrong_lines(text) == []
    assert "://" not in text


@pytest.mark.parametrize(
    "line",
    [
        "--index-url https://packages.example.org/simple",
        "-i https://packages.example.org/simple",
        "--find-links https://packages.example.org",
        "--trusted-host packages.example.org",
        f"a @ https://packages.example.org/a.whl --hash=sha256:{'0' * 64}",
        "a==1",
        "a>=1 --hash=sha256:" + "0" * 64,
    ],
)
def test_what_names_a_host_or_has_no_digest_would_be_seen(line: str) -> None:
    hashes = " \\\n    ".join(f"--hash=sha256:{digit * 64}" for digit in "12")
    good = f"b==1.0 ; python_version < '4' \\\n    {hashes}\n    # via c\n"
    assert wrong_lines(good) == []
    assert wrong_lines(f"{line}\n{good}") == [line]


@pytest.mark.parametrize("lock", NODE, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_lock_of_node_holds_versions_and_digests_only(lock: Path) -> None:
    packages = json.loads(lock.read_text("utf-8"))["packages"]
    installed = {name: package for name, package in packages.items() if name}
    assert installed
    assert [name for name, package in packages.items() if "resolved" in package] == []
    assert [name for name, package in installed.items() if not package.get("integrity")] == []


def test_there_are_locks() -> None:
    assert len(PYTHON) >= 3
    assert NODE
