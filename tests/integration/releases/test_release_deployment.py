"""Deploy, upgrade, roll back and uninstall as the installer, on a real cluster with the real Helm."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import random
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from envprov.domain.errors import ChartNotFound, Conflict, Forbidden, Invalid, NotOwned, RenderFailed
from envprov.domain.release import Release, ReleaseState
from envprov.releases.values import merge
from tests.eventually import eventually
from tests.integration.releases.conftest import until_allowed, until_forbidden

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path

    from tests.integration.releases.conftest import Workshop

S = ReleaseState


def test_a_release_comes_is_upgraded_rolled_back_and_goes(workshop: Workshop) -> None:
    assert workshop.release() == Release("shop")

    assert workshop.deploy({"replicas": 1}, digest="aaaaaaaaaaaaaaaa", commit="c0ffee") == 1
    assert workshop.release() == Release("shop", 1, S.DEPLOYED, "aaaaaaaaaaaaaaaa", "c0ffee", 1)

    assert workshop.deploy({"replicas": 2}, digest="bbbbbbbbbbbbbbbb") == 2
    assert workshop.release() == Release("shop", 2, S.DEPLOYED, "bbbbbbbbbbbbbbbb", None, 2)
    assert workshop.values()["replicas"] == 2

    asyncio.run(workshop.helm.rollback("shop", workshop.namespace, 1, workshop.user))
    assert workshop.release() == Release("shop", 3, S.DEPLOYED, "aaaaaaaaaaaaaaaa", "c0ffee", 3)
    assert workshop.values()["replicas"] == 1

    asyncio.run(workshop.helm.uninstall("shop", workshop.namespace, workshop.user))
    assert workshop.release() == Release("shop")
    assert workshop.objects("deployments") == []


def test_uninstalling_what_is_gone_is_fine(workshop: Workshop) -> None:
    asyncio.run(workshop.helm.uninstall("shop", workshop.namespace, workshop.user))


def test_rolling_back_what_is_not_there_is_a_conflict(workshop: Workshop) -> None:
    with pytest.raises(Conflict, match="release: not found"):
        asyncio.run(workshop.helm.rollback("shop", workshop.namespace, 1, workshop.user))


def test_everything_is_done_as_the_installer(workshop: Workshop) -> None:
    workshop.deploy({})
    workshop.deploy({"replicas": 2})
    workshop.cluster.kubectl("--namespace", workshop.namespace, "delete", "rolebinding", "installer")
    until_forbidden(workshop)
    operations: list[Coroutine[Any, Any, Any]] = [
        _with_spec(workshop.helm.deploy, workshop, {}),
        workshop.helm.rollback("shop", workshop.namespace, 1, workshop.user),
        workshop.helm.uninstall("shop", workshop.namespace, workshop.user),
    ]

    for operation in operations:
        with pytest.raises(Forbidden, match=f'secrets.* is forbidden: User "{workshop.user}" cannot'):
            asyncio.run(operation)


def test_only_a_few_revisions_are_kept(workshop: Workshop) -> None:
    shop = workshop.with_settings(history_max=2)
    for replicas in (1, 2, 3, 4):
        shop.deploy({"replicas": replicas})

    assert len(shop.objects("secrets", "--selector", "owner=helm")) == 2
    assert shop.release().revision == 4


def test_no_values_mean_the_chart_s_own_and_not_those_of_the_revision_before(workshop: Workshop) -> None:
    workshop.deploy({"replicas": 3, "extra": "x"})
    workshop.deploy({})

    assert workshop.values() == {"replicas": 1, "defaulted": {"from": "chart"}}


def test_values_merged_here_mean_what_they_mean_merged_by_helm(workshop: Workshop, tmp_path: Path) -> None:
    layers: list[dict[str, Any]] = [
        {"a": {"x": 1, "y": [1, 2]}, "b": 1, "defaulted": {"from": "base", "more": 1}, "c": {"k": 1}},
        {"a": {"y": [3]}, "b": {"z": 1}, "defaulted": {"from": None}, "c": None},
        {"a": {"x": None}, "d": {}, "c": {"l": 2}},
    ]

    workshop.deploy(merge(*layers))
    ours = workshop.values()

    files = []
    for number, layer in enumerate(layers):
        (tmp_path / f"{number}.yaml").write_text(json.dumps(layer))
        files += ["--values", str(tmp_path / f"{number}.yaml")]
    assert ours == _values_by_helm(workshop, files)
    assert ours == {
        "a": {"x": None, "y": [3]},
        "b": {"z": 1},
        "c": {"l": 2},
        "d": {},
        "defaulted": {"more": 1},
        "replicas": 1,
    }


def test_what_a_person_changed_by_hand_gives_way_to_the_chart(workshop: Workshop) -> None:
    workshop.deploy({"replicas": 2})
    workshop.cluster.kubectl("--namespace", workshop.namespace, "scale", "deployment", "shop", "--replicas=5")

    workshop.deploy({"replicas": 3})

    (deployment,) = workshop.objects("deployments")
    assert deployment["spec"]["replicas"] == 3


@pytest.mark.parametrize(
    ("values", "error", "message", "state"),
    [
        pytest.param(
            {"replicas": -1}, Invalid, 'Deployment.apps "shop" is invalid: spec.replicas: ', S.FAILED, id="invalid"
        ),
        pytest.param(
            {"objects": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "mine"}, "dada": {}}]},
            Invalid,
            'ConfigMap "mine": .dada: field not declared in schema',
            S.FAILED,
            id="misspelled field",
        ),
        pytest.param(
            {"objects": [{"apiVersion": "acme.io/v1", "kind": "Widget", "metadata": {"name": "x"}}]},
            Invalid,
            'no matches for kind "Widget" in version "acme.io/v1"',
            S.ABSENT,
            id="unknown kind",
        ),
        pytest.param(
            {"objects": [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "x"}}]},
            Forbidden,
            'namespaces "x" is forbidden',
            S.ABSENT,
            id="cluster-scoped object",
        ),
        pytest.param(
            {"objects": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x", "namespace": "default"}}]},
            Forbidden,
            'configmaps "x" is forbidden',
            S.ABSENT,
            id="another namespace",
        ),
        pytest.param(
            {"objects": [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kube-root-ca.crt"}}]},
            NotOwned,
            'ConfigMap "kube-root-ca.crt" in namespace',
            S.ABSENT,
            id="somebody else's object",
        ),
    ],
)
def test_what_kubernetes_refuses_is_named(
    workshop: Workshop, values: dict[str, Any], error: type[Exception], message: str, state: ReleaseState
) -> None:
    with pytest.raises(error) as caught:
        workshop.deploy(values)

    assert message in str(caught.value)
    assert workshop.release().state is state


def test_a_first_install_that_failed_is_followed_by_one_that_does_not(workshop: Workshop) -> None:
    with pytest.raises(Invalid):
        workshop.deploy({"replicas": -1})

    workshop.deploy({"replicas": 1})

    assert workshop.release() == Release("shop", 2, S.DEPLOYED, "0123456789abcdef", None, 2)


def test_what_rbac_lacks_is_named_with_the_object(workshop: Workshop) -> None:
    within = ("--namespace", workshop.namespace)
    workshop.cluster.kubectl(*within, "delete", "rolebinding", "installer")
    until_forbidden(workshop)
    workshop.cluster.kubectl(
        *within, "create", "role", "little", "--verb=get,list,create,update,patch", "--resource=secrets,configmaps"
    )
    workshop.cluster.kubectl(
        *within, "create", "rolebinding", "little", "--role=little", f"--serviceaccount={workshop.namespace}:installer"
    )

    until_allowed(workshop, "list", "secrets")
    with pytest.raises(Forbidden) as caught:
        workshop.deploy({})

    assert str(caught.value).startswith(
        f'deployments.apps "shop" is forbidden: User "{workshop.user}" cannot get resource "deployments"'
    )


def test_an_uninstall_that_a_policy_denies_says_which(workshop: Workshop) -> None:
    workshop.deploy({})
    name = f"keep-{workshop.namespace}"
    policy = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": name},
        "spec": {
            "matchConstraints": {
                "resourceRules": [
                    {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["DELETE"], "resources": ["configmaps"]}
                ]
            },
            "matchConditions": [{"name": "here", "expression": f"request.namespace == '{workshop.namespace}'"}],
            "validations": [{"expression": "false", "message": "this one is kept", "reason": "Forbidden"}],
        },
    }
    binding = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"]},
    }
    kubectl = workshop.cluster.kubectl
    kubectl("apply", "-f", "-", input=json.dumps({"apiVersion": "v1", "kind": "List", "items": [policy, binding]}))
    try:
        _until_policy_bites(workshop)
        with pytest.raises(Forbidden, match=r'^configmaps "shop" is forbidden: .* this one is kept$'):
            asyncio.run(workshop.helm.uninstall("shop", workshop.namespace, workshop.user))
        assert workshop.release().state is S.UNINSTALLING
    finally:
        kubectl("delete", "validatingadmissionpolicybinding,validatingadmissionpolicy", name)


def test_values_are_seen_neither_in_arguments_nor_in_logs_nor_in_errors(
    workshop: Workshop, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    values = {"password": "hunter2", "hook": "pre-install"}

    async def scenario() -> str:
        task = asyncio.create_task(workshop.helm.deploy(await workshop.spec(values)))
        await workshop.until(S.PENDING_INSTALL)
        seen = " ".join(workshop.processes().values())
        task.cancel()
        await asyncio.wait([task])
        return seen

    arguments = asyncio.run(scenario())

    assert "--values -" in arguments
    assert "hunter2" not in arguments
    assert "hunter2" not in caplog.text
    assert "hunter2" not in repr(asyncio.run(workshop.spec(values)))
    with pytest.raises(Invalid) as caught:
        workshop.deploy({"password": "hunter2", "replicas": -1})
    assert "hunter2" not in str(caught.value)


def test_nothing_is_left_in_the_home_of_whoever_runs_it(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    home = workshop.chart.parent.parent / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("HELM_PLUGINS", str(home))
    workshop.deploy({})

    assert list(home.iterdir()) == []
    assert (workshop.settings.cache / "discovery").is_dir()


@pytest.mark.parametrize(
    ("template", "error", "message"),
    [
        pytest.param("{{ fail .Values.word }}", RenderFailed, "all.yaml:1:3): no", id="the author's own refusal"),
        pytest.param("{{ .Values.a.b.c }}", RenderFailed, "nil pointer evaluating", id="a missing value"),
        pytest.param("{{ nope }}", RenderFailed, 'function "nope" not defined', id="an unknown function"),
        pytest.param("a: [", RenderFailed, "app/templates/all.yaml", id="no YAML"),
        pytest.param("just: {an: object}", RenderFailed, "it has no kind", id="no kind"),
    ],
)
def test_what_does_not_render_is_told(workshop: Workshop, template: str, error: type[Exception], message: str) -> None:
    (workshop.chart / "templates" / "all.yaml").write_text(template)

    async def scenario() -> None:
        await workshop.helm.render(await workshop.spec({"word": "no"}))

    with pytest.raises(error) as caught:
        asyncio.run(scenario())
    assert message in str(caught.value)


def test_values_that_do_not_fit_the_schema_are_told(workshop: Workshop) -> None:
    (workshop.chart / "values.schema.json").write_text(json.dumps({"properties": {"replicas": {"type": "integer"}}}))

    for act in (workshop.helm.render, workshop.helm.deploy):
        with pytest.raises(RenderFailed, match="at '/replicas': got string, want integer"):
            asyncio.run(_with_spec(act, workshop, {"replicas": "many"}))


def test_rendering_gives_crds_objects_and_hooks_and_needs_no_cluster(workshop: Workshop) -> None:
    (workshop.chart / "crds").mkdir()
    (workshop.chart / "crds" / "a.yaml").write_text("kind: CustomResourceDefinition\nmetadata: {name: a}\n")
    alone = workshop.with_settings(kubeconfig=workshop.chart / "no-such-kubeconfig")

    objects = asyncio.run(_with_spec(alone.helm.render, alone, {"hook": "pre-install"}))

    assert [(each["kind"], each["metadata"]["name"]) for each in objects] == [
        ("CustomResourceDefinition", "a"),
        ("ConfigMap", "shop"),
        ("Deployment", "shop"),
        ("Job", "shop-pre-install"),
    ]


def test_a_release_is_weighed_as_helm_will_store_it(workshop: Workshop) -> None:
    (workshop.chart / "files").mkdir()
    noise = random.Random(7).randbytes(300_000)  # noqa: S311 - nothing secret: what hardly packs
    (workshop.chart / "files" / "noise.bin").write_bytes(noise)
    (workshop.chart / "ignored.bin").write_bytes(noise)
    (workshop.chart / ".helmignore").write_text("ignored.bin\n")

    weight = asyncio.run(_with_spec(workshop.helm.weigh, workshop, {"replicas": 2}))
    workshop.deploy({"replicas": 2})

    (secret,) = workshop.objects("secrets", "--selector", "owner=helm")
    stored = len(base64.b64decode(secret["data"]["release"]))
    assert 390_000 < stored < 500_000
    assert weight == pytest.approx(stored, rel=0.01)


def test_a_chart_that_is_gone_is_told(workshop: Workshop) -> None:
    spec = asyncio.run(workshop.spec({}))
    (workshop.chart / "Chart.yaml").unlink()

    with pytest.raises(ChartNotFound):
        asyncio.run(workshop.helm.deploy(spec))


async def _with_spec(act: Any, workshop: Workshop, values: dict[str, Any]) -> Any:  # noqa: ANN401 - render or deploy
    return await act(await workshop.spec(values))


def _values_by_helm(workshop: Workshop, files: list[str]) -> dict[str, Any]:
    rendered = subprocess.run(
        [workshop.settings.binary, "template", "shop", str(workshop.chart), *files],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    first = next(document for document in yaml.safe_load_all(rendered) if document["kind"] == "ConfigMap")
    values: dict[str, Any] = json.loads(first["data"]["values"])
    return values


def _until_policy_bites(workshop: Workshop) -> None:
    within = ("--namespace", workshop.namespace)
    eventually(
        lambda: (
            "this one is kept"
            in workshop.cluster.kubectl(*within, "delete", "configmap", "shop", "--dry-run=server", check=False)
        ),
        message="the policy did not come into force",
    )
