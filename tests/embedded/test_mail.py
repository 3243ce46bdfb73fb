"""The mail catcher keeps what comes, in files for their owner alone, and no more than so many."""

import argparse
import stat
from pathlib import Path

import pytest

from cli import mail as command
from embedded import catcher
from embedded.catcher import Catcher
from embedded.mail import caught, folder
from embedded.stack import Stack
from providers.mail import Message
from providers.smtp import Smtp

pytestmark = pytest.mark.asyncio(loop_scope="session")


class _Envelope:
    def __init__(self, number: int, to: str = "han@example.org") -> None:
        self.rcpt_tos = [to]
        self.content = b"Subject: mail %d\r\n\r\ntext\r\n" % number


async def test_the_stack_catches_a_mail_and_the_command_shows_it(
    tmp_path: Path, cache_dir: Path, process_environ: dict[str, str], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    async with Stack(tmp_path / "state", cache_dir, process_environ, ["mail"]) as running:
        client = Smtp(running.settings_environ["YEOUL_SMTP_URL"], "Yeoul <yeoul@localhost>")
        await client.send(Message("1.0", "han@example.org", "비밀번호 재설정", "다음 토큰\nm1.T\n\x1b[31m\n", "ko"))
        await client.send(Message("1.1", "mina@example.org", "Another", "text\n"))
        await client.rest()
        place = folder(running.state)
        monkeypatch.setattr(command, "state", lambda: running.state)
        first, second = caught(place)
        assert [stat.S_IMODE(path.stat().st_mode) for path in (place, first, second)] == [0o700, 0o600, 0o600]
    parser = argparse.ArgumentParser()
    command.arguments(parser)
    assert command.run(parser.parse_args([])) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["2", "1"]
    assert "han@example.org  비밀번호 재설정" in lines[1]
    assert command.run(parser.parse_args(["show", "--to", "han@example.org"])) == 0
    shown = capsys.readouterr().out
    assert "\nm1.T\n" in shown
    assert "\x1b" not in shown
    with pytest.raises(command.NoMail, match="1 to 2"):
        command.run(parser.parse_args(["show", "7"]))


async def test_the_oldest_are_removed_and_numbers_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catcher, "MOST", 3)
    keeps = Catcher(tmp_path)
    for number in range(1, 13):
        assert await keeps.handle_DATA(None, None, _Envelope(number)) == "250 caught"  # type: ignore[arg-type]
    assert [path.stem for path in caught(tmp_path)] == ["10", "11", "12"]


async def test_where_there_is_no_room_the_sender_is_told_to_come_again(tmp_path: Path) -> None:
    answer = await Catcher(tmp_path / "gone").handle_DATA(None, None, _Envelope(1))  # type: ignore[arg-type]
    assert answer.startswith("452 ")
