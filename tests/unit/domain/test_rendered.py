"""What a rendered chart does with ServiceAccounts: those it makes, and those of others that it refers to."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envprov.domain.custom import KNOWN
from envprov.domain.holds import Account
from envprov.domain.observed import Rendered
from envprov.domain.rendered import read_rendered
from tests.unit.builders import NAMESPACE, Manifest

BOT = Account("shared", "bot")
RBAC = "rbac.authorization.k8s.io/v1"


def chart(*objects: Manifest) -> Rendered:
    return read_rendered(objects, NAMESPACE)


def thing(api_version: str, kind: str, name: str = "web", namespace: str = "", **rest: Any) -> Manifest:  # noqa: ANN401
    metadata: Manifest = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata | rest.pop("metadata", {}), **rest}


def binding(*subjects: Manifest, kind: str = "RoleBinding", namespace: str = "") -> Manifest:
    role = {"kind": "ClusterRole", "name": "view"}
    return thing(RBAC, kind, namespace=namespace, roleRef=role, subjects=list(subjects))


# --- Those it makes


@pytest.mark.parametrize(
    ("namespace", "expected"),
    [
        pytest.param("", Account(NAMESPACE, "app"), id="where the release is"),
        pytest.param(NAMESPACE, Account(NAMESPACE, "app"), id="where the release is, written out"),
        pytest.param("shared", Account("shared", "app"), id="elsewhere"),
    ],
)
def test_an_account_of_the_chart_is_its_own(namespace: str, expected: Account) -> None:
    assert chart(thing("v1", "ServiceAccount", "app", namespace)) == Rendered((expected,))


@pytest.mark.parametrize("hook", ["pre-install", "post-upgrade", "pre-delete", "test"])
def test_an_account_of_a_hook_is_its_own_too(hook: str) -> None:
    made = thing("v1", "ServiceAccount", "hook", metadata={"annotations": {"helm.sh/hook": hook}})
    assert chart(made).owned == (Account(NAMESPACE, "hook"),)


def test_what_it_makes_itself_elsewhere_is_not_somebody_elses() -> None:
    made = thing("v1", "ServiceAccount", "bot", "shared")
    assert chart(binding({"kind": "ServiceAccount", "name": "bot", "namespace": "shared"}), made) == Rendered((BOT,))


# --- Those of others


@pytest.mark.parametrize(
    "subject",
    [
        pytest.param({"kind": "ServiceAccount", "name": "bot", "namespace": "shared"}, id="by name"),
        pytest.param({"kind": "User", "name": "system:serviceaccount:shared:bot"}, id="as a user"),
    ],
)
@pytest.mark.parametrize("kind", ["RoleBinding", "ClusterRoleBinding"])
def test_a_subject_of_another_namespace_is_referred_to(kind: str, subject: Manifest) -> None:
    assert chart(binding(subject, kind=kind)) == Rendered((), (BOT,))


def test_a_hook_that_binds_an_account_elsewhere_refers_to_it() -> None:
    hook = binding({"kind": "ServiceAccount", "name": "bot", "namespace": "shared"})
    hook["metadata"]["annotations"] = {"helm.sh/hook": "pre-install"}
    assert chart(hook).referred == (BOT,)


@pytest.mark.parametrize(
    "subject",
    [
        pytest.param({"kind": "ServiceAccount", "name": "app"}, id="own, namespace left out"),
        pytest.param({"kind": "ServiceAccount", "name": "app", "namespace": NAMESPACE}, id="own"),
        pytest.param({"kind": "User", "name": f"system:serviceaccount:{NAMESPACE}:app"}, id="own as a user"),
        pytest.param({"kind": "Group", "name": "system:serviceaccounts:shared"}, id="all of a namespace"),
        pytest.param({"kind": "Group", "name": "system:serviceaccounts"}, id="all there are"),
        pytest.param({"kind": "User", "name": "ada"}, id="a person"),
    ],
)
def test_own_accounts_groups_and_people_are_nobody_elses_account(subject: Manifest) -> None:
    assert chart(binding(subject)) == Rendered()


def test_workloads_use_accounts_of_their_own_namespace() -> None:
    template = {"spec": {"serviceAccountName": "bot"}}
    workloads = [
        thing("apps/v1", "Deployment", spec={"template": template}),
        thing("batch/v1", "CronJob", spec={"jobTemplate": {"spec": {"template": template}}}),
        thing("v1", "Pod", spec={"serviceAccountName": "bot"}),
    ]
    assert chart(*workloads) == Rendered()
    elsewhere = [item | {"metadata": item["metadata"] | {"namespace": "shared"}} for item in workloads]
    assert chart(*elsewhere).referred == (BOT,)


@pytest.mark.parametrize(
    "item",
    [
        pytest.param(
            thing(
                "external-secrets.io/v1",
                "ClusterSecretStore",
                spec={"provider": {"vault": {"auth": {"serviceAccountRef": {"name": "bot", "namespace": "shared"}}}}},
            ),
            id="store of External Secrets",
        ),
        pytest.param(
            thing(
                "argoproj.io/v1alpha1",
                "AppProject",
                spec={"destinationServiceAccounts": [{"namespace": "shared", "defaultServiceAccount": "bot"}]},
            ),
            id="project of Argo CD, namespace beside it",
        ),
        pytest.param(
            thing(
                "argoproj.io/v1alpha1",
                "AppProject",
                spec={"destinationServiceAccounts": [{"namespace": "*", "defaultServiceAccount": "shared:bot"}]},
            ),
            id="project of Argo CD, namespace in the name",
        ),
        pytest.param(
            thing("kustomize.toolkit.fluxcd.io/v1", "Kustomization", "x", "shared", spec={"serviceAccountName": "bot"}),
            id="Kustomization of Flux elsewhere",
        ),
        pytest.param(
            thing(
                "cert-manager.io/v1",
                "ClusterIssuer",
                spec={"vault": {"auth": {"serviceAccountRef": {"name": "bot", "namespace": "shared"}}}},
            ),
            id="issuer of cert-manager",
        ),
    ],
)
def test_custom_resources_of_the_table_refer_to_accounts(item: Manifest) -> None:
    assert chart(item) == Rendered((), (BOT,))


@pytest.mark.parametrize(("group", "kind"), sorted(KNOWN))
def test_custom_resources_that_name_no_namespace_mean_their_own(group: str, kind: str) -> None:
    spec = {"serviceAccountName": "bot", "serviceAccountRef": {"name": "bot"}, "provider": {"a": {"b": "c"}}}
    assert chart(thing(f"{group}/v1", kind, spec=spec)) == Rendered()


@pytest.mark.parametrize("kind", ["Role", "ClusterRole"])
def test_rights_over_a_name_in_any_namespace_refer_to_nobody(kind: str) -> None:
    rule = {"apiGroups": [""], "resources": ["serviceaccounts"], "verbs": ["impersonate"], "resourceNames": ["bot"]}
    assert chart(thing(RBAC, kind, rules=[rule])) == Rendered()


def test_custom_resources_that_nobody_knows_say_nothing() -> None:
    assert chart(thing("example.com/v1", "Widget", "x", "shared", spec={"serviceAccountName": "bot"})) == Rendered()


# --- The whole


def test_what_is_in_a_list_is_as_if_it_stood_alone() -> None:
    items = [
        thing("v1", "ServiceAccount", "app"),
        binding({"kind": "ServiceAccount", "name": "bot", "namespace": "shared"}),
    ]
    assert chart({"apiVersion": "v1", "kind": "List", "items": items}) == chart(*items)


def test_whatever_has_items_is_a_list_to_helm() -> None:
    items = [thing("v1", "ServiceAccount", "app"), None, "bot", 7, ["x"]]
    assert chart(thing("v1", "ConfigMap") | {"items": items}) == Rendered((Account(NAMESPACE, "app"),))
    unnamed = [{"metadata": {"name": "app"}}]
    assert chart({"apiVersion": "v1", "kind": "ServiceAccount", "items": unnamed}) == Rendered(
        (Account(NAMESPACE, "app"),)
    )
    assert chart({"apiVersion": "v1", "kind": "List", "items": items}) == Rendered((Account(NAMESPACE, "app"),))
    assert chart({"apiVersion": "v1", "kind": "List", "items": None}) == Rendered()


def test_each_is_named_once_and_in_order() -> None:
    subjects = [{"kind": "ServiceAccount", "name": name, "namespace": "shared"} for name in ("zoe", "bot", "zoe")]
    made = [thing("v1", "ServiceAccount", name) for name in ("web", "api", "web")]
    assert chart(*made, binding(*subjects), binding(*subjects)) == Rendered(
        (Account(NAMESPACE, "api"), Account(NAMESPACE, "web")), (BOT, Account("shared", "zoe"))
    )


def test_an_empty_chart_does_nothing() -> None:
    assert chart() == Rendered()


FIELDS = st.sampled_from(
    [
        "name",
        "namespace",
        "spec",
        "template",
        "serviceAccountName",
        "serviceAccountRef",
        "subjects",
        "kind",
        "roleRef",
        "metadata",
        "uid",
        "rules",
        "ownerReferences",
        "creationTimestamp",
        "annotations",
        "provider",
        "jobTemplate",
        "versions",
        "names",
        "group",
        "schema",
    ]
)
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(["bot", "shared", "*", "a:b:c"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=4),
    max_leaves=15,
)
KINDS = st.sampled_from(["ServiceAccount", "Pod", "Deployment", "CronJob", "Job", "RoleBinding", "ClusterRoleBinding"])
MORE_KINDS = st.sampled_from(
    ["Role", "ClusterRole", "CustomResourceDefinition", "AppProject", "ClusterSecretStore", "List"]
)
OBJECTS = st.fixed_dictionaries(
    {"kind": KINDS | MORE_KINDS | ANYTHING},
    optional={
        "apiVersion": st.sampled_from(["v1", "argoproj.io/v1", "external-secrets.io/v1", "//"]) | ANYTHING,
        "metadata": ANYTHING,
        "spec": ANYTHING,
        "subjects": ANYTHING,
        "roleRef": ANYTHING,
        "rules": ANYTHING,
        "status": ANYTHING,
    },
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(objects=st.lists(OBJECTS, max_size=5))
def test_weird_manifests_never_raise_and_own_nothing_of_others(objects: list[Manifest]) -> None:
    found = chart(*objects)
    assert all(account.namespace not in {NAMESPACE, "", "*"} and account.name != "*" for account in found.referred)
    assert not set(found.owned) & set(found.referred)
