"""The comparison of rights with an audit log, on a log written by hand."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.rbac import Account, Comparison, Right, compare

Event = dict[str, Any]

BOT = Account("tools", "bot")
RBAC = "rbac.authorization.k8s.io"


def event(verb: str, resource: str, *, code: int = 200, **changes: Any) -> Event:  # noqa: ANN401 - any part of an event
    target = {"resource": resource, "namespace": "tools", "apiVersion": "v1"}
    given: Event = {
        "kind": "Event",
        "stage": "ResponseComplete",
        "verb": verb,
        "user": {"username": changes.pop("user", BOT.user)},
        "responseStatus": {"code": code, "message": changes.pop("message", "")},
    }
    if "impersonating" in changes:
        given["impersonatedUser"] = {"username": changes.pop("impersonating")}
    return given | {"objectRef": target | changes}


def rule(verbs: list[str], resource: str, *names: str, group: str = "") -> Event:
    given: Event = {"apiGroups": [group], "resources": [resource], "verbs": verbs}
    return given | ({"resourceNames": list(names)} if names else {})


def role(kind: str, name: str, *rules: Event) -> Event:
    namespace = {"namespace": "tools"} if kind == "Role" else {}
    return {"kind": kind, "metadata": {"name": name, **namespace}, "rules": list(rules)}


def binding(kind: str, to: str, name: str) -> Event:
    namespace = {"namespace": "tools"} if kind == "RoleBinding" else {}
    return {
        "kind": kind,
        "metadata": {"name": name, **namespace},
        "roleRef": {"kind": to, "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": "bot", "namespace": "tools"}],
    }


def in_namespace(*rules: Event) -> list[Event]:
    return [role("Role", "bot", *rules), binding("RoleBinding", "Role", "bot")]


def against(manifests: list[Event], *events: Event) -> Comparison:
    return compare(manifests, [json.dumps(one) for one in events], BOT)


def unused(found: Comparison) -> list[str]:
    return [str(right) for right in found.unused]


def missing(found: Comparison) -> list[str]:
    return [str(right) for right in found.missing]


GET = rule(["get"], "configmaps")
APPLY = rule(["create", "patch"], "configmaps")


@pytest.mark.parametrize(
    ("given", "seen", "left"),
    [
        pytest.param(GET, event("get", "configmaps", name="a"), [], id="asked for -> used"),
        pytest.param(GET, event("list", "configmaps"), ["get configmaps in tools"], id="another verb -> not used"),
        pytest.param(GET, event("get", "secrets"), ["get configmaps in tools"], id="another resource -> not used"),
        pytest.param(
            GET,
            event("get", "configmaps", apiGroup="x.io"),
            ["get configmaps in tools"],
            id="another group -> not used",
        ),
        pytest.param(
            GET, event("get", "configmaps", namespace="other"), ["get configmaps in tools"], id="elsewhere -> not used"
        ),
        pytest.param(
            GET,
            event("get", "configmaps", user="system:serviceaccount:tools:other"),
            ["get configmaps in tools"],
            id="somebody else -> not used",
        ),
        pytest.param(
            rule(["get"], "configmaps", "b"),
            event("get", "configmaps", name="a"),
            ["get configmaps b in tools"],
            id="another name -> not used",
        ),
        pytest.param(
            rule(["patch"], "configmaps/status"),
            event("patch", "configmaps", name="a"),
            ["patch configmaps/status in tools"],
            id="the object itself -> its status not used",
        ),
        pytest.param(
            rule(["patch"], "configmaps/status"),
            event("patch", "configmaps", name="a", subresource="status"),
            [],
            id="the status -> used",
        ),
        pytest.param(APPLY, event("patch", "configmaps", name="a", code=201), [], id="apply that creates -> both used"),
        pytest.param(
            APPLY,
            event("patch", "configmaps", name="a"),
            ["create configmaps in tools"],
            id="apply again -> patch alone",
        ),
        pytest.param(GET, event("get", "configmaps", name="a", code=404), [], id="not found -> used"),
        pytest.param(GET, {"verb": "get", "user": {"username": BOT.user}}, ["get configmaps in tools"], id="no object"),
    ],
)
def test_what_counts_as_use(given: Event, seen: Event, left: list[str]) -> None:
    found = against(in_namespace(given), seen)
    assert unused(found) == left
    assert missing(found) == []


def test_rights_in_all_namespaces_are_used_in_any() -> None:
    everywhere = [role("ClusterRole", "bot", rule(["list"], "pods"), rule(["get"], "namespaces"))]
    everywhere.append(binding("ClusterRoleBinding", "ClusterRole", "bot"))
    seen = event("list", "pods", namespace="other"), event("get", "namespaces", name="x", namespace="x")
    assert unused(against(everywhere, *seen)) == []


def test_a_request_that_was_refused_for_want_of_a_right_is_told() -> None:
    words = (
        'secrets "a" is forbidden: User "system:serviceaccount:tools:bot" cannot delete resource "secrets" '
        'in API group "" in the namespace "tools"'
    )
    found = against(in_namespace(GET), event("delete", "secrets", name="a", code=403, message=words))
    assert found.missing == (Right("delete", "", "secrets", "a", "tools"),)
    assert (
        str(found) == "granted and not used: get configmaps in tools\nneeded and not granted: delete secrets a in tools"
    )


def test_apply_that_may_patch_but_not_create_misses_create() -> None:
    words = (
        'configmaps "a" is forbidden: User "system:serviceaccount:tools:bot" cannot create resource "configmaps" '
        'in API group "" in the namespace "tools"'
    )
    seen = event("patch", "configmaps", name="a", code=403, message=words)
    assert missing(against(in_namespace(GET), seen)) == ["create configmaps a in tools"]


@pytest.mark.parametrize(
    "words",
    [
        pytest.param('pods "a" is forbidden: exceeded quota: envprov, requested: pods=1', id="quota"),
        pytest.param('pods "a" is forbidden: violates PodSecurity "restricted:latest"', id="Pod Security"),
        pytest.param(
            'configmaps "a" is forbidden: unable to create new content in namespace tools because it is being '
            "terminated",
            id="terminating namespace",
        ),
        pytest.param("ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no", id="policy"),
    ],
)
def test_other_refusals_miss_no_right(words: str) -> None:
    found = against(in_namespace(GET), event("create", "pods", name="a", code=403, message=words))
    assert missing(found) == []


def test_a_right_that_had_not_arrived_yet_is_not_missing() -> None:
    words = (
        'configmaps "a" is forbidden: User "system:serviceaccount:tools:bot" cannot get resource "configmaps" '
        'in API group "" in the namespace "tools"'
    )
    found = against(in_namespace(GET), event("get", "configmaps", name="a", code=403, message=words))
    assert found.missing == ()
    assert found.early == (Right("get", "", "configmaps", "a", "tools"),)
    assert unused(found) == ["get configmaps in tools"]


# --- Impersonation and binding


def test_who_impersonates_uses_that_right_and_no_other() -> None:
    given = in_namespace(rule(["impersonate"], "serviceaccounts", "installer"), GET)
    seen = event("get", "configmaps", name="a", impersonating="system:serviceaccount:tools:installer")
    assert unused(against(given, seen)) == ["get configmaps in tools"]


def test_a_refused_impersonation_is_told() -> None:
    words = (
        'groups "admins" is forbidden: User "system:serviceaccount:tools:bot" cannot impersonate resource "groups" '
        'in API group "" at the cluster scope'
    )
    found = against(in_namespace(GET), event("get", "configmaps", code=403, message=words))
    assert missing(found) == ["impersonate groups admins"]


CONTROLLER = [
    role(
        "ClusterRole",
        "bot",
        rule(["bind"], "clusterroles", "envprov-env-controller", group=RBAC),
        rule(["patch"], "rolebindings", "envprov-controller", group=RBAC),
    ),
    binding("ClusterRoleBinding", "ClusterRole", "bot"),
    role(
        "ClusterRole", "envprov-env-controller", rule(["list"], "secrets"), rule(["bind"], "clusterroles", group=RBAC)
    ),
]


def test_a_binding_of_ours_tells_which_role_was_bound() -> None:
    seen = event("patch", "rolebindings", apiGroup=RBAC, name="envprov-controller", namespace="env-a")
    assert unused(against(CONTROLLER, seen)) == ["list secrets in env-*"]
    other = event("patch", "rolebindings", apiGroup=RBAC, name="envprov-access-edit-0123abcd", namespace="env-a")
    assert "bind clusterroles.rbac.authorization.k8s.io in env-*" not in unused(against(CONTROLLER, other))


def test_rights_that_the_controller_binds_itself_are_those_of_environments() -> None:
    inside = event("list", "secrets", namespace="env-a")
    outside = event("list", "secrets", namespace="kube-system")
    assert "list secrets in env-*" not in unused(against(CONTROLLER, inside))
    assert "list secrets in env-*" in unused(against(CONTROLLER, outside))


def test_who_may_not_bind_a_role_does_not_get_it() -> None:
    nobody = [*in_namespace(GET), CONTROLLER[2]]
    assert unused(against(nobody)) == ["get configmaps in tools"]


def test_a_binding_that_would_escalate_is_told() -> None:
    words = 'rolebindings "x" is forbidden: user "bot" is attempting to grant RBAC permissions not currently held:\n{}'
    seen = event("patch", "rolebindings", apiGroup=RBAC, name="x", namespace="tools", code=403, message=words)
    assert missing(against(in_namespace(GET), seen)) == ["bind clusterroles.rbac.authorization.k8s.io of x in tools"]
