"""`metrics`: what is declared, what would change, and building a metric anew from the log."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from cli.connection import NotRunning, settings

if TYPE_CHECKING:
    from agents.rebuild import State
    from config import Settings
    from domain.metrics import Metric
    from stores.metrics import Version

HELP = "list the metrics, check their file, build one anew from the log"
SHOW_EVERY_S = 0.5
"""On a terminal; elsewhere a line every TELL_EVERY_S."""
TELL_EVERY_S = 5.0


def _time(text: str) -> datetime:
    """RFC 3339; without an offset it is UTC."""
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 2026-01-31T12:00") from None


def arguments(parser: argparse.ArgumentParser) -> None:
    """One action, and what it acts on."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, words in (
        ("list", "every metric with its versions and their states"),
        ("check", "read the file; say what is wrong in it (exit code 1), or what it would change"),
    ):
        actions.add_parser(name, help=words, description=words, allow_abbrev=False)
    words = "build a metric anew from the log, as it is declared now, while its old table keeps serving"
    rebuild = actions.add_parser("rebuild", help=words, description=words, allow_abbrev=False)
    rebuild.add_argument("name", metavar="NAME")
    rebuild.add_argument(
        "--since",
        type=_time,
        metavar="TIME",
        help="begin with what the log took then (default: all it keeps)",
    )
    rebuild.add_argument("--anew", action="store_true", help="give up what an earlier run began")


def run(options: argparse.Namespace) -> int:
    """0 done, 1 the file is wrong or it could not be done."""
    if options.action == "list":
        return asyncio.run(_list(settings("postgres")))
    if options.action == "check":
        return _check()
    known = settings("kafka", "postgres", "redis")
    metric = next((metric for metric in _declared(known) if metric.name == options.name), None)
    if metric is None:
        names = ", ".join(metric.name for metric in _declared(known)) or "none"
        print(f"yeoul: {known.metrics_file} declares no metric {options.name!r}; there are: {names}", file=sys.stderr)
        return 1
    try:
        return asyncio.run(_rebuild(known, metric, options))
    except KeyboardInterrupt:
        print(f"\nyeoul: left where it is; ./yeoul metrics rebuild {metric.name} goes on from there", file=sys.stderr)
        return 130


def _declared(known: Settings) -> tuple[Metric, ...]:
    from config.metrics import load

    return load(known.metrics_file)


def _check() -> int:
    import config
    from config.metrics import load_plain
    from config.variables import SettingsError

    try:
        known = settings("postgres")
    except NotRunning:
        known = config.load({k: v for k, v in config.process_environ().items() if k == "YEOUL_METRICS_FILE"})
    try:
        metrics = _declared(known)
    except SettingsError as error:
        for complaint in error.complaints:
            print(complaint, file=sys.stderr)
        return 1
    print(f"{known.metrics_file}: {len(metrics)} metrics, nothing is wrong with them")
    if not known.postgres_url:
        print("nothing runs here, so what they would change is not known")
        return 0
    for line in asyncio.run(_changes(known, metrics)):
        print(line)
    if load_plain(known.metrics_file) is not None:
        print("  [plain]  workers read plain JSON as it is declared here from their next start on")
    return 0


async def _versions(known: Settings) -> list[Version]:
    from stores.metrics import Metrics
    from stores.postgres import of

    database = of(known, "metrics", size=1)
    try:
        return await Metrics(database).versions()
    finally:
        await database.close()


async def _changes(known: Settings, metrics: tuple[Metric, ...]) -> list[str]:
    serving = {found.metric.name: found.metric for found in await _versions(known) if found.state == "serving"}
    declared = {metric.name: metric for metric in metrics}
    lines = []
    for name, metric in sorted(declared.items()):
        if name not in serving:
            lines.append(f"  new      {name}: counted from the next start of a worker on; for what was before:"
                         f" ./yeoul metrics rebuild {name}")  # fmt: skip
        elif serving[name].shape != metric.shape:
            lines.append(f"  changed  {name}: goes on as it was until ./yeoul metrics rebuild {name}")
        elif serving[name] != metric:
            lines.append(f"  changed  {name}: title, visibility or time to keep; with the next start of a worker")
    lines += [
        f"  retired  {name}: counted no more from the next start of a worker on, and its rows are removed"
        for name in sorted(serving.keys() - declared.keys())
    ]
    return lines or ["  nothing would change in the tables"]


async def _list(known: Settings) -> int:
    found = await _versions(known)
    if found:
        print(f"{'metric':<24} {'version':>7}  {'state':<9} {'since (UTC)':<17} windows")
    for version in found:
        windows = ", ".join(kept.window.name for kept in version.metric.windows)
        since = f"{version.since.astimezone(UTC):%Y-%m-%d %H:%M}"
        print(f"{version.metric.name:<24} {version.version:>7}  {version.state:<9} {since:<17} {windows}")
    if not found:
        print("no metrics yet: a worker begins them when it starts")
    return 0


async def _rebuild(known: Settings, metric: Metric, options: argparse.Namespace) -> int:
    from agents.rebuild import Rebuild, Refused
    from stores.metrics import Gone
    from streams.groups import Connections
    from streams.rereading import Unfinished

    connections = Connections(known, "rebuild")
    shown = _Shown()
    try:
        await Rebuild(connections, metric, print, shown.show).run(options.since, anew=options.anew)
    except Gone:
        print(
            f"yeoul: what was built of {metric.name} is not wanted any more: another rebuild was quicker or began anew,"
            " or a worker started with a file without it. ./yeoul metrics list shows what there is",
            file=sys.stderr,
        )
        return 1
    except (Refused, Unfinished) as error:
        print(f"yeoul: {error}", file=sys.stderr)
        return 1
    finally:
        shown.end()
        await connections.close()
    return 0


class _Shown:
    """How far it is, in one line that is written again and again, or a line now and then where nobody looks."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._at = 0.0
        self._open = False

    def show(self, state: State) -> None:
        now = time.monotonic()
        done = state.read >= state.of
        if not done and now - self._at < (SHOW_EVERY_S if self._terminal else TELL_EVERY_S):
            return
        self._at = now
        rate = state.read / state.seconds if state.seconds else 0.0
        left = f", {(state.of - state.read) / rate:,.0f} s left" if rate and not done else ""
        line = f"  {state.read:,} of {state.of:,} events, {rate:,.0f}/s{left}"
        if self._terminal:
            print(f"\r\x1b[K{line}", end="", file=sys.stderr, flush=True)
            self._open = True
        else:
            print(line, file=sys.stderr, flush=True)

    def end(self) -> None:
        """Leave the line."""
        if self._open:
            print(file=sys.stderr)
