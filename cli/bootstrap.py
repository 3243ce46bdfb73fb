"""Makes `.venv` from the lock and hands over to `cli`. Runs before anything is installed: standard library only.

`.venv/yeoul.json` says which locks were installed, and is written last: a folder without it was interrupted, and
is made again from nothing. A lock file keeps two runs apart.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "yeoul.json"
RUNTIME, TESTS = "requirements-local.lock", "requirements-dev.lock"


class Unable(Exception):
    """What is in the way, and the way out, in one or two sentences."""


def main(arguments: list[str]) -> int:
    """Installs what the command needs and becomes that command; gives an exit code only when it cannot."""
    wanted = TESTS if arguments[:1] == ["test"] else RUNTIME
    try:
        _refuse_others()
        if not _installed(wanted):
            _refuse_platform()
            with _alone():
                # Another run may have done the work while this one waited.
                if not _installed(wanted):
                    _install(wanted)
    except Unable as reason:
        print(f"yeoul: {reason}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nyeoul: stopped; the next run begins the installation again", file=sys.stderr)
        return 130
    os.chdir(ROOT)
    return os.execv(PYTHON, [str(PYTHON), "-m", "cli", *arguments])  # noqa: S606 - this process becomes the command


def _digest(lock: str) -> str:
    return hashlib.sha256((ROOT / lock).read_bytes()).hexdigest()


def _stamp() -> dict[str, str]:
    try:
        stamp = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def _installed(wanted: str) -> bool:
    """Whether `.venv` holds exactly what the lock says. The lock of the tests includes the other one's packages."""
    stamp = _stamp()
    if stamp.get(RUNTIME) != _digest(RUNTIME) or not PYTHON.exists():
        return False
    return wanted == RUNTIME or stamp.get(TESTS) == _digest(TESTS)


def _refuse_others() -> None:
    """A `.venv` that another user made may point to a Python in that user's home."""
    try:
        theirs = VENV.stat().st_uid != os.geteuid()
    except OSError:
        return
    if theirs and not os.access(PYTHON, os.X_OK):
        try:
            who = f"user {VENV.owner()}"
        except KeyError:
            who = "another user"
        raise Unable(
            f"{VENV} was made by {who}, with a Python that you may not run. Run this as that user, or clone into a"
            " folder of your own"
        )


def _refuse_platform() -> None:
    """The servers come as wheels, which exist for glibc and macOS only."""
    if sys.platform not in ("linux", "darwin"):
        raise Unable(
            f"there are no wheels of the servers for {sys.platform}. Use WSL, or the containers: docker compose up"
        )
    if sys.platform == "linux" and platform.libc_ver()[0] != "glibc":
        raise Unable(
            "this Linux has no glibc (musl?), and the servers' wheels need it."
            " Use the containers instead: docker compose up"
        )
    if platform.machine().lower() not in ("x86_64", "amd64", "aarch64", "arm64"):
        raise Unable(
            f"there are no wheels of the servers for {platform.machine()}. Use the containers: docker compose up"
        )


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Holds the lock of this folder; waits for another run that installs. The system frees it when a process dies."""
    import fcntl

    try:
        file = (ROOT / ".venv.lock").open("w")
    except OSError as error:
        raise Unable(f"{ROOT} cannot be written ({error.strerror}); clone to a folder of your own") from None
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("yeoul: another run is installing; waiting for it", file=sys.stderr)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _install(wanted: str) -> None:
    uv = shutil.which("uv")
    # Who has the tests' tools keeps them when a lock changes: otherwise `test` and `up` would take turns installing.
    lock = TESTS if TESTS in _stamp() else wanted
    print(
        f"yeoul: installing {lock} into .venv with {'uv' if uv else 'pip'} (once; a minute or so)",
        file=sys.stderr,
        flush=True,
    )
    _make_venv(uv)
    STAMP.unlink(missing_ok=True)
    if uv:
        command = [uv, "pip", "sync", "--quiet", "--require-hashes", "--python", str(PYTHON), str(ROOT / lock)]
    else:
        command = [str(PYTHON), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
        command += ["--require-hashes", "--no-deps", "--progress-bar", "off", "-r", str(ROOT / lock)]
    _run(command, "the packages could not be installed")
    digests = {name: _digest(name) for name in {RUNTIME, lock}}
    unfinished = STAMP.with_suffix(".new")
    unfinished.write_text(json.dumps(digests))
    unfinished.replace(STAMP)


def _make_venv(uv: str | None) -> None:
    """A folder with a stamp and a working Python is kept and only brought up to date; any other is made anew."""
    works = _stamp() and PYTHON.exists() and subprocess.run([PYTHON, "-c", ""], check=False).returncode == 0
    # pip is missing in what uv made.
    has_pip = uv or (works and subprocess.run([PYTHON, "-c", "import pip"], check=False, stderr=-3).returncode == 0)
    if works and has_pip:
        return
    python = _base_python()
    if uv:
        _run([uv, "venv", "--quiet", "--clear", "--python", python, str(VENV)], "uv could not make .venv")
        return
    if subprocess.run([python, "-c", "import ensurepip, venv"], check=False, stderr=-3).returncode:
        version = f"{sys.version_info[0]}.{sys.version_info[1]}"
        raise Unable(
            f"{python} has no venv module, as Debian ships it. Install it (apt install python{version}-venv), or"
            " install uv"
        )
    _run([python, "-m", "venv", "--clear", str(VENV)], "Python could not make .venv")


def _base_python() -> str:
    """The Python outside any venv: `.venv` may be the one that runs this, and is about to be emptied."""
    return getattr(sys, "_base_executable", None) or sys.executable


def _run(command: list[str], failure: str) -> None:
    environ = os.environ | {"PIP_REQUIRE_VIRTUALENV": "0"}
    environ.pop("PYTHONPATH", None)
    finished = subprocess.run(command, check=False, text=True, stderr=subprocess.PIPE, env=environ)
    if finished.returncode == 0:
        return
    sys.stderr.write(finished.stderr)
    raise Unable(f"{failure}: {_way_out(finished.stderr)}")


def _way_out(output: str) -> str:
    """The likely cause of what an installer printed, and what to do."""
    text = output.lower()
    if "no space left" in text:
        return f"the disk of {ROOT} is full. Free about 500 MB and run the same command again"
    if any(sign in text for sign in ("hashes", "hash mismatch")) and "do not match" in text:
        return "a package is not the one the lock names. Try again; if it stays, your mirror serves something else"
    signs = ("connection", "resolve", "network", "timed out", "dns", "proxy", "could not find a version", "tunnel")
    if any(sign in text for sign in signs):
        return "the package index cannot be reached. Connect to the network (or set your proxy) and run it again"
    return "see the lines above; `rm -rf .venv` and the same command again starts over"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
