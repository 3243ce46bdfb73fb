"""`logs`: what the processes of `up` wrote."""

from __future__ import annotations

import argparse
import sys
import time
from datetime import UTC, datetime

from cli.arguments import whole
from cli.connection import state
from embedded.errors import EmbeddedError
from embedded.processes import tail

HELP = "list the logs of what `up` runs, or show the end of one; --follow goes on"
POLL_S = 0.3


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which log, and how much of it."""
    parser.add_argument(
        "name", metavar="NAME", nargs="?", help="such as web or kafka; all are listed when none is named"
    )
    parser.add_argument("--lines", type=whole(1, 1_000_000), default=100, metavar="N", help="the last N lines (100)")
    parser.add_argument("--follow", action="store_true", help="show further lines as they come; Ctrl-C ends")


def run(options: argparse.Namespace) -> int:
    """0, also when Ctrl-C ends following. Raises `EmbeddedError` for a name without a log."""
    place = state()
    place.holder()  # says whose it is, where it is another user's
    found = {path.stem: path for path in sorted(place.logs.glob("*.log"))}
    if not found or (options.name and options.name not in found):
        said = f"there are: {', '.join(found)}" if found else "there are none yet; ./yeoul up writes them"
        raise EmbeddedError(f"{f'No log {options.name!r}' if options.name else 'No log'} in {place.logs}; {said}")
    if not options.name:
        for name, path in found.items():
            written = datetime.fromtimestamp(path.stat().st_mtime, UTC).astimezone()
            print(f"  {name:<18}{path.stat().st_size:>10} bytes  {written:%Y-%m-%d %H:%M:%S}  {path}")
        return 0
    log = found[options.name]
    shown = log.stat().st_size
    print("\n".join(tail(log, shown).splitlines()[-options.lines :]), flush=True)
    try:
        while options.follow:
            # As `tail -f` does where the system tells nobody that a file grew: Linux and macOS have no way in common,
            # and this process has nothing else to do meanwhile.
            time.sleep(POLL_S)
            size = log.stat().st_size if log.exists() else 0
            if size != shown:
                # A log that was cut begins again.
                sys.stdout.write(tail(log, size - shown if size > shown else size))
                sys.stdout.flush()
                shown = size
    except KeyboardInterrupt:
        pass
    return 0
