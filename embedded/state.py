"""The state folder (`.yeoul`): ports, secrets, who runs, and the lock that makes one `up` the only one.

    lock  run.json  ports.json  secrets.json  processes.json  logs/  kafka/  postgres/  valkey/  mail/

Whatever holds a secret has mode 600. The lock belongs to a living process: the system frees it when that one dies,
so a lock never needs to be removed by hand. It is also the first thing that is made: by it the folder is known as ours.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import json
import os
import random
import secrets
import shutil
import socket
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import IO, Any

import psutil

from embedded.errors import AlreadyRunning, DiskFull, EmbeddedError, NotOurs, Others, PortBusy, is_disk_full

# Below the range from which systems take the ports of outgoing connections (32768 on Linux, 49152 on macOS): a port
# kept for the next start must not be somebody's random port by then.
PORTS = range(20_000, 32_000)
ROOM_BYTES = 200 * 1024 * 1024
"""The free room without which a start is refused: an empty stack takes about half."""
SOCKET_PATH_BYTES = 100
"""A unix socket's whole path has room for 103 bytes on macOS and 107 on Linux."""
LEFT = {"slots": "*.lock", "metrics": "web-*"}
"""What workers and fronts leave where no `up` ever ran: folders, and how all that is in them is named."""
JSONS = ("run", "ports", "secrets", "processes")
NAMES = {"lock", "logs", "kafka", "postgres", "valkey", "mail", *LEFT}
NAMES |= {f"{name}.{suffix}" for name in JSONS for suffix in ("json", "new")}
"""Everything that we ever make in a state folder."""


