"""
Which rights cover which others, by the rules of RBAC: what a Role grants, and what one must have to grant it.

Source: https://kubernetes.io/docs/reference/access-authn-authz/rbac/#privilege-escalation-prevention-and-bootstrapping
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from envprov.domain.loose import mappings, text, texts

Manifest = Mapping[str, Any]

GROUP = "rbac.authorization.k8s.io"
ALL = "*"
RIGHTS_LIMIT = 10_000
"""Single rights of one role that are looked at; a rule multiplies groups, resources, verbs and names."""


class TooManyRights(Exception):
    """A role has more single rights than are looked at."""


@dataclass(frozen=True, order=True)
class Right:
    """
    The smallest thing that a rule grants.

    Attributes:
        verb: Verb, or ``*``.
        group: API group, or ``*``.
        resource: Plural, with a subresource behind a slash if there is one; or ``*``.
        name: The one object; empty for all.
        url: Path outside resources; all but the verb is empty then.

    """

    verb: str
    group: str = ""
    resource: str = ""
    name: str = ""
    url: str = ""

    def __str__(self) -> str:
        if self.url:
            return f"{self.verb} {self.url}"
        what = f"{self.resource}.{self.group}" if self.group else self.resource
        return f"{self.verb} {what} {self.name}".rstrip()


@dataclass(frozen=True)
class Rule:
    """
    One rule of a role.

    Attributes:
        verbs: May be ``*``.
        groups: API groups; may be ``*``.
        resources: Plurals; may be ``*``, ``pods/log`` or ``*/scale``.
        names: Objects; empty for all.
        urls: Paths outside resources; may end with ``*``.

    """

    verbs: tuple[str, ...]
    groups: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    urls: tuple[str, ...] = ()

    def covers(self, right: Right) -> bool:
        """
        Whether who has this rule has that right, too.

        Source: k8s.io/component-helpers/auth/rbac/validation, ``Covers``
        """
        if ALL not in self.verbs and right.verb not in self.verbs:
            return False
        if right.url:
            return not self.names and any(_covers_url(url, right.url) for url in self.urls)
        return (
            (ALL in self.groups or right.group in self.groups)
            and self._covers_resource(right.resource)
            and (not self.names or right.name in self.names)
        )

    def _covers_resource(self, resource: str) -> bool:
        if ALL in self.resources or resource in self.resources:
            return True
        _, slash, subresource = resource.partition("/")
        return bool(slash) and f"{ALL}/{subresource}" in self.resources

    def rights(self) -> Iterator[Right]:
        """Every single right, one by one; there may be very many."""
        for group in self.groups:
            for resource in self.resources:
                for verb in self.verbs:
                    for name in self.names or ("",):
                        yield Right(verb, group, resource, name)
        for url in self.urls:
            for verb in self.verbs:
                yield Right(verb, url=url)


Rules = tuple[Rule, ...]


def read_rules(given: object) -> Rules:
    """
    Read the rules of a role.

    Args:
        given: The list ``rules``; what is not a rule grants nothing.

    """
    return tuple(
        Rule(
            texts(item.get("verbs")),
            texts(item.get("apiGroups")),
            texts(item.get("resources")),
            texts(item.get("resourceNames")),
            texts(item.get("nonResourceURLs")),
        )
        for item in mappings(given)
    )


def missing(owned: Iterable[Rule], granted: Iterable[Rule]) -> tuple[Right, ...]:
    """
    What one would grant without having it.

    Args:
        owned: Rules that one has oneself.
        granted: Rules that one is about to grant.

    Returns:
        Single rights, each once, in the order of the rules.

    Raises:
        TooManyRights: *granted* is larger than what is looked at.

    """
    having = tuple(owned)
    rights = tuple(islice((right for rule in granted for right in rule.rights()), RIGHTS_LIMIT + 1))
    if len(rights) > RIGHTS_LIMIT:
        raise TooManyRights
    return tuple(dict.fromkeys(right for right in rights if not any(rule.covers(right) for rule in having)))


def allows(owned: Iterable[Rule], verb: str, group: str, resource: str, name: str = "") -> bool:
    """
    Whether rules allow one request.

    Args:
        owned: The rules.
        verb: As RBAC spells it.
        group: API group; empty for the core group.
        resource: Plural, with a subresource behind a slash if there is one.
        name: Object; empty if the request names none.

    """
    right = Right(verb, group, resource, name)
    return any(rule.covers(right) for rule in owned)


def _covers_url(owned: str, url: str) -> bool:
    return owned == url or (owned.endswith(ALL) and url.startswith(owned.rstrip(ALL)))


def binds(binding: Manifest, namespace: str, account: str) -> bool:
    """
    Whether a RoleBinding or ClusterRoleBinding grants anything to a ServiceAccount: by name, or by a group of all.

    Args:
        binding: The binding.
        namespace: Of the ServiceAccount.
        account: Its name.

    Source: https://kubernetes.io/docs/reference/access-authn-authz/rbac/#referring-to-subjects
    """
    named = {"kind": "ServiceAccount", "namespace": namespace, "name": account}.items()
    among = {
        ("Group", "system:authenticated"),
        ("Group", "system:serviceaccounts"),
        ("Group", f"system:serviceaccounts:{namespace}"),
        ("User", f"system:serviceaccount:{namespace}:{account}"),
    }
    return any(
        subject.items() >= named or (text(subject.get("kind")), text(subject.get("name"))) in among
        for subject in mappings(binding.get("subjects"))
    )
