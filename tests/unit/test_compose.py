"""compose.yaml and the Dockerfile fit together: schema, references, scaling, health, no root."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.settings import Settings

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = YAML(typ="safe", pure=True).load(ROOT / "compose.yaml")
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
#: What compose itself needs to know beside the pipeline's settings.
OF_COMPOSE = {"POSTGRES_PASSWORD", "PIPELINE_UID", "PIPELINE_GID", "DASHBOARD_PORT"}
ONE_SHOT = {"deploy"}


def copies() -> Iterator[tuple[str | None, str]]:
    """The ``(stage, path)`` of each source in the Dockerfile's COPY lines; None is the context."""
    for options, paths in re.findall(r"^COPY ((?:--\S+ )*)(.+)$", DOCKERFILE, re.MULTILINE):
        stage = re.search(r"--from=(\S+)", options)
        for path in paths.split()[:-1]:
            yield stage[1] if stage else None, path


def test_the_schema_holds() -> None:
    """The compose specification's schema accepts the file."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    run = subprocess.run([*command, ROOT / "compose.yaml"], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_the_promised_services_are_there() -> None:
    """Redis, PostgreSQL, a node for development, workers, scheduler, dashboard."""
    assert {"redis", "postgres", "anvil", "worker", "scheduler", "dashboard"} <= set(SERVICES)
    assert SERVICES["anvil"]["profiles"] == ["development"]


@pytest.mark.parametrize("name", SERVICES)
def test_every_reference_exists(name: str) -> None:
    """Services, volumes, secrets, build targets and files that a service names are there."""
    service = SERVICES[name]
    assert set(service.get("depends_on", {})) <= set(SERVICES)
    assert set(service.get("secrets", [])) <= set(COMPOSE["secrets"])
    assert set(service.get("networks", [])) <= set(COMPOSE.get("networks", {}))
    for volume in service.get("volumes", []):
        assert volume.split(":")[0] in COMPOSE["volumes"]
    for file in service.get("env_file", []):
        assert not file["required"] or (ROOT / file["path"]).is_file()
    if build := service.get("build"):
        assert (ROOT / build["context"] / build.get("dockerfile", "Dockerfile")).is_file()
        assert build["target"] in re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, re.MULTILINE)


def test_nothing_is_declared_for_nobody() -> None:
    """A volume or secret that no service uses is a mistake in a name."""
    used = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    assert used == set(COMPOSE["volumes"])
    assert {secret for service in SERVICES.values() for secret in service.get("secrets", [])} == set(
        COMPOSE["secrets"]
    )


@pytest.mark.parametrize(
    ("name", "awaited"), [(n, a) for n in SERVICES for a in SERVICES[n].get("depends_on", {})]
)
def test_what_is_waited_for_can_be_waited_for(name: str, awaited: str) -> None:
    """A service waited for until it is healthy has a check; one of another profile is not required."""
    waiting = SERVICES[name]["depends_on"][awaited]
    if waiting["condition"] == "service_healthy":
        assert "test" in SERVICES[awaited]["healthcheck"]
    foreign = set(SERVICES[awaited].get("profiles", [])) - set(SERVICES[name].get("profiles", []))
    assert not foreign or waiting["required"] is False


@pytest.mark.parametrize("name", sorted(set(SERVICES) - ONE_SHOT))
def test_health_check_restart_and_time_zone(name: str) -> None:
    """A service that dies comes back, one that hangs is seen, and all clocks are UTC (periodiq)."""
    service = SERVICES[name]
    assert service["restart"] == "unless-stopped"
    assert service["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")
    assert service["environment"]["TZ"] == "UTC"


def test_workers_can_be_scaled() -> None:
    """``--scale worker=3``: nothing of a worker is there only once, a name or a port of the host."""
    assert not {"container_name", "ports", "hostname", "volumes"} & set(SERVICES["worker"])


@pytest.mark.parametrize("name", ["worker", "scheduler", "deploy", "dashboard"])
def test_no_root_and_nothing_to_write_to(name: str) -> None:
    """The pipeline's containers have another user, no capabilities, and a read-only file system."""
    service = SERVICES[name]
    assert re.fullmatch(r"\$\{PIPELINE_UID:-[1-9]\d*}:\$\{PIPELINE_GID:-[1-9]\d*}", service["user"])
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]


