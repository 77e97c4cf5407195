"""Custom resources: where they name ServiceAccounts, by a table and by their schemas, hostile ones too."""

from __future__ import annotations

from time import process_time
from typing import Any

import pytest

from envprov.domain.custom import DEPTH_LIMIT, FIELDS_LIMIT, NODES_LIMIT, Custom, Field, fields_of, references
from envprov.domain.usage import EVERY

Manifest = dict[str, Any]

STRING: Manifest = {"type": "string"}
REFERENCE: Manifest = {"type": "object", "properties": {"name": STRING, "namespace": STRING}}
OPAQUE: Manifest = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def obj(**properties: Manifest) -> Manifest:
    return {"type": "object", "properties": properties}


def array(items: Manifest) -> Manifest:
    return {"type": "array", "items": items}


def version(schema: Manifest, name: str = "v1", *, served: object = True, storage: object = True) -> Manifest:
    return {"name": name, "served": served, "storage": storage, "schema": {"openAPIV3Schema": schema}}


def crd(*versions: Manifest, group: str = "x.io", kind: str = "Thing", scope: str = "Namespaced") -> Manifest:
    names = {"kind": kind, "plural": f"{kind.lower()}s"}
    return {"spec": {"group": group, "scope": scope, "names": names, "versions": list(versions)}}


def discovered(schema: Manifest, scope: str = "Namespaced") -> list[str]:
    custom = fields_of(crd(version(schema), scope=scope))
    return [] if custom is None else sorted(str(field) for field in custom.fields)


def named(custom: Custom, item: Manifest) -> list[str]:
    return sorted(str(account) for account, _ in references(custom, item))


def known(group: str, kind: str, scope: str = "Namespaced") -> Custom:
    custom = fields_of(crd(version(obj()), group=group, kind=kind, scope=scope))
    assert custom is not None
    return custom


def thing(spec: object, namespace: str = "env-a", **more: object) -> Manifest:
    metadata = {"name": "t", "namespace": namespace} if namespace else {"name": "t"}
    return {"metadata": metadata, "spec": spec, **more}


# --- The table

TOKEN_REF = {"serviceAccountRef": {"name": "reader", "namespace": "shared"}}


