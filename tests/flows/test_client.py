"""A client that was generated from the documents, by a compiler that knows nothing else, talks to a real front."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path

import pytest

from cli import node
from tests.flows.harness import System
from web.documents import openapi

pytestmark = pytest.mark.asyncio(loop_scope="session")

VERSIONS = ("v1", "v2")
HANG_S = 120.0


async def run(folder: Path, *command: str) -> str:
    """What a program says; it has to end well."""
    process = await asyncio.create_subprocess_exec(
        *command, cwd=folder, env={"PATH": os.environ["PATH"], "HOME": str(folder)},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    said, _ = await asyncio.wait_for(process.communicate(), HANG_S)
    assert process.returncode == 0, said.decode()
    return said.decode()


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program with the packages beside it, and the documents as they are now."""
    folder = tmp_path_factory.mktemp("client")
    (folder / "node_modules").symlink_to(node.modules())
    for name in ("package.json", "tsconfig.json", "v1.ts", "v2.ts"):
        (folder / name).write_bytes((node.FOLDER / name).read_bytes())
    (folder / "generated").mkdir()
    for version in VERSIONS:
        (folder / f"{version}.json").write_text(json.dumps(openapi.document(version)), encoding="utf-8")
    return folder


async def generate(project: Path) -> None:
    for version in VERSIONS:
        # A field with a default may be left out of a request.
        await run(
            project, "node", "node_modules/openapi-typescript/bin/cli.js", f"{version}.json",
            "--output", f"generated/{version}.d.ts", "--default-non-nullable", "false",
        )  # fmt: skip


async def test_it_is_generated_and_compiled_and_works(project: Path, installation: System) -> None:
    await generate(project)
    await run(project, "node", "node_modules/typescript/bin/tsc", "--project", ".")
    origin = (await installation.serve()).removesuffix("/api/v1")
    for version in VERSIONS:
        assert await run(project, "node", f"made/{version}.js", origin) == f"{version} ok\n"


async def test_a_document_that_says_something_else_is_not_compiled(project: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "node_modules").symlink_to(node.modules())
    for name in ("package.json", "tsconfig.json", "v1.ts", "v2.ts", "v2.json"):
        (other / name).write_bytes((project / name).read_bytes())
    (other / "generated").mkdir()
    document = (project / "v1.json").read_text("utf-8").replace('"owner_id"', '"owner"')
    (other / "v1.json").write_text(document, encoding="utf-8")
    await generate(other)
    with pytest.raises(AssertionError, match="owner_id"):
        await run(other, "node", "node_modules/typescript/bin/tsc", "--project", ".")
