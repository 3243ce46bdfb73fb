"""Password hashes (argon2id), made in a thread beside the event loop, which never waits for one.

Parameters: 19 MiB, 2 passes, 1 lane, the first choice of the OWASP Password Storage Cheat Sheet for argon2id; about
25 ms of one core. The queue is bounded: a flood of logins is refused, not queued without end. The thread gives way to
who reads and writes: there is one in each front process, of which there are about as many as cores, and where the
system has priorities of threads (Linux), its is lower.
"""

import asyncio
import contextlib
import os
import secrets
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError

MEMORY_KIB = 19_456
PASSES = 2
COURTESY = 5
"""The nice value of the threads: about a third of what others get when all want the same core. More would let logins
starve beside many reads."""

T = TypeVar("T")

SHORTEST_OF_ADMINS = 12
FEWEST_DIFFERENT = 6
OWN_PART = 8
"""Characters that must be left of a password without what is tried first."""
SHORTEST_NAME = 3
"""Of an address whose own part is shorter it would be chance."""
WELL_KNOWN = (
    "password", "passwort", "passw0rd", "qwertyuiop", "qwerty", "asdfghjkl", "asdfgh", "zxcvbnm", "1q2w3e4r",
    "1qaz2wsx", "1234567890", "12345678", "123456", "654321", "111111", "000000", "123123", "abc123", "letmein",
    "iloveyou", "welcome", "administrator", "admin", "changeme", "secret", "default", "master", "monkey", "dragon",
    "football", "baseball", "sunshine", "princess", "superman", "trustno1", "correcthorsebatterystaple", "yeoul",
)  # fmt: skip
"""What is tried first, longest spelling first; spaces, dashes and case aside."""


def weakness(password: str, email: str) -> str | None:
    """Why a password is too weak for an admin, as the end of a sentence; None if it is not."""
    if len(password) < SHORTEST_OF_ADMINS:
        return f"it has fewer than {SHORTEST_OF_ADMINS} characters"
    if len(set(password)) < FEWEST_DIFFERENT:
        return f"it has fewer than {FEWEST_DIFFERENT} different characters"
    rest = "".join(sign for sign in password.casefold() if sign not in " -_.")
    own = "".join(sign for sign in email.casefold().partition("@")[0] if sign not in "-_.")
    for part in (own, *WELL_KNOWN) if len(own) >= SHORTEST_NAME else WELL_KNOWN:
        rest = rest.replace(part, "")
    return "it is little more than the address and well-known passwords" if len(rest) < OWN_PART else None


class TooBusy(Exception):
    """Too many passwords are waiting to be checked."""

    retry_after_s = 1


def _give_way() -> None:
    """Lowers the priority of this thread. Elsewhere than on Linux it would be that of the whole process."""
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + COURTESY)


class Passwords:
    """Hashes and checks passwords. `threads` at work, at most `waiting` more in the queue (else TooBusy)."""

    def __init__(self, threads: int = 1, waiting: int = 64, memory_kib: int = MEMORY_KIB, passes: int = PASSES) -> None:
        self._hasher = PasswordHasher(time_cost=passes, memory_cost=memory_kib, parallelism=1)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="passwords", initializer=_give_way)
        self._room = threads + waiting
        # Checked when there is no account, so that an unknown address takes the time of a known one.
        self._nobodys = self._hasher.hash(secrets.token_urlsafe(16))

    async def hash(self, password: str) -> str:
        """The hash of `password`, with its parameters and salt in it."""
        return await self._run(lambda: self._hasher.hash(password))

    async def verify(self, hashed: str | None, password: str) -> bool:
        """True if `hashed` is of `password`. None (no such account) takes as long, and is False."""
        return await self._run(lambda: self._matches(hashed or self._nobodys, password)) and hashed is not None

    def close(self) -> None:
        """Forgets what is queued, and ends the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _matches(self, hashed: str, password: str) -> bool:
        try:
            return self._hasher.verify(hashed, password)
        except (Argon2Error, InvalidHashError):
            return False

    async def _run(self, work: Callable[[], T]) -> T:
        if self._room <= 0:
            raise TooBusy
        self._room -= 1
        future = self._pool.submit(work)
        loop = asyncio.get_running_loop()
        # The place is given back when the thread is done, not when the caller stops waiting.
        future.add_done_callback(lambda done: self._give_back(loop, done))
        return await asyncio.wrap_future(future)

    def _give_back(self, loop: asyncio.AbstractEventLoop, _: "Future[T]") -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody counts any more
            loop.call_soon_threadsafe(self._release)

    def _release(self) -> None:
        self._room += 1
