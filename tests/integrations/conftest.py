"""A model with prompts, and no network: what is tested here belongs to others, who like to fetch and to tell."""

from __future__ import annotations

import json
import os
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

from pairloom import Encoder

# Read when haystack is imported.
os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "false"

PROMPTS = {
    "query": "how do i ",
    "document": "the answer is ",
    "STS": "fast and slow ",
    "TinyRetrieval-query": "find the file for ",
}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("somebody wants to go over the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def with_prompts(model_folder: Path, path: Path, prompts: dict[str, str]) -> Path:
    shutil.copytree(model_folder, path)
    settings = {"similarity_fn_name": "cosine", "prompts": prompts}
    (path / "config_sentence_transformers.json").write_text(json.dumps(settings))
    return path


@pytest.fixture(scope="session")
def prompted_folder(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_prompts(model_folder, tmp_path_factory.mktemp("prompted") / "prompted", PROMPTS)


@pytest.fixture(scope="session")
def prompted(prompted_folder: Path) -> Encoder:
    return Encoder(prompted_folder, device="cpu", precision="float32")
