"""`report`: what was counted, for people and for scripts."""

from __future__ import annotations

import argparse
import asyncio
import csv
import sys
from datetime import UTC, datetime, timedelta

from cli.connection import settings

HELP = "events counted by hour, source and type; --format csv or json for scripts"


def _time(text: str) -> datetime:
    """RFC 3339; without an offset it is UTC."""
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no time such as 2026-01-31T12:00") from None
    try:
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except OverflowError:
        raise argparse.ArgumentTypeError(f"{text!r} is outside of the years 1 to 9999 in UTC") from None


def arguments(parser: argparse.ArgumentParser) -> None:
    """Which hours, and how to print them."""
    parser.add_argument("--from", dest="since", type=_time, metavar="TIME", help="default: 24 hours ago")
    parser.add_argument("--to", dest="until", type=_time, metavar="TIME", help="default: now")
    parser.add_argument("--format", choices=("table", "csv", "json"), default="table")


def run(options: argparse.Namespace) -> int:
    """Prints the counts."""
    return asyncio.run(_run(options))


async def _run(options: argparse.Namespace) -> int:
    import msgspec

    from stores.analytics import Analytics
    from stores.postgres import of

    now = datetime.now(UTC)
    since = options.since or (now - timedelta(hours=24)).replace(minute=0, second=0, microsecond=0)
    database = of(settings("postgres"), "report", size=1)
    try:
        rows = await Analytics(database).by_hour(since, options.until or now + timedelta(hours=1))
    finally:
        await database.close()
    if options.format == "json":
        print(msgspec.json.encode(rows).decode())
    elif options.format == "csv":
        writer = csv.writer(sys.stdout)
        writer.writerow(("hour", "source", "type", "count"))
        writer.writerows((row.hour.isoformat(), row.source, row.type, row.count) for row in rows)
    else:
        if rows:
            print(f"{'hour (UTC)':<17} {'count':>10}  {'source':<24} type")
        for row in rows:
            names = "".join(c if c.isprintable() else "�" for c in f"{row.source:<24} {row.type}")
            print(f"{row.hour:%Y-%m-%d %H:%M}Z {row.count:>10}  {names}")
        if not rows:
            print("no events in these hours")
    return 0
