"""API keys: what is kept, what is found, and what is said of a wrong file."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

import pytest
from pydantic import SecretStr

from pairloom.errors import InputError, PairloomError, UsageError
from pairloom.serve.keys import add_key, find_key, read_keys
from pairloom.serve.settings import Settings

LONG = "a-key-of-somebody-who-brought-it"


def test_a_key_that_was_made_is_found_again_with_its_scopes(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    web, admin = add_key(path, "web"), add_key(path, "admin:read+write")
    keys = read_keys(Settings(keys=path))
    found = [find_key(keys, key.encode()) for key in (web, admin)]
    assert [(key.name, key.scopes) for key in found if key] == [
        ("web", {"read"}),
        ("admin", {"read", "write"}),
    ]
    assert find_key(keys, web.encode()[:-1]) is None
    assert find_key(keys, b"") is None
    assert find_key(keys, "schlüssel".encode()) is None


def test_the_file_has_hashes_and_is_its_owners(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    key = add_key(path, "web")
    assert key not in path.read_text()
    assert hashlib.sha256(key.encode()).hexdigest() in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_no_two_keys_are_alike(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    made = {add_key(path, f"name-{number}") for number in range(20)}
    assert len(made) == 20
    assert min(map(len, made)) > 40


def test_a_name_is_given_once(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    add_key(path, "web")
    before = path.read_text()
    with pytest.raises(UsageError, match=r"keys\.toml: has a key web already"):
        add_key(path, "web:write")
    assert path.read_text() == before


@pytest.mark.parametrize("told", ["", "two words", "web:all", "web:", "a" * 65, "web\n[admin]", "web:read+"])
def test_what_is_no_name_or_no_scope_makes_no_key(tmp_path: Path, told: str) -> None:
    path = tmp_path / "keys.toml"
    if told == "web:":
        assert add_key(path, told)  # nothing behind the colon is nothing said
        return
    with pytest.raises(UsageError):
        add_key(path, told)
    assert not path.exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[web", "not TOML"),
        ("web = 1", "key web: has scopes and sha256"),
        (f'[web]\nsha256 = "{"0" * 64}"', "key web: has scopes and sha256"),
        (f'[web]\nscopes = ["read"]\nsha256 = "{"0" * 64}"\nkey = "x"', "key web: has scopes and sha256"),
        ('[web]\nscopes = ["read"]\nsha256 = "secret"', "key web: its sha256 is not 64"),
        (f'[web]\nscopes = ["all"]\nsha256 = "{"0" * 64}"', "'all' is no scope"),
        (f'[web]\nscopes = "read"\nsha256 = "{"0" * 64}"', "its scopes are a list"),
        (f'[web]\nscopes = []\nsha256 = "{"0" * 64}"', "its scopes are a list"),
        (f'["a b"]\nscopes = ["read"]\nsha256 = "{"0" * 64}"', "a key's name has"),
    ],
)
def test_what_is_wrong_in_the_file_is_said_with_its_place(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "keys.toml"
    path.write_text(text)
    with pytest.raises(PairloomError, match=said) as caught:
        read_keys(Settings(keys=path))
    assert "keys.toml" in str(caught.value)


def test_a_file_that_is_not_there_or_empty_does_not_let_everybody_in(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    with pytest.raises(InputError, match=r"keys\.toml: cannot be read"):
        read_keys(Settings(keys=path))
    path.write_text("")
    with pytest.raises(UsageError, match=r"no key in .*keys\.toml"):
        read_keys(Settings(keys=path))
    with pytest.raises(UsageError, match="no key in the environment"):
        read_keys(Settings(api_keys=SecretStr("")))


def test_keys_of_the_environment() -> None:
    keys = read_keys(Settings(api_keys=SecretStr(f"web:{LONG}, bot:{LONG}2:read+write,")))
    assert [(key.name, key.scopes) for key in keys] == [("web", {"read"}), ("bot", {"read", "write"})]
    found = find_key(keys, f"{LONG}2".encode())
    assert found is not None
    assert found.name == "bot"


@pytest.mark.parametrize("word", [LONG, "web:short", f"web:{LONG}:admin", f"a b:{LONG}", f"web:{LONG}:read:write"])
def test_a_wrong_word_in_the_environment_is_refused_and_not_repeated(word: str) -> None:
    with pytest.raises(UsageError, match="PAIRLOOM_SERVE_API_KEYS") as caught:
        read_keys(Settings(api_keys=SecretStr(word)))
    assert LONG not in str(caught.value)
    assert "short" not in str(caught.value)


def test_names_are_unique_over_file_and_environment(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    add_key(path, "web")
    with pytest.raises(UsageError, match="two keys of the name web"):
        read_keys(Settings(keys=path, api_keys=SecretStr(f"web:{LONG}")))


def test_hashes_are_not_shown(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    add_key(path, "web")
    (key,) = read_keys(Settings(keys=path))
    assert "digest" not in repr(key)


def test_without_keys_there_are_none() -> None:
    assert read_keys(Settings()) == ()
