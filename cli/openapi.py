"""`openapi`: the document of the API, as the front serves it."""

from __future__ import annotations

import argparse
import json

HELP = "print the OpenAPI document of v1 (or of v2)"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which version."""
    parser.add_argument("version", nargs="?", choices=("v1", "v2"), default="v1", help="v1 unless you say otherwise")


def run(options: argparse.Namespace) -> int:
    """Prints it."""
    from web.documents import openapi

    print(json.dumps(openapi.document(options.version), indent=2, ensure_ascii=False))
    return 0
