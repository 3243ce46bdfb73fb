"""What no linter sees of the house: SQL stands in its store and nowhere else, and a noun in each table of contents."""

import ast
import re
from pathlib import Path

import pytest

from domain.nouns import NOUNS
from topics import COMMANDS_OF, EVENTS_OF
from worker import GROUPS

ROOT = Path(__file__).resolve().parents[2]
ROOMS = (
    "agents",
    "cli",
    "config",
    "domain",
    "providers",
    "security",
    "streams",
    "telemetry",
    "web",
    "topics.py",
    "worker.py",
)
SQL = re.compile(r"\b(SELECT\s.+\sFROM|INSERT\s+INTO|UPDATE\s+\w+(\s+\w+)?\s+SET|DELETE\s+FROM)\s", re.DOTALL)


def sources(room: str) -> list[Path]:
    place = ROOT / room
    return sorted(place.rglob("*.py")) if place.is_dir() else [place]


def statements(source: str) -> list[str]:
    texts = [node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant)]
    return [text for text in texts if isinstance(text, str) and SQL.search(text)]


@pytest.mark.parametrize("room", ROOMS)
def test_sql_stands_in_the_stores_only(room: str) -> None:
    files = sources(room)
    assert files
    assert [(str(file), found) for file in files if (found := statements(file.read_text("utf-8")))] == []


def test_the_stores_are_seen_to_have_some() -> None:
    assert sum(len(statements(file.read_text("utf-8"))) for file in sources("stores")) > 20


def test_a_noun_has_its_line_in_every_table_of_contents() -> None:
    assert NOUNS.keys() == COMMANDS_OF.keys() == EVENTS_OF.keys()
    assert NOUNS.keys() <= GROUPS.keys()
