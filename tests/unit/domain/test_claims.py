"""Who uses a ServiceAccount: every way that there is, by its outermost owner, and nobody who only seems to."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from time import process_time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envprov.domain.claims import SOURCES, Collector, Conflict, conflicts
from envprov.domain.custom import Custom, Field
from envprov.domain.holds import Account, Holder
from envprov.domain.usage import EVERY, Claim, Strength, Usage

Manifest = dict[str, Any]

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
BORN = "2026-02-01T00:00:00Z"
BIRTH = datetime(2026, 2, 1, tzinfo=UTC)
DEPLOYER = Account("shared", "deployer")


def meta(name: str, namespace: str = "env-a", owner: tuple[str, str] | None = None, **more: object) -> Manifest:
    metadata: Manifest = {"name": name, "uid": f"uid-{name}", "creationTimestamp": BORN, **more}
    if namespace:
        metadata["namespace"] = namespace
    if owner is not None:
        kind, owned_by = owner
        metadata["ownerReferences"] = [
            {"kind": "ConfigMap", "name": "not-it", "uid": "uid-not-it"},
            {"kind": kind, "name": owned_by, "uid": f"uid-{owned_by}", "controller": True},
        ]
    return metadata


def pod(name: str = "web-1", account: str | None = "app", **more: Any) -> Manifest:  # noqa: ANN401 - any of metadata
    phase = more.pop("phase", "Running")
    spec = {"serviceAccountName": account} if account is not None else {}
    return {"metadata": meta(name, **more), "spec": spec, "status": {"phase": phase}}


def templated(name: str = "web", account: str | None = "app", **more: Any) -> Manifest:  # noqa: ANN401 - any of spec
    owner, namespace, notes = more.pop("owner", None), more.pop("namespace", "env-a"), more.pop("notes", None)
    template: Manifest = {"spec": {"serviceAccountName": account} if account is not None else {}}
    if notes is not None:
        template["metadata"] = {"annotations": notes}
    return {"metadata": meta(name, namespace, owner), "spec": {"template": template, **more}}


def cron_job(**more: object) -> Manifest:
    template = {"spec": {"serviceAccountName": "app"}}
    return {"metadata": meta("nightly"), "spec": {"jobTemplate": {"spec": {"template": template}}, **more}}


def binding(*subjects: Manifest, name: str = "b", namespace: str = "", role: str = "edit", **more: str) -> Manifest:
    reference = {"kind": more.get("role_kind", "ClusterRole"), "name": role}
    return {"metadata": meta(name, namespace), "roleRef": reference, "subjects": list(subjects)}


def subject(namespace: str = "shared", name: str = "deployer") -> Manifest:
    return {"kind": "ServiceAccount", "namespace": namespace, "name": name}


IMPERSONATE = {"apiGroups": [""], "resources": ["serviceaccounts"], "verbs": ["impersonate"]}


def role(*names: str, namespace: str = "", name: str = "r", rule: Mapping[str, list[str]] = IMPERSONATE) -> Manifest:
    return {"metadata": meta(name, namespace), "rules": [{**rule, "resourceNames": list(names)}]}


def service_account(name: str = "app", namespace: str = "env-a", **more: Any) -> Manifest:  # noqa: ANN401 - any of metadata
    return {"metadata": meta(name, namespace, **more)}


def collected(pages: Mapping[str, list[Manifest]] | None = None) -> Usage:
    collector = Collector(NOW)
    for kind, items in (pages or {}).items():
        collector.add(kind, items)
    return collector.finish()


def only(usage: Usage) -> Claim:
    (claims,) = usage.claims.values()
    (claim,) = claims
    return claim


def edges(usage: Usage) -> list[tuple[str, str, str]]:
    return [
        (str(claim.account), str(claim.holder), claim.strength.value)
        for claims in usage.claims.values()
        for claim in claims
    ]


# --- The graph itself


def test_how_much_a_claim_weighs_is_said_in_one_word_and_only_some_keep() -> None:
    assert {strength.value: strength.keeps for strength in Strength} == {
        "live": True,
        "latent": True,
        "grant": True,
        "owner": True,
        "identity": False,
        "path": False,
    }
    assert EVERY == "*"


def test_an_empty_graph_is_complete_and_says_nothing() -> None:
    assert (Usage().of(DEPLOYER), Usage().foreign(DEPLOYER), Usage().is_complete) == ((), (), True)


# --- What must be listed


def test_every_source_is_listed_in_the_version_that_serves_it() -> None:
    assert SOURCES == (
        ("v1", "Pod"),
        ("apps/v1", "Deployment"),
        ("apps/v1", "ReplicaSet"),
        ("apps/v1", "StatefulSet"),
        ("apps/v1", "DaemonSet"),
        ("batch/v1", "Job"),
        ("batch/v1", "CronJob"),
        ("v1", "ReplicationController"),
        ("rbac.authorization.k8s.io/v1", "RoleBinding"),
        ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"),
        ("rbac.authorization.k8s.io/v1", "Role"),
        ("rbac.authorization.k8s.io/v1", "ClusterRole"),
        ("v1", "ServiceAccount"),
        ("apiextensions.k8s.io/v1", "CustomResourceDefinition"),
    )


def test_what_could_not_be_listed_and_what_was_left_out_are_part_of_the_graph() -> None:
    usage = Collector(NOW).finish(["Pod: forbidden"], ["no Secrets"])
    assert (usage.faults, usage.notes, usage.is_complete) == (("Pod: forbidden",), ("no Secrets",), False)
    assert collected().is_complete


# --- Pods


def test_a_pod_by_itself_uses_the_account_that_it_names() -> None:
    assert only(collected({"Pod": [pod()]})) == Claim(
        Account("env-a", "app"),
        Holder("Pod", "env-a", "web-1", "uid-web-1"),
        Strength.LIVE,
        "spec.serviceAccountName",
        BIRTH,
    )


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(pod(phase="Pending"), ["env-a/app"], id="not scheduled -> uses it"),
        pytest.param(pod(phase="Unknown"), ["env-a/app"], id="node lost -> uses it"),
        pytest.param(pod(phase=None), ["env-a/app"], id="no phase -> uses it"),
        pytest.param(pod(deletionTimestamp=BORN), ["env-a/app"], id="terminating -> uses it"),
        pytest.param(pod(phase="Succeeded"), [], id="succeeded -> does not"),
        pytest.param(pod(phase="Failed"), [], id="failed -> does not"),
        pytest.param(pod(account=None), ["env-a/default"], id="names none -> default"),
        pytest.param(pod(account=""), ["env-a/default"], id="names nothing -> default"),
        pytest.param(
            {"metadata": meta("p"), "spec": {"serviceAccount": "old"}}, ["env-a/old"], id="old field -> uses it"
        ),
        pytest.param(
            {"metadata": meta("p"), "spec": {"serviceAccountName": "new", "serviceAccount": "old"}},
            ["env-a/new"],
            id="both fields -> the new one",
        ),
        pytest.param({"metadata": meta("p"), "spec": None}, [], id="no spec -> nothing"),
    ],
)
def test_which_pods_use_an_account(given: Manifest, expected: list[str]) -> None:
    assert [str(account) for account in collected({"Pod": [given]}).claims] == expected


def test_a_pod_that_names_none_says_so() -> None:
    assert only(collected({"Pod": [pod(account=None)]})).how == "spec names no ServiceAccount: default"


# --- Templates


@pytest.mark.parametrize(
    "kind", ["Deployment", "ReplicaSet", "StatefulSet", "DaemonSet", "ReplicationController", "Job"]
)
def test_a_template_uses_the_account_before_it_has_pods(kind: str) -> None:
    assert only(collected({kind: [templated()]})) == Claim(
        Account("env-a", "app"),
        Holder(kind, "env-a", "web", "uid-web"),
        Strength.LIVE,
        "spec.template.spec.serviceAccountName",
        BIRTH,
    )


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        pytest.param("Deployment", templated(replicas=0), ["latent"], id="no replicas -> latent"),
        pytest.param("StatefulSet", templated(replicas=0), ["latent"], id="no replicas of a set -> latent"),
        pytest.param("Deployment", templated(replicas=1), ["live"], id="one replica -> live"),
        pytest.param("Deployment", templated(replicas=None), ["live"], id="replicas not said -> live"),
        pytest.param("Job", templated(suspend=True), ["latent"], id="suspended Job -> latent"),
        pytest.param("Job", templated(suspend=False), ["live"], id="Job -> live"),
        pytest.param("CronJob", cron_job(), ["live"], id="CronJob between runs -> live"),
        pytest.param("CronJob", cron_job(suspend=True), ["latent"], id="suspended CronJob -> latent"),
    ],
)
def test_how_much_a_template_weighs(kind: str, given: Manifest, expected: list[str]) -> None:
    assert [weight for _, _, weight in edges(collected({kind: [given]}))] == expected


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        pytest.param([{"type": "Complete", "status": "True"}], 0, id="complete -> uses nothing"),
        pytest.param([{"type": "Failed", "status": "True"}], 0, id="failed -> uses nothing"),
        pytest.param([{"type": "Failed", "status": "False"}], 1, id="not failed -> uses it"),
        pytest.param([{"type": "Suspended", "status": "True"}], 1, id="suspended -> uses it"),
        pytest.param(None, 1, id="not begun -> uses it"),
    ],
)
def test_a_job_uses_its_account_until_it_is_over(conditions: object, expected: int) -> None:
    job = templated() | {"status": {"conditions": conditions}}
    assert len(collected({"Job": [job]}).claims) == expected


def test_a_cron_job_names_the_account_deep_inside() -> None:
    assert only(collected({"CronJob": [cron_job()]})).how == "spec.jobTemplate.spec.template.spec.serviceAccountName"


def test_a_template_that_names_none_uses_default() -> None:
    claim = only(collected({"Deployment": [templated(account=None)]}))
    assert (str(claim.account), claim.how) == ("env-a/default", "spec.template.spec names no ServiceAccount: default")


# --- The outermost owner


def test_pods_of_a_deployment_are_the_deployment() -> None:
    pages = {
        "Pod": [pod(owner=("ReplicaSet", "web-77")), pod("web-2", owner=("ReplicaSet", "web-77"))],
        "ReplicaSet": [templated("web-77", owner=("Deployment", "web"))],
        "Deployment": [templated()],
    }
    claim = only(collected(pages))
    assert claim.holder == Holder("Deployment", "env-a", "web", "uid-web")
    assert claim.how == "spec.template.spec.serviceAccountName"
    assert collected(dict(reversed(pages.items()))) == collected(pages)


def test_pods_of_a_cron_job_are_the_cron_job() -> None:
    pages = {
        "Pod": [pod(owner=("Job", "nightly-1"))],
        "Job": [templated("nightly-1", owner=("CronJob", "nightly"))],
        "CronJob": [cron_job()],
    }
    assert only(collected(pages)).holder == Holder("CronJob", "env-a", "nightly", "uid-nightly")


def test_a_pod_still_running_as_the_former_account_is_a_use_by_its_deployment() -> None:
    usage = collected(
        {
            "Pod": [pod(account="old", owner=("ReplicaSet", "web-1"))],
            "ReplicaSet": [templated("web-1", "old", owner=("Deployment", "web"), replicas=0)],
            "Deployment": [templated("web", "new")],
        }
    )
    assert edges(usage) == [
        ("env-a/new", "Deployment env-a/web", "live"),
        ("env-a/old", "Deployment env-a/web", "live"),
    ]


def test_a_former_replica_set_could_be_rolled_back_to() -> None:
    usage = collected(
        {
            "ReplicaSet": [templated("web-1", "old", owner=("Deployment", "web"), replicas=0)],
            "Deployment": [templated("web", "new")],
        }
    )
    assert edges(usage)[1] == ("env-a/old", "Deployment env-a/web", "latent")


def test_an_owner_that_was_not_listed_is_the_holder_by_its_reference() -> None:
    claim = only(collected({"Pod": [pod(owner=("Tenant", "acme"))]}))
    assert (claim.holder, claim.since) == (Holder("Tenant", "env-a", "acme", "uid-acme"), None)


def test_an_owner_of_any_kind_that_was_listed_leads_further_up() -> None:
    collector = Collector(NOW)
    collector.add("Pod", [pod(owner=("TaskRun", "t"))])
    custom = Custom("tekton.dev/v1", "TaskRun", "taskruns", namespaced=True, fields=())
    collector.add_custom(custom, [{"metadata": meta("t", owner=("PipelineRun", "p"))}])
    assert only(collector.finish()).holder == Holder("PipelineRun", "env-a", "p", "uid-p")


def test_an_owner_in_another_namespace_is_none() -> None:
    stranger = templated("web", namespace="prod")
    claims = collected({"Pod": [pod(owner=("Deployment", "web"))], "Deployment": [stranger]})
    assert ("env-a/app", "Pod env-a/web-1", "live") in edges(claims)
    assert not claims.foreign(Account("env-a", "app"))


def test_a_static_pod_is_itself_and_not_its_node() -> None:
    assert only(collected({"Pod": [pod(owner=("Node", "n1"))]})).holder.kind == "Pod"


def test_an_owner_that_does_not_control_is_no_holder() -> None:
    given = pod()
    given["metadata"]["ownerReferences"] = [{"kind": "Tenant", "name": "t", "uid": "u", "controller": False}]
    assert only(collected({"Pod": [given]})).holder.kind == "Pod"


def test_owners_in_a_circle_come_to_an_end() -> None:
    pages = {
        "ReplicaSet": [templated("a", owner=("ReplicaSet", "b")), templated("b", owner=("ReplicaSet", "a"))],
        "Deployment": [templated("c", owner=("Deployment", "c"))],
    }
    assert len(edges(collected(pages))) == 3


def test_objects_without_uid_are_not_taken_for_one_another() -> None:
    first, second = templated("a"), pod(owner=("Deployment", "b"))
    first["metadata"]["uid"] = ""
    second["metadata"]["ownerReferences"][1]["uid"] = ""
    holders = {holder for _, holder, _ in edges(collected({"Deployment": [first], "Pod": [second]}))}
    assert holders == {"Deployment env-a/a", "Deployment env-a/b"}


# --- Bindings


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(subject(), DEPLOYER, id="ServiceAccount"),
        pytest.param({"kind": "User", "name": "system:serviceaccount:shared:deployer"}, DEPLOYER, id="User form"),
        pytest.param(
            {"kind": "Group", "name": "system:serviceaccounts:shared"}, Account("shared", EVERY), id="Group form"
        ),
    ],
)
def test_a_binding_elsewhere_uses_its_subject_in_every_form(given: Manifest, expected: Account) -> None:
    usage = collected({"RoleBinding": [binding(given, namespace="env-a")]})
    assert only(usage) == Claim(
        expected,
        Holder("RoleBinding", "env-a", "b", "uid-b"),
        Strength.GRANT,
        "subject, bound to ClusterRole edit",
        BIRTH,
    )
    assert len(usage.foreign(DEPLOYER)) == 1


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({"kind": "Group", "name": "system:serviceaccounts"}, id="all accounts"),
        pytest.param({"kind": "Group", "name": "system:authenticated"}, id="everybody"),
        pytest.param({"kind": "Group", "name": "system:serviceaccounts:"}, id="a group of no namespace"),
        pytest.param({"kind": "User", "name": "jane"}, id="a person"),
        pytest.param({"kind": "User", "name": "shared:deployer"}, id="a person with a colon"),
        pytest.param({"kind": "Group", "name": "shared"}, id="a group of people"),
        pytest.param({"kind": "User", "name": "system:serviceaccount:shared"}, id="half a name"),
        pytest.param({"kind": "ServiceAccount", "name": "deployer"}, id="no namespace"),
        pytest.param({"kind": "ServiceAccount", "namespace": "shared"}, id="no name"),
        pytest.param({"kind": "Unheard"}, id="unheard of"),
    ],
)
def test_a_subject_that_means_nobody_in_particular_is_no_claim(given: Manifest) -> None:
    assert not collected({"ClusterRoleBinding": [binding(given)]}).claims


def test_a_binding_in_the_namespace_of_the_account_is_no_claim() -> None:
    subjects = (
        subject(),
        {"kind": "ServiceAccount", "name": "deployer"},
        {"kind": "Group", "name": "system:serviceaccounts:shared"},
    )
    assert not collected({"RoleBinding": [binding(*subjects, namespace="shared")]}).claims


def test_equal_names_in_other_namespaces_are_other_accounts() -> None:
    usage = collected({"RoleBinding": [binding(subject("shared", "deployer"), namespace="env-a")]})
    assert not usage.of(Account("env-a", "deployer"))
    assert usage.of(DEPLOYER)


def test_a_cluster_role_binding_is_foreign_to_every_namespace() -> None:
    usage = collected({"ClusterRoleBinding": [binding(subject())]})
    assert [str(claim.holder) for claim in usage.foreign(DEPLOYER)] == ["ClusterRoleBinding b"]


def kor_unused(accounts: list[Account], pods: list[Manifest], role_bindings: list[Manifest]) -> list[Account]:
    """What yonahd/kor compares: pods and RoleBindings of the same namespace, subjects by their name alone."""

    def used(account: Account) -> set[str]:
        local_pods = [item for item in pods if item["metadata"]["namespace"] == account.namespace]
        local = [item for item in role_bindings if item["metadata"]["namespace"] == account.namespace]
        return {item["spec"]["serviceAccountName"] for item in local_pods} | {
            one["name"] for item in local for one in item["subjects"] if one["kind"] == "ServiceAccount"
        }

    return [account for account in accounts if account.name not in used(account)]


def test_the_cross_namespace_use_that_kor_gets_wrong_both_ways() -> None:
    namesake = Account("env-a", "deployer")
    role_bindings = [binding(subject("shared", "deployer"), namespace="env-a")]
    usage = collected({"RoleBinding": role_bindings})
    ours = [account for account in (DEPLOYER, namesake) if not usage.of(account)]
    assert kor_unused([DEPLOYER, namesake], [], role_bindings) == [DEPLOYER]  # would delete what is used
    assert ours == [namesake]


# --- Acting as an account


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        pytest.param({}, ["may impersonate it"], id="impersonate"),
        pytest.param(
            {"verbs": ["impersonate:serviceaccount"], "apiGroups": ["authentication.k8s.io"]},
            ["may impersonate it"],
            id="constrained",
        ),
        pytest.param(
            {"verbs": ["create"], "resources": ["serviceaccounts/token"]}, ["may make tokens for it"], id="tokens"
        ),
        pytest.param({"verbs": ["create"], "resources": ["*/token"]}, ["may make tokens for it"], id="any tokens"),
        pytest.param(
            {"verbs": ["*"], "resources": ["*"], "apiGroups": ["*"]},
            ["may impersonate it", "may make tokens for it"],
            id="everything",
        ),
        pytest.param({"verbs": ["*"]}, ["may impersonate it"], id="any verb"),
        pytest.param(
            {"verbs": ["*"], "resources": ["serviceaccounts/token"]},
            ["may make tokens for it"],
            id="any verb on tokens",
        ),
        pytest.param({"resources": ["*"]}, ["may impersonate it"], id="impersonate anything"),
        pytest.param({"verbs": ["create"], "resources": ["*"]}, ["may make tokens for it"], id="create anything"),
        pytest.param({"verbs": ["get", "create"]}, [], id="makes accounts"),
        pytest.param({"verbs": ["get"], "resources": ["serviceaccounts/token"]}, [], id="reads"),
        pytest.param({"apiGroups": ["apps"]}, [], id="another group"),
        pytest.param({"resources": ["users"]}, [], id="users"),
    ],
)
def test_which_rules_let_somebody_act_as_an_account(changed: dict[str, list[str]], expected: list[str]) -> None:
    rule = IMPERSONATE | changed
    usage = collected({"Role": [role("deployer", namespace="shared", rule=rule)]})
    assert sorted({claim.how for claim in usage.of(DEPLOYER)}) == expected[:1]
    acting = collected({"ClusterRole": [role("deployer", rule=rule)], "ClusterRoleBinding": [binding(role="r")]})
    assert len(acting.claims) == bool(expected)


def test_a_role_names_accounts_of_its_own_namespace() -> None:
    usage = collected({"Role": [role("deployer", namespace="shared")]})
    assert only(usage) == Claim(
        DEPLOYER, Holder("Role", "shared", "r", "uid-r"), Strength.GRANT, "may impersonate it", BIRTH
    )
    assert not usage.foreign(DEPLOYER)


def test_a_cluster_role_names_accounts_where_it_is_bound() -> None:
    usage = collected(
        {
            "RoleBinding": [
                binding(namespace="shared", role="r"),
                binding(namespace="env-b", role="other", name="c"),
                binding(namespace="env-c", role="r", role_kind="Role", name="d"),
            ],
            "ClusterRole": [role("deployer"), role("nobody", name="unbound")],
        }
    )
    assert only(usage) == Claim(
        DEPLOYER,
        Holder("RoleBinding", "shared", "b", "uid-b"),
        Strength.GRANT,
        "may impersonate it, by ClusterRole r",
        BIRTH,
    )


def test_a_cluster_role_bound_everywhere_names_that_account_wherever_it_is() -> None:
    usage = collected({"ClusterRoleBinding": [binding(role="r")], "ClusterRole": [role("deployer")]})
    assert only(usage).account == Account(EVERY, "deployer")
    assert len(usage.of(DEPLOYER)) == 1  # keeps one that is shared
    assert not usage.foreign(Account("env-a", "deployer"))  # keeps no environment from going


def test_a_rule_that_says_nothing_does_not_hide_those_after_it() -> None:
    rules = [*role("x", rule=IMPERSONATE | {"apiGroups": ["apps"]})["rules"], *role("deployer")["rules"]]
    usage = collected({"Role": [{"metadata": meta("r", "shared"), "rules": rules}]})
    assert [str(account) for account in usage.claims] == ["shared/deployer"]


def test_a_rule_without_names_is_no_claim_in_particular() -> None:
    assert not collected({"Role": [role(namespace="shared")]}).claims


def test_the_roles_of_envprov_itself_claim_nothing_from_outside() -> None:
    usage = collected(
        {
            "ClusterRole": [role("envprov-installer", name="envprov-env-controller")],
            "RoleBinding": [
                binding(
                    subject("envprov-system", "envprov"),
                    name="envprov-controller",
                    namespace="env-a",
                    role="envprov-env-controller",
                ),
                binding(
                    subject("env-a", "envprov-installer"),
                    name="envprov-installer",
                    namespace="env-a",
                    role="envprov-env-admin",
                ),
            ],
        }
    )
    assert not usage.foreign(Account("env-a", "envprov-installer"))
    assert not usage.foreign(Account("env-a", "default"))


# --- Tokens


def token(used: str | None = None, **more: object) -> Manifest:
    notes = {"kubernetes.io/service-account.name": "deployer", "kubernetes.io/service-account.uid": "uid-deployer"}
    labels = {"kubernetes.io/legacy-token-last-used": used} if used else {}
    return {
        "metadata": meta("t", "shared", annotations=notes, labels=labels),
        "type": "kubernetes.io/service-account-token",
        **more,
    }


def with_tokens(*secrets: Manifest, pages: Mapping[str, list[Manifest]] | None = None) -> Usage:
    collector = Collector(NOW)
    collector.add_secrets("shared", secrets)
    for kind, items in (pages or {}).items():
        collector.add(kind, items)
    return collector.finish()


@pytest.mark.parametrize(
    ("used", "strength", "how"),
    [
        pytest.param("2026-02-28", Strength.LIVE, "token, last used on 2026-02-28", id="yesterday -> live"),
        pytest.param("2026-01-30", Strength.LIVE, "token, last used on 2026-01-30", id="30 days ago -> live"),
        pytest.param("2026-01-29", Strength.LATENT, "token, last used on 2026-01-29", id="31 days ago -> latent"),
        pytest.param("soon", Strength.LATENT, "token, last used on soon", id="not a date -> latent"),
        pytest.param(None, Strength.LATENT, "token, not known to have been used", id="never -> latent"),
    ],
)
def test_a_token_in_a_secret_uses_its_account(used: str | None, strength: Strength, how: str) -> None:
    expected = Claim(DEPLOYER, Holder("Secret", "shared", "t", "uid-t"), strength, how, BIRTH)
    assert only(with_tokens(token(used))) == expected


def test_a_secret_listed_without_its_type_is_known_by_its_annotations() -> None:
    given = token()
    del given["type"]
    assert len(with_tokens(given, {"metadata": meta("other", "shared")}).claims) == 1


def test_other_secrets_are_no_claims() -> None:
    assert not with_tokens(token(type="Opaque")).claims


def test_a_token_of_a_former_account_of_that_name_is_no_claim() -> None:
    former = service_account("deployer", "shared", uid="another")
    assert not with_tokens(token(), pages={"ServiceAccount": [former]}).claims
    same = service_account("deployer", "shared")
    assert len(with_tokens(token(), pages={"ServiceAccount": [same]}).claims) == 1
    unknown = service_account("deployer", "shared", uid=None)
    assert len(with_tokens(token(), pages={"ServiceAccount": [unknown]}).claims) == 1


def test_a_former_token_does_not_hide_the_claims_after_it() -> None:
    former = service_account("deployer", "shared", uid="another", annotations={"meta.helm.sh/release-name": "r"})
    assert edges(with_tokens(token(), pages={"ServiceAccount": [former]})) == [
        ("shared/deployer", "HelmRelease shared/r", "owner")
    ]


def test_a_token_not_yet_filled_in_counts() -> None:
    given = token()
    del given["metadata"]["annotations"]["kubernetes.io/service-account.uid"]
    assert len(with_tokens(given, pages={"ServiceAccount": [service_account("deployer", "shared")]}).claims) == 1


# --- Helm


def released(*names: tuple[str, str], pages: Mapping[str, list[Manifest]] | None = None) -> Usage:
    collector = Collector(NOW)
    for namespace, name in names:
        chart: list[Manifest] = [
            {"kind": "ServiceAccount", "metadata": {"name": "deployer", "namespace": "shared"}},
            {"kind": "Service", "metadata": {"name": "web", "namespace": "shared"}},
        ]
        collector.add_release(namespace, name, chart)
    for kind, items in (pages or {}).items():
        collector.add(kind, items)
    return collector.finish()


def test_a_helm_release_owns_the_accounts_in_its_manifest() -> None:
    assert only(released(("ops", "base"))) == Claim(
        DEPLOYER, Holder("HelmRelease", "ops", "base"), Strength.OWNER, "in its manifest"
    )


def test_an_account_of_a_manifest_without_namespace_goes_where_the_release_is() -> None:
    collector = Collector(NOW)
    collector.add_release("ops", "base", [{"kind": "ServiceAccount", "metadata": {"name": "app"}}])
    assert only(collector.finish()).account == Account("ops", "app")


def test_what_is_written_on_the_account_and_in_the_manifest_is_one_claim() -> None:
    notes = {"meta.helm.sh/release-name": "base", "meta.helm.sh/release-namespace": "ops"}
    claim = only(
        released(("ops", "base"), pages={"ServiceAccount": [service_account("deployer", "shared", annotations=notes)]})
    )
    assert claim.holder == Holder("HelmRelease", "ops", "base")
    claim = only(collected({"ServiceAccount": [service_account("deployer", "shared", annotations=notes)]}))
    assert claim == Claim(
        DEPLOYER, Holder("HelmRelease", "ops", "base"), Strength.OWNER, "annotation meta.helm.sh/release-name"
    )


def test_a_release_without_namespace_is_in_that_of_the_account() -> None:
    given = service_account("deployer", "shared", annotations={"meta.helm.sh/release-name": "base"})
    assert only(collected({"ServiceAccount": [given]})).holder == Holder("HelmRelease", "shared", "base")


def test_two_releases_that_own_one_account_are_a_conflict() -> None:
    usage = released(
        ("ops", "base"), ("shared", "extra"), pages={"RoleBinding": [binding(subject(), namespace="env-a")]}
    )
    assert conflicts(usage) == (
        Conflict(DEPLOYER, (Holder("HelmRelease", "ops", "base"), Holder("HelmRelease", "shared", "extra"))),
    )
    assert str(conflicts(usage)[0]) == (
        "ServiceAccount shared/deployer is owned by 2 Helm releases: ops/base, shared/extra"
    )
    one = released(("ops", "base"), ("ops", "base"), pages={"RoleBinding": [binding(subject(), namespace="env-a")]})
    assert not conflicts(one)


# --- Information that keeps nothing


@pytest.mark.parametrize(
    ("annotation", "kind"),
    [
        ("iam.gke.io/gcp-service-account", "GoogleServiceAccount"),
        ("eks.amazonaws.com/role-arn", "AWSRole"),
        ("azure.workload.identity/client-id", "AzureClient"),
        ("vault.hashicorp.com/role", "VaultRole"),
    ],
)
def test_an_identity_elsewhere_is_told_and_keeps_nothing(annotation: str, kind: str) -> None:
    claim = only(collected({"ServiceAccount": [service_account(annotations={annotation: "it"})]}))
    assert claim == Claim(
        Account("env-a", "app"),
        Holder(kind, "", "it"),
        Strength.IDENTITY,
        f"annotation {annotation} of ServiceAccount env-a/app",
        BIRTH,
    )
    assert not claim.strength.keeps


def test_a_template_says_which_role_of_vault_its_account_has() -> None:
    notes = {"vault.hashicorp.com/role": "db"}
    pages = {
        "Deployment": [templated(notes=notes)],
        "Pod": [pod(owner=("Deployment", "web"), annotations=notes), pod("solo", annotations=notes)],
        "StatefulSet": [templated("set", account=None, notes=notes)],
    }
    found = [claim for claims in collected(pages).claims.values() for claim in claims if not claim.strength.keeps]
    assert [(str(claim.account), str(claim.holder), claim.how) for claim in found] == [
        ("env-a/app", "VaultRole db", "annotation vault.hashicorp.com/role of Deployment env-a/web"),
        ("env-a/default", "VaultRole db", "annotation vault.hashicorp.com/role of StatefulSet env-a/set"),
    ]
    alone = collected({"Pod": [pod("solo", annotations=notes)]})
    assert ("env-a/app", "VaultRole db", "identity") in edges(alone)
    owned = collected({"Pod": [pod(owner=("Deployment", "web"), annotations=notes)]})
    assert "VaultRole db" not in {holder for _, holder, _ in edges(owned)}


def test_an_owner_reference_is_a_way_to_be_deleted_and_keeps_nothing() -> None:
    references = [{"kind": "Tenant", "name": "acme", "uid": "u"}]
    claim = only(collected({"ServiceAccount": [service_account(ownerReferences=references)]}))
    assert claim == Claim(
        Account("env-a", "app"), Holder("Tenant", "env-a", "acme", "u"), Strength.PATH, "ownerReference: goes with it"
    )
    assert not claim.strength.keeps


# --- Custom resources

TASK = Custom("x.io/v1", "Task", "tasks", namespaced=True, fields=(Field(("spec", "serviceAccountName")),))
CRD = {
    "spec": {
        "group": "x.io",
        "scope": "Namespaced",
        "names": {"kind": "Task", "plural": "tasks"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "properties": {"spec": {"properties": {"serviceAccountName": {"type": "string"}}}}
                    }
                },
            }
        ],
    }
}


def test_definitions_say_which_custom_resources_are_to_be_listed() -> None:
    collector = Collector(NOW)
    later = {"spec": {**CRD["spec"], "group": "a.io"}}
    collector.add("CustomResourceDefinition", [CRD, later, {"spec": None}, CRD])
    assert [custom.api_version for custom in collector.customs] == ["a.io/v1", "x.io/v1"]
    assert collector.customs[1] == TASK


def test_a_custom_resource_uses_the_account_that_it_names() -> None:
    collector = Collector(NOW)
    collector.add_custom(TASK, [{"metadata": meta("t"), "spec": {"serviceAccountName": "app"}}])
    assert only(collector.finish()) == Claim(
        Account("env-a", "app"), Holder("Task", "env-a", "t", "uid-t"), Strength.LIVE, "spec.serviceAccountName", BIRTH
    )


# --- Order, junk and size


def test_claims_are_sorted_the_weightiest_first() -> None:
    usage = collected(
        {
            "ServiceAccount": [service_account("app", annotations={"meta.helm.sh/release-name": "r"})],
            "ClusterRoleBinding": [binding(subject("env-a", "app"))],
            "StatefulSet": [templated("b", replicas=0), templated("a", replicas=0)],
            "Deployment": [templated("z")],
        }
    )
    assert [str(claim.holder) for claim in usage.of(Account("env-a", "app"))] == [
        "Deployment env-a/z",
        "StatefulSet env-a/a",
        "StatefulSet env-a/b",
        "ClusterRoleBinding b",
        "HelmRelease env-a/r",
    ]


WORDS = [
    "metadata",
    "spec",
    "status",
    "template",
    "jobTemplate",
    "subjects",
    "rules",
    "roleRef",
    "annotations",
    "ownerReferences",
    "conditions",
    "versions",
    "schema",
    "properties",
    "names",
    "labels",
    "name",
    "kind",
]
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 1) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(WORDS), inner, max_size=5),
    max_leaves=12,
)
NULLS = [
    {},
    {"metadata": None},
    {"metadata": {}, "spec": None},
    {"metadata": {}, "spec": {}, "subjects": None},
    None,
    5,
    "x",
]


@settings(deadline=None, max_examples=200)
@given(kind=st.sampled_from([kind for _, kind in SOURCES]), junk=st.lists(JUNK, max_size=4))
def test_weird_objects_raise_nothing(kind: str, junk: list[Any]) -> None:
    collector = Collector(NOW)
    for items in (junk, NULLS):
        collector.add(kind, items)  # type: ignore[arg-type] # that is the point
        collector.add_custom(TASK, items)  # type: ignore[arg-type]
        collector.add_secrets("env-a", items)  # type: ignore[arg-type]
        collector.add_release("env-a", "r", items)  # type: ignore[arg-type]
    conflicts(collector.finish())


def test_weird_objects_do_not_hide_those_after_them() -> None:
    collector = Collector(NOW)
    collector.add("Pod", [*NULLS, pod()])  # type: ignore[list-item] # that is the point
    collector.add_custom(TASK, [*NULLS, {"metadata": meta("t"), "spec": {"serviceAccountName": "app"}}])  # type: ignore[list-item]
    collector.add_secrets("shared", [token(type="Opaque"), *NULLS, token()])  # type: ignore[list-item]
    assert len(edges(collector.finish())) == 3


def test_ten_thousand_pods_are_read_in_well_under_a_second() -> None:
    pods = [
        pod(f"p-{number}", f"a-{number % 500}", owner=("ReplicaSet", f"r-{number % 1000}")) for number in range(10_000)
    ]
    sets = [templated(f"r-{number}", "app", owner=("Deployment", f"d-{number}")) for number in range(1000)]
    began = process_time()
    collected({"Pod": pods, "ReplicaSet": sets})
    assert process_time() - began < 1
