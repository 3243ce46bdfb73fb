"""`migrate`: brings the tables up to date."""

from __future__ import annotations

import argparse

HELP = "bring the tables of PostgreSQL up to date; safe when two start at once"


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command takes none."""


def run(options: argparse.Namespace) -> int:
    """Prints what was applied."""
    from cli.connection import settings
    from stores import migrations

    applied = migrations.run(settings("postgres"))
    print(f"applied {', '.join(applied)}" if applied else "up to date")
    return 0
