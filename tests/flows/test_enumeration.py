"""Whether somebody has an account here is told by no clock, asked of a front and a worker on real servers.

What each way of asking costs is counted in tests/web/test_attacks_guesses.py, which sees less than a clock can. Here
those who are asked about take turns, so that all meet the same load.
"""

from __future__ import annotations

import random
import statistics
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from config import Settings
from domain.access import Role
from tests.flows.clients import Caller
from tests.flows.harness import serving, unlimited

pytestmark = pytest.mark.asyncio(loop_scope="session")

TURNS, ROUNDS = 11, 3
"""Turns until times are compared, and how often more are taken where what else the machine does tells them apart."""
APART = 2.0
"""How many times as long one may take as the other. Without a hash a login takes a tenth."""


def wrong(email: str, turn: int) -> dict[str, Any]:
    return {"email": email, "password": f"a guess {turn}"}


def forgotten(email: str, _: int) -> dict[str, Any]:
    return {"email": email}


def fast(times: list[float]) -> float:
    """A quarter of them took less: what else the machine does only adds to some, and a missing hash spares all."""
    return statistics.quantiles(times, n=4)[0]


def alike(took: dict[str, list[float]]) -> bool:
    told = [fast(times) for times in took.values()]
    return max(told) < APART * min(told)


async def test_no_clock_tells_who_has_an_account(own_settings: Settings, tmp_path: Path) -> None:
    settings = msgspec.structs.replace(unlimited(own_settings), registration="private")
    async with serving(settings, tmp_path, "accounts", "sessions", "revocations") as served:
        guest, admin = Caller(served.url), Caller(served.url, await served.token("admin@example.com", Role.ADMIN))
        for name in ("known", "disabled"):
            await served.token(f"{name}@example.com")
        _, users = await admin.ask("GET", "/users?filter[email]=disabled@example.com")
        assert (await admin.ask("PUT", f"/users/{users[0]['id']}/status", {"status": "disabled"}))[0] == 200
        for path, body, status in (
            ("/auth/login", wrong, 401), ("/auth/forgot-password", forgotten, 202), ("/auth/register", wrong, 202),
        ):  # fmt: skip
            took: dict[str, list[float]] = {name: [] for name in ("known", "disabled", "nobody")}
            for turn in range(ROUNDS * TURNS):
                for name in random.sample(list(took), len(took)):
                    # Whoever registers is somebody from then on.
                    email = f"{name}{turn if name == 'nobody' else ''}@example.com"
                    began = time.perf_counter()
                    answer = await guest.ask("POST", path, body(email, turn))
                    took[name].append(time.perf_counter() - began)
                    assert answer[0] == status, answer
                if turn % TURNS == TURNS - 1 and alike(took):
                    break
            assert alike(took), (path, took)
