"""Images and the compose file refer to existing files only, and are built by the set-up script that people run."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.support.source_tree import ROOMS, ROOT, imports_of, python_files

DOCKERFILES = sorted((ROOT / "docker").glob("Dockerfile.*"))


def instructions(dockerfile: Path, name: str) -> list[str]:
    return re.findall(rf"^{name} (.*)$", dockerfile.read_text(), flags=re.MULTILINE)


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda d: d.suffix)
def test_an_image_copies_what_exists_and_only_runs_the_shared_set_up(dockerfile: Path) -> None:
    for line in instructions(dockerfile, "COPY"):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
    (run,) = instructions(dockerfile, "RUN")
    script, part = run.split()
    assert script == "scripts/setup.sh"
    assert re.search(rf"^ +[a-z |]*\b{part}\b[a-z |]*\)", (ROOT / script).read_text(), flags=re.MULTILINE), part


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda d: d.suffix)
def test_an_image_has_every_package_that_its_code_imports(dockerfile: Path) -> None:
    copied = {source for line in instructions(dockerfile, "COPY") for source in line.split()[:-1]}
    # Of scripts/ an image runs the shell scripts only
    packages = set(ROOMS) - {"scripts"}
    code = [path for package in copied & packages for path in python_files(package)]
    assert {name.split(".")[0] for path in code for name in imports_of(path)} & packages <= copied


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda d: d.suffix)
def test_an_image_starts_something_that_exists(dockerfile: Path) -> None:
    (command,) = instructions(dockerfile, "CMD")
    first, *rest = json.loads(command)
    if first.endswith(".sh"):
        path = ROOT / first
        assert path.stat().st_mode & 0o111, f"{first} cannot be executed"
        assert re.search(rf"^ +[a-z |]*\b{rest[0]}\b[a-z |]*\)", path.read_text(), flags=re.MULTILINE), rest
    else:
        assert (ROOT / f"{first.replace('.', '/')}.py").is_file(), first


def test_compose_builds_these_images_and_opens_ports_on_loopback_only() -> None:
    services = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"]
    built = {service["build"]["dockerfile"] for service in services.values()}
    assert built == {f"docker/{d.name}" for d in DOCKERFILES}
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert ports and all(port.startswith("127.0.0.1:") for port in ports)
    connection = json.loads(services["airflow"]["environment"]["AIRFLOW_CONN_SPARK_DEFAULT"])
    assert connection["host"] in services and connection["conn_type"] == "spark_connect"
    lakes = {service["environment"]["MSR_LAKE_ROOT"] for service in services.values()}
    assert len(lakes) == 1


@pytest.mark.parametrize("script", sorted((ROOT / "scripts").glob("*.sh")), ids=lambda p: p.name)
def test_shell_scripts_parse(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)
