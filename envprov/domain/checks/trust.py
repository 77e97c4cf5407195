"""
Identities outside the cluster that trust a ServiceAccount by namespace and name: somebody must let this one in.

Nothing in the cluster can tell whether the trust is there, so these are notes, each identity once for each account.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from envprov.domain.charted import Charted
from envprov.domain.checking import Given
from envprov.domain.findings import Finding, Rule, Severity
from envprov.domain.loose import mappings, text, within
from envprov.domain.needs import account_of, mounted_providers

Manifest = Mapping[str, Any]

TRUST = Rule(
    "NeedsTrust",
    Severity.NOTE,
    "Something in the chart logs in outside the cluster as a ServiceAccount, and a cloud or Vault trusts "
    "ServiceAccounts by namespace and name. Each branch has a namespace of its own, so a trust that was written for "
    "another one does not count here.",
    "let the far side trust the account, for all branches at once if it knows patterns",
)
STORE_ADMITS = Rule(
    "NeedsClusterSecretStore",
    Severity.NOTE,
    "An ExternalSecret reads from a ClusterSecretStore. Its `conditions` may name the namespaces that it serves, and "
    "the namespace of the branch must be among them.",
    "let `conditions` of the ClusterSecretStore admit it, by a `namespaceRegexes` such as `env-.*`",
)

RULES = (TRUST, STORE_ADMITS)

_VAULT_REMEDY = "add it to `bound_service_account_namespaces` of the role; Vault takes `env-*` there"
_AWS_REMEDY = (
    "let the trust policy of the role accept `system:serviceaccount:{subject}` as `sub`, by StringLike if `env-*`"
)
_GCP_REMEDY = "grant `roles/iam.workloadIdentityUser` on it to `serviceAccount:PROJECT.svc.id.goog[{slashed}]`"
_AZURE_REMEDY = "add a federated credential with the subject `system:serviceaccount:{subject}` to it"

_ACCOUNTS: tuple[tuple[str, str, str], ...] = (
    ("eks.amazonaws.com/role-arn", "AWS role", _AWS_REMEDY),
    ("iam.gke.io/gcp-service-account", "Google service account", _GCP_REMEDY),
    ("azure.workload.identity/client-id", "Azure client", _AZURE_REMEDY),
    ("vault.hashicorp.com/role", "Vault role", _VAULT_REMEDY),
)
"""Annotations of ServiceAccounts, what they name, and how that comes to trust them."""


@dataclass(frozen=True)
class _Login:
    """A ServiceAccount that something logs in as."""

    item: Charted
    field: str
    account: str
    identity: str
    remedy: str
    namespace: str = ""


def trust(given: Given) -> Iterator[Finding]:
    """Each identity outside the cluster that an account of the chart logs in as."""
    home = given.desired.identity.namespace
    told: set[tuple[str, str]] = set()
    for login in _logins(given):
        subject = f"{login.namespace or home}:{login.account}"
        if (subject, login.identity) in told:
            continue
        told.add((subject, login.identity))
        remedy = login.remedy.replace("{subject}", subject).replace("{slashed}", subject.replace(":", "/"))
        message = f"needs trust for system:serviceaccount:{subject}: {login.identity}"
        yield TRUST.found(login.item.subject, login.field, message, remedy)


def cluster_stores(given: Given) -> Iterator[Finding]:
    """ClusterSecretStores that must serve the namespace."""
    home = given.desired.identity.namespace
    told: set[str] = set()
    for item in given.items:
        ref = within(item.manifest, "spec", "secretStoreRef")
        name = text(ref.get("name"))
        is_external = item.is_a("external-secrets.io", "ExternalSecret")
        if is_external and text(ref.get("kind")) == "ClusterSecretStore" and name and name not in told:
            told.add(name)
            yield STORE_ADMITS.found(
                item.subject, "spec.secretStoreRef", f"ClusterSecretStore {name} must serve Namespace {home}"
            )


CHECKS = (trust, cluster_stores)


def _logins(given: Given) -> Iterator[_Login]:
    for item in given.items:
        yield from _annotated(item)
        reader = _READERS.get((item.group, item.kind))
        if reader is not None:
            yield from reader(item)
    yield from _injected(given)
    yield from _mounted(given)


def _annotated(item: Charted) -> Iterator[_Login]:
    if item.is_a("", "ServiceAccount"):
        annotations = within(item.manifest, "metadata", "annotations")
        for mark, what, remedy in _ACCOUNTS:
            value = text(annotations.get(mark))
            if value:
                field = f"metadata.annotations[{mark}]"
                yield _Login(item, field, item.subject.name, f"{what} {value}", remedy, item.subject.namespace)


def _injected(given: Given) -> Iterator[_Login]:
    """Pods into which Vault's agent is injected log in as the pod."""
    for pod in given.pods:
        annotations = within(pod.metadata, "annotations")
        role = text(annotations.get("vault.hashicorp.com/role"))
        if role and text(annotations.get("vault.hashicorp.com/agent-inject")) == "true":
            prefix = pod.path.removesuffix("spec")
            field = f"{prefix}metadata.annotations[vault.hashicorp.com/role]"
            yield _Login(pod.owner, field, account_of(pod), f"Vault role {role}", _VAULT_REMEDY)


