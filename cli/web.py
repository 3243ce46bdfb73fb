"""`web`: the front, its processes on one port."""

from __future__ import annotations

import argparse

HELP = "run the front alone in this terminal"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command takes none: the settings say all."""


def run(options: argparse.Namespace) -> int:
    """The front's exit code: 0 after a clean stop."""
    import web.parent
    from cli.connection import settings

    return int(web.parent.run(settings("kafka", "postgres", "redis", keys=True)))
