"""`./yeoul bench`: how fast Yeoul is beside small honest programs, as ratios measured in one run."""

import argparse
import asyncio
import sys
from pathlib import Path

from embedded.errors import EmbeddedError

HELP = "measure Yeoul beside plain programs, as ratios"


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which figures, how long, how often, and where the JSON goes. Raises `EmbeddedError` where there is no bench."""
    try:
        from bench.figures import FIGURES, Options
    except ModuleNotFoundError:
        raise EmbeddedError("bench/ is not part of this installation; measure in a clone of the repository") from None
    defaults = Options()
    known = ", ".join(figure.id for figure in FIGURES)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"figures, by the beginning of their ids: {known}")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the records there, as JSON")
    parser.add_argument("--runs", type=int, default=defaults.runs, help="rounds of each figure (%(default)s)")
    parser.add_argument(
        "--seconds", type=float, default=defaults.seconds, help="length of one HTTP run, seconds (%(default)s)"
    )
    parser.add_argument(
        "--steady", type=float, default=defaults.steady_s, help="how long a slow stream is watched, s (%(default)s)"
    )
    parser.add_argument(
        "--events", type=int, default=defaults.events, help="events of stream.batch and streams.* (%(default)s)"
    )
    parser.add_argument("--commands", type=int, default=defaults.commands, help="of worker.memory (%(default)s)")
    parser.add_argument("--rows", type=int, default=defaults.rows, help="rows of read.get32 and api.* (%(default)s)")
    parser.add_argument("--searched", type=int, default=defaults.searched, help="rows of api.find (%(default)s)")
    parser.add_argument("--requests", type=int, default=defaults.requests, help="of api.memory (%(default)s)")


def run(options: argparse.Namespace) -> int:
    """Measure what is wanted. The programs are imported only now: `./yeoul help` stays quick."""
    from bench.figures import Options, selected
    from bench.processes import ChildError
    from bench.run import measured

    try:
        selected(options.names)
    except ValueError as reason:
        print(reason, file=sys.stderr)
        return 2
    chosen = Options(
        seconds=options.seconds,
        runs=options.runs,
        events=options.events,
        steady_s=options.steady,
        commands=options.commands,
        rows=options.rows,
        searched=options.searched,
        requests=options.requests,
    )
    try:
        asyncio.run(measured(options.names, chosen, options.json))
    except asyncio.CancelledError:
        print("stopped; everything that was started has ended", file=sys.stderr)
        return 130
    except ChildError as reason:
        print(reason, file=sys.stderr)
        return 1
    return 0
