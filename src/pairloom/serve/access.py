"""Who may ask what: keys and their scopes, and pages of other sites that are open in somebody's browser."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.types import Scope

from pairloom.serve.errors import RequestError
from pairloom.serve.keys import Key, find_key, read_keys
from pairloom.serve.settings import Settings

# Named without a key: what says whether the server lives, the page's own files, and the description of the interface. None of it
# tells what is served.
_OPEN = frozenset({"/", "/health/live", "/health/ready", "/openapi.json"})
_OPEN_FOLDER = "/page/"
_DOCUMENTS = "/v1/documents"
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})


class Access:
    """Lets a request through, or says why not.

    Without keys, who can reach the server may do everything. On a loopback address those are the programs of this machine; and with
    them the browser, and in it the page of any site. Two ways are closed to those pages. A site may let its own name point to
    127.0.0.1 (DNS rebinding), and then counts as the server's own page: so the name by which the server is addressed must be
    one of its own. And pages may send what they cannot read the answer to: so what changes or costs anything is not taken from
    another site's page. With keys both need what such a page does not have.

    Raises:
        PairloomError: The keys cannot be read.
    """

    def __init__(self, settings: Settings) -> None:
        self._keys = read_keys(settings)
        self._origins = frozenset(origin.rstrip("/") for origin in settings.cors_origins)
        hosts = {host.strip("[]").lower() for host in settings.allowed_hosts}
        if not self._keys and is_loopback(settings.host):
            hosts |= _LOOPBACK_NAMES | {settings.host.lower()}
        self._hosts = frozenset(hosts)

    def check(self, scope: Scope, headers: Mapping[bytes, bytes]) -> str:
        """Whose request this is: a key's name, or the address that it comes from.

        Args:
            scope: Of ASGI.
            headers: By their names in small letters.

        Raises:
            RequestError: 401 without a key that is known, 403 if it is not for this, 421 under a wrong name.
        """
        path, method = scope["path"], scope["method"]
        if self._hosts and not path.startswith("/health/"):
            self._check_host(headers)
        if not self._keys:
            if method not in _READING:
                self._check_origin(headers)
        elif path not in _OPEN and not path.startswith(_OPEN_FOLDER):
            return self._check_key(path, method, headers).name
        client = scope.get("client")
        return client[0] if client else "unknown"

    def _check_key(self, path: str, method: str, headers: Mapping[bytes, bytes]) -> Key:
        given = _given_key(headers)
        if given is None:
            raise RequestError(
                "this needs an API key, in the header Authorization: Bearer KEY, or X-API-Key: KEY",
                401,
                code="missing_api_key",
            )
        key = find_key(self._keys, given)
        if key is None:
            raise RequestError("the API key is not one that this server knows", 401, code="invalid_api_key")
        writes = method not in _READING and (path.startswith(_DOCUMENTS) or method != "POST")
        needed = "write" if writes else "read"
        if needed not in key.scopes:
            raise RequestError(
                f"the API key {key.name} is not for this: it lacks the scope {needed}", 403, code="insufficient_scope"
            )
        return key

    def _check_host(self, headers: Mapping[bytes, bytes]) -> None:
        host = headers.get(b"host")
        # Browsers always say it; a program that does not is no page.
        if host is not None and _host_name(host) not in self._hosts:
            raise RequestError(
                "the server is not known by the name in the header Host; if it should be, add that to the setting allowed_hosts",
                421,
                param="Host",
                code="unknown_host",
            )

    def _check_origin(self, headers: Mapping[bytes, bytes]) -> None:
        origin = headers.get(b"origin")
        if origin is None:  # a program, or a page's own server
            return
        origin_text = origin.decode("latin-1").rstrip("/")
        if "*" in self._origins or origin_text in self._origins:
            return
        if urlsplit(origin_text).netloc.encode("latin-1") != headers.get(b"host"):
            raise RequestError(
                "pages of other sites may not ask this; if this one should, add its origin to the setting cors_origins "
                "(behind a reverse proxy: let it pass the header Host on)",
                403,
                param="Origin",
                code="foreign_origin",
            )


def is_loopback(host: str) -> bool:
    """Whether only programs on this machine reach what listens on this address."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _given_key(headers: Mapping[bytes, bytes]) -> bytes | None:
    kind, _, key = headers.get(b"authorization", b"").partition(b" ")
    if kind.lower() == b"bearer" and key.strip():
        return key.strip()
    return headers.get(b"x-api-key")


def _host_name(host: bytes) -> str:
    """The name in ``name``, ``name:port``, ``[::1]`` or ``[::1]:port``."""
    text = host.decode("latin-1").lower()
    if text.startswith("["):
        return text[1:].partition("]")[0]
    return text.partition(":")[0]
