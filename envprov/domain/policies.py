"""
The guard's admission policies: what the API server itself refuses, whether envprov runs or not.

Whether an object may be deleted is decided from that object alone, which the API server reads again inside the
transaction that deletes it. There are no parameters, no selectors and no names of resources in the rules: caches lag,
and the deletion of a whole collection carries no names. The Namespace of an object, which comes from a cache, decides
only where it need not be newer than the request.

Source: https://kubernetes.io/docs/reference/access-authn-authz/validating-admission-policy/
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from envprov.domain.cel import (
    SHOWN,
    changed_keys,
    field,
    field_pattern,
    is_labelled,
    least,
    maps,
    may,
    more,
    names_uid,
    same,
    same_keys,
    subject,
)
from envprov.domain.environment import BRANCH, GROUP
from envprov.domain.guard import DELETE_WITH_LAST_USER
from envprov.domain.holds import FENCED, FORCED, GUARD, POLICY, PREFIX, RELEASED, SHARED
from envprov.domain.names import NAMESPACE_PREFIX
from envprov.domain.objects import OWNER, PROJECT

Manifest = dict[str, Any]

DELETE_GUARD = "envprov-delete-guard"
HOLD_INTEGRITY = "envprov-hold-integrity"
FENCE = "envprov-fence"
SELF_LIMIT = "envprov-self-limit"

REAPPLIED = (DELETE_GUARD, HOLD_INTEGRITY, FENCE)
"""What the controller may put back. A limit on oneself that one can put in place, one can also lift."""

MARK = "envprov guard:"
"""How every refusal begins, after what the API server says of the policy."""
CANARY = "guard-canary"
"""ServiceAccount in the control namespace by which the controller finds out whether the policies are in force."""
RESERVED = f"{GROUP}/"
"""Prefix of labels and annotations that only those may change who may manage holds."""
RECORD = f"{GROUP}/record"
"""Label of the ConfigMaps that the controller keeps in the control namespace."""

HOLDS = "holds", GROUP
"""Resource and group of the verbs that only the policies know: manage and override."""

_API = "admissionregistration.k8s.io/v1"
_CORE = ""
_RBAC = "rbac.authorization.k8s.io"
_READABLE = 1000
"""Longest value of a hold that is read, in characters; ours have at most 400 bytes."""
_AUDITED = 8000
"""Most characters of holds in the audit log; the API server itself cuts off at 10 KiB."""


def policies(account: str) -> tuple[Manifest, ...]:
    """
    The four policies, each followed by its binding, with the API server's defaults written out.

    Args:
        account: Name of the controller's own ServiceAccount. Its namespace is not asked for: every ServiceAccount of
            this name is limited, so that an installation elsewhere cannot miss its limits.

    Returns:
        Manifests of cluster-wide objects; a live object that was applied from one differs in nothing from it.

    """
    return (*_delete_guard(), *_hold_integrity(), *_fence(), *_self_limit(account))


def _delete_guard() -> tuple[Manifest, Manifest]:
    holds = f"k.startsWith('{PREFIX}')"
    return _policy(
        DELETE_GUARD,
        rules=[_rule(_CORE, ["serviceaccounts", "namespaces"], ["DELETE"])],
        conditions={
            "not-terminating-yet": "!has(oldObject.metadata.deletionTimestamp)",
            "guarded-or-held": f"""
(has(oldObject.metadata.annotations) && oldObject.metadata.annotations.exists(k, {holds}))
|| (has(oldObject.metadata.labels) && '{GUARD}' in oldObject.metadata.labels)""",
        },
        variables={
            **maps("oldObject", "annotations", "labels"),
            **subject("oldObject"),
            "guard": f"'{GUARD}' in variables.labels ? variables.labels['{GUARD}'] : ''",
            "isGuarded": f"'{GUARD}' in variables.labels",
            "isReleased": names_uid(RELEASED),
            # system:masters passes every check of a right: the annotation is what it cannot have by accident.
            "isForced": f"""
{names_uid(FORCED)}
&& {may("override", *HOLDS)}""",
            "holds": f"variables.annotations.filter(k, {holds})",
            "dated": f"""
variables.holds.map(k,
  [size(variables.annotations[k]) <= {_READABLE} ? variables.annotations[k].find({field_pattern("since")}) : '']
  .map(since, since == '' ? '~ ' + k : since + ' ' + k)[0])""",
            **least("dated", "oldest"),
            "holders": f"""
