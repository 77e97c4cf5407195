"""
SealedSecrets that cannot be unsealed in the namespace of a branch.

What is sealed is bound to a namespace and a name, to a namespace, or to none; the annotations say to which. The
ciphertext does not tell, but the controller does when it is asked.

Source: https://github.com/bitnami-labs/sealed-secrets#scopes
"""

from __future__ import annotations

from collections.abc import Iterator

from envprov.domain.charted import Charted
from envprov.domain.checking import Given
from envprov.domain.findings import Finding, Rule, Severity
from envprov.domain.loose import within

SCOPE = Rule(
    "SealedForOneNamespace",
    Severity.ERROR,
    "A SealedSecret is sealed for one namespace, and each branch has one of its own. Its controller answers `no key "
    "could decrypt secret`, the Secret never comes, and pods that need it never start. An annotation that is added "
    "afterwards does not help: the scope is part of what was encrypted. Where the controller of SealedSecrets can be "
    "asked, its word counts.",
    "seal it again with `kubeseal --scope cluster-wide`",
)
REFUSED = Rule(
    "CannotBeUnsealed",
    Severity.ERROR,
    "The controller of SealedSecrets was asked, and cannot unseal a SealedSecret in the namespace of the branch: it "
    "was sealed for another cluster, with a key that is gone, or for another scope than its annotations say.",
    "seal it again, for this cluster, with `kubeseal --scope cluster-wide`",
)

RULES = (SCOPE, REFUSED)

CLUSTER_WIDE = "sealedsecrets.bitnami.com/cluster-wide"
NAMESPACE_WIDE = "sealedsecrets.bitnami.com/namespace-wide"


def sealed_secrets(given: Given) -> Iterator[Finding]:
    """SealedSecrets that cannot be unsealed here."""
    home = given.desired.identity.namespace
    for item in given.items:
        if not item.is_a("bitnami.com", "SealedSecret") or item.subject.namespace != home:
            continue
        answer = given.facts.sealed.get(item.subject)
        if answer is True:
            continue
        annotations = within(item.manifest, "metadata", "annotations")
        name = item.subject.name
        again = (
            f"seal it again: `kubeseal --scope cluster-wide --format yaml <secret.yaml >sealed.yaml`, or for this "
            f"branch alone `kubeseal --namespace {home} --name {name} --format yaml <secret.yaml >sealed.yaml`"
        )
        if annotations.get(CLUSTER_WIDE) == "true":
            if answer is False:
                message = f"its controller cannot unseal it in Namespace {home}"
                yield REFUSED.found(item.subject, "spec.encryptedData", message, again)
        else:
            yield SCOPE.found(item.subject, "metadata.annotations", _scope(item, home), again)


CHECKS = (sealed_secrets,)


def _scope(item: Charted, home: str) -> str:
    if within(item.manifest, "metadata", "annotations").get(NAMESPACE_WIDE) == "true":
        return f"it is sealed for one namespace (namespace-wide), and cannot be unsealed in Namespace {home}"
    return f"it is sealed for one namespace and name (strict), and cannot be unsealed in Namespace {home}"
