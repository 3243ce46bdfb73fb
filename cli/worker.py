"""`worker`: one more process that consumes; it shares the load with those that run."""

from __future__ import annotations

import argparse
import json

HELP = "run consumers in this terminal, of all groups or the named ones; they share the load"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("groups", metavar="GROUP", nargs="*", help="consumer groups to join; all when none is named")
    parser.add_argument("--list", action="store_true", help="print, as JSON, which groups `up` runs in which process")


def run(options: argparse.Namespace) -> int:
    """The worker's exit code: 0 after a clean stop."""
    # Imported here, as everything heavy in cli/: `help` and `status` answer at once.
    import worker
    from cli.connection import settings

    if options.list:
        print(json.dumps(worker.PROCESSES))
        return 0
    return int(worker.run(settings("kafka", "postgres", "redis", keys=True), options.groups))
