"""What the Dockerfile and the compose file promise, as far as it can be seen without a daemon that builds them."""

from __future__ import annotations

import http.server
import json
import os
import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
import yaml

from pairloom.serve.settings import ENVIRONMENT_PREFIX, load_settings

ROOT = Path(__file__).parents[1]
# The sources of a package for users have no containers.
pytestmark = pytest.mark.skipif(not (ROOT / "Dockerfile").exists(), reason="there is no Dockerfile here")

Instruction = tuple[str, str]


@pytest.fixture(scope="module")
def stages() -> list[list[Instruction]]:
    """The instructions of each stage, each with its arguments as one line."""
    lines = [line for line in (ROOT / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#")]
    found: list[list[Instruction]] = []
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if line.strip():
            word, _, rest = line.strip().partition(" ")
            if word == "FROM":
                found.append([])
            found[-1].append((word, " ".join(rest.split())))
    return found


@pytest.fixture(scope="module")
def image(stages: list[list[Instruction]]) -> list[Instruction]:
    return stages[-1]


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "compose.yaml").read_text()))


def only(instructions: list[Instruction], wanted: str) -> str:
    (found,) = [arguments for word, arguments in instructions if word == wanted]
    return found


def environment(image: list[Instruction]) -> dict[str, str]:
    return dict(word.split("=", 1) for arguments in (only(image, "ENV"),) for word in arguments.split())


def requirements(*extras: str) -> set[str]:
    """Names of all that pairloom asks for by itself and by these extras."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names: set[str] = set()
    for requirement in [
        *project["dependencies"],
        *(one for extra in extras for one in project["optional-dependencies"][extra]),
    ]:
        name, more = re.fullmatch(r"([\w.-]+)(?:\[([\w,.-]+)\])?.*", requirement).groups()  # type: ignore[union-attr]
        names |= requirements(*more.split(",")) if name == "pairloom" else {name}
    return names


def test_bases_are_pinned_and_alike(stages: list[list[Instruction]]) -> None:
    bases = [only(stage, "FROM").split()[0] for stage in stages]
    assert all(re.fullmatch(r"python:3\.\d+-slim-[a-z]+", base) for base in bases)
    assert len(set(bases)) == 1  # the environment of one stage must run in the other


def test_it_runs_as_a_user_without_rights_from_the_end_of_building(image: list[Instruction]) -> None:
    user, group = only(image, "USER").split(":")
    assert int(user) > 0 and int(group) > 0
    words = [word for word, _ in image]
    assert not {"RUN", "COPY"} & set(words[words.index("USER") :])


def test_nothing_is_taken_from_addresses(stages: list[list[Instruction]]) -> None:
    for stage in stages:
        assert "ADD" not in [word for word, _ in stage]
        building = " ".join(arguments for word, arguments in stage if word in ("RUN", "COPY"))
        assert not re.search(r"://|\bcurl\b|\bwget\b", building)


def test_what_is_copied_is_there_and_what_is_needed_to_build_is_copied(stages: list[list[Instruction]]) -> None:
    copied = [source for word, arguments in stages[0] if word == "COPY" for source in arguments.split()[:-1]]
    for source in copied:
        assert (ROOT / source).exists(), source
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    assert sorted(line.removeprefix("!") for line in ignored if line.startswith("!")) == sorted(copied)
    assert any(fnmatch("src/pairloom/__pycache__", line) for line in ignored)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {project["readme"], *project["license-files"]} <= set(copied)


def test_there_is_no_torch_in_it(stages: list[list[Instruction]], compose: dict[str, Any]) -> None:
    usual = only(stages[0], "ARG").removeprefix("EXTRAS=").split(",")
    with_qdrant = compose["services"]["pairloom"]["build"]["args"]["EXTRAS"].split(",")
    assert {"fastapi", "faiss-cpu", "openvino"} <= requirements(*usual)
    assert {"fastapi", "faiss-cpu", "openvino", "qdrant-client"} <= requirements(*with_qdrant)
    assert not {"torch", "transformers", "pyarrow"} & (requirements(*usual) | requirements(*with_qdrant))


def test_the_server_is_told_what_it_understands(image: list[Instruction], compose: dict[str, Any]) -> None:
    told = environment(image)
    settings = load_settings(environment=told)
    assert (settings.host, settings.port, settings.models) == (
        "0.0.0.0",
        int(only(image, "EXPOSE")),
        ("/models/model",),
    )
    names = {name for name in compose["services"]["pairloom"]["environment"] if name.startswith(ENVIRONMENT_PREFIX)}
    known = {ENVIRONMENT_PREFIX + name.upper() for name in type(settings).model_fields}
    assert names and names <= known
    assert load_settings(environment={}).drain_s < float(
        compose["services"]["pairloom"]["stop_grace_period"].removesuffix("s")
    )


def test_the_entry_point_gets_signals(image: list[Instruction]) -> None:
    assert json.loads(only(image, "ENTRYPOINT")) == ["pairloom", "serve"]


@contextmanager
def answering(status: int) -> Iterator[int]:
    """A server on a free port that answers /health/ready so."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/health/ready" else 404)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def health(image: list[Instruction], port: int) -> int:
    command = json.loads(only(image, "HEALTHCHECK").partition("CMD ")[2])
    assert command[:2] == ["python", "-c"]
    environment = {"PAIRLOOM_SERVE_PORT": str(port), "http_proxy": "http://127.0.0.1:9", "PATH": os.environ["PATH"]}
    done = subprocess.run([sys.executable, *command[1:]], env=environment, capture_output=True, timeout=60)
    return done.returncode


def test_the_health_check_asks_whether_the_server_is_ready(image: list[Instruction]) -> None:
    with answering(200) as port:
        assert health(image, port) == 0
    with answering(503) as other:
        assert health(image, other) == 1
    assert health(image, port) == 1


def test_a_service_of_the_compose_file_can_do_little_and_is_reached_from_here_only(compose: dict[str, Any]) -> None:
    service = compose["services"]["pairloom"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert "localhost,127.0.0.1" in service["environment"]["PAIRLOOM_SERVE_ALLOWED_HOSTS"]
    assert {volume.split(":", 1)[1] for volume in service["volumes"] if not volume.startswith("$")} == {"/data"}
    (models,) = [volume for volume in service["volumes"] if volume.startswith("$")]
    assert models.endswith(":/models:ro")
    assert not any(key in service for key in ("privileged", "user", "network_mode", "pid"))
    secrets = [name for name in service["environment"] if "KEY" in name]
    assert secrets and all(service["environment"][name] is None for name in secrets)


def test_qdrant_comes_if_it_is_asked_for_and_is_the_tested_one(compose: dict[str, Any]) -> None:
    alone = yaml.safe_load((ROOT / "deploy" / "qdrant" / "compose.yaml").read_text())["services"]["qdrant"]
    service = compose["services"]["qdrant"]
    assert service["profiles"] == ["qdrant"]
    assert compose["services"]["pairloom"]["depends_on"]["qdrant"]["required"] is False
    assert service["image"] == alone["image"]
    assert service["healthcheck"] == alone["healthcheck"]
    # It has no key, so nobody but pairloom may reach it.
    assert "ports" not in service
    assert service["networks"] == ["inside"]
    assert compose["networks"]["inside"]["internal"] is True


def test_what_services_name_is_declared(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        named = {volume.split(":")[0] for volume in service["volumes"] if not volume.startswith(("$", ".", "/"))}
        assert named <= set(compose["volumes"])
        assert set(service["networks"]) - {"default"} <= set(compose["networks"])
        assert set(service.get("depends_on", {})) <= set(compose["services"])
