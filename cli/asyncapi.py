"""`asyncapi`: what travels through Kafka, as a document."""

from __future__ import annotations

import argparse
import json

HELP = "print the AsyncAPI document of the topics and their messages"


def arguments(parser: argparse.ArgumentParser) -> None:
    """It takes none."""


def run(options: argparse.Namespace) -> int:
    """Prints it."""
    from web.documents import asyncapi

    print(json.dumps(asyncapi.document(), indent=2, ensure_ascii=False))
    return 0