variables.oldest{SHOWN}.map(d, d.substring(d.lastIndexOf(' ') + 1)).map(k,
  [size(variables.annotations[k]) <= {_READABLE} ? variables.annotations[k] : ''].map(v,
    [[
      {field("v", "kind")},
      {field("v", "by")},
      {field("v", "since")}
    ]].map(f, f[0] == '' || f[1] == '' ? k : f[0] + ' ' + f[1] + (f[2] == '' ? '' : ' since ' + f[2]))[0])[0])""",
            "branch": f"""
'{BRANCH}' in variables.annotations && !variables.annotations['{BRANCH}'].matches(r'\\pC')
? variables.annotations['{BRANCH}'] : ''""",
            # For a shell: somebody will copy it.
            "quoted": r"""
variables.branch.matches(r'^[A-Za-z0-9_./+=:@%-]+$') ? variables.branch
: "'" + variables.branch.replace("'", r"'\''") + "'" """,
            "wayOut": f"""
variables.isNamespace && variables.guard == 'env' && variables.branch != ''
? 'is the environment of a branch; to take it down, run: envprov down ' + variables.quoted
  + ('{PROJECT}' in variables.labels ? ' --project ' + variables.labels['{PROJECT}'] : '')
: !variables.isNamespace && variables.guard == '{SHARED}'
? 'is shared and was not released; if nobody needs it any more, run: envprov guard release ' + variables.path
: 'is guarded and was not released; to see why, run: envprov guard explain ' + variables.path""",
        },
        validations=[
            _validation(
                "variables.isForced || size(variables.holds) == 0",
                "it is held by others; to see by whom, run: envprov guard explain",
                f"""
'{MARK} ' + variables.subject + ' is held by ' + variables.holders.join(', ') + {more("holds")}
+ '; to see why, and what can be done, run: envprov guard explain ' + variables.path""",
            ),
            _validation(
                "variables.isForced || !variables.isGuarded || variables.isReleased",
                "it is guarded and was not released; to see why, run: envprov guard explain",
                f"'{MARK} ' + variables.subject + ' ' + variables.wayOut",
            ),
        ],
        # No right can be checked here: the API server would refuse everything.
        audit={
            "holds-at-delete": f"""
[request.userInfo.username + ' deletes ' + variables.subject + ', uid ' + oldObject.metadata.uid
+ ', guard ' + (variables.isGuarded ? '"' + variables.guard + '"' : 'none')
+ ', ' + (variables.isReleased ? 'released' : 'not released')
+ ', holds ' + string(size(variables.holds)) + ': '
+ variables.holds.map(k, k + '=' + variables.annotations[k]).join(', ')]
.map(t, size(t) > {_AUDITED} ? t.substring(0, {_AUDITED}) : t)[0]""",
        },
    )


def _hold_integrity() -> tuple[Manifest, Manifest]:
    reserved = {
        "annotations": f"(k.startsWith('{PREFIX}') || k.startsWith('{RESERVED}'))",
        "labels": f"k.startsWith('{RESERVED}')",
    }
    involved = "\n  || ".join(
        f"(has(o.metadata.{kind}) && o.metadata.{kind}.exists(k, {test}))" for kind, test in reserved.items()
    )
    return _policy(
        HOLD_INTEGRITY,
        # Labels and annotations can be changed through the subresources too.
        rules=[
            _rule(_CORE, ["serviceaccounts", "namespaces"], ["CREATE", "UPDATE"]),
            _rule(_CORE, ["namespaces/status", "namespaces/finalize"], ["UPDATE"]),
        ],
        conditions={
            # Never in the way of what is on its way out: a namespace whose finalization is refused stays for ever.
            "not-terminating": "oldObject == null || !has(oldObject.metadata.deletionTimestamp)",
            "guard-metadata-involved": f"(oldObject == null ? [object] : [oldObject, object]).exists(o,\n  {involved})",
        },
        variables={
            **maps("object", "annotations", "labels"),
            **maps("oldObject", "annotations", "labels", prefix="old"),
            **subject("object"),
            "changed": "\n+ ".join(changed_keys(kind, test) for kind, test in reserved.items()),
            **least("changed", "shown"),
        },
        validations=[
            _validation(
                f"size(variables.changed) == 0 || {may('manage', *HOLDS)}",
                f"annotations and labels of {GROUP} are changed only with the verb manage on holds.{GROUP}",
                f"""
