"""Schemathesis asks a real front whatever the documents allow, and what they do not, as guest, user and admin.

All of its checks are on, and it goes from answer to request by links (any_request.toml and any_request.py say what it
can't know). In a quick run each operation is asked in one version, by the role that may do least of those that may
ask; in full size every operation in both versions, by everybody.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from config import Settings
from domain.access import Role
from tests.flows.harness import ROOT, System, system, unlimited
from web.documents import openapi

HERE = Path(__file__).parent
ENDLESS = "/analytics/{metric}/live"
"""A stream never ends; it has tests of its own (tests/web/test_live.py)."""
VERSIONS = ("v1", "v2")
QUICK, FULL = 1, 30
"""Requests that are made up for each operation, besides examples and the borders of every schema."""
NOUNS = ("resources", "api-keys", "operations", "users")
"""Of what is found and made by one operation, and named to the next."""
EVERY = tuple((version, role) for version in VERSIONS for role in Role)
FEW = (("v1", Role.GUEST), ("v1", Role.USER), ("v2", Role.USER), ("v2", Role.ADMIN))
LINKED = (("v1", Role.USER),)
"""Who asks in a quick run, and who goes from answer to request; in full size EVERY one does both."""
AT_ONCE = 2


def declared(version: str) -> Iterator[tuple[str, str, Role, str]]:
    """Method and path of each operation, the role that may do least of those that may ask it, and its id."""
    for path, item in openapi.document(version)["paths"].items():
        for method, operation in item.items():
            scopes = [scope for way in operation["security"] for scope in way.get("bearer", ["user"])]
            least = Role.ADMIN if "admin" in scopes else Role.USER if operation["security"] else Role.GUEST
            if {} in operation["security"] and method == "get":
                least = Role.USER  # who may see more than a guest
            yield method, path, least, operation["operationId"]


def operations(version: str, role: Role, *, full: bool) -> list[str]:
    """The ids of the operations that one run asks one by one."""
    chosen = sorted(
        id for _, path, least, id in declared(version) if not path.endswith(ENDLESS) and (full or least is role)
    )
    if full or role is not Role.USER:
        return chosen
    return [id for id in chosen if ("Resources" in id) == (version == "v1")]


def steps(version: str, role: Role) -> list[str]:
    """The ids of the operations among which one run goes from answer to request.

    Not those that name nothing to another: each would be one more way to begin, and little would be gone on with. None
    that takes the caller's rights, or another's: what it had made before would be gone. Nor `restore` and `history`:
    the check that nothing deleted is found again knows of no way back, and of nothing that stays. And no kinds: their
    schemas refuse what is good elsewhere.
    """
    return [
        id
        for method, path, least, id in declared(version)
        if (noun := path.removeprefix(f"/api/{version}/").split("/")[0]) in NOUNS
        and (least is not Role.ADMIN or role is Role.ADMIN)
        and (noun != "users" or (method == "get" and "/me" not in path))
        and not path.endswith(("/restore", "/history"))
    ]


async def asked(
    installation: System, origin: str, version: str, role: Role, folder: Path, phases: str, ids: list[str], most: int
) -> str:
    """What it says when something is wrong with the answers; empty if nothing is."""
    chosen = [part for id in ids for part in ("--include-operation-id", id)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "schemathesis.cli", "--config-file", str(HERE / "any_request.toml"),
        "run", f"{origin}/api/{version}/openapi.json", "--checks", "all", "--phases", phases,
        "--max-examples", str(most), "--generation-deterministic", "--request-timeout", "30",
        # No text may have a NUL, which no column can keep; that is tested by itself, and a pattern of every text in the
        # document would say nothing else.
        "--generation-allow-x00", "false", "--continue-on-failure", "--no-color", "--warnings", "off",
        "--suppress-health-check", "all", *chosen,
        cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        env={
            "PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(ROOT),
            "SCHEMATHESIS_HOOKS": "tests.flows.any_request", "ANY_REQUEST_ROLE": role.value,
            "ANY_REQUEST_PHASES": phases,
            **installation.settings.environ(),
        },
    )  # fmt: skip
    said = (await process.communicate())[0].decode()
    # A scenario in which nothing that is there can be gone on with is an error to Hypothesis: so much for it.
    ended = "No progress can be made from state" in said and "Runtime Error: 1\n" in said and "Failures:" not in said
    wrong = bool(process.returncode) and not ended
    if phases == "stateful" and role is not Role.GUEST:
        followed = re.search(r"API Links: +(\d+) covered / (\d+) selected", said)
        wrong |= followed is None or int(followed[1]) * (2 if most >= FULL else 4) < int(followed[2])
    return f"{version} as {role}, {phases}:\n{said[-30_000:]}" if wrong else ""


@pytest.mark.asyncio(loop_scope="session")
@pytest.mark.timeout(7200)
async def test_no_request_is_answered_in_a_way_that_no_document_knows(
    own_settings: Settings, tmp_path: Path, full: bool
) -> None:
    async with system(unlimited(own_settings), tmp_path) as installation:
        origin = (await installation.serve()).removesuffix("/api/v1")
        room = asyncio.Semaphore(AT_ONCE)

        async def run(version: str, role: Role, phases: str, ids: list[str], most: int) -> str:
            async with room:
                return await asked(installation, origin, version, role, tmp_path, phases, ids, most)

        one_by_one, size = ("examples,coverage,fuzzing", FULL) if full else ("coverage", QUICK)
        wrong = await asyncio.gather(
            *(run(*by, one_by_one, operations(*by, full=full), size) for by in (EVERY if full else FEW)),
            *(run(*by, "stateful", steps(*by), size) for by in (EVERY if full else LINKED)),
        )
        assert not any(wrong), "\n\n".join(filter(None, wrong))


def test_every_operation_is_asked_in_a_quick_run_too() -> None:
    chosen = [id for version, role in FEW for id in operations(version, role, full=False)]
    every = operations("v1", Role.GUEST, full=True)
    assert sorted(chosen) == sorted(every)
