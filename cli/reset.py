"""`reset`: removes all local data."""

from __future__ import annotations

import argparse
import shutil

from cli.connection import state
from embedded.errors import AlreadyRunning, EmbeddedError, some
from embedded.processes import left_over

HELP = "remove all local data, logs and secrets; needs --yes"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--yes", action="store_true", help="really remove it")


def run(options: argparse.Namespace) -> int:
    """Removes the state folder. Raises `AlreadyRunning`, and `EmbeddedError` for a folder that is none of ours."""
    place = state()
    holder = place.holder()
    if not place.folder.exists():
        print("there is nothing to remove")
        return 0
    if holder is not None:
        raise AlreadyRunning(place.folder, holder)
    if left_over(place):
        raise EmbeddedError("An earlier run left processes behind that use the data; first: ./yeoul down")
    if not (place.folder / "lock").exists() or not place.is_ours():
        raise EmbeddedError(f"{place.folder} was not made by ./yeoul up; it is left alone")
    others = place.strangers()
    if others:
        ours = ", ".join(sorted(path.name for path in place.folder.iterdir() if path.name not in others))
        raise EmbeddedError(
            f"{place.folder} is left alone: {some(others)} in it is not from ./yeoul up. Move that elsewhere, or remove"
            f" by hand what is: {ours}"
        )
    if not options.yes:
        print(f"This would remove {place.folder} with everything in it. If you mean it: ./yeoul reset --yes")
        return 1
    from embedded.postgres import socket_folder

    # It may be elsewhere, for want of room in the name.
    shutil.rmtree(socket_folder(place.folder), ignore_errors=True)
    shutil.rmtree(place.folder)
    print(f"removed {place.folder}")
    return 0