class State:
    """One state folder. Made by `open`; everything in it is read and written by this class."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self.logs = self.folder / "logs"
        self._lock: IO[str] | None = None

    def make(self) -> None:
        """Makes the folder, unless it is there.

        Raises `NotOurs` when it is there and is no state folder, `Others`, `DiskFull`, or `EmbeddedError` when it
        cannot be written.
        """
        try:
            if not self.is_ours():
                raise NotOurs(self.folder, self.strangers() or self._entries())
            self.folder.mkdir(parents=True, exist_ok=True)
            # Others may pass through (PostgreSQL, when started by root, is another user), not look around.
            self.folder.chmod(0o711 if os.geteuid() == 0 else 0o700)
            (self.folder / "lock").touch()
            self.logs.mkdir(exist_ok=True)
            self.logs.chmod(0o700)
        except OSError as error:
            raise self.refusal(error) from None

    def is_ours(self) -> bool:
        """Whether the folder is a state folder, or may become one: not there yet, or empty. Raises OSError.

        In a folder of somebody else's we would take rights away, and `reset` would remove all that is in it.
        """
        try:
            entries = self._entries()
        except FileNotFoundError:
            return True
        if entries <= LEFT.keys():
            return all(path.match(LEFT[name]) for name in entries for path in (self.folder / name).iterdir())
        # What was put beside our files later is no obstacle where our keys are.
        if any(name.startswith("YEOUL_") for name in self.read("secrets")):
            return True
        return self._has_lock() and not self.strangers()

    def _has_lock(self) -> bool:
        """Whether there is a lock, and it is one of ours: with the number of a process, or empty. Raises OSError."""
        lock = self.folder / "lock"
        return lock.is_file() and lock.stat().st_size < 20 and (lock.read_bytes().strip() or b"0").isdigit()

    def strangers(self) -> list[str]:
        """The names in the folder that are none of ours. Raises OSError."""
        return sorted(self._entries() - NAMES)

    def _entries(self) -> set[str]:
        return {path.name for path in self.folder.iterdir()}

    def refusal(self, error: OSError) -> EmbeddedError:
        """What to say when something in the folder cannot be made."""
        if is_disk_full(error):
            return DiskFull(self.folder)
        try:
            # Where somebody else made it, this says so.
            self.holder()
        except Others as others:
            return others
        return EmbeddedError(
            f"The state folder {self.folder} cannot be written: {error.strerror}. Take one of your own:"
            " YEOUL_STATE_DIR=/another/folder"
        )

    def take(self, room_bytes: int = ROOM_BYTES) -> None:
        """Makes the folder and holds its lock until `release`; `room_bytes` have to be free.

        Raises `AlreadyRunning`, `DiskFull`, and what `make` raises.
        """
        self.make()
        try:
            lock = (self.folder / "lock").open("a+")
        except OSError as error:
            raise self.refusal(error) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            text = lock.read().strip()
            lock.close()
            raise AlreadyRunning(self.folder, int(text) if text.isdigit() else None) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        self._lock = lock
        free = shutil.disk_usage(self.folder).free
        if free < room_bytes:
            self.release()
            raise DiskFull(self.folder, f": {free >> 20} MB are free and {room_bytes >> 20} MB are needed to begin")

    def release(self) -> None:
        """Gives the lock back."""
        if self._lock is not None:
            with contextlib.suppress(OSError):
                self._lock.truncate(0)
            self._lock.close()
            self._lock = None

    def holder(self) -> int | None:
        """The process that holds the lock now, None when nobody does. Raises `Others` when we may not know."""
        try:
            with (self.folder / "lock").open("r+") as lock:
                try:
                    fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
                except OSError:
                    text = lock.read().strip()
                    return int(text) if text.isdigit() else 0
        except PermissionError:
            raise Others(self.folder) from None
        except OSError:
            pass
        return None

    def read(self, name: str) -> dict[str, Any]:
        """The object in `<name>.json`; empty when there is none, or a cut one."""
        try:
            value = json.loads((self.folder / f"{name}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return value if isinstance(value, dict) else {}

    def write(self, name: str, value: Mapping[str, Any]) -> None:
        """Replaces `<name>.json` as a whole, mode 600: a reader sees the old or the new one."""
        path = self.folder / f"{name}.json"
        fresh = path.with_suffix(".new")
        try:
            write_private(fresh, json.dumps(value, indent=1))
            fresh.replace(path)
        except OSError as error:
            if is_disk_full(error):
                raise DiskFull(self.folder) from None
            raise

    def remove(self, name: str) -> None:
        """Removes `<name>.json` if it is there."""
        (self.folder / f"{name}.json").unlink(missing_ok=True)

    def secrets(self) -> dict[str, str]:
        """The secrets of this installation, made at the first call: `YEOUL_…` keys, and the servers' passwords."""
        known: dict[str, str] = self.read("secrets")
        if not known:
            known = {
                f"YEOUL_{noun}_KEY": base64.b64encode(secrets.token_bytes(32)).decode()
                for noun in ("COMMAND", "INDEX", "CURSOR", "SEALING")
            }
            known["YEOUL_TOKEN_KEYS"] = f"local-1:{base64.b64encode(secrets.token_bytes(32)).decode()}"
            known |= {"postgres": secrets.token_urlsafe(24), "valkey": secrets.token_urlsafe(24)}
            self.write("secrets", known)
        return known

    def port(self, name: str, wanted: int | None = None, way_out: str | None = None) -> int:
        """The port of `name`, the same at every start: `wanted` if it is free at the first one, else a free one.

        Raises `PortBusy`, with `way_out` if there is one, when the port of earlier starts is taken by another program.
        """
        ports: dict[str, int] = self.read("ports")
        port = ports.get(name)
        if port is not None:
            if not is_free(port):
                forget = f"remove {self.folder / 'ports.json'} to have others chosen"
                raise PortBusy(name, port, owner_of(port), way_out or forget)
            return port
        port = wanted if wanted and is_free(wanted) else free_port(set(ports.values()))
        self.write("ports", ports | {name: port})
        return port


def write_private(path: Path, text: str) -> None:
    """Writes a file that only its owner may read, from its first moment on. Raises OSError."""
    write_private_bytes(path, text.encode())


def write_private_bytes(path: Path, content: bytes) -> None:
    """As `write_private`, of bytes."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen on `port`."""
    return obstacle(port, host) is None


def obstacle(port: int, host: str = "127.0.0.1") -> OSError | None:
    """What keeps a server from listening there: EADDRINUSE, EADDRNOTAVAIL, …; None when nothing does."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        # As servers do it: connections of an earlier life that linger do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error
    return None


def free_port(taken: Collection[int] = ()) -> int:
    """A port nobody listens on now, and not in `taken`."""
    # Not by the generator that others seed: processes in which it is seeded alike would all choose the same.
    for port in random.SystemRandom().sample(PORTS, 200):
        if port not in taken and is_free(port):
            return port
    raise EmbeddedError(f"No free port was found from {PORTS.start} to {PORTS.stop}.")


def owner_of(port: int) -> str:
    """Who listens on `port`, in words."""
    with contextlib.suppress(psutil.Error, OSError):
        for connection in psutil.net_connections("tcp"):
            if connection.laddr and connection.laddr.port == port and connection.status == psutil.CONN_LISTEN:
                if connection.pid:
                    return f"process {connection.pid} ({psutil.Process(connection.pid).name()})"
                break
    return "another program"
