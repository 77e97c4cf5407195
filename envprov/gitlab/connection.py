"""Where GitLab is, and the token that it knows us by: checked first, and read again when its file changes."""

from __future__ import annotations

import ipaddress
import os
import re
import threading
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from requests import PreparedRequest
from requests.auth import AuthBase

from envprov.domain.errors import ConfigError

TOKEN_LIMIT_BYTES = 4096

_TOKEN = re.compile(r"[\x21-\x7e]+")
_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")

_Stamp = tuple[int, int, int]


@dataclass(frozen=True)
class Connection:
    """
    What a user says about GitLab.

    Attributes:
        url: Where people open it; may have a path below which it lives.
        token_file: File with an access token; surrounding white space is not part of it.
        ca_file: PEM file with certificate authorities; None means the environment's, or else the usual ones.
        timeout: For one request, from the wait for a connection to the last byte.
        listing_timeout: For a whole listing in all its pages, and for an archive.
        allow_http: Whether the token may travel in the clear to a host that is not this one.
        connections: Requests at once.

    """

    url: str
    token_file: Path
    ca_file: Path | None = None
    timeout: timedelta = timedelta(seconds=10)
    listing_timeout: timedelta = timedelta(minutes=2)
    allow_http: bool = False
    connections: int = 8


def checked_url(connection: Connection) -> str:
    """
    The URL, without a slash at its end.

    Args:
        connection: Names it.

    Raises:
        ConfigError: It is no URL, holds credentials, or would send the token in the clear.

    """
    try:
        parts = urlsplit(connection.url)
        _ = parts.port
    except ValueError:
        raise ConfigError("gitlab.url: is no URL") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ConfigError("gitlab.url: must be a URL such as https://gitlab.example.com")
    if parts.username is not None or parts.password is not None:
        raise ConfigError("gitlab.url: must hold no credentials; they belong in the file that gitlab.token_file names")
    if parts.query or parts.fragment:
        raise ConfigError("gitlab.url: must hold no query and no fragment")
    if parts.scheme == "http" and not connection.allow_http and not _is_loopback(parts):
        raise ConfigError(
            f"gitlab.url: http would send the token to {parts.hostname} in the clear; use https, "
            "or set gitlab.allow_http if nobody can listen"
        )
    return connection.url.rstrip("/")


def trusted(connection: Connection) -> str | bool:
    """
    What certificates are checked against.

    Args:
        connection: May name a file.

    Returns:
        A path, or True for the authorities that the client brings along.

    Raises:
        ConfigError: A file is named and not there.

    """
    given = connection.ca_file or next((Path(os.environ[name]) for name in _BUNDLES if os.environ.get(name)), None)
    if given is None:
        return True
    if not given.exists():
        where = "gitlab.ca_file" if connection.ca_file else "the environment's certificate bundle"
        raise ConfigError(f"{where}: {given} is not there")
    return str(given)


class TokenFile(AuthBase):
    """
    The token, as the file has it now.

    Args:
        path: Of the file.

    Raises:
        ConfigError: It cannot be read, or holds no token.

    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._stamp, self._token = _read(path)

    def __call__(self, r: PreparedRequest) -> PreparedRequest:
        """Put the token into a request."""
        r.headers["PRIVATE-TOKEN"] = self._current()
        return r

    def __repr__(self) -> str:
        return f"TokenFile({self._path})"

    def _current(self) -> str:
        with self._lock:
            try:
                if _stamp(self._path) != self._stamp:
                    self._stamp, self._token = _read(self._path)
            except (OSError, ConfigError):
                # It is being replaced; the one we have is good until GitLab says otherwise.
                pass
            return self._token


def _stamp(path: Path) -> _Stamp:
    found = path.stat()
    return found.st_mtime_ns, found.st_ino, found.st_size


def _read(path: Path) -> tuple[_Stamp, str]:
    try:
        stamp = _stamp(path)
        with path.open("rb") as stream:
            raw = stream.read(TOKEN_LIMIT_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"gitlab.token_file {path}: {error.strerror}") from error
    token = raw.decode("ascii", errors="replace").strip()
    if len(raw) > TOKEN_LIMIT_BYTES or not _TOKEN.fullmatch(token):
        # The HTTP client would name such a value in its own error.
        raise ConfigError(f"gitlab.token_file {path}: must hold one token and nothing else")
    return stamp, token


def _is_loopback(parts: SplitResult) -> bool:
    host = parts.hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