'{MARK} ' + request.userInfo.username + ' may not change ' + variables.shown{SHOWN}.join(', ') + {more("changed")}
+ ' of ' + variables.subject + ': annotations and labels of {GROUP} are changed only with the verb manage on '
+ 'holds.{GROUP}; leave them as they are, and out of charts and manifests'""",
            )
        ],
    )


def _fence() -> tuple[Manifest, Manifest]:
    return _policy(
        FENCE,
        rules=[_rule(_CORE, ["pods", "serviceaccounts/token"], ["CREATE"])],
        # There is no Namespace to look at in conditions.
        variables={
            "fenced": f"""
has(namespaceObject.metadata.annotations) && '{FENCED}' in namespaceObject.metadata.annotations
? namespaceObject.metadata.annotations['{FENCED}'].split(',') : []""",
            "account": """
request.resource.resource == 'serviceaccounts' ? request.name
: has(object.spec.serviceAccountName) && object.spec.serviceAccountName != '' ? object.spec.serviceAccountName
: 'default'""",
        },
        validations=[
            _validation(
                "!(variables.account in variables.fenced)",
                "the ServiceAccount is being retired and gets no new pods and no new tokens",
                f"""
'{MARK} ServiceAccount ' + request.namespace + '/' + variables.account + ' is being retired and gets no new pods and '
+ 'no new tokens; to see why, run: envprov guard explain ' + request.namespace + '/' + variables.account""",
            )
        ],
    )


def _self_limit(account: str) -> tuple[Manifest, Manifest]:
    who = f"ServiceAccounts named {account} are taken for controllers of envprov, which"
    reserved = f"k.startsWith('{PREFIX}') || k.startsWith('{RESERVED}')"
    return _policy(
        SELF_LIMIT,
        rules=[
            _rule(_CORE, ["namespaces", "serviceaccounts"], ["CREATE", "UPDATE", "DELETE"]),
            _rule(_CORE, ["namespaces/status", "namespaces/finalize", "configmaps"], ["UPDATE"]),
            _rule(_CORE, ["serviceaccounts/token"], ["CREATE"]),
            _rule(_RBAC, ["roles", "rolebindings"], ["CREATE", "UPDATE", "DELETE"]),
        ],
        conditions={
            "is-controller": f"request.userInfo.username.matches('^system:serviceaccount:[^:]+:{account}$')",
        },
        variables={
            "control": "request.userInfo.username.split(':')[2]",
            "isNamespace": "request.resource.resource == 'namespaces'",
            "isAccount": "request.resource.resource == 'serviceaccounts' && !has(request.subResource)",
            # A Namespace that the cache has not seen yet is read live, so a fresh one is known by its first object.
            "isInside": f"!variables.isNamespace && {_own('namespaceObject')}",
            "wasOwn": f"oldObject != null && {_own('oldObject')}",
            "staysOwn": f"object != null && {_own('object')}",
            "wasGuarded": f"oldObject != null && {is_labelled('oldObject', GUARD, 'env')}",
            "staysGuarded": f"object != null && {is_labelled('object', GUARD, 'env')}",
            **maps("object", "annotations", "labels"),
            **maps("oldObject", "annotations", "labels", prefix="old"),
            "onlyHolds": f"""
variables.labels == variables.oldLabels
&& {same_keys("annotations", f"k.startsWith('{PREFIX}')", removable=RELEASED)}
&& {same("metadata.finalizers")}
&& {same("metadata.ownerReferences")}
&& {same("spec")}""",
            "onlyGuard": f"""
{same_keys("annotations", reserved)}
&& {same_keys("labels", reserved)}
&& {same("metadata.finalizers")}
&& (has(object.metadata.ownerReferences) ? object.metadata.ownerReferences : [])
  .all(r, has(oldObject.metadata.ownerReferences) && r in oldObject.metadata.ownerReferences)
&& {same("secrets")}
&& {same("imagePullSecrets")}
&& {same("automountServiceAccountToken")}""",
            "hasLostLastUser": f"""
{is_labelled("oldObject", GUARD, SHARED)}
&& {names_uid(RELEASED, "oldAnnotations")}
&& '{POLICY}' in variables.oldAnnotations && variables.oldAnnotations['{POLICY}'] == '{DELETE_WITH_LAST_USER}'""",
        },
        validations=[
            _validation(
                """