def _mounted(given: Given) -> Iterator[_Login]:
    """The CSI driver fetches secrets as the pod that mounts them."""
    classes = {
        item.subject.name: item
        for item in given.items
        if item.is_a("secrets-store.csi.x-k8s.io", "SecretProviderClass")
    }
    for pod in given.pods:
        for name in mounted_providers(pod):
            provider = classes.get(name)
            if provider is None:
                continue
            found = _provider(provider)
            if found is not None:
                field, identity, remedy = found
                yield _Login(provider, field, account_of(pod), identity, remedy)


def _provider(item: Charted) -> tuple[str, str, str] | None:
    spec = within(item.manifest, "spec")
    parameters = within(spec, "parameters")
    match text(spec.get("provider")):
        case "vault":
            return "spec.parameters.roleName", f"Vault role {text(parameters.get('roleName'))}", _VAULT_REMEDY
        case "azure" if text(parameters.get("clientID")):
            return "spec.parameters.clientID", f"Azure client {text(parameters.get('clientID'))}", _AZURE_REMEDY
        case _:
            return None  # the cloud's own annotation of the account says which identity


def _store(item: Charted) -> Iterator[_Login]:
    """External Secrets: each provider has a place of its own for the account."""
    provider = within(item.manifest, "spec", "provider")
    vault = within(provider, "vault", "auth")
    kubernetes = within(vault, "kubernetes")
    role = f"Vault role {text(kubernetes.get('role'))}"
    yield from _referred(item, kubernetes, "spec.provider.vault.auth.kubernetes", role, _VAULT_REMEDY)
    token = within(vault, "jwt", "kubernetesServiceAccountToken")
    role = f"Vault role {text(within(vault, 'jwt').get('role'))}"
    path = "spec.provider.vault.auth.jwt.kubernetesServiceAccountToken"
    yield from _referred(item, token, path, role, _VAULT_REMEDY)
    aws = within(provider, "aws")
    role = f"AWS role {text(aws.get('role'))}".rstrip() if text(aws.get("role")) else "AWS role of its annotation"
    yield from _referred(item, within(aws, "auth", "jwt"), "spec.provider.aws.auth.jwt", role, _AWS_REMEDY)
    identity = within(provider, "gcpsm", "auth", "workloadIdentity")
    project = text(within(provider, "gcpsm").get("projectID"))
    who = f"Google Secret Manager of project {project}" if project else "Google Secret Manager"
    yield from _referred(item, identity, "spec.provider.gcpsm.auth.workloadIdentity", who, _GCP_REMEDY)
    azure = within(provider, "azurekv")
    where = text(azure.get("vaultUrl"))
    yield from _referred(item, azure, "spec.provider.azurekv", f"Azure Key Vault {where}".rstrip(), _AZURE_REMEDY)


def _referred(item: Charted, auth: Manifest, path: str, identity: str, remedy: str) -> Iterator[_Login]:
    ref = within(auth, "serviceAccountRef")
    name = text(ref.get("name"))
    if name:
        # In a store of a namespace the account is always of that namespace.
        elsewhere = text(ref.get("namespace")) if item.kind.startswith("Cluster") else ""
        yield _Login(item, f"{path}.serviceAccountRef.name", name, identity, remedy, elsewhere)


def _vault_auth(item: Charted) -> Iterator[_Login]:
    """The Vault Secrets Operator."""
    spec = within(item.manifest, "spec")
    for method in ("kubernetes", "jwt"):
        auth = within(spec, method)
        account = text(auth.get("serviceAccount"))
        if account:
            role = f"Vault role {text(auth.get('role'))}"
            yield _Login(item, f"spec.{method}.serviceAccount", account, role, _VAULT_REMEDY)
    for method, key, what, remedy in (
        ("aws", "irsaServiceAccount", "AWS role of its annotation", _AWS_REMEDY),
        ("gcp", "workloadIdentityServiceAccount", "Google service account of its annotation", _GCP_REMEDY),
    ):
        account = text(within(spec, method).get(key))
        if account:
            yield _Login(item, f"spec.{method}.{key}", account, what, remedy)


def _issuer(item: Charted) -> Iterator[_Login]:
    """cert-manager: Vault as an authority, and Route 53 for proofs."""
    spec = within(item.manifest, "spec")
    kubernetes = within(spec, "vault", "auth", "kubernetes")
    role = f"Vault role {text(kubernetes.get('role'))}"
    yield from _referred(item, kubernetes, "spec.vault.auth.kubernetes", role, _VAULT_REMEDY)
    for solver in mappings(within(spec, "acme").get("solvers")):
        route53 = within(solver, "dns01", "route53")
        role = f"AWS role {text(route53.get('role'))}"
        path = "spec.acme.solvers.dns01.route53.auth.kubernetes"
        yield from _referred(item, within(route53, "auth", "kubernetes"), path, role, _AWS_REMEDY)


_READERS: Mapping[tuple[str, str], Callable[[Charted], Iterator[_Login]]] = {
    ("external-secrets.io", "SecretStore"): _store,
    ("external-secrets.io", "ClusterSecretStore"): _store,
    ("secrets.hashicorp.com", "VaultAuth"): _vault_auth,
    ("cert-manager.io", "Issuer"): _issuer,
    ("cert-manager.io", "ClusterIssuer"): _issuer,
}
