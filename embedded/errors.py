"""What can stand in the way of the embedded stack. Each message is a sentence for people, with the way out."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Collection
from pathlib import Path


class EmbeddedError(Exception):
    """The embedded stack cannot do what was asked; the message says why and what to do."""


class AlreadyRunning(EmbeddedError):
    """Another process holds this state folder."""

    def __init__(self, state_dir: Path, pid: int | None) -> None:
        self.pid = pid
        who = f"process {pid}" if pid else "another process"
        super().__init__(
            f"It runs already: {who} holds {state_dir}. See `./yeoul status`, or end it by `./yeoul down`."
        )


class Others(EmbeddedError):
    """The state folder is another user's."""

    def __init__(self, state_dir: Path) -> None:
        who = "another user"
        with contextlib.suppress(OSError, KeyError):
            who = f"user {state_dir.owner()}"
        super().__init__(
            f"{state_dir} belongs to {who}: run this as that user, or take a folder of your own:"
            " YEOUL_STATE_DIR=/another/folder"
        )


class NotOurs(EmbeddedError):
    """The folder that is to be the state folder holds what others made."""

    def __init__(self, folder: Path, names: Collection[str]) -> None:
        super().__init__(
            f"{folder} is no state folder: {some(names)} in it is not from ./yeoul up. It is left alone. Take a new"
            " folder, or an empty one: YEOUL_STATE_DIR=/another/folder"
        )


class PortBusy(EmbeddedError):
    """A port that a part needs is taken by another program."""

    def __init__(self, name: str, port: int, owner: str, way_out: str) -> None:
        super().__init__(f"Port {port}, meant for {name}, is taken by {owner}. Stop that program, or {way_out}.")


class NoListening(EmbeddedError):
    """The system does not let us listen at an address, though no other program does."""

    def __init__(self, host: str, port: int, variable: str, error: OSError) -> None:
        if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
            said = (
                f"This machine has no address {host}. Set {variable} to one of its own, such as 127.0.0.1 or 0.0.0.0."
            )
        else:
            said = (
                f"{host} port {port} cannot be listened on: {error.strerror}. Set {variable}, or the port, to another."
            )
        super().__init__(said)


class DiskFull(EmbeddedError):
    """The disk has no room for the data."""

    def __init__(self, folder: Path, detail: str = "") -> None:
        super().__init__(
            f"The disk that holds {folder} is full{detail}. Free some room, or put the data elsewhere:"
            " YEOUL_STATE_DIR=/another/folder ./yeoul up"
        )


class PartFailed(EmbeddedError):
    """A part did not start, or keeps dying."""

    def __init__(self, name: str, what: str, log: Path, cause: str = "") -> None:
        self.name = name
        hint = f" {cause}" if cause else ""
        super().__init__(f"{name} {what}.{hint} Its log: {log}")


def some(names: Collection[str]) -> str:
    """The first few of the names, and how many more there are."""
    first = ", ".join(sorted(names)[:3])
    return f"{first} and {len(names) - 3} more" if len(names) > 3 else first


def explain(tail: str, folder: Path) -> str:
    """The cause that the end of a log shows, as a sentence; empty when it shows none we know."""
    text = tail.lower()
    if tells_of_full_disk(text):
        return str(DiskFull(folder))
    if "address already in use" in text:
        return f"One of its ports is taken. Stop the other program, or remove {folder / 'ports.json'}."
    if "database files are incompatible" in text:
        return "Its data was made by another major version: go back to that one, or begin anew by ./yeoul reset --yes."
    if "could not look up effective user id" in text:
        return "PostgreSQL asks the system who runs it: give this user an entry in /etc/passwd, or run as another."
    if "permission denied" in text:
        return f"It may not read or write something: check the owner of {folder}."
    if "cannot allocate memory" in text or "insufficient memory" in text or "outofmemoryerror" in text:
        return "This machine has too little free memory for it; about 1.2 GB are needed in all."
    if "lib" in text and "no such file or directory" in text and "error while loading shared libraries" in text:
        return "A library of the system is missing; `./yeoul doctor` says which."
    return ""


def tells_of_full_disk(text: str) -> bool:
    """Whether a program's log names what `is_disk_full` knows by number."""
    return any(said in text.lower() for said in ("no space left on device", "disk quota exceeded", "file too large"))


def is_disk_full(error: OSError) -> bool:
    """Whether the system refused for want of room: no space, quota, or a file size limit."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
