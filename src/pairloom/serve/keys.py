"""API keys: made once, shown once, and kept as hashes.

A key is 256 random bits, so its SHA-256 is as good as unguessable, and checking it costs a request nothing. Slow hashes such as bcrypt
are for passwords, which people choose and others can guess; on every request they would be a way to keep a server busy.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import secrets
import tomllib
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from pairloom.errors import InputError, UsageError
from pairloom.serve.settings import ENVIRONMENT_PREFIX, Settings

Scope = Literal["read", "write"]
"""What a key is for: to ask, and to add and delete documents."""

_SCOPES: tuple[Scope, ...] = get_args(Scope)
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
_HASH = re.compile(r"[0-9a-f]{64}")
# Of keys that somebody brings along: shorter ones could be guessed, and then a quick hash is too little.
_MIN_CHARACTERS = 24
_MARK = "pairloom_"  # by which a key is recognised that lies where it should not


@dataclass(frozen=True)
class Key:
    """A key that the server knows, but could not tell.

    Args:
        name: Whose it is; it stands in logs.
        scopes: What it is for.
        digest: Its SHA-256.
    """

    name: str
    scopes: frozenset[Scope]
    digest: bytes = field(repr=False)


def find_key(keys: Collection[Key], given: bytes) -> Key | None:
    """The key that was given, in a time that does not tell how nearly it was one of them."""
    digest = hashlib.sha256(given).digest()
    found = None
    for key in keys:
        if hmac.compare_digest(key.digest, digest):
            found = key
    return found


def read_keys(settings: Settings) -> tuple[Key, ...]:
    """The keys of the file and of the environment; none if neither is given, and then nobody needs one.

    Raises:
        InputError: The file cannot be read, or an entry of it.
        UsageError: The environment has something else than keys, or a name is there twice.
    """
    keys = [] if settings.keys is None else _read_file(settings.keys)
    if settings.api_keys is not None:
        keys += [_from_word(word) for word in settings.api_keys.get_secret_value().split(",") if word.strip()]
    names = [key.name for key in keys]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"there are two keys of the name {twice[0]}; give each a name of its own, as logs show it")
    if not keys and (settings.keys is not None or settings.api_keys is not None):
        # To go on would be to let everybody in, where keys were meant to be asked for.
        raise UsageError(f"there is no key in {settings.keys or 'the environment'}; add one with --add-key NAME")
    return tuple(keys)


def add_key(path: Path, told: str) -> str:
    """Makes a key and appends its hash to a file, which only its owner can read.

    Args:
        path: The file; it is made if it is not there.
        told: ``NAME`` or ``NAME:SCOPES``, as ``web:read+write``; without scopes it is for reading.

    Returns:
        The key. It is nowhere else.

    Raises:
        UsageError: The name or a scope is none, or the name is taken.
    """
    name, _, scopes = told.partition(":")
    allowed = _scopes(scopes.split("+") if scopes else ["read"], told)
    _check_name(name, told)
    if path.exists() and any(key.name == name for key in _read_file(path)):
        raise UsageError(f"{path}: has a key {name} already; delete its lines first, or take another name")
    key = _MARK + secrets.token_urlsafe(32)
    listed = ", ".join(f'"{scope}"' for scope in _SCOPES if scope in allowed)
    entry = f'[{name}]\nscopes = [{listed}]\nsha256 = "{hashlib.sha256(key.encode()).hexdigest()}"\n\n'
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "a", encoding="utf-8") as file:
            file.write(entry)
    except OSError as error:
        raise InputError(f"cannot be written ({error.strerror})", path) from None
    return key


def _read_file(path: Path) -> list[Key]:
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot be read ({error.strerror}); --add-key NAME makes it", path) from None
    except ValueError as error:
        raise InputError(f"not TOML: {str(error)[:200]}", path) from None
    return [_from_entry(name, entry, path) for name, entry in entries.items()]


def _from_entry(name: str, entry: Any, path: Path) -> Key:
    where = f"{path}: key {name}"
    _check_name(name, where)
    if not isinstance(entry, dict) or set(entry) != {"scopes", "sha256"}:
        raise InputError("has scopes and sha256, and nothing else", where)
    digest, scopes = entry["sha256"], entry["scopes"]
    if not isinstance(digest, str) or not _HASH.fullmatch(digest):
        raise InputError("its sha256 is not 64 hexadecimal digits", where)
    if not isinstance(scopes, list) or not scopes or not all(isinstance(scope, str) for scope in scopes):
        raise InputError('its scopes are a list such as ["read", "write"]', where)
    return Key(name, _scopes(scopes, where), bytes.fromhex(digest))


def _from_word(word: str) -> Key:
    parts = word.strip().split(":")
    where = f"{ENVIRONMENT_PREFIX}API_KEYS"
    if len(parts) not in (2, 3):
        raise UsageError(f"{where}: write NAME:KEY or NAME:KEY:SCOPE+SCOPE, with commas between keys")
    name, key = parts[:2]
    _check_name(name, where)
    if len(key) < _MIN_CHARACTERS:
        raise UsageError(f"{where}: the key of {name} has fewer than {_MIN_CHARACTERS} characters and could be guessed")
    scopes = _scopes(parts[2].split("+") if len(parts) == 3 else ["read"], f"{where}: {name}")
    return Key(name, scopes, hashlib.sha256(key.encode()).digest())


def _check_name(name: str, where: str) -> None:
    if not _NAME.fullmatch(name):
        raise UsageError(f"{where}: a key's name has 1 to 64 letters, digits, - and _")


def _scopes(words: Sequence[str], where: str) -> frozenset[Scope]:
    unknown = [word for word in words if word not in _SCOPES]
    if unknown:
        raise UsageError(f"{where}: {unknown[0][:60]!r} is no scope; there are {' and '.join(_SCOPES)}")
    return frozenset(scope for scope in _SCOPES if scope in words)
