"""``pairloom serve``: what its words become."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from pairloom.cli.arguments import run
from pairloom.cli.serve import serve
from pairloom.errors import MissingExtraError, UsageError
from pairloom.serve.settings import Settings


def called(words: list[str]) -> None:
    run([serve], ["serve", *words], about="", version="1")


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Settings]:
    """The settings that a server would have been started with."""
    import pairloom.serve.run

    found: list[Settings] = []
    monkeypatch.setattr(pairloom.serve.run, "serve", lambda settings, say: found.append(settings))
    return found


def test_words_become_settings(told: list[Settings], tmp_path: Path) -> None:
    config = tmp_path / "serve.toml"
    config.write_text('collection = "posts"\nport = 1\nmax_k = 5\n')
    called(["one", "fast=two", "--port", "9", "--config", str(config), "--set", "max_k=7", "--workers", "2"])
    (settings,) = told
    assert settings.models == ("one", "fast=two")
    assert (settings.collection, settings.port, settings.max_k, settings.workers) == ("posts", 9, 7, 2)


def test_what_is_not_said_is_left_to_the_file(told: list[Settings], tmp_path: Path) -> None:
    config = tmp_path / "serve.toml"
    config.write_text('models = ["m"]\nhost = "127.0.0.2"\nthreads = 3\n')
    called(["--config", str(config)])
    assert (told[0].models, told[0].host, told[0].threads) == (("m",), "127.0.0.2", 3)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--set", "prot=1"], "--set: prot is not a setting"),
        (["--port", "65536"], "65536 is more than"),
        (["--config", "none.toml"], r"none\.toml: cannot be read"),
        (["--add-key", "web"], "say with --keys"),
        (["--add-key", "we b", "--keys", "k.toml"], "a key's name has"),
    ],
)
def test_wrong_words_are_one_sentence(words: list[str], said: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=said):
        called(words)
    assert list(tmp_path.iterdir()) == []


def test_a_key_is_printed_once_and_only_on_stdout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], told: list[Settings]
) -> None:
    path = tmp_path / "keys.toml"
    called(["--keys", str(path), "--add-key", "web:read+write"])
    out, err = capsys.readouterr()
    key = out.strip()
    assert len(key) > 40
    assert key not in err
    assert key not in path.read_text()
    assert told == []


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "uvicorn" else find(name))
    with pytest.raises(MissingExtraError, match=r"needs uvicorn.*pip install 'pairloom\[serve\]'"):
        called(["m"])
