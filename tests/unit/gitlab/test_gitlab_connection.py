"""Where GitLab is: what is refused before a token could go anywhere, and what never shows it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from requests import PreparedRequest

from envprov.domain.errors import ConfigError
from envprov.gitlab.connection import Connection, TokenFile, checked_url, trusted
from envprov.settings import GitLabSettings, load_settings

BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE")


def to(url: str, *, allow_http: bool = False, ca_file: Path | None = None) -> Connection:
    return Connection(url, Path("token"), ca_file, allow_http=allow_http)


@pytest.mark.parametrize(
    ("url", "checked"),
    [
        ("https://gitlab.example.com", "https://gitlab.example.com"),
        ("https://gitlab.example.com/", "https://gitlab.example.com"),
        ("https://example.com:8443/gitlab/", "https://example.com:8443/gitlab"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
        ("http://localhost", "http://localhost"),
    ],
)
def test_a_url_that_will_do(url: str, checked: str) -> None:
    assert checked_url(to(url)) == checked


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "must be a URL such as"),
        ("gitlab.example.com", "must be a URL such as"),
        ("ftp://gitlab.example.com", "must be a URL such as"),
        ("https://", "must be a URL such as"),
        ("https://[::1", "is no URL"),
        ("https://x:99999", "is no URL"),
        ("https://me:s3cret@gitlab.example.com", "must hold no credentials"),
        ("https://s3cret@gitlab.example.com", "must hold no credentials"),
        ("https://gitlab.example.com?private_token=s3cret", "must hold no query"),
        ("https://gitlab.example.com#s3cret", "must hold no query"),
        ("http://gitlab.example.com", "in the clear"),
        ("http://127.0.0.1.example.com", "in the clear"),
        ("http://10.0.0.1", "in the clear"),
    ],
)
def test_a_url_that_will_not(url: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        checked_url(to(url))
    assert "s3cret" not in str(caught.value)


def test_plain_http_if_somebody_says_so() -> None:
    assert checked_url(to("http://gitlab.internal", allow_http=True)) == "http://gitlab.internal"


def test_certificates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in BUNDLES:
        monkeypatch.delenv(name, raising=False)
    assert trusted(to("https://x")) is True
    file = tmp_path / "ca.pem"
    with pytest.raises(ConfigError, match=r"gitlab.ca_file: .* is not there"):
        trusted(to("https://x", ca_file=file))
    file.write_text("")
    assert trusted(to("https://x", ca_file=file)) == str(file)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    assert trusted(to("https://x")) == str(file)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none"))
    with pytest.raises(ConfigError, match="the environment's certificate bundle"):
        trusted(to("https://x"))


def sent(token: TokenFile) -> str:
    request = PreparedRequest()
    request.prepare(method="GET", url="https://gitlab.example.com")
    return str(token(request).headers["PRIVATE-TOKEN"])


def test_the_token_is_what_the_file_has_now(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text(" glpat-one\n")
    token = TokenFile(file)
    assert sent(token) == "glpat-one"
    file.write_text("glpat-two-and-longer\n")
    assert sent(token) == "glpat-two-and-longer"
    file.write_text("")
    assert sent(token) == "glpat-two-and-longer"
    file.unlink()
    assert sent(token) == "glpat-two-and-longer"
    assert "glpat" not in repr(token) + str(token)


@pytest.mark.parametrize("text", ["", "\n", "two words", "two\nlines", "ümlaut", "\x00", "x" * 5000])
def test_a_file_without_a_token(tmp_path: Path, text: str) -> None:
    file = tmp_path / "token"
    file.write_text(text)
    with pytest.raises(ConfigError, match="must hold one token and nothing else") as caught:
        TokenFile(file)
    assert not text.strip() or text.strip() not in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        TokenFile(tmp_path / "none")
    with pytest.raises(ConfigError, match="Is a directory"):
        TokenFile(tmp_path)


def test_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert load_settings(None).gitlab == GitLabSettings()
    assert GitLabSettings().url is None
    assert (GitLabSettings().timeout, GitLabSettings().allow_http) == (timedelta(seconds=10), False)
    file = tmp_path / "settings.yaml"
    file.write_text("gitlab: {url: 'https://x', token_file: /token, connections: 3, listing_timeout: PT30S}\n")
    monkeypatch.setenv("ENVPROV_GITLAB__TIMEOUT", "PT2S")
    found = load_settings(file).gitlab
    assert (found.url, found.token_file, found.connections) == ("https://x", Path("/token"), 3)
    assert (found.timeout, found.listing_timeout) == (timedelta(seconds=2), timedelta(seconds=30))
    file.write_text("gitlab: {connections: 0, token: s3cret}\n")
    with pytest.raises(ConfigError, match=r"gitlab\.connections") as caught:
        load_settings(file)
    assert "gitlab.token" in str(caught.value)
    assert "s3cret" not in str(caught.value)
