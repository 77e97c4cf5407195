"""What a chart needs and nobody provides: the corpus, and what is between its lines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st

from envprov.domain.checking import ClusterFacts, Given
from envprov.domain.checks import backends, classes, references, rights, sealed, trust
from envprov.domain.checks.catalogue import check
from envprov.domain.findings import Finding, Severity, downgrade, refusing
from envprov.domain.needs import Kind
from envprov.domain.wants import Wants, wants
from tests import corpus
from tests.corpus import Case
from tests.unit import facts
from tests.unit.facts import facts as seen
from tests.unit.facts import given, reasons

Manifest = dict[str, Any]

MODULES = (backends, classes, references, rights, sealed, trust)
OWN = {rule.reason for module in MODULES for rule in module.RULES}
PREFIXES = ("class", "missing-", "rights-", "sealed-", "provided-", "claims-of")
REFUSED = tuple(case for case in corpus.refused() if case.reason in OWN)
PASSED = tuple(case for case in corpus.passed() if case.name.startswith(PREFIXES))
HOME = "env-feature-x-ndvvxpib"
RBAC = "rbac.authorization.k8s.io"
UNREAD = ClusterFacts(scopes=facts.SCOPES, plurals=facts.PLURALS)


def judged(chart: Given) -> tuple[Finding, ...]:
    """Return what these checks find, whatever all others say."""
    return downgrade((finding for module in MODULES for one in module.CHECKS for finding in one(chart)), ())


def chart(case: Case) -> Given:
    """Return a case as the checks are given it."""
    return given(*case.objects, desired=facts.wanted(**case.project), seen=replace(facts.FACTS, **case.facts))


def thing(api_version: str, kind: str, name: str = "shop", **rest: Any) -> Manifest:  # noqa: ANN401 - any field
    """Return an object; *annotations* and *labels* go where they belong."""
    marks = {key: rest.pop(key) for key in ("annotations", "labels") if key in rest}
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name, **marks}, **rest}


def pod(name: str = "web", hook: str = "", annotations: Mapping[str, str] | None = None, **spec: Any) -> Manifest:  # noqa: ANN401
    """Return a pod, perhaps as a hook."""
    marks = {**(annotations or {}), **({"helm.sh/hook": hook} if hook else {})}
    return thing("v1", "Pod", name, annotations=marks, spec=spec)


def needing(secret: str, name: str = "web", hook: str = "", **spec: Any) -> Manifest:  # noqa: ANN401
    """Return a pod that cannot do without a Secret."""
    return pod(name, hook, containers=[{"name": "main", "envFrom": [{"secretRef": {"name": secret}}]}], **spec)


def secret(name: str = "shop", hook: str = "", **rest: Any) -> Manifest:  # noqa: ANN401
    """Return a Secret, perhaps as a hook."""
    marks = {**rest.pop("annotations", {}), **({"helm.sh/hook": hook} if hook else {})}
    return thing("v1", "Secret", name, annotations=marks, **rest)


def found(*objects: Mapping[str, Any], **changes: Any) -> list[str]:  # noqa: ANN401 - any fact
    """Return "severity reason" of all that is found, worst first."""
    return [f"{finding.severity} {finding.reason}" for finding in judged(given(*objects, seen=seen(**changes)))]


def only(*objects: Mapping[str, Any], **changes: Any) -> Finding:  # noqa: ANN401 - any fact
    """Return the one thing that is found."""
    findings = judged(given(*objects, seen=seen(**changes)))
    assert len(findings) == 1, findings
    return findings[0]


# --- The corpus


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in REFUSED])
def test_a_chart_that_lacks_something_is_refused_for_that_alone(case: Case) -> None:
    errors = refusing(check(chart(case)))
    assert [(error.reason, str(error.subject), error.field) for error in errors] == [
        (case.reason, case.object, case.field)
    ]


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in PASSED])
def test_a_chart_that_has_all_it_needs_passes(case: Case) -> None:
    assert refusing(check(chart(case))) == ()


def test_every_error_of_these_rules_is_in_the_corpus() -> None:
    expected = {rule.reason for module in MODULES for rule in module.RULES if rule.severity is Severity.ERROR}
    assert expected - {case.reason for case in REFUSED} == {"CannotBeUnsealed"}  # below: no file can say it
    assert len(REFUSED) >= 20
    assert len(PASSED) >= 4


# --- Who provides


@pytest.mark.parametrize(
    "maker",
    [
        pytest.param(thing("cert-manager.io/v1", "Certificate", spec={"secretName": "wanted"}), id="Certificate"),
        pytest.param(thing("external-secrets.io/v1", "ExternalSecret", "wanted", spec={"dataFrom": [{}]}), id="name"),
        pytest.param(
            thing("external-secrets.io/v1", "ExternalSecret", spec={"target": {"name": "wanted"}}), id="target"
        ),
        pytest.param(thing("onepassword.com/v1", "OnePasswordItem", "wanted"), id="1Password"),
        pytest.param(
            thing("secrets.hashicorp.com/v1beta1", "VaultStaticSecret", spec={"destination": {"name": "wanted"}}),
            id="Vault Secrets Operator",
        ),
        pytest.param(
            thing(
                "secrets-store.csi.x-k8s.io/v1",
                "SecretProviderClass",
                spec={"secretObjects": [{"secretName": "other"}, {"secretName": "wanted"}]},
            ),
            id="Secrets Store driver",
        ),
        pytest.param(
            thing("database.aws.crossplane.io/v1", "Instance", spec={"writeConnectionSecretToRef": {"name": "wanted"}}),
            id="Crossplane",
        ),
        pytest.param(
            thing("v1", "Service", annotations={"service.beta.openshift.io/serving-cert-secret-name": "wanted"}),
            id="certificate of OpenShift",
        ),
    ],
)
def test_a_secret_may_come_of_another_object(maker: Manifest) -> None:
    assert "MissingSecret" not in " ".join(found(needing("wanted"), maker))
    assert "MissingSecret" in " ".join(found(needing("other-than-that"), maker))


def test_names_that_operators_derive_are_known() -> None:
    cluster = thing("postgresql.cnpg.io/v1", "Cluster", "db")
    assert found(needing("db-app"), cluster) == []
    assert found(needing("db-application"), cluster) == ["error MissingSecret"]


@pytest.mark.parametrize(
    ("other", "outcome"),
    [
        pytest.param(
            thing("acme.example.com/v1", "Thing"), ["warning MissingSecret"], id="unknown operator -> perhaps"
        ),
        pytest.param(thing("gateway.networking.k8s.io/v1", "HTTPRoute"), ["error MissingSecret"], id="known -> no"),
        pytest.param(thing("monitoring.coreos.com/v1", "PodMonitor"), ["error MissingSecret"], id="kind known -> no"),
        pytest.param(thing("apps/v1", "ReplicaSet"), ["error MissingSecret"], id="built in -> no"),
        pytest.param(
            thing(f"{RBAC}/v1", "Role", rules=[{"apiGroups": [""], "resources": ["secrets"], "verbs": ["create"]}]),
            ["warning MissingSecret"],
            id="a pod may create Secrets -> perhaps",
        ),
        pytest.param(
            thing(f"{RBAC}/v1", "Role", rules=[{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]),
            ["error MissingSecret"],
            id="a pod may only read them -> no",
        ),
    ],
)
def test_what_might_still_make_it_is_a_doubt(other: Manifest, outcome: list[str]) -> None:
    assert found(needing("wanted"), other) == outcome


def test_the_doubt_is_named() -> None:
    finding = only(needing("wanted"), thing("acme.example.com/v1", "Thing", "maker"))
    assert finding.message == (
        "nothing provides Secret wanted, unless the controller of Thing maker (acme.example.com) makes it"
    )


@pytest.mark.parametrize(
    ("hook", "weight", "user", "outcome"),
    [
        pytest.param("", "", "", [], id="both in the release"),
        pytest.param("pre-install,pre-upgrade", "", "", [], id="hook before -> the release has it"),
        pytest.param("post-install", "", "", [], id="hook after -> the release's pods wait for it"),
        pytest.param("pre-upgrade", "", "", ["error MissingSecret"], id="hook of an upgrade -> not at first"),
        pytest.param("test", "", "", ["error MissingSecret"], id="test -> never"),
        pytest.param("", "", "pre-install", ["error MissingSecret"], id="release -> a hook before it has it not"),
        pytest.param("", "", "post-install", [], id="release -> a hook after it has it"),
        pytest.param("", "", "pre-upgrade", [], id="release -> an upgrade has it from before"),
        pytest.param("", "", "pre-delete", [], id="release -> there until it goes"),
        pytest.param("", "", "post-delete", ["error MissingSecret"], id="release -> gone when it has gone"),
        pytest.param("pre-install", "-1", "pre-install", [], id="lower weight -> before"),
        pytest.param("pre-install", "0", "pre-install", [], id="same weight -> Secrets before pods"),
        pytest.param("pre-install", "1", "pre-install", ["error MissingSecret"], id="higher weight -> after"),
        pytest.param("", "", "test", [], id="tests are not run"),
    ],
)
def test_it_must_be_there_in_time(hook: str, weight: str, user: str, outcome: list[str]) -> None:
    made = secret("wanted", hook, annotations={"helm.sh/hook-weight": weight} if weight else {})
    assert found(made, needing("wanted", hook=user)) == outcome


def test_without_a_pull_secret_public_images_are_pulled_all_the_same() -> None:
    private = {"imagePullSecrets": [{"name": "registry-pull"}]}
    assert found(pod(**private)) == ["warning MissingPullSecret"]
    account = only(thing("v1", "ServiceAccount", **private))
    assert (str(account.severity), account.field) == ("warning", "imagePullSecrets[0].name")
    assert found(pod(**private), secret("registry-pull")) == []


def test_a_test_may_need_what_it_likes() -> None:
    assert found(needing("wanted", hook="test")) == []


@pytest.mark.parametrize(
    "made",
    [
        pytest.param(secret("s", type="kubernetes.io/service-account-token"), id="token"),
        pytest.param(
            secret("s", annotations={"secret-generator.v1.mittwald.de/autogenerate": "password"}), id="generator"
        ),
        pytest.param(secret("s", annotations={"reflector.v1.k8s.emberstack.com/reflects": "shared/s"}), id="reflector"),
    ],
)
def test_keys_that_a_controller_adds_are_not_missed(made: Manifest) -> None:
    assert found(made, pod(volumes=[{"secret": {"secretName": "s", "items": [{"key": "password"}]}}])) == []


def test_a_key_that_a_pod_may_add_is_a_doubt() -> None:
    role = thing(
        f"{RBAC}/v1",
        "Role",
        rules=[{"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["s"], "verbs": ["patch"]}],
    )
    user = pod(volumes=[{"secret": {"secretName": "s", "items": [{"key": "password"}]}}])
    assert found(secret("s"), user) == ["error MissingKey"]
    assert found(secret("s"), user, role) == ["warning MissingKey"]


def test_what_comes_into_every_namespace_where_it_is_served_is_provided() -> None:
    user = pod(volumes=[{"configMap": {"name": "istio-ca-root-cert"}}])
    assert found(user) == ["error MissingConfigMap"]
    served = facts.kinds(("networking.istio.io/v1", "VirtualService"))
    assert found(user, scopes=served) == []


def test_what_is_in_the_namespace_is_provided() -> None:
    user = pod(
        serviceAccountName="deployer",
        volumes=[{"persistentVolumeClaim": {"claimName": "data"}}, {"secret": {"secretName": "s"}}],
    )
    assert found(user) == ["error MissingClaim", "error MissingSecret", "error MissingServiceAccount"]
    there = {"claims": {"data"}, "secrets": {"s"}, "service_accounts": {"deployer"}}
    assert found(user, **{name: frozenset(names) for name, names in there.items()}) == []


def test_volumes_of_every_kind_that_name_a_secret_are_looked_at() -> None:
    volumes = [
        {"azureFile": {"secretName": "a"}},
        {"csi": {"driver": "d", "nodePublishSecretRef": {"name": "b"}}},
        {"cephfs": {"secretRef": {"name": "c"}}},
    ]
    findings = judged(given(pod(volumes=volumes)))
    assert [finding.field for finding in findings] == [
        "spec.volumes[0].azureFile.secretName",
        "spec.volumes[1].csi.nodePublishSecretRef.name",
        "spec.volumes[2].cephfs.secretRef.name",
    ]


# --- Classes


CLAIM = thing("v1", "PersistentVolumeClaim", spec={})


@pytest.mark.parametrize(
    ("claim", "known", "outcome"),
    [
        pytest.param(CLAIM, {}, ["warning NoDefaultStorageClass"], id="no class, no default -> perhaps by hand"),
        pytest.param(CLAIM, {"a": {}}, ["warning NoDefaultStorageClass"], id="no class, none is the default"),
        pytest.param(
            CLAIM,
            {"a": {"metadata": {"annotations": {"storageclass.beta.kubernetes.io/is-default-class": "true"}}}},
            [],
            id="no class, an old default",
        ),
        pytest.param(CLAIM | {"spec": {"storageClassName": ""}}, {}, [], id="empty class -> by hand"),
        pytest.param(CLAIM | {"spec": {"storageClassName": "a"}}, {"a": {}}, [], id="class is there"),
        pytest.param(CLAIM | {"spec": {"storageClassName": "a"}}, {}, ["error NoStorageClass"], id="class is not"),
        pytest.param(CLAIM | {"spec": {"storageClassName": "a"}}, None, ["note NotLookedAt"], id="not known"),
    ],
)
def test_claims_and_their_classes(claim: Manifest, known: Mapping[str, Any] | None, outcome: list[str]) -> None:
    assert found(claim, storage_classes=known) == outcome


def test_classes_of_the_old_annotation_may_be_names_of_the_controllers_own() -> None:
    def ingress(name: str) -> Manifest:
        return thing("networking.k8s.io/v1", "Ingress", annotations={"kubernetes.io/ingress.class": name}, spec={})

    assert found(ingress("nginx")) == []
    assert found(ingress("gce")) == ["warning NoIngressClassAnnotated"]


def test_what_the_remedy_names_is_what_there_is() -> None:
    finding = only(CLAIM | {"spec": {"storageClassName": "a"}}, storage_classes={"fast": {}, "cheap": {}})
    assert finding.remedy == "name one of cheap, fast"


# --- Services, TLS, scaling, stores


def ingress(service: str = "web", number: int = 80, **annotations: str) -> Manifest:
    """Return an Ingress with TLS."""
    backend = {"service": {"name": service, "port": {"number": number}}}
    spec = {"tls": [{"secretName": "tls"}], "rules": [{"http": {"paths": [{"backend": backend}]}}]}
    marks = {name.replace("_", "/"): value for name, value in annotations.items()}
    return thing("networking.k8s.io/v1", "Ingress", annotations=marks, spec=spec)


SERVICE = thing("v1", "Service", "web", spec={"ports": [{"port": 80, "name": "http"}]})


@pytest.mark.parametrize(
    ("objects", "outcome"),
    [
        pytest.param((ingress(), SERVICE), ["warning MissingTlsSecret"], id="nobody makes the certificate"),
        pytest.param((ingress(), SERVICE, secret("tls")), [], id="the chart has it"),
        pytest.param(
            (
                thing(
                    "networking.k8s.io/v1",
                    "Ingress",
                    annotations={"cert-manager.io/issuer": "a"},
                    spec=ingress()["spec"],
                ),
                SERVICE,
            ),
            [],
            id="cert-manager makes it",
        ),
        pytest.param((ingress("other"), SERVICE, secret("tls")), ["warning MissingBackend"], id="no such Service"),
        pytest.param((ingress(number=81), SERVICE, secret("tls")), ["warning MissingBackend"], id="no such port"),
        pytest.param(
            (
                thing(
                    "gateway.networking.k8s.io/v1",
                    "HTTPRoute",
                    spec={"rules": [{"backendRefs": [{"name": "web", "port": 80}, {"name": "old", "port": 80}]}]},
                ),
                SERVICE,
            ),
            ["warning MissingBackend"],
            id="route",
        ),
        pytest.param(
            (
                thing(
                    "gateway.networking.k8s.io/v1",
                    "Gateway",
                    spec={"listeners": [{"tls": {"certificateRefs": [{"name": "tls"}]}}]},
                ),
            ),
            ["warning MissingTlsSecret"],
            id="Gateway",
        ),
        pytest.param(
            (
                thing(
                    "autoscaling/v2",
                    "HorizontalPodAutoscaler",
                    spec={"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}},
                ),
            ),
            ["warning MissingScaleTarget"],
            id="nothing to scale",
        ),
        pytest.param(
            (thing("external-secrets.io/v1", "ExternalSecret", spec={"secretStoreRef": {"name": "vault"}}),),
            ["warning MissingSecretStore"],
            id="no store",
        ),
    ],
)
def test_what_others_refer_to(objects: tuple[Manifest, ...], outcome: list[str]) -> None:
    assert found(*objects) == outcome


# --- Rights


def binding(kind: str = "Role", name: str = "shop", *subjects: Mapping[str, str]) -> Manifest:
    """Return a RoleBinding."""
    return thing(
        f"{RBAC}/v1", "RoleBinding", roleRef={"apiGroup": RBAC, "kind": kind, "name": name}, subjects=list(subjects)
    )


def rule(verbs: str, resources: str, group: str = "", **rest: Any) -> Manifest:  # noqa: ANN401 - other fields
    """Return a rule."""
    return {"apiGroups": [group], "resources": resources.split(), "verbs": verbs.split(), **rest}


CHARTS = rule("get create patch delete", "roles rolebindings", RBAC)
ROLE = thing(f"{RBAC}/v1", "Role", rules=[rule("get", "nodes")])


@pytest.mark.parametrize(
    ("extra", "outcome"),
    [
        pytest.param((), ["error RoleExceedsInstaller"], id="told of the Role, and not again of its binding"),
        pytest.param((rule("get", "nodes"),), [], id="has it"),
        pytest.param((rule("get", "nodes", resourceNames=["a"]),), ["error RoleExceedsInstaller"], id="has it of one"),
        pytest.param((rule("escalate", "roles", RBAC),), ["error BindingExceedsInstaller"], id="may make, not bind"),
        pytest.param((rule("escalate bind", "roles", RBAC),), [], id="may make and bind"),
        pytest.param((rule("bind", "roles", RBAC),), ["error RoleExceedsInstaller"], id="may bind, not make"),
    ],
)
def test_what_a_role_grants_must_be_had(extra: tuple[Manifest, ...], outcome: list[str]) -> None:
    assert found(ROLE, binding(), installer=(CHARTS, *extra)) == outcome


def test_a_role_that_is_in_the_namespace_is_looked_at_too() -> None:
    assert found(binding(), installer=(CHARTS,), roles={"shop": ()}) == []
    exceeding = {"shop": (rule("get", "nodes"),)}
    assert found(binding(), installer=(CHARTS,), roles=exceeding) == ["error BindingExceedsInstaller"]


def test_a_binding_may_be_allowed_by_name() -> None:
    view = {"view": (rule("get", "nodes"),)}
    named = rule("bind", "clusterroles", RBAC, resourceNames=["view"])
    assert found(binding("ClusterRole", "view"), installer=(CHARTS,), cluster_roles=view) == [
        "error BindingExceedsInstaller"
    ]
    assert found(binding("ClusterRole", "view"), installer=(CHARTS, named), cluster_roles=view) == []


def test_a_long_list_of_rights_is_cut() -> None:
    role = thing(f"{RBAC}/v1", "Role", rules=[rule("get list watch", "nodes pods services")])
    assert only(role, installer=(CHARTS,)).message == (
        "grants what the installer does not have: get nodes, list nodes, watch nodes, get pods, list pods and 4 more"
    )


def test_a_role_of_a_million_rights_is_not_counted_out() -> None:
    many = " ".join(f"r{number}" for number in range(1000))
    role = thing(f"{RBAC}/v1", "Role", rules=[rule(many, many)])
    assert found(role, installer=(CHARTS,)) == ["note NotLookedAt"]


@pytest.mark.parametrize(
    ("subject", "outcome"),
    [
        pytest.param({"kind": "ServiceAccount", "name": "a", "namespace": HOME}, [], id="its own"),
        pytest.param(
            {"kind": "ServiceAccount", "name": "a", "namespace": "monitoring"},
            ["warning GrantsToOtherNamespace"],
            id="another namespace's",
        ),
        pytest.param({"kind": "Group", "name": f"system:serviceaccounts:{HOME}"}, [], id="all of its own"),
        pytest.param(
            {"kind": "Group", "name": "system:serviceaccounts:env-other"},
            ["warning GrantsToOtherNamespace"],
            id="all of another environment",
        ),
        pytest.param(
            {"kind": "User", "name": "system:serviceaccount:env-other:a"},
            ["warning GrantsToOtherNamespace"],
            id="one of another, spelt as a user",
        ),
        pytest.param({"kind": "Group", "name": "system:unauthenticated"}, ["error GrantsToEverybody"], id="strangers"),
        pytest.param({"kind": "User", "name": "system:anonymous"}, ["error GrantsToEverybody"], id="nobody in person"),
        pytest.param({"kind": "User", "name": "ada"}, [], id="a person"),
        pytest.param({"kind": "Group", "name": "developers"}, [], id="people"),
    ],
)
def test_who_is_granted_something(subject: Mapping[str, str], outcome: list[str]) -> None:
    role = thing(f"{RBAC}/v1", "Role", rules=[])
    assert found(role, binding("Role", "shop", subject)) == outcome


def test_rights_on_a_kind_that_the_chart_brings_along_are_looked_at() -> None:
    definition = thing(
        "apiextensions.k8s.io/v1",
        "CustomResourceDefinition",
        "wheels.example.com",
        spec={"group": "example.com", "scope": "Namespaced", "names": {"kind": "Wheel", "plural": "wheels"}},
    )
    wheel = thing("example.com/v1", "Wheel", "big")
    finding = next(
        one
        for one in judged(given(definition, wheel, seen=seen(installer=(CHARTS,))))
        if one.reason == "InstallerMayNot"
    )
    assert finding.message == "the installer may not get, create, patch and delete wheels.example.com"


# --- SealedSecrets


def test_the_controller_of_sealed_secrets_has_the_last_word() -> None:
    strict = thing("bitnami.com/v1alpha1", "SealedSecret")
    wide = strict | {"metadata": {"name": "shop", "annotations": {"sealedsecrets.bitnami.com/cluster-wide": "true"}}}
    subject = given(strict).items[0].subject
    assert found(strict, sealed={subject: True}) == []
    assert found(strict, sealed={subject: False}) == ["error SealedForOneNamespace"]
    assert found(wide) == []
    assert found(wide, sealed={subject: False}) == ["error CannotBeUnsealed"]


def test_how_to_seal_it_again_is_said_in_full() -> None:
    assert only(thing("bitnami.com/v1alpha1", "SealedSecret", "db")).remedy == (
        "seal it again: `kubeseal --scope cluster-wide --format yaml <secret.yaml >sealed.yaml`, or for this branch "
        f"alone `kubeseal --namespace {HOME} --name db --format yaml <secret.yaml >sealed.yaml`"
    )


# --- Trust


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        pytest.param(
            (
                thing(
                    "v1", "ServiceAccount", "web", annotations={"eks.amazonaws.com/role-arn": "arn:aws:iam::1:role/x"}
                ),
            ),
            f"needs trust for system:serviceaccount:{HOME}:web: AWS role arn:aws:iam::1:role/x",
            id="AWS",
        ),
        pytest.param(
            (thing("v1", "ServiceAccount", "web", annotations={"iam.gke.io/gcp-service-account": "x@p.iam"}),),
            f"needs trust for system:serviceaccount:{HOME}:web: Google service account x@p.iam",
            id="Google",
        ),
        pytest.param(
            (thing("v1", "ServiceAccount", "web", annotations={"azure.workload.identity/client-id": "1-2"}),),
            f"needs trust for system:serviceaccount:{HOME}:web: Azure client 1-2",
            id="Azure",
        ),
        pytest.param(
            (
                thing(
                    "v1",
                    "Pod",
                    annotations={"vault.hashicorp.com/agent-inject": "true", "vault.hashicorp.com/role": "shop"},
                    spec={},
                ),
            ),
            f"needs trust for system:serviceaccount:{HOME}:default: Vault role shop",
            id="Vault's agent",
        ),
        pytest.param(
            (
                thing(
                    "external-secrets.io/v1",
                    "SecretStore",
                    spec={
                        "provider": {
                            "vault": {"auth": {"kubernetes": {"role": "shop", "serviceAccountRef": {"name": "web"}}}}
                        }
                    },
                ),
            ),
            f"needs trust for system:serviceaccount:{HOME}:web: Vault role shop",
            id="SecretStore of Vault",
        ),
        pytest.param(
            (
                thing(
                    "external-secrets.io/v1",
                    "SecretStore",
                    spec={"provider": {"aws": {"auth": {"jwt": {"serviceAccountRef": {"name": "web"}}}}}},
                ),
            ),
            f"needs trust for system:serviceaccount:{HOME}:web: AWS role of its annotation",
            id="SecretStore of AWS",
        ),
        pytest.param(
            (
                thing(
                    "secrets.hashicorp.com/v1beta1",
                    "VaultAuth",
                    spec={"kubernetes": {"role": "shop", "serviceAccount": "web"}},
                ),
            ),
            f"needs trust for system:serviceaccount:{HOME}:web: Vault role shop",
            id="Vault Secrets Operator",
        ),
        pytest.param(
            (
                thing(
                    "secrets-store.csi.x-k8s.io/v1",
                    "SecretProviderClass",
                    "vault",
                    spec={"provider": "vault", "parameters": {"roleName": "shop"}},
                ),
                pod(
                    volumes=[
                        {
                            "csi": {
                                "driver": "secrets-store.csi.k8s.io",
                                "volumeAttributes": {"secretProviderClass": "vault"},
                            }
                        }
                    ]
                ),
            ),
            f"needs trust for system:serviceaccount:{HOME}:default: Vault role shop",
            id="Secrets Store driver",
        ),
        pytest.param(
            (
                thing(
                    "cert-manager.io/v1",
                    "Issuer",
                    spec={"vault": {"auth": {"kubernetes": {"role": "pki", "serviceAccountRef": {"name": "issuer"}}}}},
                ),
            ),
            f"needs trust for system:serviceaccount:{HOME}:issuer: Vault role pki",
            id="cert-manager",
        ),
    ],
)
def test_what_must_be_trusted_elsewhere_is_noted(objects: tuple[Manifest, ...], message: str) -> None:
    findings = [finding for finding in judged(given(*objects)) if finding.reason == "NeedsTrust"]
    assert [finding.message for finding in findings] == [message]
    assert findings[0].severity is Severity.NOTE
    assert "{" not in findings[0].remedy


def test_an_identity_is_noted_once_for_each_account() -> None:
    marks = {"vault.hashicorp.com/agent-inject": "true", "vault.hashicorp.com/role": "shop"}
    pods = [thing("v1", "Pod", name, annotations=marks, spec={}) for name in ("a", "b")]
    assert reasons(judged(given(*pods))) == ["NeedsTrust"]


def test_a_store_of_the_cluster_must_serve_the_namespace() -> None:
    def external(name: str) -> Manifest:
        ref = {"kind": "ClusterSecretStore", "name": "vault"}
        return thing("external-secrets.io/v1", "ExternalSecret", name, spec={"secretStoreRef": ref})

    finding = only(external("a"), external("b"))
    assert finding.reason == "NeedsClusterSecretStore"
    assert finding.message == f"ClusterSecretStore vault must serve Namespace {HOME}"


# --- What could not be looked at


def test_what_could_not_be_read_is_noted_once_and_refuses_nothing() -> None:
    objects = [*(one for case in REFUSED for one in case.objects), ingress()]
    findings = judged(given(*objects, seen=UNREAD))
    notes = [finding.message.partition(" could")[0] for finding in findings if finding.reason == "NotLookedAt"]
    assert sorted(notes) == [
        "ConfigMaps of the namespace",
        "IngressClasses of the cluster",
        "PersistentVolumeClaims of the namespace",
        "PriorityClasses of the cluster",
        "Rights of the installer",
        "RuntimeClasses of the cluster",
        "Secrets of the namespace",
        "ServiceAccounts of the namespace",
        "StorageClasses of the cluster",
    ]
    assert all(finding.subject is None for finding in findings if finding.reason == "NotLookedAt")
    # What is wrong by itself is still found.
    assert {finding.reason for finding in refusing(findings)} == {
        "BindsClusterAdmin",
        "GrantsToEverybody",
        "SealedForOneNamespace",
    }


NOTED = {
    "StorageClasses of the cluster": "storage_classes",
    "PriorityClasses of the cluster": "priority_classes",
    "RuntimeClasses of the cluster": "runtime_classes",
    "IngressClasses of the cluster": "ingress_classes",
    "Secrets of the namespace": Kind.SECRET,
    "ConfigMaps of the namespace": Kind.CONFIG_MAP,
    "PersistentVolumeClaims of the namespace": Kind.CLAIM,
    "ServiceAccounts of the namespace": Kind.ACCOUNT,
}


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in (*REFUSED, *PASSED)])
def test_all_that_a_check_would_miss_is_wanted(case: Case) -> None:
    unread = given(*case.objects, desired=facts.wanted(**case.project), seen=UNREAD)
    wanted = wants(unread)
    for finding in judged(unread):
        fact = NOTED.get(finding.message.partition(" could")[0])
        if isinstance(fact, Kind):
            assert fact in wanted.kinds
        elif fact:
            assert getattr(wanted, fact)


def test_a_chart_that_names_nothing_wants_nothing() -> None:
    wanted = wants(given(SERVICE, secret(), pod(containers=[{"name": "main"}]), seen=UNREAD))
    assert wanted == Wants(
        storage_classes=False,
        priority_classes=False,
        runtime_classes=False,
        ingress_classes=False,
        kinds=frozenset(),
        cluster_roles=frozenset(),
        roles=False,
        sealed=(),
    )


# --- Junk

JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4) | st.integers(), inner, max_size=2),
    max_leaves=4,
)
POOL = [case.objects for case in (*REFUSED, *PASSED)]


@settings(max_examples=150, deadline=None)
@drawn(data=st.data())
def test_no_check_raises_whatever_stands_where(data: st.DataObject) -> None:
    objects = data.draw(st.sampled_from(POOL))
    broken = [spoilt(item, data) for item in objects]
    for facts_known in (facts.FACTS, UNREAD):
        findings = judged(given(*broken, seen=facts_known))
        assert all(str(finding) for finding in findings)
    wants(given(*broken))


def spoilt(value: Any, data: st.DataObject) -> Any:  # noqa: ANN401 - any JSON
    """Return a structure with junk somewhere in it."""
    if isinstance(value, dict) and value:
        key = data.draw(st.sampled_from(sorted(value, key=str)))
        inner = spoilt(value[key], data) if data.draw(st.integers(0, 3)) else data.draw(JUNK)
        return {**value, key: inner}
    if isinstance(value, list) and value:
        place = data.draw(st.integers(0, len(value) - 1))
        return [*value[:place], spoilt(value[place], data), *value[place + 1 :]]
    return data.draw(JUNK)
