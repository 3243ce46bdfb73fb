"""`topics`: makes the topics that are declared and missing, and checks the others."""

from __future__ import annotations

import argparse

HELP = "make the topics that are missing, and check the others"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command takes none."""


def run(options: argparse.Namespace) -> int:
    """Raises what `streams.admin.ensure` raises when a topic differs from its declaration."""
    from cli.connection import settings
    from streams import admin

    admin.ensure(settings("kafka"))
    print("as declared")
    return 0
