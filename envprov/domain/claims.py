"""Who uses which ServiceAccount: claims, collected page by page from the API server's own listings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, NamedTuple

from envprov.domain.custom import Custom, fields_of, references
from envprov.domain.holds import Account, Holder
from envprov.domain.loose import Manifest, mapping, mappings, moment, text, texts, within
from envprov.domain.usage import EVERY, Claim, Strength, Usage

SOURCES: tuple[tuple[str, str], ...] = (
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
"""apiVersion and kind of what must be listed in all namespaces; without one of them the graph is incomplete."""
RELEASE = "HelmRelease"
"""Kind of the holder that stands for a Helm release."""
RECENT = timedelta(days=30)
"""A token of a Secret that was used within this time is in use."""
IDENTITIES: Mapping[str, str] = {
    "iam.gke.io/gcp-service-account": "GoogleServiceAccount",
    "eks.amazonaws.com/role-arn": "AWSRole",
    "azure.workload.identity/client-id": "AzureClient",
    "vault.hashicorp.com/role": "VaultRole",
}
"""Annotations by which something outside the cluster trusts an account, and what kind of holder that is."""

_USER = "system:serviceaccount:"
_GROUP = "system:serviceaccounts:"
TOKEN_TYPE = "kubernetes.io/service-account-token"  # noqa: S105 - a type, not a token
_TOKEN_OF = "kubernetes.io/service-account.name"  # noqa: S105 - an annotation
_TOKEN_OF_UID = "kubernetes.io/service-account.uid"  # noqa: S105 - an annotation
_TOKEN_USED = "kubernetes.io/legacy-token-last-used"  # noqa: S105 - a label
_RELEASE_NAME = "meta.helm.sh/release-name"
_RELEASE_NAMESPACE = "meta.helm.sh/release-namespace"
_NODE = "Node"


@dataclass(frozen=True)
class Conflict:
    """A ServiceAccount that several Helm releases have in their manifests: the first to go takes it along."""

    account: Account
    releases: tuple[Holder, ...]

    def __str__(self) -> str:
        owners = ", ".join(f"{release.namespace}/{release.name}" for release in self.releases)
        return f"ServiceAccount {self.account} is owned by {len(self.releases)} Helm releases: {owners}"


class _Node(NamedTuple):
    """An object that may use an account, with the controller that made it."""

    holder: Holder
    owner: Holder | None
    since: datetime | None


class _Edge(NamedTuple):
    account: Account
    node: _Node
    strength: Strength
    how: str
    uid: str = ""
    """The account must have this UID, if it is known."""


class _Binding(NamedTuple):
    node: _Node
    role: tuple[str, str]


class Collector:
    """
    Collects claims page by page, in any order of kinds.

    Args:
        now: The time at which the listings are made; aware.

    """

    def __init__(self, now: datetime) -> None:
        self._now = now
        self._nodes: dict[str, _Node] = {}
        self._edges: list[_Edge] = []
        self._accounts: dict[Account, str] = {}
        self._bindings: list[_Binding] = []
        self._actors: dict[str, set[tuple[str, str]]] = {}
        self._customs: dict[tuple[str, str], Custom] = {}

    @property
    def customs(self) -> tuple[Custom, ...]:
        """Custom resources to be listed, as the CustomResourceDefinitions that were added say."""
        return tuple(self._customs[key] for key in sorted(self._customs))

    def add(self, kind: str, items: Iterable[Manifest]) -> None:
        """
        Take in one page of objects of a built-in kind.

        Args:
            kind: One of those in ``SOURCES``.
            items: The objects; weird ones claim nothing and raise nothing.

        """
        take = {
            "Pod": self._add_pod,
            "CronJob": self._add_cron_job,
            "Job": self._add_job,
            "RoleBinding": self._add_binding,
            "ClusterRoleBinding": self._add_binding,
            "Role": self._add_role,
            "ClusterRole": self._add_cluster_role,
            "ServiceAccount": self._add_account,
            "CustomResourceDefinition": self._add_definition,
        }.get(kind, self._add_workload)
        for item in items:
            if isinstance(item, Mapping):
                take(kind, item)

    def add_custom(self, custom: Custom, items: Iterable[Manifest]) -> None:
        """Take in one page of custom resources of a kind that ``customs`` names."""
        for item in items:
            node = self._node(custom.kind, item)
            for account, field in references(custom, item):
                self._claim(account, node, Strength.LIVE, field)

    def add_secrets(self, namespace: str, items: Iterable[Manifest]) -> None:
        """
        Take in the Secrets of a namespace, of which those count that hold a token of a ServiceAccount.

        Args:
            namespace: Their namespace.
            items: With or without data; metadata alone is enough.

        """
        for item in items:
            metadata = within(item, "metadata")
            notes = within(metadata, "annotations")
            if mapping(item).get("type", TOKEN_TYPE) != TOKEN_TYPE:
                continue
            node = _Node(_holder("Secret", metadata, namespace), None, moment(metadata.get("creationTimestamp")))
            used = text(within(metadata, "labels").get(_TOKEN_USED))
            strength = Strength.LIVE if self._is_recent(used) else Strength.LATENT
            how = f"token, last used on {used}" if used else "token, not known to have been used"
            account = Account(namespace, text(notes.get(_TOKEN_OF)))
            self._claim(account, node, strength, how, text(notes.get(_TOKEN_OF_UID)))

    def add_release(self, namespace: str, name: str, objects: Iterable[Manifest]) -> None:
        """
        Take in a Helm release.

        Args:
            namespace: Of the release.
            name: Of the release.
            objects: What its stored manifest contains, decoded.

        """
        node = _Node(Holder(RELEASE, namespace, name), None, None)
        for item in objects:
            if mapping(item).get("kind") == "ServiceAccount":
                metadata = within(item, "metadata")
                account = Account(text(metadata.get("namespace")) or namespace, text(metadata.get("name")))
                self._claim(account, node, Strength.OWNER, "in its manifest")

    def finish(self, faults: Iterable[str] = (), notes: Iterable[str] = ()) -> Usage:
        """
        The graph: every claim by its outermost owner.

        Args:
            faults: Required listings that failed, each with what to do.
            notes: What was looked at only in part.

        """
        found: dict[tuple[Account, Holder, Strength], tuple[bool, Claim]] = {}
        for edge in (*self._edges, *self._acting()):
            if edge.uid and (self._accounts.get(edge.account) or edge.uid) != edge.uid:
                continue  # a token of another account that had this name
            node = self._outermost(edge.node)
            key = (edge.account, node.holder, edge.strength)
            claim = Claim(edge.account, node.holder, edge.strength, edge.how, node.since)
            indirect = node is not edge.node
            known = found.get(key)
            if known is None or (indirect, claim.how) < (known[0], known[1].how):
                found[key] = (indirect, claim)
        claims: dict[Account, list[Claim]] = {}
        for (account, holder, strength), (_, claim) in found.items():
            if strength is Strength.LATENT and (account, holder, Strength.LIVE) in found:
                continue
            claims.setdefault(account, []).append(claim)
        order = tuple(Strength)
        return Usage(
            {
                account: tuple(sorted(claims[account], key=lambda claim: (order.index(claim.strength), claim.holder)))
                for account in sorted(claims)
            },
            tuple(faults),
            tuple(notes),
        )

    def _add_pod(self, kind: str, item: Manifest) -> None:
        spec = item.get("spec")
        node = self._node(kind, item)
        if isinstance(spec, Mapping) and within(item, "status").get("phase") not in {"Succeeded", "Failed"}:
            self._use(node, spec, "spec", Strength.LIVE)
            if node.owner is None:
                self._trust(node, spec, within(item, "metadata"))

    def _add_workload(self, kind: str, item: Manifest) -> None:
        spec = within(item, "spec")
        strength = Strength.LATENT if spec.get("replicas") == 0 else Strength.LIVE
        self._add_template(self._node(kind, item), within(spec, "template"), "spec.template", strength)

    def _add_job(self, kind: str, item: Manifest) -> None:
        spec, node = within(item, "spec"), self._node(kind, item)
        conditions = mappings(within(item, "status").get("conditions"))
        if not any(
            entry.get("type") in {"Complete", "Failed"} and entry.get("status") == "True" for entry in conditions
        ):
            self._add_template(node, within(spec, "template"), "spec.template", _unless_suspended(spec))

    def _add_cron_job(self, kind: str, item: Manifest) -> None:
        spec = within(item, "spec")
        template = within(spec, "jobTemplate", "spec", "template")
        self._add_template(self._node(kind, item), template, "spec.jobTemplate.spec.template", _unless_suspended(spec))

    def _add_template(self, node: _Node, template: Manifest, path: str, strength: Strength) -> None:
        spec = template.get("spec")
        if isinstance(spec, Mapping):
            self._use(node, spec, f"{path}.spec", strength)
            self._trust(node, spec, within(template, "metadata"))

    def _use(self, node: _Node, spec: Manifest, path: str, strength: Strength) -> None:
        how = f"{path}.serviceAccountName" if _named_in(spec) else f"{path} names no ServiceAccount: default"
        self._claim(Account(node.holder.namespace, _named_in(spec) or "default"), node, strength, how)

    def _trust(self, node: _Node, spec: Manifest, metadata: Manifest) -> None:
        """What the annotations of pods say to the injectors of identities."""
        account = Account(node.holder.namespace, _named_in(spec) or "default")
        self._identify(account, within(metadata, "annotations"), str(node.holder), node.since)

    def _identify(self, account: Account, notes: Manifest, of: str, since: datetime | None) -> None:
        for annotation, kind in IDENTITIES.items():
            name = text(notes.get(annotation))
            if name:
                node = _Node(Holder(kind, "", name), None, since)
                self._claim(account, node, Strength.IDENTITY, f"annotation {annotation} of {of}")

    def _add_binding(self, kind: str, item: Manifest) -> None:
        node, role = self._node(kind, item), within(item, "roleRef")
        bound = (text(role.get("kind")), text(role.get("name")))
        self._bindings.append(_Binding(node, bound))
        for subject in mappings(item.get("subjects")):
            account = _subject(subject)
            if account is not None and account.namespace != node.holder.namespace:
                self._claim(account, node, Strength.GRANT, f"subject, bound to {bound[0]} {bound[1]}")

    def _add_role(self, kind: str, item: Manifest) -> None:
        node = self._node(kind, item)
        for name, how in _acted_as(item):
            self._claim(Account(node.holder.namespace, name), node, Strength.GRANT, how)

    def _add_cluster_role(self, _kind: str, item: Manifest) -> None:
        name = text(within(item, "metadata").get("name"))
        self._actors.setdefault(name, set()).update(_acted_as(item))

    def _acting(self) -> Iterator[_Edge]:
        """A ClusterRole counts where it is bound: in one namespace, or for the name wherever it is."""
        for node, (kind, role) in self._bindings:
            for name, how in sorted(self._actors.get(role, ())) if kind == "ClusterRole" else ():
                account = Account(node.holder.namespace or EVERY, name)
                yield _Edge(account, node, Strength.GRANT, f"{how}, by ClusterRole {role}")

    def _add_account(self, _kind: str, item: Manifest) -> None:
        metadata = within(item, "metadata")
        account = Account(text(metadata.get("namespace")), text(metadata.get("name")))
        since = moment(metadata.get("creationTimestamp"))
        self._accounts[account] = text(metadata.get("uid"))
        notes = within(metadata, "annotations")
        self._identify(account, notes, f"ServiceAccount {account}", since)
        release = text(notes.get(_RELEASE_NAME))
        if release:
            namespace = text(notes.get(_RELEASE_NAMESPACE)) or account.namespace
            owner = _Node(Holder(RELEASE, namespace, release), None, None)
            self._claim(account, owner, Strength.OWNER, f"annotation {_RELEASE_NAME}")
        for reference in mappings(metadata.get("ownerReferences")):
            holder = _holder(text(reference.get("kind")), reference, account.namespace)
            self._claim(account, _Node(holder, None, None), Strength.PATH, "ownerReference: goes with it")

    def _add_definition(self, _kind: str, item: Manifest) -> None:
        custom = fields_of(item)
        if custom is not None:
            self._customs[custom.api_version, custom.kind] = custom

    def _claim(self, account: Account, node: _Node, strength: Strength, how: str, uid: str = "") -> None:
        if account.namespace and account.name:
            self._edges.append(_Edge(account, node, strength, how, uid))

    def _node(self, kind: str, item: Manifest) -> _Node:
        metadata = within(item, "metadata")
        node = _Node(_holder(kind, metadata), _controller(metadata), moment(metadata.get("creationTimestamp")))
        if node.holder.uid:
            self._nodes[node.holder.uid] = node
        return node

    def _outermost(self, node: _Node) -> _Node:
        """Up the controllers, as far as they are in the same namespace: an owner elsewhere is not one."""
        passed: set[str] = set()
        while node.owner is not None and node.owner.uid not in passed:
            passed.add(node.owner.uid)
            above = self._nodes.get(node.owner.uid, _Node(node.owner, None, None))
            if above.holder.namespace != node.holder.namespace:
                break
            node = above
        return node

    def _is_recent(self, day: str) -> bool:
        try:
            return self._now.date() - date.fromisoformat(day) <= RECENT
        except ValueError:
            return False


def conflicts(usage: Usage) -> tuple[Conflict, ...]:
    """ServiceAccounts that two or more Helm releases own."""
    owned = (
        Conflict(account, tuple(claim.holder for claim in claims if claim.strength is Strength.OWNER))
        for account, claims in usage.claims.items()
    )
    return tuple(conflict for conflict in owned if len(conflict.releases) > 1)


def _holder(kind: str, metadata: Mapping[str, Any], namespace: str = "") -> Holder:
    return Holder(
        kind,
        text(metadata.get("namespace")) or namespace,
        text(metadata.get("name")),
        text(metadata.get("uid")),
    )


def _controller(metadata: Mapping[str, Any]) -> Holder | None:
    """The reference of the controller. A Node is none: it mirrors its static pods, and uses no account for them."""
    for reference in mappings(metadata.get("ownerReferences")):
        kind = text(reference.get("kind"))
        if reference.get("controller") is True and kind != _NODE:
            name, uid = text(reference.get("name")), text(reference.get("uid"))
            return Holder(kind, text(metadata.get("namespace")), name, uid)
    return None


def _named_in(spec: Manifest) -> str:
    return text(spec.get("serviceAccountName")) or text(spec.get("serviceAccount"))


def _unless_suspended(spec: Manifest) -> Strength:
    return Strength.LATENT if spec.get("suspend") is True else Strength.LIVE


def _subject(subject: Manifest) -> Account | None:
    """The accounts that a subject means. Groups of all accounts are nobody in particular."""
    name = text(subject.get("name"))
    match subject.get("kind"):
        case "ServiceAccount":
            return Account(text(subject.get("namespace")), name)
        case "User" if name.startswith(_USER):
            namespace, _, account = name.removeprefix(_USER).partition(":")
            return Account(namespace, account)
        case "Group" if name.startswith(_GROUP):
            return Account(name.removeprefix(_GROUP), EVERY)
        case _:
            return None


def _acted_as(role: Manifest) -> Iterator[tuple[str, str]]:
    """Names of accounts as which its bearer may act, each with how."""
    for rule in mappings(role.get("rules")):
        verbs, resources = set(texts(rule.get("verbs"))), set(texts(rule.get("resources")))
        if not {"", "*", "authentication.k8s.io"}.intersection(texts(rule.get("apiGroups"))):
            continue
        ways = {
            "may impersonate it": verbs & {"*", "impersonate", "impersonate:serviceaccount"}
            and resources & {"*", "serviceaccounts"},
            "may make tokens for it": verbs & {"*", "create"} and resources & {"*", "*/token", "serviceaccounts/token"},
        }
        for how, granted in ways.items():
            if granted:
                yield from ((name, how) for name in texts(rule.get("resourceNames")))
