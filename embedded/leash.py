"""Becomes another program that ends when its parent does. Run as a script, standard library only.

    python -I -S leash.py PARENT SIGNAL UID GID program argument…

The kernel sends SIGNAL when the parent dies, even by SIGKILL (Linux; elsewhere the next start ends what is left).
It is asked for here and not between fork and exec, where a process with threads may hardly do anything; and after
the change of user, which would undo it. UID -1 keeps the user.
"""

import ctypes
import os
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Never returns: it becomes the program, or exits with 127."""
    parent, signal, uid, gid, *program = sys.argv[1:]
    if int(uid) >= 0:
        os.setgroups([])
        os.setgid(int(gid))
        os.setuid(int(uid))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal), 0, 0, 0)
    if os.getppid() != int(parent):
        sys.exit(f"{program[0]}: the parent is gone already")
    try:
        os.execv(program[0], program)  # noqa: S606 - this process becomes the program
    except OSError as error:
        print(f"{program[0]}: {error.strerror}", file=sys.stderr)
        sys.exit(127)


main()
