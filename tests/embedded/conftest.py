"""Stacks of their own for tests that break them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from embedded.stack import Stack

Make = Callable[..., Stack]


@pytest.fixture
def make(tmp_path: Path, cache_dir: Path, process_environ: dict[str, str]) -> Make:
    """Makes stacks on one state folder; they are not started."""

    def stack(*parts: str, state_dir: Path = tmp_path / "state", cache: Path = cache_dir, **more: object) -> Stack:
        return Stack(state_dir, cache, process_environ, parts, **more)  # type: ignore[arg-type]

    return stack


@pytest_asyncio.fixture
async def exits() -> AsyncIterator[AsyncExitStack]:
    """Closes what a test entered, also when it fails."""
    async with AsyncExitStack() as stack:
        yield stack
