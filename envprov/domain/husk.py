"""What stays in a husk: the ServiceAccounts that others use, and what makes them work."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from envprov.domain.claims import TOKEN_TYPE
from envprov.domain.objects import OWN_ACCESS
from envprov.domain.observed import Manifest
from envprov.domain.release import SECRET_TYPE

_STAYS = frozenset(
    {
        "Event",  # goes by itself
        "Lease",  # locks of whoever still works here, ours among them
        "LimitRange",
        "NetworkPolicy",
        "ResourceQuota",
    }
)
_MADE_BY_CONTROLLERS = frozenset({"Endpoints", "EndpointSlice", "ControllerRevision", "PodMetrics"})
_ROOT_CERTIFICATE = "kube-root-ca.crt"


def leftovers(
    others: Iterable[Manifest], kept: frozenset[str], tools: frozenset[str], *, data_stays: bool = False
) -> tuple[Manifest, ...]:
    """
    What a husk loses.

    Args:
        others: Everything in the namespace, each with apiVersion, kind and metadata; of RoleBindings the subjects and
            the roleRef too, of Secrets the type, of ServiceAccounts the Secrets they name.
        kept: Names of the ServiceAccounts that others use.
        tools: Names of the ServiceAccounts that the teardown itself works as, hooks of its end among them.
        data_stays: Whether ConfigMaps and Secrets stay, for those hooks.

    Returns:
        Objects to be deleted. Not among them: kept ServiceAccounts with their Roles, RoleBindings, token Secrets and
        pull Secrets; Helm's record of the release, for the hooks of its end; limits and NetworkPolicies.

    """
    everything = tuple(others)
    accounts = {*kept, *tools, "default"}
    bindings = [item for item in everything if item["kind"] == "RoleBinding" and _binds(item, kept | tools)]
    roles = {item["roleRef"]["name"] for item in bindings if item.get("roleRef", {}).get("kind") == "Role"}
    secrets = {
        name
        for item in everything
        if item["kind"] == "ServiceAccount" and item["metadata"]["name"] in kept
        for name in _secrets_of(item)
    }
    own_bindings = {item["metadata"]["name"] for item in bindings} | {OWN_ACCESS}

    def stays(item: Manifest) -> bool:
        kind, name = item["kind"], item["metadata"]["name"]
        names = {"ServiceAccount": accounts, "RoleBinding": own_bindings, "Role": roles, "Secret": secrets}
        if kind in _STAYS or kind in _MADE_BY_CONTROLLERS or name in names.get(kind, ()):
            return True
        if kind in {"ConfigMap", "Secret"} and data_stays:
            return True
        return bool((kind, name) == ("ConfigMap", _ROOT_CERTIFICATE)) or (
            kind == "Secret" and _is_token_or_release(item, kept)
        )

    return tuple(item for item in everything if not stays(item) and "deletionTimestamp" not in item["metadata"])


def _binds(binding: Manifest, names: frozenset[str]) -> bool:
    namespace = binding["metadata"]["namespace"]
    users = {f"system:serviceaccount:{namespace}:{name}" for name in names}
    for subject in binding.get("subjects") or ():
        match subject.get("kind"), subject.get("name"):
            case "ServiceAccount", name if subject.get("namespace", namespace) == namespace and name in names:
                return True
            case "User", name if name in users:
                return True
            case "Group", name if name == f"system:serviceaccounts:{namespace}":
                return True
            case _:
                pass
    return False


def _secrets_of(account: dict[str, Any] | Manifest) -> set[str]:
    named = (*(account.get("secrets") or ()), *(account.get("imagePullSecrets") or ()))
    return {entry["name"] for entry in named if "name" in entry}


def _is_token_or_release(secret: Manifest, kept: frozenset[str]) -> bool:
    if secret.get("type") == SECRET_TYPE:
        return True
    notes = secret["metadata"].get("annotations", {})
    return secret.get("type") == TOKEN_TYPE and notes.get("kubernetes.io/service-account.name") in kept
