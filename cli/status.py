"""`status`: what runs here, for people and (`--json`) for scripts."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
from typing import Any
from urllib.parse import urlsplit

import psutil

from cli.connection import state
from cli.programs import http_status
from embedded.state import State

HELP = "what runs here and whether it is ready; exit code 0 ready, 3 not"
NOT_READY = 3
ADDRESSES = ("front", "kafka", "postgres", "redis")


def arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--json", action="store_true", help="one object, for scripts")
    parser.add_argument(
        "--secrets", action="store_true", help="the servers' passwords in their addresses, to connect by hand"
    )


def run(options: argparse.Namespace) -> int:
    """0 when everything is ready, else 3."""
    found = asyncio.run(status(state()))
    if not options.secrets:
        # What is printed ends in logs and in reports.
        found |= {name: without_password(found[name]) for name in ADDRESSES if found[name]}
    print(json.dumps(found, indent=2) if options.json else _text(found))
    return 0 if found["ready"] else NOT_READY


async def status(place: State) -> dict[str, Any]:
    """`{"ready", "front", "kafka", "postgres", "redis", "metrics", "processes", "more_workers"}`.

    `processes`: `{"name", "pid", "state"}` each; one that runs and whose /readyz does not say 200 is "unready".
    Addresses are null when nothing runs, and hold the servers' passwords. `metrics`: the address to scrape of each
    process of ours, by its name. `more_workers`: process ids.
    """
    run_file = place.read("run") if place.holder() is not None else {}
    processes = [dict(process) for process in run_file.get("processes", [])]
    health: dict[str, str] = run_file.get("health", {})
    answers = dict(zip(health, await asyncio.gather(*map(_healthy, health.values())), strict=True))
    for process in processes:
        if process["state"] == "ready" and not answers.get(process["name"], True):
            process["state"] = "unready"
    ready = bool(run_file.get("ready")) and all(process["state"] == "ready" for process in processes)
    addresses = {name: run_file.get(name) for name in ADDRESSES}
    return {
        "ready": ready,
        **addresses,
        "metrics": run_file.get("metrics", {}),
        "processes": processes,
        "more_workers": more_workers(place, {process["pid"] for process in processes}),
    }


def more_workers(place: State, known: set[int | None]) -> list[int]:
    """The process ids of workers on this folder that `up` did not start: they hold locks in slots/."""
    slots = str(place.folder / "slots")
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.pid in known or "worker" not in process.cmdline():
                continue
            if any(file.path.startswith(slots) for file in process.open_files()):
                found.append(process.pid)
    return found


async def _healthy(url: str) -> bool:
    parts = urlsplit(url)
    try:
        return await http_status(parts.hostname or "", parts.port or 80, parts.path) == 200
    except (OSError, TimeoutError):
        return False


def _text(found: dict[str, Any]) -> str:
    if not found["processes"]:
        return "\n".join(["nothing runs here; ./yeoul up starts it", *_more(found)])
    lines = ["ready" if found["ready"] else "not ready"]
    lines += [f"  {name:<10}{found[name]}" for name in ADDRESSES if found[name]]
    lines.append("")
    lines += [
        f"  {process['name']:<18}{process['state']:<12}{process['pid'] or '':<10}"
        f"{found['metrics'].get(process['name'], '')}".rstrip()
        for process in found["processes"]
    ]
    return "\n".join(lines + _more(found))


def _more(found: dict[str, Any]) -> list[str]:
    return [f"  {'worker':<18}{'by itself':<12}{pid}" for pid in found["more_workers"]]


def without_password(url: str) -> str:
    """An address with `***` for its password."""
    if "://" not in url:
        return url
    parts = urlsplit(url)
    user, at, server = parts.netloc.rpartition("@")
    shown = f"{user.partition(':')[0]}:***" if ":" in user else user
    rest = url[len(f"{parts.scheme}://{parts.netloc}") :]
    return f"{parts.scheme}://{shown}{at}{server}" + re.sub(r"(?<=[?&])password=[^&]*", "password=***", rest)
