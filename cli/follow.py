"""Shows what matters of a process's log on the terminal while it is written."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

POLL_S = 0.3
LOUD = {"warning", "warn", "error", "critical", "fatal"}
TEXT_LEVEL = re.compile(r"\b(WARNING|ERROR|CRITICAL)\b")


async def follow(log: Path, name: str) -> None:
    """Prints each further line of `log` that is a warning or worse, with the name in front. Ends when cancelled."""
    position = log.stat().st_size if log.exists() else 0
    rest = b""
    while True:
        # The writers are other processes, and no system we run on tells of a file's growth in the same way.
        await asyncio.sleep(POLL_S)
        size = log.stat().st_size if log.exists() else 0
        if size < position:
            position, rest = 0, b""
        if size > position:
            with log.open("rb") as file:
                file.seek(position)
                text = rest + file.read(1024 * 1024)
                position = file.tell()
            *lines, rest = text.split(b"\n")
            for line in lines:
                shown = loud(line.decode(errors="replace"))
                if shown:
                    print(f"{name} | {shown}", flush=True)


def loud(line: str) -> str | None:
    """What to show of a line: None below warning. Lines that tell no level are shown: they are what nobody caught."""
    if not line.strip():
        return None
    if line.startswith("{"):
        try:
            fields = json.loads(line)
        except ValueError:
            return line
        level = str(fields.get("level", "error")).lower()
        return f"{level.upper()} {fields.get('message', line)}" if level in LOUD else None
    if TEXT_LEVEL.search(line):
        return line
    return None if re.search(r"\b(DEBUG|INFO)\b", line) else line