@pytest.mark.parametrize(
    ("group", "kind", "scope", "spec", "expected"),
    [
        pytest.param(
            "external-secrets.io",
            "SecretStore",
            "Namespaced",
            {"provider": {"vault": {"auth": {"kubernetes": TOKEN_REF}}}},
            ["env-a/reader"],
            id="a SecretStore reads as an account of its own namespace, whatever it says",
        ),
        pytest.param(
            "external-secrets.io",
            "ClusterSecretStore",
            "Cluster",
            {"provider": {"gcpsm": {"auth": {"workloadIdentity": TOKEN_REF}}}},
            ["shared/reader"],
            id="a ClusterSecretStore says where its account is",
        ),
        pytest.param(
            "external-secrets.io",
            "ClusterSecretStore",
            "Cluster",
            {"provider": {"kubernetes": {"auth": {"serviceAccount": {"name": "reader"}}}}},
            ["*/reader"],
            id="a ClusterSecretStore that does not say where means that of each ExternalSecret",
        ),
        pytest.param(
            "kustomize.toolkit.fluxcd.io",
            "Kustomization",
            "Namespaced",
            {"serviceAccountName": "flux", "patch": {"serviceAccountName": "not-it"}},
            ["env-a/flux"],
            id="Flux Kustomization",
        ),
        pytest.param(
            "helm.toolkit.fluxcd.io",
            "HelmRelease",
            "Namespaced",
            {"serviceAccountName": "flux", "values": {"serviceAccount": {"name": "not-it"}}},
            ["env-a/flux"],
            id="Flux HelmRelease, but not the values of its chart",
        ),
        pytest.param(
            "argoproj.io",
            "AppProject",
            "Namespaced",
            {
                "destinationServiceAccounts": [
                    {"namespace": "prod", "defaultServiceAccount": "sync"},
                    {"namespace": "prod", "defaultServiceAccount": "ops:sync"},
                    {"namespace": "env-*", "defaultServiceAccount": "any"},
                    {"namespace": "prod", "defaultServiceAccount": "system:serviceaccount:ops:full"},
                ]
            },
            ["*/any", "ops/full", "ops/sync", "prod/sync"],
            id="Argo CD AppProject in every form",
        ),
        pytest.param(
            "cert-manager.io",
            "Issuer",
            "Namespaced",
            {"acme": {"solvers": [{"dns01": {"route53": {"auth": {"kubernetes": TOKEN_REF}}}}]}},
            ["env-a/reader"],
            id="cert-manager Issuer",
        ),
        pytest.param(
            "cert-manager.io",
            "ClusterIssuer",
            "Cluster",
            {"vault": {"auth": {"kubernetes": {"serviceAccountRef": {"name": "issuer"}}}}},
            ["*/issuer"],
            id="cert-manager ClusterIssuer",
        ),
        pytest.param(
            "tekton.dev",
            "PipelineRun",
            "Namespaced",
            {
                "taskRunTemplate": {"serviceAccountName": "build"},
                "taskRunSpecs": [{"serviceAccountName": "test", "taskServiceAccountName": "old"}],
            },
            ["env-a/build", "env-a/old", "env-a/test"],
            id="Tekton PipelineRun",
        ),
        pytest.param(
            "tekton.dev", "TaskRun", "Namespaced", {"serviceAccountName": "build"}, ["env-a/build"], id="Tekton TaskRun"
        ),
        pytest.param(
            "argoproj.io",
            "Workflow",
            "Namespaced",
            {
                "serviceAccountName": "flow",
                "executor": {"serviceAccountName": "executor"},
                "templates": [{"serviceAccountName": "step"}],
            },
            ["env-a/executor", "env-a/flow", "env-a/step"],
            id="Argo Workflow",
        ),
        pytest.param(
            "argoproj.io",
            "CronWorkflow",
            "Namespaced",
            {"workflowSpec": {"serviceAccountName": "flow"}},
            ["env-a/flow"],
            id="Argo CronWorkflow",
        ),
        pytest.param(
            "argoproj.io",
            "WorkflowTemplate",
            "Namespaced",
            {"serviceAccountName": "flow"},
            ["env-a/flow"],
            id="Argo WorkflowTemplate",
        ),
        pytest.param(
            "argoproj.io",
            "ClusterWorkflowTemplate",
            "Cluster",
            {"serviceAccountName": "flow"},
            ["*/flow"],
            id="Argo ClusterWorkflowTemplate",
        ),
        pytest.param(
            "serving.knative.dev",
            "Service",
            "Namespaced",
            {"template": {"spec": {"serviceAccountName": "web"}}},
            ["env-a/web"],
            id="Knative Service",
        ),
        pytest.param(
            "secrets.hashicorp.com",
            "VaultAuth",
            "Namespaced",
            {
                "kubernetes": {"serviceAccount": "a"},
                "jwt": {"serviceAccount": "b"},
                "gcp": {"workloadIdentityServiceAccount": "c"},
                "aws": {"irsaServiceAccount": "d"},
            },
            ["env-a/a", "env-a/b", "env-a/c", "env-a/d"],
            id="VaultAuth",
        ),
    ],
)
def test_well_known_kinds_are_understood(
    group: str, kind: str, scope: str, spec: Manifest, expected: list[str]
) -> None:
    custom = known(group, kind, scope)
    assert (custom.api_version, custom.kind, custom.plural) == (f"{group}/v1", kind, f"{kind.lower()}s")
    assert custom.namespaced is (scope == "Namespaced")
    assert named(custom, thing(spec, "env-a" if custom.namespaced else "")) == expected


