"""What is said when there is no way to a cluster."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from envprov.domain.errors import ConfigError, EnvprovError, Unavailable
from envprov.kube.client import Connection, KubeClient
from tests.faults import kubeconfig_of


@pytest.fixture(autouse=True)
def _nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the kubeconfig and the cluster of whoever runs the tests out of it."""
    for name in ("KUBECONFIG", "KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))


def fault(connection: Connection) -> EnvprovError:
    """Say what goes wrong when the server's version is asked for."""

    async def ask() -> None:
        async with KubeClient.connect(connection) as client:
            await client.get_raw("/version")

    with pytest.raises(EnvprovError) as caught:
        asyncio.run(ask())
    return caught.value


def written(folder: Path, text: str) -> Path:
    file = folder / "kubeconfig"
    file.write_text(text)
    return file


GOOD = kubeconfig_of("https://127.0.0.1:1", {"token": "s3cret"})


@pytest.mark.parametrize(
    ("text", "context", "words"),
    [
        pytest.param("a: [", None, ", line 1: is not YAML", id="half a list"),
        pytest.param("a: b\n\tc: d", None, ", line 2: is not YAML", id="a tab"),
        pytest.param("just words", None, ": is not a kubeconfig", id="another document"),
        pytest.param("", None, ": is not a kubeconfig", id="empty"),
        pytest.param("{}", None, ": has no current-context; give one with --context", id="nothing in it"),
        pytest.param(json.dumps(GOOD), "two", ": no context 'two'; it has: one", id="no such context"),
        pytest.param(json.dumps(GOOD | {"users": []}), None, ": no user 'one'; it has: none", id="no such user"),
        pytest.param(json.dumps(GOOD | {"clusters": None}), None, ": no cluster 'one'; it has: none", id="no cluster"),
        pytest.param(
            json.dumps(kubeconfig_of("https://h", {}, **{"certificate-authority": "/no/such/file"})),
            None,
            "/no/such/file",
            id="no such certificate",
        ),
        pytest.param(
            json.dumps(kubeconfig_of("https://h", {}, **{"certificate-authority-data": "bm8="})),
            None,
            "its certificates cannot be used",
            id="a certificate that is none",
        ),
        pytest.param(json.dumps(kubeconfig_of("no url", {})), None, "server 'no url' is no URL", id="no URL"),
    ],
)
def test_a_wrong_kubeconfig_says_what_is_wrong_and_in_which_file(
    tmp_path: Path, text: str, context: str | None, words: str
) -> None:
    file = written(tmp_path, text)
    error = fault(Connection(file, context))
    assert isinstance(error, ConfigError)
    assert words in str(error)
    assert f"kubeconfig {file}" in str(error)
    assert "s3cret" not in str(error)


def test_a_kubeconfig_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "missing"
    assert str(fault(Connection(file))) == f"kubeconfig {file}: no such file"
    monkeypatch.setenv("KUBECONFIG", str(file))
    assert str(fault(Connection())) == f"$KUBECONFIG names no file that exists: {file}"


def test_nothing_at_all_names_everything_that_was_tried(tmp_path: Path) -> None:
    error = fault(Connection())
    assert isinstance(error, ConfigError)
    usual = tmp_path / "home" / ".kube" / "config"
    assert str(error) == (
        f"no cluster to talk to: give --kubeconfig; tried $KUBECONFIG (not set), {usual} (no such file), "
        "the pod's own account (Service host/port is not set)"
    )


def test_a_context_without_any_kubeconfig_is_not_the_pods_own_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "127.0.0.1")
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", "1")
    assert "context team: no kubeconfig to look it up in" in str(fault(Connection(context="team")))


def test_a_host_that_does_not_answer_is_no_fault_of_the_configuration(tmp_path: Path) -> None:
    error = fault(Connection(written(tmp_path, json.dumps(GOOD))))
    assert isinstance(error, Unavailable)
    assert str(error).startswith("get /version: API server https://127.0.0.1:1: Connect")


def test_no_netrc_is_sent(tmp_path: Path) -> None:
    async def story() -> list[bytes]:
        heard: list[bytes] = []

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            heard.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        host, port = server.sockets[0].getsockname()
        file = written(tmp_path, json.dumps(kubeconfig_of(f"http://{host}:{port}", {})))
        async with server, KubeClient.connect(Connection(file)) as client:
            assert await client.get_raw("/readyz") == "ok"
        return heard

    home = tmp_path / "home"
    home.mkdir()
    (home / ".netrc").write_text("default login somebody password s3cret\n")
    (request,) = asyncio.run(story())
    assert b"authorization" not in request.lower()
