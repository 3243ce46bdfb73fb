"""The files for containers, as far as they can be checked without an engine."""

import re
from pathlib import Path

from config.settings import VARIABLES, environment

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
EXAMPLE = (ROOT / ".env.example").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8")
IGNORE = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()


def test_every_required_setting_reaches_the_containers() -> None:
    for name in environment("production")["required"]:
        assert re.search(rf"^    {name}: \S", COMPOSE, re.MULTILINE), name


def test_only_settings_that_exist_are_set() -> None:
    known = {variable.name for variable in VARIABLES}
    assert set(re.findall(r"^    (YEOUL_[A-Z_]+):", COMPOSE, re.MULTILINE)) <= known
    assert set(re.findall(r"(YEOUL_[A-Z_]+)=", DOCKERFILE)) <= known


def test_the_example_names_each_variable_and_gives_no_secret_away() -> None:
    asked = set(re.findall(r"\$\{([A-Z_]+)", COMPOSE))
    given = dict(re.findall(r"^([A-Z_]+)=(.*)$", EXAMPLE, re.MULTILINE))
    assert set(given) == asked
    required = set(re.findall(r"\$\{([A-Z_]+):\?", COMPOSE))
    assert {name for name in required if given[name]} == set()


def test_no_secret_has_a_default() -> None:
    for name in ("PASSWORD", "_KEY", "_KEYS"):
        assert not re.search(rf"\$\{{[A-Z_]*{name}:?-", COMPOSE)
    assert not re.search(r"(?i)password: *[\"']?[a-z0-9]", COMPOSE)


def test_images_are_pinned() -> None:
    images = [*re.findall(r"^ +image: (\S+)$", COMPOSE, re.MULTILINE), *re.findall(r"PYTHON_IMAGE=(\S+)", DOCKERFILE)]
    assert len(images) == 5
    assert [image for image in images if ":" not in image or image.endswith(":latest")] == []


def test_what_the_image_copies_is_there_and_in_its_context() -> None:
    lines = [
        line.split()[1:-1] for line in DOCKERFILE.splitlines() if line.startswith("COPY ") and "--from" not in line
    ]
    copied = [name for names in lines for name in names]
    assert "requirements.lock" in copied
    for name in copied:
        assert (ROOT / name).exists(), name
        assert f"!{name}" in IGNORE, name
    assert IGNORE[1] == "*"


def test_the_image_runs_as_nobody_in_particular() -> None:
    final = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.search(r"^USER 10001:10001$", final, re.MULTILINE)
    assert "--require-hashes" in DOCKERFILE
    for word in ("STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT ["):
        assert word in final
    assert "apt-get" not in final