@pytest.mark.parametrize(
    ("group", "kind", "spec"),
    [
        ("helm.toolkit.fluxcd.io", "HelmRelease", {"serviceAccountName": "ops:app"}),
        ("argoproj.io", "Workflow", {"serviceAccountName": "ops:app"}),
        ("tekton.dev", "PipelineRun", {"taskRunSpecs": [{"taskServiceAccountName": "ops:app"}]}),
        ("secrets.hashicorp.com", "VaultAuth", {"kubernetes": {"serviceAccount": "ops:app"}}),
        ("cert-manager.io", "Issuer", {"ca": {"serviceAccountRef": {"name": "app", "namespace": "ops"}}}),
    ],
)
def test_a_kind_that_knows_no_other_namespace_cannot_reach_into_one(group: str, kind: str, spec: Manifest) -> None:
    assert named(known(group, kind), thing(spec)) == ["env-a/app"]


def test_sealed_secrets_name_none_whatever_their_schema_says() -> None:
    schema = obj(spec=obj(serviceAccountName=STRING))
    assert fields_of(crd(version(schema), group="bitnami.com", kind="SealedSecret")) is None


@pytest.mark.parametrize(
    ("group", "kind", "status"),
    [
        ("tekton.dev", "TaskRun", {"completionTime": "2026-01-01T00:00:00Z"}),
        ("tekton.dev", "PipelineRun", {"completionTime": "2026-01-01T00:00:00Z"}),
        ("argoproj.io", "Workflow", {"finishedAt": "2026-01-01T00:00:00Z"}),
    ],
)
def test_what_ran_to_its_end_uses_nothing_any_more(group: str, kind: str, status: Manifest) -> None:
    spec = {"serviceAccountName": "build"}
    assert named(known(group, kind), thing(spec, status=status)) == []
    assert named(known(group, kind), thing(spec, status={"finishedAt": None})) == ["env-a/build"]


def test_what_goes_on_for_ever_is_not_ended_by_a_status() -> None:
    spec = {"workflowSpec": {"serviceAccountName": "flow"}}
    status = {"completionTime": "2026-01-01T00:00:00Z"}
    assert named(known("argoproj.io", "CronWorkflow"), thing(spec, status=status)) == ["env-a/flow"]


# --- Discovery


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        pytest.param(obj(spec=obj(serviceAccountName=STRING)), ["spec.serviceAccountName"], id="name"),
        pytest.param(obj(spec=obj(serviceAccountRef=REFERENCE)), ["spec.serviceAccountRef"], id="reference"),
        pytest.param(obj(spec=obj(serviceAccount=STRING)), ["spec.serviceAccount"], id="plain, as a name"),
        pytest.param(obj(spec=obj(serviceAccount=REFERENCE)), ["spec.serviceAccount"], id="plain, as a reference"),
        pytest.param(obj(spec=obj(serviceAccount=OPAQUE)), ["spec.serviceAccount"], id="plain, opaque"),
        pytest.param(
            obj(spec=obj(driverServiceAccountName=STRING)), ["spec.driverServiceAccountName"], id="one of many"
        ),
        pytest.param(
            obj(spec=obj(tokenServiceAccountRef=REFERENCE)),
            ["spec.tokenServiceAccountRef"],
            id="one of many references",
        ),
        pytest.param(obj(serviceAccountName=STRING), ["serviceAccountName"], id="outside spec"),
        pytest.param(
            obj(spec=obj(serviceAccountName=STRING), serviceAccountName=STRING),
            ["serviceAccountName", "spec.serviceAccountName"],
            id="outside spec and inside",
        ),
        pytest.param(
            obj(spec=obj(a=array(obj(serviceAccountName=STRING)))), ["spec.a.*.serviceAccountName"], id="in an array"
        ),
        pytest.param(
            obj(spec=obj(a={"type": "object", "additionalProperties": obj(serviceAccountRef=REFERENCE)})),
            ["spec.a.*.serviceAccountRef"],
            id="in a map",
        ),
        pytest.param(
            obj(spec=obj(template=obj(spec=obj(serviceAccountName=STRING, serviceAccount=STRING)))),
            ["spec.template.spec.serviceAccount", "spec.template.spec.serviceAccountName"],
            id="in a pod template",
        ),
        pytest.param(
            obj(spec=obj(podTemplate=OPAQUE)),
            [
                "spec.podTemplate.**.serviceAccount",
                "spec.podTemplate.**.serviceAccountName",
                "spec.podTemplate.**.serviceAccountRef",
            ],
            id="in an opaque pod template",
        ),
        pytest.param(
            obj(spec=OPAQUE),
            ["spec.**.serviceAccount", "spec.**.serviceAccountName", "spec.**.serviceAccountRef"],
            id="in a spec of which nothing is said",
        ),
        pytest.param(obj(spec=obj(serviceAccount={"type": "boolean"})), [], id="whether there is one"),
        pytest.param(obj(spec=obj(serviceAccount=array(STRING))), [], id="an array of something"),
        pytest.param(obj(spec=obj(serviceAccount=obj(annotations=OPAQUE))), [], id="only how it is annotated"),
        pytest.param(
            obj(spec=obj(serviceAccount=obj(serviceAccountName=STRING))),
            ["spec.serviceAccount.serviceAccountName"],
            id="one level down",
        ),
        pytest.param(obj(spec=obj(values=OPAQUE)), [], id="opaque values are not searched"),
        pytest.param(
            obj(spec=obj(template=OPAQUE | {"properties": {"a": STRING}})), [], id="a template that is described"
        ),
        pytest.param(obj(spec=obj(specification=OPAQUE)), [], id="a word that begins like spec"),
        pytest.param(obj(status=obj(serviceAccountName=STRING)), [], id="status"),
        pytest.param(obj(metadata=obj(serviceAccountName=STRING)), [], id="metadata"),
        pytest.param(obj(spec=obj(name=STRING)), [], id="none"),
        pytest.param({}, [], id="no schema"),
    ],
)
def test_schemas_say_where_accounts_are_named(schema: Manifest, expected: list[str]) -> None:
    assert discovered(schema) == expected


