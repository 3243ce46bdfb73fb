"""The pages name everything there is: what is added without its documentation fails here."""

import re
from pathlib import Path

import pytest
from prometheus_client import Counter
from prometheus_client.metrics import MetricWrapperBase

from cli.main import COMMANDS
from config.settings import VARIABLES
from domain.nouns import NOUNS
from domain.refusals import STATUS, Code
from stores.narrowing import FIELDS
from stores.pages import SORTABLE
from telemetry import metrics
from topics import COMMANDS_OF, EVENTS_OF, TOPICS, Topic
from web.routes import API, PLAIN, V1

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
UNREADABLE = re.compile(r'Unreadable\(\s*"([a-z_0-9]+)"')


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def anchor(heading: str) -> str:
    """The anchor that a heading gets when Markdown is shown: lower case, no punctuation, dashes for spaces."""
    return re.sub(r"[^\w -]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("variable", VARIABLES, ids=lambda variable: variable.name)
def test_operators_find_every_variable_with_its_default(variable: object) -> None:
    name, default = variable.name, variable.default  # type: ignore[attr-defined]
    rows = [line for line in page("docs/operators.md").splitlines() if line.startswith(f"| `{name}`")]
    assert len(rows) == 1
    shown = rows[0].split("|")[2]
    assert f"`{default}`" in shown if default else not shown.strip()


def test_the_first_start_is_shown_as_it_is() -> None:
    (shown,) = re.findall(r"tables: applied (.+)", page("README.md"))
    assert shown.split(", ") == sorted(path.stem for path in (ROOT / "stores" / "migrations").glob("*.sql"))


def metric_names() -> list[str]:
    found = [value for value in vars(metrics).values() if isinstance(value, MetricWrapperBase)]
    # A counter keeps its name without the ending under which it is scraped.
    return [f"{metric._name}_total" if isinstance(metric, Counter) else metric._name for metric in found]


@pytest.mark.parametrize("name", metric_names())
def test_operators_find_every_metric(name: str) -> None:
    assert f"| `{name}` |" in page("docs/operators.md")


def row_of(topic: Topic) -> str:
    return next(line for line in page("docs/kafka.md").splitlines() if line.startswith(f"| `{topic.name}` |"))


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_producers_find_every_topic_as_it_is(topic: Topic) -> None:
    cells = [cell.strip() for cell in row_of(topic).split("|")]
    assert cells[4:6] == [str(topic.partitions), f"{topic.retention.days} days"]


@pytest.mark.parametrize("topic", [*COMMANDS_OF.values(), *EVENTS_OF.values()], ids=lambda topic: topic.name)
def test_readers_find_who_writes_a_topic(topic: Topic) -> None:
    cell = row_of(topic).split("|")[3]
    writers = set(re.findall(r"`([a-z_]+)`", cell)) | ({"web"} if "fronts" in cell else set())
    assert writers == set(topic.owner.split(", "))


@pytest.mark.parametrize("noun", NOUNS)
def test_topics_of_a_noun_name_each_command_and_each_event(noun: str) -> None:
    commands, events = NOUNS[noun].COMMANDS, NOUNS[noun].EVENTS
    assert COMMANDS_OF[noun].carries.partition(": ")[2].split(", ") == list(commands)
    assert [name for name in commands if f"`{name}`" not in row_of(COMMANDS_OF[noun])] == []
    assert [name for name in events if f"`{name}`" not in row_of(EVENTS_OF[noun])] == []


def test_clients_find_what_a_list_is_sorted_and_narrowed_by() -> None:
    rows = page("docs/rest.md").splitlines()
    sorts = next(line for line in rows if line.startswith("| `sort` |")).split(";")[0]
    assert re.findall(r"`([a-z_]+)`", sorts) == ["sort", *SORTABLE]
    for field, (_, ops) in FIELDS.items():
        (line,) = [line for line in rows if line.startswith("| `filter[") and f"`filter[{field}]`" in line]
        assert [op for op in ops if f"`{op}`" not in line] == [], field


@pytest.mark.parametrize("code", Code)
def test_clients_find_every_code_with_its_status(code: Code) -> None:
    assert f"| {STATUS[code]} | `{code}` |" in page("docs/rest.md")


@pytest.mark.parametrize(("method", "path"), [*((m, V1 + p) for m, p, _, _ in API), *((m, p) for m, p, _ in PLAIN)])
def test_clients_find_every_endpoint(method: str, path: str) -> None:
    rows = [line for line in page("docs/rest.md").splitlines() if line.startswith(f"| `{method}` |")]
    assert any(f"`{path}`" in row for row in rows)


def test_producers_find_every_reason_of_a_dead_letter() -> None:
    codes = {"handler_failed"}
    for room in ("streams", "agents"):
        found = UNREADABLE.findall("".join(path.read_text(encoding="utf-8") for path in (ROOT / room).rglob("*.py")))
        assert found, room
        codes.update(found)
    assert len(codes) > 8
    assert [code for code in sorted(codes) if f"`{code}`" not in page("docs/kafka.md")] == []


def test_the_commands_that_are_shown_exist() -> None:
    known = {*sum(COMMANDS.values(), ()), "help"}
    shown = {(path.name, word) for path in PAGES for word in re.findall(r"\./yeoul ([a-z-]+)", path.read_text("utf-8"))}
    assert {(name, word) for name, word in shown if word not in known} == set()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    broken = []
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")):
        if "://" in target:
            continue
        file, _, section = target.partition("#")
        there = path.parent / file if file else path
        if not there.exists():
            broken.append(target)
        elif section:
            headings = re.findall(r"^#+ (.*)$", there.read_text(encoding="utf-8"), re.MULTILINE)
            broken += [target] if section not in map(anchor, headings) else []
    assert broken == []


def test_every_decision_is_listed() -> None:
    listed = re.findall(r"\]\((\d{4}-[a-z0-9-]+\.md)\)", page("docs/decisions/README.md"))
    assert listed == sorted(path.name for path in (ROOT / "docs/decisions").glob("0*.md"))


def test_the_sections_that_messages_name_are_there() -> None:
    assert "\n## Growing a topic\n" in page("docs/operators.md")
