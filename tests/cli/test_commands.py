"""The commands' face: what is printed and with which exit code, without servers."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest

from cli import bootstrap, main
from cli.tail import _watch
from embedded.state import free_port
from tests.cli.harness import ROOT, yeoul

COMMANDS = [command for commands in main.COMMANDS.values() for command in commands]


def test_help_names_every_command_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["help"]) == 0
    printed = capsys.readouterr().out
    for command in COMMANDS:
        assert f"  {command}" in printed
    assert max(len(line) for line in printed.splitlines()) <= 120


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main.main([command, "--help"])
    assert left.value.code == 0
    assert f"./yeoul {command}" in capsys.readouterr().out


def test_an_unknown_command_or_argument_is_an_error_of_the_caller(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["upp"]) == 2
    assert "./yeoul help" in capsys.readouterr().err
    with pytest.raises(SystemExit) as left:
        main.main(["down", "--now"])
    assert left.value.code == 2


def test_the_version_is_that_of_the_changelog(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.main(["--version"]) == 0
    release = re.search(r"^## \[(.*?)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert release is not None
    assert capsys.readouterr().out.startswith(f"yeoul {release[1].lower()}")


async def test_tail_says_once_that_kafka_goes_and_comes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cli.tail.WATCH_EVERY_S", 0.01)
    port = free_port()
    watching = asyncio.create_task(_watch(f"127.0.0.1:{port}"))
    said = ""
    try:
        async with asyncio.timeout(20):
            while "is away" not in said:
                await asyncio.sleep(0.1)
                said += capsys.readouterr().err
            async with await asyncio.start_server(lambda reader, writer: writer.close(), "127.0.0.1", port):
                while "is back" not in said:
                    await asyncio.sleep(0.1)
                    said += capsys.readouterr().err
    finally:
        watching.cancel()
    assert said.count("\n") == 2


@pytest.mark.parametrize(
    "line",
    [
        "dead-letters list --limit -3",
        "dead-letters list --limit 0",
        "dead-letters list --limit 99999999999999999999",
        "dead-letters list --after 99999999999999999999",
        "dead-letters show 99999999999999999999",
        "dead-letters replay 99999999999999999999",
        "dead-letters resume a b 99999999999999 1",
        "dead-letters resume a b 1 99999999999999999999",
        "report --from 0001-01-01T00:00+14:00",
        "report --from 9999-12-31T23:00:00-14:00",
        "tail --count 0",
        "tail --count -1",
    ],
)
def test_a_number_or_time_out_of_bounds_is_an_error_of_the_caller(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as left:
        main.main(line.split())
    assert left.value.code == 2
    assert "usage: ./yeoul" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [("migrate",), ("topics",), ("worker",), ("web",), ("token", "a@example.com")])
def test_a_command_without_servers_says_how_to_get_them(
    arguments: tuple[str, ...], tmp_path: Path, process_environ: dict[str, str]
) -> None:
    done = yeoul(tmp_path / "none", process_environ, *arguments)
    assert done.code == 1
    assert "./yeoul up" in done.err
    assert "Traceback" not in done.err


def test_wrong_settings_are_sentences(tmp_path: Path, process_environ: dict[str, str]) -> None:
    environ = process_environ | {"YEOUL_WEB_PORT": "x", "YEOUL_LANGUAGE": "fr"}
    done = yeoul(tmp_path / "none", environ, "up")
    assert done.code == 1
    assert "YEOUL_WEB_PORT" in done.err
    assert "YEOUL_LANGUAGE" in done.err
    assert "Traceback" not in done.err


def test_tokens_are_not_given_away_elsewhere(tmp_path: Path, process_environ: dict[str, str]) -> None:
    from config import EXAMPLE_KEY

    environ = process_environ | {f"YEOUL_{noun}_KEY": EXAMPLE_KEY for noun in ("COMMAND", "INDEX", "CURSOR", "SEALING")}
    environ |= {"YEOUL_TOKEN_KEYS": f"a:{EXAMPLE_KEY}", "YEOUL_ENVIRONMENT": "staging"}
    environ |= {
        "YEOUL_KAFKA_URL": "localhost:1",
        "YEOUL_POSTGRES_URL": "postgresql://h/d",
        "YEOUL_REDIS_URL": "redis://h",
    }
    done = yeoul(tmp_path / "none", environ, "token", "a@example.com", "--role", "admin")
    assert (done.code, "staging" in done.err) == (1, True)


class TestBootstrap:
    """Which `.venv` is taken for whole."""

    @pytest.fixture
    def root(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        for lock in (bootstrap.RUNTIME, bootstrap.TESTS):
            (tmp_path / lock).write_text(f"of {lock}")
        python = tmp_path / ".venv" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.touch()
        monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
        monkeypatch.setattr(bootstrap, "PYTHON", python)
        monkeypatch.setattr(bootstrap, "STAMP", tmp_path / ".venv" / "yeoul.json")
        return tmp_path

    def stamp(self, *locks: str) -> None:
        bootstrap.STAMP.write_text(json.dumps({lock: bootstrap._digest(lock) for lock in locks}))

    def test_without_a_stamp_it_was_interrupted(self, root: Path) -> None:
        assert not bootstrap._installed(bootstrap.RUNTIME)
        bootstrap.STAMP.write_text('{"requirem')
        assert not bootstrap._installed(bootstrap.RUNTIME)

    def test_the_tests_need_more(self, root: Path) -> None:
        self.stamp(bootstrap.RUNTIME)
        assert bootstrap._installed(bootstrap.RUNTIME)
        assert not bootstrap._installed(bootstrap.TESTS)
        self.stamp(bootstrap.RUNTIME, bootstrap.TESTS)
        assert bootstrap._installed(bootstrap.TESTS)

    def test_another_lock_is_installed_again(self, root: Path) -> None:
        self.stamp(bootstrap.RUNTIME, bootstrap.TESTS)
        (root / bootstrap.RUNTIME).write_text("newer")
        assert not bootstrap._installed(bootstrap.RUNTIME)

    def test_a_python_of_another_user_is_told(
        self, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        self.stamp(bootstrap.RUNTIME)
        monkeypatch.setattr(bootstrap, "VENV", root / ".venv")
        bootstrap.PYTHON.chmod(0o600)
        monkeypatch.setattr("os.geteuid", lambda: 12345)
        assert bootstrap.main(["status"]) == 1
        said = capsys.readouterr().err
        assert ("was made by user" in said, "of your own" in said, said.count("\n")) == (True, True, 1)

    def test_a_python_that_is_gone_is_noticed(self, root: Path) -> None:
        self.stamp(bootstrap.RUNTIME)
        bootstrap.PYTHON.unlink()
        assert not bootstrap._installed(bootstrap.RUNTIME)

    @pytest.mark.parametrize(
        ("output", "said"),
        [
            ("OSError: [Errno 28] No space left on device", "full"),
            ("error: Could not resolve host", "network"),
            ("THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE", "not the one the lock names"),
            ("something else", "rm -rf .venv"),
        ],
    )
    def test_a_failed_installation_tells_the_way_out(self, output: str, said: str) -> None:
        assert said in bootstrap._way_out(output)