@pytest.mark.parametrize("word", ["template", "podTemplate", "podTemplateSpec", "podSpec", "TEMPLATE"])
def test_opaque_templates_by_any_word_are_searched(word: str) -> None:
    assert len(discovered(obj(spec=obj(**{word: OPAQUE})))) == 3


@pytest.mark.parametrize(
    "given",
    [
        pytest.param(crd(version(obj(spec=obj(serviceAccountName=STRING))), group="envprov.io"), id="our own"),
        pytest.param(crd(version(obj(spec=obj(serviceAccountName=STRING)), served=False)), id="not served"),
        pytest.param(
            crd(version(obj(spec=obj(serviceAccountName=STRING)), served="yes")), id="served is no truth value"
        ),
        pytest.param(crd(), id="no versions"),
        pytest.param(crd(version(obj(spec=obj(serviceAccountName=STRING))), group=""), id="no group"),
        pytest.param(crd(version(obj(spec=obj(serviceAccountName=STRING))), kind=""), id="no kind"),
        pytest.param(
            {"spec": {"group": "x.io", "names": {"kind": "Thing"}, "versions": [version(obj(spec=OPAQUE))]}},
            id="no plural",
        ),
        pytest.param({}, id="nothing"),
        pytest.param({"spec": None}, id="null"),
    ],
)
def test_what_is_not_ours_to_list(given: Manifest) -> None:
    assert fields_of(given) is None


NAMED = obj(spec=obj(serviceAccountName=STRING))
UNNAMED = obj(spec=obj())


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        pytest.param([version(NAMED, "v1", storage=False), version(NAMED, "v2")], "x.io/v2", id="the stored one"),
        pytest.param(
            [version(NAMED, "v1"), version(NAMED, "v2", storage=False)], "x.io/v1", id="the stored one, first"
        ),
        pytest.param(
            [version(NAMED, "v1", storage=False), version(NAMED, "v2", served=False)], "x.io/v1", id="a served one"
        ),
        pytest.param(
            [version(NAMED, "v1", storage=False), version(UNNAMED, "v2")], "x.io/v1", id="the one that names it"
        ),
    ],
)
def test_which_version_is_listed(versions: list[Manifest], expected: str) -> None:
    custom = fields_of(crd(*versions))
    assert custom is not None
    assert custom.api_version == expected


