"""What a server serves, where, and within which limits: a TOML file, over it the environment, over it the command line."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from pairloom.choices import Precision
from pairloom.errors import UsageError

ENVIRONMENT_PREFIX = "PAIRLOOM_SERVE_"
_FLAGS = "the command line"


def _split(value: Any) -> Any:
    """Several words as the environment and the command line have them, with commas between."""
    return [word.strip() for word in value.split(",") if word.strip()] if isinstance(value, str) else value


_Words = Annotated[tuple[str, ...], BeforeValidator(_split)]
_Seconds = Annotated[float, Field(gt=0)]
_Count = Annotated[int, Field(gt=0)]


class Settings(BaseModel):
    """All that a server can be told; docs/operating.md has the table."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)

    models: _Words = ()
    """Folders, packages or hub names, each also as ALIAS=NAME."""
    collection: str | None = None
    """What is searched: a folder, or qdrant://host:port/name."""
    precision: Precision | None = None
    """Of the computation; by default the fastest that is nearly float32."""

    host: str = "127.0.0.1"
    """The address to listen on; by default only programs on this machine reach the server."""
    port: Annotated[int, Field(ge=0, le=65_535)] = 8000
    """0 is any free one."""
    workers: _Count = 1
    """Processes that answer, each with the models in its memory."""
    threads: _Count | None = None
    """Cores that a worker computes with; by default all of them, divided among the workers."""

    deadline_s: _Seconds = 30.0
    """How long a text may wait until it is computed; what could not be done by then is refused with 429."""
    body_s: _Seconds = 30.0
    """Within which a request's body must have arrived."""
    request_s: _Seconds = 120.0
    """Within which a request must be answered."""
    drain_s: _Seconds = 30.0
    """How long requests in hand may take when the server is asked to end."""
    max_body_bytes: _Count = 16 * 1024 * 1024
    """Of one request."""
    max_inputs: _Count = 2_048
    """Texts of one request."""
    max_request_tokens: _Count = 300_000
    """Tokens of one request."""
    max_documents: _Count = 1_000
    """Of one request that writes."""
    max_k: _Count = 1_000
    """Hits of one search."""
    max_connections: _Count = 2_048
    """Open at once, of each worker; more are answered with 503."""

    keys: Path | None = None
    """A file of hashed API keys."""
    api_keys: SecretStr | None = None
    """API keys themselves, as NAME:KEY or NAME:KEY:SCOPE+SCOPE with commas between; for the environment of a container."""
    allowed_hosts: _Words = ()
    """Names under which the server may be addressed."""
    cors_origins: _Words = ()
    """Origins whose pages may call the server from a browser, such as https://shop.example; * stands for all."""
    trusted_proxies: _Words = ()
    """Addresses or networks of reverse proxies, whose X-Forwarded-For is believed."""

    log_format: Literal["text", "json"] = "text"
    """Of the lines on stderr."""
    log_texts: bool = False
    """Whether bodies of requests are logged; without it no text of a request ever is."""
    page: bool = True
    """Whether the page is served at /."""


def load_settings(
    config: Path | None = None,
    flags: Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
    *,
    environment: Mapping[str, str] | None = None,
) -> Settings:
    """Reads settings from where they may stand; later ones count: the file, the environment, the command line.

    Args:
        config: A TOML file.
        flags: Values by setting; None is not given.
        overrides: ``setting=value``, which lie over all others.
        environment: By default the process's; ``PAIRLOOM_SERVE_PORT`` is the setting ``port``.

    Raises:
        UsageError: The file cannot be read, or somewhere a setting is unknown, of the wrong type or out of bounds; the
            sentence says where.
    """
    values: dict[str, Any] = {}
    places: dict[str, str] = {}
    told = (
        ("" if config is None else str(config), {} if config is None else _read_toml(config)),
        ("the environment", _from_environment(os.environ if environment is None else environment)),
        (_FLAGS, {name: value for name, value in (flags or {}).items() if value is not None}),
        ("--set", dict(map(_override, overrides))),
    )
    for place, given in told:
        values |= given
        places |= dict.fromkeys(given, place)
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        raise UsageError("; ".join(_sentence(fault, places) for fault in error.errors(include_url=False))) from None


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise UsageError(f"{path}: not TOML: {str(error)[:200]}") from None


def _from_environment(environment: Mapping[str, str]) -> dict[str, str]:
    return {
        name.removeprefix(ENVIRONMENT_PREFIX).lower(): value
        for name, value in environment.items()
        if name.startswith(ENVIRONMENT_PREFIX)
    }


def _override(word: str) -> tuple[str, str]:
    name, equals, value = word.partition("=")
    if not equals:
        raise UsageError(f"--set {word[:200]}: write setting=value")
    return name.strip(), value.strip()


def _sentence(fault: Any, places: Mapping[str, str]) -> str:
    name = str(fault["loc"][0])
    setting = ".".join(map(str, fault["loc"]))
    where = places[name]
    if where == "the environment":
        setting = ENVIRONMENT_PREFIX + setting.upper()
    if fault["type"] == "extra_forbidden":
        return f"{where}: {setting} is not a setting"
    # A key that was written wrongly is a key all the same, and does not belong on a screen.
    shown = "" if name == "api_keys" else f" = {str(fault['input'])[:60]!r}"
    return f"{where}: {setting}{shown}: {fault['msg']}"