@pytest.mark.parametrize("target", ["anvil", "pipeline"])
def test_images_are_not_roots(target: str) -> None:
    """The last USER of an image that is run is a number that is not 0."""
    stage = DOCKERFILE.split(f" AS {target}\n")[1].split("\nFROM ")[0]
    assert int(re.findall(r"^USER (\d+)$", stage, re.MULTILINE)[-1]) > 0


def test_the_dashboard_has_no_key_and_no_port_for_others() -> None:
    """It only reads the chain, and its port is published on this machine alone."""
    service = SERVICES["dashboard"]
    signing = {name for name in service["environment"] if "PRIVATE_KEY" in name or "KEYSTORE" in name}
    assert {service["environment"][name] for name in signing} == {""}
    assert service["secrets"] == ["dashboard_users"]
    assert service["ports"] == ["127.0.0.1:${DASHBOARD_PORT:-8000}:8000"]


def test_redis_keeps_what_it_is_given() -> None:
    """AOF on, nothing evicted."""
    command = " ".join(SERVICES["redis"]["command"])
    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command


def test_the_documented_commands_run() -> None:
    """The worker and scheduler start as the README says."""
    assert SERVICES["worker"]["command"] == [
        "dramatiq",
        "pipeline.actors",
        "--processes",
        "1",
        "--threads",
        "5",
    ]
    assert SERVICES["scheduler"]["command"] == ["periodiq", "pipeline.actors"]
    assert '"' + '", "'.join(SERVICES["worker"]["command"]) + '"' in DOCKERFILE


def test_the_dockerfiles_sources_exist_and_are_not_ignored() -> None:
    """Each COPY finds its source, in the context or in an earlier stage."""
    stages = re.findall(r"^FROM \S+ AS (\S+)$", DOCKERFILE, re.MULTILINE)
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for stage, path in copies():
        if stage is None:
            assert (ROOT / path).exists(), path
            assert path in allowed, path
        else:
            assert stage in stages


def test_variables_are_settings_or_documented_here() -> None:
    """A ``${VARIABLE}`` that nothing knows would be empty for ever."""
    text = (ROOT / "compose.yaml").read_text()
    names = set(re.findall(r"\$\{(\w+)", text)) - OF_COMPOSE
    assert names <= {field.upper() for field in Settings.model_fields}
    for name in OF_COMPOSE:
        assert re.search(rf"^#.*\b{name}\b", text, re.MULTILINE), name


def test_settings_of_the_containers_exist() -> None:
    """What the containers' environment sets are settings of the pipeline."""
    environment = set(SERVICES["worker"]["environment"]) - {"TZ"}
    assert environment <= {field.upper() for field in Settings.model_fields}


def test_the_development_address_is_the_first_one_of_the_development_key() -> None:
    """``deploy`` on a fresh chain makes the registry where the workers look for it."""
    import rlp
    from eth_account import Account
    from eth_utils.address import to_checksum_address
    from eth_utils.crypto import keccak

    def default(name: str) -> str:
        return re.sub(r"^\$\{\w+:-(.*)}$", r"\1", SERVICES["worker"]["environment"][name])

    sender = Account.from_key(default("BLOCKCHAIN_PRIVATE_KEY")).address
    first = keccak(rlp.encode([bytes.fromhex(sender[2:]), 0]))[-20:]
    assert default("BLOCKCHAIN_CONTRACT_ADDRESS") == to_checksum_address(first)
    assert default("BLOCKCHAIN_CHAIN_ID") == "31337"
