"""Files from Maven: whoever comes at the same time waits for the one who downloads."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from embedded import java


async def test_of_several_at_once_one_downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    downloads = 0

    async def download(folder: Path, *_: Any) -> None:
        nonlocal downloads
        downloads += 1
        await asyncio.sleep(0.3)
        (folder / "broker.jar").touch()

    monkeypatch.setattr(java, "_download", download)
    found = await asyncio.gather(*(java.jars(tmp_path, lambda _: None) for _ in range(3)))
    assert [[jar.name for jar in jars] for jars in found] == [["broker.jar"]] * 3
    assert downloads == 1
