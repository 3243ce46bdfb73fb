"""Names for static group members: a worker takes the first free slot, so that one that restarts is known at once.

A slot is a locked file; the lock ends with the process, whatever ends it, so a worker that was killed finds its slot
free, and two workers never share one.
"""

import fcntl
import os
import socket
from pathlib import Path

MOST = 1000


class Slot:
    """A taken slot. `instance` is unique among the running workers of the group, on all hosts."""

    def __init__(self, folder: Path, group: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(MOST):
            handle = os.open(folder / f"{group}.{number}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(handle)
                continue
            self._handle = handle
            # The folder tells two installations on one host apart.
            self.instance = f"{group}-{socket.gethostname()}-{folder.stat().st_ino}-{number}"
            return
        raise RuntimeError(f"{MOST} workers of {group} run on this host already")

    def release(self) -> None:
        """Let the slot go."""
        os.close(self._handle)
