"""Node.js for the tests of the documents: one that is too old, or missing, is said."""

from pathlib import Path

import pytest

from cli import node


@pytest.mark.parametrize(
    ("version", "said"),
    [("v16.20.2", "version 16"), ("v18.19.0", None), (None, "Install nodejs")],
    ids=["too old", "old", "missing"],
)
def test_what_is_too_old_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str | None, said: str | None
) -> None:
    program = tmp_path / "node"
    if version is not None:
        program.write_text(f"#!/bin/sh\necho {version}\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(node, "_installed", lambda: True)
    if said is None:
        assert node.modules() == node.MODULES
        return
    with pytest.raises(node.NoNode, match=said):
        node.modules()