!variables.isNamespace || (!has(request.subResource) && (
  request.operation == 'CREATE' ? variables.staysOwn && variables.staysGuarded
  : request.operation == 'DELETE' ? variables.wasOwn
  : variables.wasOwn ? variables.staysOwn && (variables.staysGuarded || !variables.wasGuarded)
  : variables.onlyHolds))""",
                f"{who} make, change and delete the Namespaces of their own environments; on others they only put and "
                "take holds",
            ),
            _validation(
                f"""
!variables.isAccount || variables.isInside || (
  request.operation == 'CREATE' ? {_is_canary("object")}
  : request.operation == 'DELETE' ? variables.hasLostLastUser || {_is_canary("oldObject")}
  : variables.onlyGuard)""",
                f"{who} only put and take holds on ServiceAccounts outside their environments, take away their "
                "ownerReferences, and delete those that were released and go with their last user",
            ),
            _validation(
                """
variables.isInside || !(request.resource.resource in ['roles', 'rolebindings']
  || has(request.subResource) && request.subResource == 'token')""",
                f"{who} change roles and make tokens only in their own environments",
            ),
            _validation(
                f"""
request.resource.resource != 'configmaps' || variables.isInside
|| (has(oldObject.metadata.labels) && '{RECORD}' in oldObject.metadata.labels)""",
                f"{who} change only those ConfigMaps that are their records, and not their own settings",
            ),
        ],
    )


def _own(of: str) -> str:
    """Whether a Namespace belongs to an environment of the controller that asks; hold-integrity keeps what says so."""
    return f"""{of}.metadata.name.startsWith('{NAMESPACE_PREFIX}')
&& has({of}.metadata.annotations) && '{OWNER}' in {of}.metadata.annotations
&& {of}.metadata.annotations['{OWNER}'].startsWith(variables.control + '/')"""


def _is_canary(of: str) -> str:
    return f"request.namespace == variables.control && {of}.metadata.name == '{CANARY}'"


# --- Manifests


def _policy(  # noqa: PLR0913 - the parts of a policy, by their names
    name: str,
    *,
    rules: list[Manifest],
    variables: Mapping[str, str],
    validations: list[Manifest],
    conditions: Mapping[str, str] | None = None,
    audit: Mapping[str, str] | None = None,
) -> tuple[Manifest, Manifest]:
    metadata = {"name": name, "labels": {"app.kubernetes.io/name": "envprov", "app.kubernetes.io/component": "guard"}}
    spec: Manifest = {
        "failurePolicy": "Fail",
        "matchConstraints": {
            "matchPolicy": "Equivalent",
            "namespaceSelector": {},
            "objectSelector": {},
            "resourceRules": rules,
        },
        "matchConditions": _named(conditions or {}),
        "variables": _named(variables),
        "validations": validations,
        "auditAnnotations": [
            {"key": key, "valueExpression": expression.strip()} for key, expression in (audit or {}).items()
        ],
    }
    actions = ["Deny", "Audit"] if audit else ["Deny"]
    return (
        {
            "apiVersion": _API,
            "kind": "ValidatingAdmissionPolicy",
            "metadata": metadata,
            "spec": {key: value for key, value in spec.items() if value != []},
        },
        {
            "apiVersion": _API,
            "kind": "ValidatingAdmissionPolicyBinding",
            "metadata": metadata,
            "spec": {"policyName": name, "validationActions": actions},
        },
    )


def _rule(group: str, resources: list[str], operations: list[str]) -> Manifest:
    return {
        "apiGroups": [group],
        "apiVersions": ["*"],
        "resources": resources,
        "operations": operations,
        "scope": "*",
    }


def _named(expressions: Mapping[str, str]) -> list[Manifest]:
    return [{"name": name, "expression": expression.strip()} for name, expression in expressions.items()]


def _validation(expression: str, message: str, message_expression: str = "") -> Manifest:
    """One validation; its plain message is for the case that the other one cannot be computed."""
    built = {"messageExpression": message_expression.strip()} if message_expression else {}
    return {"expression": expression.strip(), "message": f"{MARK} {message}", **built, "reason": "Forbidden"}
