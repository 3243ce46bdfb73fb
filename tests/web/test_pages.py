"""The pages as they are served: their files, and the policy that goes with them."""

import hashlib
import re

import pytest

from tests.web.conftest import Client
from web.pages import DOCS, FILES, ROOT


async def test_every_file_comes_with_a_policy_that_allows_nothing_inline(client: Client) -> None:
    files = [*(f"/live/{name}" for name in FILES), *(f"/docs/{name}" for name in DOCS)]
    for path in ("/live", "/docs", *files):
        answer = await client.get(path)
        assert answer.status == 200
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'")
        assert "unsafe" not in policy
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        again = await client.get(path, headers={"If-None-Match": f'"x", W/{answer.headers["ETag"]}'})
        assert (again.status, await again.read()) == (304, b"")


async def test_who_asks_for_nothing_gets_the_page(client: Client) -> None:
    answer = await client.get("/", allow_redirects=False)
    assert (answer.status, answer.headers["Location"]) == (302, "/live")
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert (await client.get("/")).url.path == "/live"


async def test_other_routes_keep_their_policy(client: Client) -> None:
    answer = await client.get("/api/v1/resources")
    assert answer.headers["Content-Security-Policy"] == "default-src 'none'; frame-ancestors 'none'"


async def test_nothing_else_of_the_folder_is_served(client: Client) -> None:
    for name in ("VENDORED.md", "..%2f..%2fapp.py", "..%2f", "%2fetc%2fpasswd", "index.htm"):
        assert (await client.get(f"/live/{name}")).status == 404
        assert (await client.get(f"/docs/{name}")).status == 404


@pytest.mark.parametrize(("folder", "files"), [("live", FILES), ("docs", DOCS)])
def test_a_page_has_nothing_inline_and_nothing_from_elsewhere(folder: str, files: dict[str, str]) -> None:
    page = (ROOT / folder / "index.html").read_text("utf-8")
    assert not re.search(r"\son\w+=|style=|<style|<script(?![^>]* src=)", page)
    ours = "".join((ROOT / folder / name).read_text("utf-8") for name in files if "uPlot" not in name)
    assert set(re.findall(r"https?://[^\s\"']+", ours)) <= {"http://www.w3.org/2000/svg"}
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|localStorage", ours)


def test_what_others_made_is_what_they_published() -> None:
    note = (ROOT / "live/VENDORED.md").read_text("utf-8")
    for name in ("uPlot.iife.min.js", "uPlot.min.css", "uPlot.LICENSE"):
        digest = hashlib.sha256((ROOT / "live" / name).read_bytes()).hexdigest()
        assert f"| `{name}` | `{digest}` |" in note
