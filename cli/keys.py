"""`keys`: which sealing key has wrapped the accounts' keys, and wrapping them all by the newest one."""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import TYPE_CHECKING

from cli.connection import settings

if TYPE_CHECKING:
    from config import Settings
    from security.fields import Sealer
    from stores.account_keys import AccountKeys

HELP = "show what wraps the accounts' keys; rewrap them by the newest sealing key"

UNUSED = "no account needs it: keep it if it is the next one, else it may go"
"""Counts can't tell a new key before the swap from an old one that is over."""


def arguments(parser: argparse.ArgumentParser) -> None:
    """One action."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for name, words in (
        ("status", "how many accounts' keys each sealing key has wrapped (exit code 1 if one of them is missing)"),
        ("rewrap", "wrap all by the first key of YEOUL_SEALING_KEY; may be stopped, and goes on when it is run again"),
    ):
        actions.add_parser(name, help=words, description=words, allow_abbrev=False)


def run(options: argparse.Namespace) -> int:
    """0 done; 1 if keys are left that no sealing key of YEOUL_SEALING_KEY opens. Raises StoresAway, SealBroken."""
    known = settings("postgres", keys=True)
    try:
        return asyncio.run(_run(known, rewrap=options.action == "rewrap"))
    except KeyboardInterrupt:
        print("\nyeoul: left where it is; the same command goes on from there", file=sys.stderr)
        return 130


async def _run(known: Settings, *, rewrap: bool) -> int:
    from security.fields import Sealer
    from stores.account_keys import AccountKeys
    from stores.postgres import of

    sealer = Sealer(*known.sealing_keys)
    database = of(known, "keys", size=1)
    try:
        keys = AccountKeys(database)
        if rewrap:
            await _rewrap(keys, sealer)
        return _show(await keys.counts(), sealer)
    finally:
        await database.close()


async def _rewrap(keys: AccountKeys, sealer: Sealer) -> None:
    from stores.account_keys import FIRST

    counts = await keys.counts()
    total = sum(counts.get(id, 0) for id in sealer.older)
    done, after = 0, FIRST
    while True:
        step = await keys.rewrap(after, sealer.older, sealer.rewrap)
        if step.last is None:
            return
        done, after = done + step.wrapped, step.last
        print(f"  {done:,} of {total:,} keys wrapped anew", file=sys.stderr, flush=True)


def _show(counts: dict[bytes, int], sealer: Sealer) -> int:
    print(f"{'sealing key':<12} {'accounts':>10}")
    unknown = 0
    for id in dict.fromkeys((sealer.current, *sealer.older, *sorted(counts))):
        if id == sealer.current:
            what = "the first of YEOUL_SEALING_KEY: wraps"
        elif id in sealer.older:
            what = "opens only; " + ("./yeoul keys rewrap" if counts.get(id) else UNUSED)
        else:
            what = "not in YEOUL_SEALING_KEY: nothing personal of these accounts can be read"
            unknown += counts[id]
        print(f"{id.hex():<12} {counts.get(id, 0):>10,}  {what}")
    if unknown:
        print(
            f"yeoul: {unknown:,} accounts need a sealing key that is missing; add it to YEOUL_SEALING_KEY, at its end",
            file=sys.stderr,
        )
    return 1 if unknown else 0