def test_a_field_beside_says_which_namespace() -> None:
    both = obj(spec=obj(serviceAccountName=STRING, serviceAccountNamespace=STRING, namespace=STRING))
    plain = obj(spec=obj(serviceAccountName=STRING, namespace=STRING))
    beside = {
        (number, scope): fields[0].beside
        for number, schema in enumerate((both, plain))
        for scope in ("Namespaced", "Cluster")
        if (custom := fields_of(crd(version(schema), scope=scope))) and (fields := custom.fields)
    }
    assert beside == {
        (0, "Namespaced"): "serviceAccountNamespace",
        (0, "Cluster"): "serviceAccountNamespace",
        (1, "Namespaced"): "",
        (1, "Cluster"): "namespace",
    }


def test_an_opaque_resource_outside_namespaces_may_say_the_namespace_beside() -> None:
    custom = fields_of(crd(version(obj(spec=OPAQUE)), scope="Cluster"))
    assert custom is not None
    assert not custom.namespaced
    assert named(custom, thing({"a": {"serviceAccountName": "x", "namespace": "shared"}}, "")) == ["shared/x"]
    inside = fields_of(crd(version(obj(spec=OPAQUE))))
    assert inside is not None
    assert named(inside, thing({"a": {"serviceAccountName": "x", "namespace": "shared"}})) == ["env-a/x"]


# --- Bounds


def deep(levels: int, inner: Manifest) -> Manifest:
    for _ in range(levels):
        inner = obj(a=inner)
    return obj(spec=inner)


def test_a_schema_that_is_too_deep_is_searched_in_full_instead() -> None:
    everywhere = ["**.serviceAccount", "**.serviceAccountName", "**.serviceAccountRef"]
    named_inside = obj(serviceAccountName=STRING)
    assert discovered(deep(DEPTH_LIMIT - 1, named_inside)) == [".".join(["spec", *["a"] * 39, "serviceAccountName"])]
    assert discovered(deep(DEPTH_LIMIT, named_inside)) == everywhere
    assert discovered(deep(3000, obj())) == everywhere


def test_a_schema_with_too_many_fields_is_searched_in_full_instead() -> None:
    def wide(count: int) -> Manifest:
        return obj(spec=obj(**{f"f{number}": obj(serviceAccountName=STRING) for number in range(count)}))

    assert FIELDS_LIMIT == 100
    assert len(discovered(wide(101))) == 101
    assert len(discovered(wide(102))) == 3


def test_a_schema_that_is_too_large_is_searched_in_full_instead() -> None:
    def wide(count: int) -> Manifest:
        return obj(spec=obj(**{f"f{number}": STRING for number in range(count)}))

    assert NODES_LIMIT == 20_000
    assert discovered(wide(19_999)) == []
    assert len(discovered(wide(20_000))) == 3


def test_a_hostile_definition_costs_little() -> None:
    shared: Manifest = obj(serviceAccountName=STRING)
    for _ in range(60):
        shared = obj(a=shared, b=shared)  # 2**60 paths
    began = process_time()
    assert len(discovered(shared)) == 3
    assert process_time() - began < 1


def test_a_hostile_object_costs_little() -> None:
    custom = fields_of(crd(version(obj(spec=OPAQUE))))
    assert custom is not None
    inner: Manifest = {"serviceAccountName": "x"}
    for _ in range(20_000):
        inner = {"a": inner}
    assert named(custom, thing(inner)) == ["env-a/x"]


