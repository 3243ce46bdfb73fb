"""The file of metrics: complaints name file and line, all at once; what is shipped is right."""

from pathlib import Path

import pytest

from config.metrics import load, parse
from config.variables import SettingsError
from domain.plain_json import From

SHIPPED = Path(__file__).resolve().parents[2] / "config" / "metrics.toml"


def complaints(text: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        parse(text, "m.toml")
    return str(caught.value).splitlines()


def test_the_shipped_file_is_right() -> None:
    assert len(load(SHIPPED)) >= 3


def test_every_complaint_has_its_line() -> None:
    text = """# two metrics
[metrics.good]
events = ["a"]
windows = { day = "5y" }

[metrics.bad]
events = ["b"]
windows = { year = "5y" }

[metrics.worse]
windows = { day = "5y" }
"events" = [""]

[metrics.measured]
events = ["b"]
windows = { day = "5y" }
[metrics.measured.measures]
total = { sum = "total" }
"""
    told = "\n".join(complaints(text))
    assert "m.toml:8: bad: windows" in told
    assert "m.toml:12: worse: '' is no event type" in told
    assert "m.toml:18: measured: 'total' is no path" in told
    assert "good" not in told


def test_what_is_missing_is_told_at_the_head_of_its_table() -> None:
    assert "m.toml:2: m: events must be a list" in "\n".join(complaints('\n[metrics.m]\nwindows = { day = "5y" }\n'))


def test_no_toml_and_other_tables() -> None:
    assert "m.toml:2: is no TOML" in "\n".join(complaints("[metrics.a]\nevents = [\n"))
    assert "m.toml:2: 'metric' is nothing" in "\n".join(complaints("\n[metric]\nx = 1\n"))
    assert "metrics must be" in "\n".join(complaints("metrics = 3\n"))


def test_plain_json_is_declared_beside_them() -> None:
    text = '[plain]\nid = "order.id"\ntype = { constant = "order.placed" }\nsource = "shop"\ntime = "at"\n'
    metrics, plain = parse(text, "m.toml")
    assert metrics == ()
    assert plain is not None
    assert dict(plain.attributes) == {
        "id": From(("order", "id")), "type": From(constant="order.placed"), "source": From(("shop",)),
        "time": From(("at",)),
    }  # fmt: skip
    assert parse("", "m.toml") == ((), None)


def test_complaints_about_plain_json_have_their_line() -> None:
    text = '[metrics]\n[plain]\nid = { constant = "x" }\ntype = ""\nkind = "y"\nsource = { constant = "" }\n'
    told = "\n".join(complaints(text))
    assert "m.toml:3: plain: id must be a member" in told
    assert "m.toml:4: plain: type must be a member" in told
    assert "m.toml:5: plain: 'kind' is no attribute" in told
    assert "m.toml:6: plain: source must be a member" in told
    assert "m.toml:1: plain: id must be said" in "\n".join(complaints("[plain]\n"))
    assert "plain must be a table" in "\n".join(complaints("plain = 3\n"))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="YEOUL_METRICS_FILE"):
        load(tmp_path / "none.toml")
