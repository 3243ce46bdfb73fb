"""`./yeoul metrics`, and what refuses to start with a wrong file of metrics."""

from pathlib import Path

import pytest

from cli import main
from config import Settings
from config.metrics import load
from stores import migrations
from stores.metrics import Metrics
from stores.postgres import of
from tests.cli.harness import yeoul

GOOD = '[metrics.orders]\nevents = ["order.*"]\nwindows = { minute = "2d" }\n'
PLAIN = '[plain]\nid = "id"\ntype = { constant = "reading" }\nsource = { constant = "/meters" }\n'
WRONG = GOOD + 'lateness = "soon"\n\n[metrics.sales]\ngroups = 3\n'


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "metrics.toml"


@pytest.mark.parametrize("command", [("worker",), ("web",), ("up",), ("up", "--detach")])
def test_nothing_starts_with_a_wrong_file(
    command: tuple[str, ...], file: Path, tmp_path: Path, process_environ: dict[str, str]
) -> None:
    file.write_text(WRONG)
    # Nobody listens there: whoever reached for a server would say so.
    servers = {
        "YEOUL_KAFKA_URL": "127.0.0.1:1", "YEOUL_POSTGRES_URL": "postgresql://u:p@127.0.0.1:1/d",
        "YEOUL_REDIS_URL": "redis://127.0.0.1:1/0",
    }  # fmt: skip
    keys = dict.fromkeys(
        ("YEOUL_COMMAND_KEY", "YEOUL_INDEX_KEY", "YEOUL_CURSOR_KEY", "YEOUL_SEALING_KEY"), "A" * 43 + "="
    )
    environ = process_environ | servers | keys | {"YEOUL_TOKEN_KEYS": f"a:{'A' * 43}=", "YEOUL_METRICS_FILE": str(file)}
    done = yeoul(tmp_path / "state", environ, *command)
    assert done.code == 1
    assert f"{file}:4: orders: lateness" in done.err
    assert f"{file}:6: sales: events" in done.err
    assert "Traceback" not in done.err
    assert not (tmp_path / "state" / "logs").exists()


def test_check_names_every_complaint_with_its_line(file: Path, tmp_path: Path, process_environ: dict[str, str]) -> None:
    file.write_text(WRONG)
    done = yeoul(tmp_path / "state", process_environ | {"YEOUL_METRICS_FILE": str(file)}, "metrics", "check")
    assert (done.code, len(done.err.splitlines())) == (1, 2)
    assert f"{file}:4: orders: lateness" in done.err
    file.write_text(GOOD)
    done = yeoul(tmp_path / "state", process_environ | {"YEOUL_METRICS_FILE": str(file)}, "metrics", "check")
    assert done.code == 0
    assert "1 metrics, nothing is wrong" in done.out
    assert "nothing runs here" in done.out


async def test_check_says_what_would_change(
    own_settings: Settings, file: Path, tmp_path: Path, process_environ: dict[str, str]
) -> None:
    await migrations.apply(own_settings.postgres_url)
    environ = process_environ | own_settings.environ() | {"YEOUL_METRICS_FILE": str(file)}

    def run(*arguments: str) -> str:
        done = yeoul(tmp_path / "state", environ, "metrics", *arguments)
        assert done.code == 0, done.err
        return done.out

    assert "no metrics yet" in run("list")
    file.write_text(GOOD + GOOD.replace("orders", "sales") + GOOD.replace("orders", "visits"))
    database = of(own_settings, "tests", size=1)
    await Metrics(database).register(load(file))
    await database.close()
    assert "nothing would change in the tables" in (said := run("check"))
    assert "[plain]" not in said
    file.write_text(file.read_text() + PLAIN)
    assert "[plain]  workers read plain JSON as it is declared here from their next start on" in run("check")
    file.write_text(GOOD.replace("minute", "hour") + GOOD.replace("orders", "sales").replace("2d", "3d")
                    + GOOD.replace("orders", "logins"))  # fmt: skip
    out = run("check")
    for line in (
        "changed  orders: goes on as it was until ./yeoul metrics rebuild orders", "changed  sales: title",
        "new      logins", "retired  visits",
    ):  # fmt: skip
        assert line in out
    assert [line.split()[:3] for line in run("list").splitlines()[1:]] == [
        ["orders", "1", "serving"], ["sales", "1", "serving"], ["visits", "1", "serving"]
    ]  # fmt: skip


def test_a_metric_that_is_not_declared_can_not_be_rebuilt(
    stack: object, own_settings: Settings, file: Path, tmp_path: Path, process_environ: dict[str, str]
) -> None:
    file.write_text(GOOD)
    environ = process_environ | own_settings.environ() | {"YEOUL_METRICS_FILE": str(file)}
    done = yeoul(tmp_path / "state", environ, "metrics", "rebuild", "sales")
    assert done.code == 1
    assert "declares no metric 'sales'; there are: orders" in done.err


def test_a_time_that_is_none_is_an_error_of_the_caller(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main.main(["metrics", "rebuild", "orders", "--since", "yesterday"])
    assert left.value.code == 2
    assert "is no time such as" in capsys.readouterr().err