# --- What an object names


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        pytest.param("app", ["env-a/app"], id="name"),
        pytest.param("shared:app", ["shared/app"], id="namespace:name"),
        pytest.param("shared/app", ["shared/app"], id="namespace/name"),
        pytest.param("system:serviceaccount:shared:app", ["shared/app"], id="user name"),
        pytest.param({"name": "app"}, ["env-a/app"], id="reference"),
        pytest.param({"name": "app", "namespace": "shared"}, ["shared/app"], id="reference elsewhere"),
        pytest.param({"name": "app", "namespace": None}, ["env-a/app"], id="reference with null"),
        pytest.param("a.b-c.9", ["env-a/a.b-c.9"], id="a name with dots"),
        pytest.param("a", ["env-a/a"], id="one letter"),
        pytest.param("a" * 253, ["env-a/" + "a" * 253], id="longest"),
        pytest.param("a" * 254, [], id="too long"),
        pytest.param("it@project.iam.gserviceaccount.com", [], id="an account of a cloud"),
        pytest.param("", [], id="empty"),
        pytest.param("App", [], id="no name of Kubernetes"),
        pytest.param("-a", [], id="begins with a dash"),
        pytest.param("a-", [], id="ends with a dash"),
        pytest.param({"name": 5}, [], id="not text"),
        pytest.param(None, [], id="null"),
        pytest.param(["app"], [], id="a list"),
    ],
)
def test_a_value_names_an_account(value: object, expected: list[str]) -> None:
    custom = Custom("x.io/v1", "Thing", "things", namespaced=True, fields=(Field(("spec", "sa")),))
    assert named(custom, thing({"sa": value})) == expected


def test_a_field_that_is_always_in_the_own_namespace_ignores_what_is_written() -> None:
    fields = (Field(("spec", "sa"), beside="ns", own=True),)
    custom = Custom("x.io/v1", "Thing", "things", namespaced=True, fields=fields)
    assert named(custom, thing({"sa": {"name": "app", "namespace": "shared"}, "ns": "other"})) == ["env-a/app"]


def test_what_is_written_in_the_value_goes_before_what_is_beside_it() -> None:
    fields = (Field(("spec", "sa"), beside="ns"),)
    custom = Custom("x.io/v1", "Thing", "things", namespaced=True, fields=fields)
    assert named(custom, thing({"sa": {"name": "app", "namespace": "shared"}, "ns": "other"})) == ["shared/app"]
    assert named(custom, thing({"sa": "app", "ns": "other"})) == ["other/app"]
    assert named(custom, thing({"sa": "app", "ns": None})) == ["env-a/app"]
    plain = Custom("x.io/v1", "Thing", "things", namespaced=True, fields=(Field(("spec", "sa")),))
    assert named(plain, thing({"sa": "app", "": "other"})) == ["env-a/app"]
    assert not plain.ends


@pytest.mark.parametrize("pattern", ["*", "env-?", "env-[ab]", "{a,b}", "!prod"])
def test_a_pattern_of_namespaces_is_any_namespace(pattern: str) -> None:
    custom = Custom("x.io/v1", "Thing", "things", namespaced=True, fields=(Field(("spec", "sa"), beside="ns"),))
    assert named(custom, thing({"sa": "app", "ns": pattern})) == [f"{EVERY}/app"]


def test_a_reference_says_in_which_field_it_is() -> None:
    custom = Custom("x.io/v1", "Thing", "things", namespaced=True, fields=(Field(("spec", "*", "sa")),))
    found = list(references(custom, thing({"a": {"sa": "one"}, "b": {"sa": "two"}})))
    assert sorted((str(account), field) for account, field in found) == [
        ("env-a/one", "spec.*.sa"),
        ("env-a/two", "spec.*.sa"),
    ]


def test_each_and_deep_go_through_lists_and_maps() -> None:
    each = Custom("x.io/v1", "Thing", "things", namespaced=True, fields=(Field(("spec", "*", "sa")),))
    anywhere = Custom("x.io/v1", "Thing", "things", namespaced=True, fields=(Field(("spec", "**", "sa")),))
    spec = [{"sa": "one"}, {"deeper": [{"sa": "two"}, [{"sa": "three"}]]}]
    assert named(each, thing(spec)) == ["env-a/one"]
    assert named(anywhere, thing(spec)) == ["env-a/one", "env-a/three", "env-a/two"]
    assert named(anywhere, thing({"sa": "zero"})) == ["env-a/zero"]
