"""What a husk loses and what stays: the ServiceAccounts that others use, with what makes them work."""

from __future__ import annotations

import pytest

from envprov.domain.husk import leftovers
from tests.unit.builders import NAMESPACE, Manifest

KEPT = frozenset({"bot"})
TOOLS = frozenset({"envprov-installer"})
RELEASE_TYPE = "helm.sh/release.v1"
TOKEN_TYPE = "kubernetes.io/service-account-token"


def thing(kind: str, name: str, *, notes: dict[str, str] | None = None, **rest: object) -> Manifest:
    metadata: Manifest = {"name": name, "namespace": NAMESPACE, "uid": f"u-{name}"}
    if notes:
        metadata["annotations"] = notes
    return {"apiVersion": "v1", "kind": kind, "metadata": metadata, **rest}


def binding(name: str, role: str, *subjects: dict[str, str], kind: str = "Role") -> Manifest:
    return thing("RoleBinding", name, roleRef={"kind": kind, "name": role}, subjects=list(subjects))


def account(name: str, namespace: str = "") -> dict[str, str]:
    return {"kind": "ServiceAccount", "name": name} | ({"namespace": namespace} if namespace else {})


def token(name: str, of: str) -> Manifest:
    return thing("Secret", name, type=TOKEN_TYPE, notes={"kubernetes.io/service-account.name": of})


def lost(*others: Manifest) -> list[str]:
    return [f"{item['kind']} {item['metadata']['name']}" for item in leftovers(others, KEPT, TOOLS)]


@pytest.mark.parametrize(
    "kind",
    ["ConfigMap", "Deployment", "Ingress", "ReplicaSet", "Role", "RoleBinding", "Secret", "ServiceAccount", "Widget"],
)
def test_what_nobody_else_uses_goes(kind: str) -> None:
    assert lost(thing(kind, "web")) == [f"{kind} web"]


@pytest.mark.parametrize(
    "kind",
    [
        "ControllerRevision",
        "EndpointSlice",
        "Endpoints",
        "Event",
        "Lease",
        "LimitRange",
        "NetworkPolicy",
        "PodMetrics",
        "ResourceQuota",
    ],
)
def test_limits_and_policies_stay_and_what_goes_by_itself(kind: str) -> None:
    assert lost(thing(kind, "web")) == []


def test_accounts_stay_that_others_use_and_those_the_teardown_works_as_and_the_one_of_kubernetes() -> None:
    names = ("bot", "envprov-installer", "default", "web")
    assert lost(*(thing("ServiceAccount", name) for name in names)) == ["ServiceAccount web"]


@pytest.mark.parametrize(
    "subject",
    [
        pytest.param(account("bot", NAMESPACE), id="by name"),
        pytest.param(account("bot"), id="by name, namespace left out"),
        pytest.param({"kind": "User", "name": f"system:serviceaccount:{NAMESPACE}:bot"}, id="as a user"),
        pytest.param({"kind": "Group", "name": f"system:serviceaccounts:{NAMESPACE}"}, id="in the group of all"),
    ],
)
def test_the_rights_of_a_kept_account_stay(subject: dict[str, str]) -> None:
    rights = (binding("bots", "reader", account("web"), subject), thing("Role", "reader"))
    assert lost(*rights, thing("Role", "writer")) == ["Role writer"]


@pytest.mark.parametrize(
    "subject",
    [
        pytest.param(account("web"), id="another account"),
        pytest.param(account("bot", "elsewhere"), id="its namesake elsewhere"),
        pytest.param({"kind": "User", "name": "bot"}, id="a person of that name"),
        pytest.param({"kind": "User", "name": "system:serviceaccount:elsewhere:bot"}, id="its namesake as a user"),
        pytest.param({"kind": "Group", "name": "system:serviceaccounts:elsewhere"}, id="accounts elsewhere"),
    ],
)
def test_rights_of_others_go(subject: dict[str, str]) -> None:
    assert lost(binding("webs", "reader", subject), thing("Role", "reader")) == ["RoleBinding webs", "Role reader"]


def test_a_role_of_the_cluster_does_not_keep_its_namesake() -> None:
    rights = (binding("bots", "view", account("bot"), kind="ClusterRole"), thing("Role", "view"))
    assert lost(*rights) == ["Role view"]


def test_the_rights_of_the_teardown_itself_stay() -> None:
    own = binding("envprov-controller", "any", account("envprov", "envprov-system"), kind="ClusterRole")
    tool = binding("envprov-installer", "any", account("envprov-installer", NAMESPACE), kind="ClusterRole")
    assert lost(own, tool) == []


def test_tokens_and_pull_secrets_of_a_kept_account_stay() -> None:
    kept = thing("ServiceAccount", "bot", secrets=[{"name": "named"}, {}], imagePullSecrets=[{"name": "pull"}])
    gone = thing("ServiceAccount", "web", secrets=[{"name": "of-web"}], imagePullSecrets=[{"name": "pull-web"}])
    names = ("named", "pull", "of-web", "pull-web", "password")
    secrets = (*(thing("Secret", name, type="Opaque") for name in names), token("t-bot", "bot"), token("t-web", "web"))
    assert lost(kept, gone, *secrets) == [
        "ServiceAccount web",
        "Secret of-web",
        "Secret pull-web",
        "Secret password",
        "Secret t-web",
    ]


def test_lists_that_are_null_name_nothing() -> None:
    bare = thing("ServiceAccount", "bot", secrets=None, imagePullSecrets=None)
    assert lost(bare, thing("RoleBinding", "none", roleRef={}, subjects=None)) == ["RoleBinding none"]


def test_a_secret_that_only_calls_itself_a_token_goes() -> None:
    assert lost(token("t", "bot") | {"type": "Opaque"}) == ["Secret t"]


def test_only_an_account_names_its_secrets() -> None:
    lookalike = thing("Widget", "bot", secrets=[{"name": "password"}])
    assert lost(lookalike, thing("Secret", "password")) == ["Widget bot", "Secret password"]


def test_only_a_role_binding_binds() -> None:
    subjects = [account("bot", NAMESPACE)]
    lookalike = thing("Widget", "bots", subjects=subjects, roleRef={"kind": "Role", "name": "reader"})
    assert lost(lookalike, binding("bots", "reader", account("web")), thing("Role", "reader")) == [
        "Widget bots",
        "RoleBinding bots",
        "Role reader",
    ]


def test_what_hooks_may_need_stays_if_they_are_still_to_run() -> None:
    others = [thing(kind, "web") for kind in ("ConfigMap", "Secret", "Deployment", "Role", "ServiceAccount", "Widget")]
    names = [f"{item['kind']} web" for item in leftovers(others, KEPT, TOOLS, data_stays=True)]
    assert names == ["Deployment web", "Role web", "ServiceAccount web", "Widget web"]


def test_the_record_of_the_release_stays_for_the_hooks_of_its_end() -> None:
    assert lost(thing("Secret", "sh.helm.release.v1.x.v1", type=RELEASE_TYPE)) == []


def test_the_certificate_that_kubernetes_puts_back_stays() -> None:
    assert lost(thing("ConfigMap", "kube-root-ca.crt")) == []


def test_what_is_going_already_is_not_told_again() -> None:
    going = thing("ConfigMap", "web")
    going["metadata"]["deletionTimestamp"] = "now"
    assert lost(going) == []
