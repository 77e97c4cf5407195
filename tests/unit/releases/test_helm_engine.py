"""How Helm is run: which binary, with which arguments and limits. Shell scripts stand in for odd Helms."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from envprov.domain.errors import (
    ConfigError,
    Conflict,
    HelmFailed,
    HelmTimeout,
    LeadershipLost,
    RenderFailed,
    Unavailable,
)
from envprov.releases.charts import ChartRef
from envprov.releases.command import HelmSettings, Timeouts
from envprov.releases.engine import Helm, ReleaseSpec, service_account_user
from envprov.releases.manifests import parse

CHART = ChartRef("/charts/shop", "c0ffee")
RECORDING = """
case "$1" in
  version) printf v4.3.1; exit ;;
  template) printf 'kind: A\\nmetadata: {}\\n' ;;
  upgrade) printf 'Pulled: registry/x\\n{"name": "shop", "version": 7}' ;;
esac
printf '%s\\n' "$@" > "$RECORD/argv"
cat > "$RECORD/stdin"
env > "$RECORD/env"
"""


@pytest.fixture
def stand_in(tmp_path: Path) -> Any:  # noqa: ANN401 - a factory
    def make(
        script: str,
        *,
        confirm: Callable[[], Awaitable[None]] | None = None,
        **changes: Any,  # noqa: ANN401 - settings are of many types
    ) -> Helm:
        binary = tmp_path / "helm"
        binary.write_text(f"#!/bin/sh\n{script}")
        binary.chmod(0o755)
        changes.setdefault("environment", {"RECORD": str(tmp_path)})
        return Helm(HelmSettings(str(binary), tmp_path / "cache", **changes), confirm)

    return make


def spec(**changes: Any) -> ReleaseSpec:  # noqa: ANN401 - fields are of many types
    fields: dict[str, Any] = {
        "name": "shop",
        "namespace": "env-shop",
        "chart": CHART,
        "values": {"password": "hunter2"},
        "installer": "installer",
        "labels": {"envprov.io/revision": "", "envprov.io/digest": "0123"},
    }
    return ReleaseSpec(**fields | changes)


def recorded(tmp_path: Path) -> str:
    return " ".join((tmp_path / "argv").read_text().splitlines())


@pytest.mark.parametrize("version", ["v4.3.1", "v4.0.0-rc.1", "v3.17.0", "v3.21.4", "v3.17.2+g1234"])
def test_a_helm_that_will_do_is_accepted(stand_in: Any, version: str) -> None:  # noqa: ANN401 - a factory
    helm = stand_in(f"printf '{version}'")

    asyncio.run(helm.check_version())

    assert asyncio.run(helm.version()) == version


@pytest.mark.parametrize("version", ["v3.16.4", "v2.17.0", "v5.0.0"])
def test_a_helm_of_another_age_is_refused_with_its_version_and_a_way_out(stand_in: Any, version: str) -> None:  # noqa: ANN401 - a factory
    helm = stand_in(f"printf '{version}'")

    with pytest.raises(ConfigError, match=rf"/helm' is {version}; envprov needs Helm 4, or 3\.17 or later: install"):
        asyncio.run(helm.check_version())


@pytest.mark.parametrize("script", ["echo hello", "printf 4", "printf ''", "echo no >&2; exit 1"])
def test_what_is_no_helm_is_refused(stand_in: Any, script: str) -> None:  # noqa: ANN401 - a factory
    with pytest.raises(ConfigError, match="/helm' "):
        asyncio.run(stand_in(script).check_version())


@pytest.mark.parametrize("binary", ["/nowhere/helm", "helm-that-is-not-on-path", "/etc/passwd", "/"])
def test_a_missing_helm_is_named_with_a_way_out(binary: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be run: .*; install Helm 4") as caught:
        asyncio.run(Helm(HelmSettings(binary, tmp_path)).check_version())

    assert binary in str(caught.value)


def test_deploying_says_everything_and_gives_no_value_away(stand_in: Any, tmp_path: Path) -> None:  # noqa: ANN401 - a factory
    helm = stand_in(RECORDING, kubeconfig=Path("/k"), context="there", history_max=3)

    assert asyncio.run(helm.deploy(spec())) == 7

    assert recorded(tmp_path) == (
        "upgrade shop /charts/shop --history-max 3 --install --output json --timeout 290s --values - "
        "--namespace env-shop --kube-as-user system:serviceaccount:env-shop:installer "
        "--labels envprov.io/digest=0123,envprov.io/revision= --server-side=true --force-conflicts "
        "--reset-values --disable-openapi-validation --kubeconfig /k --kube-context there"
    )
    assert json.loads((tmp_path / "stdin").read_text()) == {"password": "hunter2"}


def test_helm_3_is_not_told_what_it_does_not_know(stand_in: Any, tmp_path: Path) -> None:  # noqa: ANN401 - a factory
    asyncio.run(stand_in(RECORDING.replace("v4.3.1", "v3.17.2")).deploy(spec()))

    assert "server-side" not in recorded(tmp_path)
    assert "force" not in recorded(tmp_path)


def test_a_chart_is_rendered_from_its_folder(stand_in: Any, tmp_path: Path) -> None:  # noqa: ANN401 - a factory
    assert asyncio.run(stand_in(RECORDING).render(spec())) == ({"kind": "A", "metadata": {}},)

    assert recorded(tmp_path) == "template shop /charts/shop --include-crds --values - --namespace env-shop"


def test_uninstalling_and_rolling_back_name_the_user(stand_in: Any, tmp_path: Path) -> None:  # noqa: ANN401 - a factory
    helm, user = stand_in(RECORDING), service_account_user("env-shop", "installer")

    asyncio.run(helm.uninstall("shop", "env-shop", user, no_hooks=True))
    assert recorded(tmp_path) == (
        "uninstall shop --timeout 290s --namespace env-shop --no-hooks "
        "--kube-as-user system:serviceaccount:env-shop:installer"
    )
    asyncio.run(helm.rollback("shop", "env-shop", 3, user))
    assert recorded(tmp_path) == (
        "rollback shop 3 --history-max 5 --timeout 290s --namespace env-shop --no-hooks "
        "--kube-as-user system:serviceaccount:env-shop:installer --server-side=true --force-conflicts"
    )


def test_helm_sees_nothing_of_our_environment_but_the_way_out(
    stand_in: Any,  # noqa: ANN401 - a factory
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("ENVPROV_GITLAB__TOKEN", "HELM_PLUGINS", "KUBECONFIG", "HELM_DRIVER", "HELM_KUBETOKEN", "AWS_SECRET"):
        monkeypatch.setenv(name, "s3cret")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:3128")

    asyncio.run(stand_in(RECORDING).render(spec()))

    seen = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
    assert seen["HTTPS_PROXY"] == "http://proxy:3128"
    assert seen["PATH"] == os.environ["PATH"]
    assert {
        name for name in seen if "TOKEN" in name or "SECRET" in name or name in {"KUBECONFIG", "HELM_DRIVER"}
    } == set()
    assert all(
        seen[name].startswith(str(tmp_path / "cache")) for name in seen if name.startswith("HELM_") or name == "HOME"
    )


def test_a_helm_that_takes_too_long_is_stopped_and_said_to_be(stand_in: Any) -> None:  # noqa: ANN401 - a factory
    helm = stand_in("exec sleep 60", timeouts=Timeouts(template=timedelta(seconds=0.3)))

    with pytest.raises(HelmTimeout, match=r"^Helm did not render release shop within 0\.3 s and was stopped$"):
        asyncio.run(helm.render(spec()))


def test_a_helm_that_writes_too_much_is_stopped_and_said_to_be(stand_in: Any) -> None:  # noqa: ANN401 - a factory
    with pytest.raises(HelmFailed, match="render release shop: it wrote more than 16384 KiB on stdout"):
        asyncio.run(stand_in("yes").render(spec()))


@pytest.mark.parametrize(
    ("said", "is_fine"),
    [
        ("Error: uninstall: Release not loaded: shop: release: not found", True),
        ("Error: uninstall: Release not loaded: shop: another operation is in progress", False),
    ],
)
def test_only_a_release_that_is_gone_counts_as_uninstalled(stand_in: Any, said: str, *, is_fine: bool) -> None:  # noqa: ANN401 - a factory
    helm = stand_in(f"echo '{said}' >&2; exit 1")

    with nullcontext() if is_fine else pytest.raises(Conflict):
        asyncio.run(helm.uninstall("shop", "env-shop", "user"))


def test_a_helm_that_somebody_ends_is_said_to_be(stand_in: Any) -> None:  # noqa: ANN401 - a factory
    with pytest.raises(
        HelmFailed, match=r"^Helm was ended by somebody else \(SIGKILL\) when it was to render release shop$"
    ):
        asyncio.run(stand_in("kill -9 $$").render(spec()))


def test_what_helm_says_when_it_fails_is_translated(stand_in: Any) -> None:  # noqa: ANN401 - a factory
    with pytest.raises(Unavailable, match=r"^kubernetes cluster unreachable: nobody there$"):
        asyncio.run(stand_in("echo 'Error: kubernetes cluster unreachable: nobody there' >&2; exit 1").render(spec()))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("22:22", "22:22"),
        ("2026-11-24", "2026-11-24"),
        ("=", "="),
        ("0644", 420),
        ("0x1F", 31),
        ("1e3", 1000),
        ("3.0", 3),
        ("12", 12),
        ("1.5", 1.5),
        ("yes", True),
        ("y", True),
        ("N", False),
        ('"y"', "y"),
        ("!!str y", "y"),
        ("!!binary Tm9kZVBvcnQ=", "NodePort"),
        ("!!set {type: NodePort}", {"type": "NodePort"}),
        ("!!omap [a: 1]", [{"a": 1}]),
        ("!!python/object:os.system {a: 1}", {"a": 1}),
        ("!mark true", "true"),
        ("{? !!binary aG9zdFBJRA== : y}", {"hostPID": True}),
        ("{on: 1, 2: 3, 1.5: 4}", {"true": 1, "2": 3, "1.5": 4}),
        ("~", None),
        ("1.2.3", "1.2.3"),
        ("1:30:00", "1:30:00"),
    ],
)
def test_values_are_read_as_kubernetes_reads_them(text: str, value: object) -> None:
    (read,) = parse(f"kind: A\nvalue: {text}\n".encode())

    assert read["value"] == value
    assert type(read["value"]) is type(value)


def test_empty_documents_are_passed_over() -> None:
    assert parse(b"---\n# Source: a\n---\nkind: A\n---\nnull\n") == ({"kind": "A"},)


@pytest.mark.parametrize(
    "output",
    [
        pytest.param(b"a: b: c", id="no YAML"),
        pytest.param(b"- a", id="a list"),
        pytest.param(b"text", id="a scalar"),
        pytest.param(b"a: 1", id="no kind"),
        pytest.param(b"\xff\xfe\x00", id="no text"),
        pytest.param(b"kind: A\nx: {~: 1}", id="a key that JSON has not"),
        pytest.param(
            b"kind: A\nx: " + b"[" * 50_000 + b"]" * 50_000, id="depths that overflow the stack of the C loader"
        ),
        pytest.param(b"kind: A\nx:\n" + b"- " * 50_000 + b"x", id="the same in another notation"),
        pytest.param(b"kind: A\nx: [" + b"1," * 500_000 + b"]", id="a flood"),
        pytest.param(b"kind: A\nx: &x [*x, *x]", id="a ring"),
        pytest.param(
            b"kind: A\na: &a [1,1,1,1,1,1,1,1,1,1]\n"
            + b"".join(
                f"{chr(98 + n)}: &{chr(98 + n)} [{','.join([f'*{chr(97 + n)}'] * 10)}]\n".encode() for n in range(8)
            ),
            id="a billion laughs",
        ),
    ],
)
def test_what_kubernetes_could_not_read_is_refused(output: bytes) -> None:
    with pytest.raises(RenderFailed, match="The chart renders"):
        parse(output)


@pytest.mark.parametrize(
    "operation",
    [
        pytest.param(lambda helm: helm.deploy(spec()), id="deploy"),
        pytest.param(lambda helm: helm.rollback("shop", "env-shop", 1, "somebody"), id="rollback"),
        pytest.param(lambda helm: helm.uninstall("shop", "env-shop", "somebody"), id="uninstall"),
    ],
)
def test_who_lost_the_leadership_changes_nothing_by_name(
    stand_in: Any,  # noqa: ANN401 - a factory
    tmp_path: Path,
    operation: Callable[[Helm], Awaitable[object]],
) -> None:
    async def refuse() -> None:
        raise LeadershipLost("somebody else leads")

    helm = stand_in(RECORDING, confirm=refuse)
    with pytest.raises(LeadershipLost):
        asyncio.run(_awaited(operation(helm)))
    assert not (tmp_path / "argv").exists()
    asyncio.run(helm.render(spec()))
    assert (tmp_path / "argv").exists()


async def _awaited(operation: Awaitable[object]) -> None:
    await operation
