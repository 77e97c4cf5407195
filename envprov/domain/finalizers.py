"""
Finalizers that are known: who takes them off, and what to look at when they stay.

None of them is ever taken off by envprov: what they stand for would be left behind.

Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/finalizers/
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Owner:
    """
    Who takes a finalizer off.

    Attributes:
        pattern: The finalizer; ``*`` stands for any run of characters.
        who: In words.
        waits: What it usually waits for.

    """

    pattern: str
    who: str
    waits: str


KNOWN: tuple[Owner, ...] = tuple(
    Owner(*row)
    for row in (
        # Kubernetes itself
        ("kubernetes.io/pvc-protection", "Kubernetes", "a pod still uses the claim"),
        ("kubernetes.io/pv-protection", "Kubernetes", "a claim still uses the volume"),
        ("foregroundDeletion", "Kubernetes' garbage collector", "what it owns has to go first"),
        ("orphan", "Kubernetes' garbage collector", "what it owns is being let go"),
        ("batch.kubernetes.io/job-tracking", "Kubernetes' Job controller", "the end of the pod is being counted"),
        (
            "service.kubernetes.io/load-balancer-cleanup",
            "the cloud's load balancer controller",
            "the load balancer in the cloud has to go first",
        ),
        ("external-provisioner.volume.kubernetes.io/finalizer", "the CSI driver", "the volume has to go first"),
        ("external-attacher/*", "the CSI driver", "the volume has to be detached first"),
        ("snapshot.storage.kubernetes.io/*", "the CSI snapshot controller", "a snapshot is being made or used"),
        (
            "customresourcecleanup.apiextensions.k8s.io",
            "Kubernetes' API server",
            "custom resources of that kind have to go first",
        ),
        ("resource.kubernetes.io/delete-protection", "Kubernetes' claim controller", "a pod still uses the device"),
        # Load balancers
        ("service.k8s.aws/resources", "the AWS Load Balancer Controller", "the load balancer in AWS has to go first"),
        ("ingress.k8s.aws/resources", "the AWS Load Balancer Controller", "the load balancer in AWS has to go first"),
        ("group.ingress.k8s.aws/*", "the AWS Load Balancer Controller", "the shared load balancer has to let it go"),
        ("elbv2.k8s.aws/resources", "the AWS Load Balancer Controller", "the target group in AWS has to go first"),
        ("networking.gke.io/*", "Google's load balancer controller", "the load balancer in Google Cloud has to go"),
        ("gke.networking.io/*", "Google's load balancer controller", "the load balancer in Google Cloud has to go"),
        ("serviceoperator.azure.com/finalizer", "Azure Service Operator", "the resource in Azure has to go first"),
        ("finalizers.*.services.k8s.aws/*", "AWS Controllers for Kubernetes", "the resource in AWS has to go first"),
        # Delivery
        ("finalizers.fluxcd.io", "Flux", "what it applied has to go first"),
        ("resources-finalizer.argocd.argoproj.io*", "Argo CD", "what the Application deployed has to go first"),
        ("pre-delete-finalizer.argocd.argoproj.io*", "Argo CD", "its hooks before the deletion have to end"),
        ("post-delete-finalizer.argocd.argoproj.io*", "Argo CD", "its hooks after the deletion have to end"),
        ("workflows.argoproj.io/*", "Argo Workflows", "a workflow has to end"),
        # Secrets and certificates
        ("externalsecrets.external-secrets.io/*", "External Secrets Operator", "the Secret has to go first"),
        (
            "pushsecret.externalsecrets.io/finalizer",
            "External Secrets Operator",
            "the secret has to go at its provider",
        ),
        ("secretstore.externalsecrets.io/*", "External Secrets Operator", "something still uses the store"),
        ("finalizer.acme.cert-manager.io", "cert-manager", "the ACME challenge has to be cleaned up"),
        ("acme.cert-manager.io/finalizer", "cert-manager", "the ACME challenge has to be cleaned up"),
        ("*.secrets.hashicorp.com/finalizer", "Vault Secrets Operator", "what it has from Vault has to be given back"),
        # Platforms
        ("controller.cattle.io/*", "Rancher", "Rancher has to clean up; it stays for ever where Rancher is gone"),
        ("clusterscoped.controller.cattle.io/*", "Rancher", "Rancher has to clean up"),
        ("wrangler.cattle.io/*", "Rancher", "Rancher has to clean up"),
        ("finalizer.apiextensions.crossplane.io", "Crossplane", "the resources of the composition have to go first"),
        ("composite.apiextensions.crossplane.io", "Crossplane", "the resources of the composition have to go first"),
        ("finalizer.managedresource.crossplane.io", "Crossplane", "the resource at the provider has to go first"),
        ("in-use.crossplane.io", "Crossplane", "something still uses it"),
        ("kubernetes", "Kubernetes' namespace controller", "everything in the Namespace has to go first"),
        ("openshift.io/origin", "OpenShift", "OpenShift has to clean up its own content"),
        ("finalizers.kubesphere.io/*", "KubeSphere", "KubeSphere has to clean up"),
        ("hnc.x-k8s.io/*", "the Hierarchical Namespace Controller", "Namespaces below it have to go first"),
        # Meshes, pipelines, serverless
        ("istio-finalizer.install.istio.io", "the Istio operator", "Istio has to be uninstalled"),
        ("chains.tekton.dev", "Tekton Chains", "the run has to be signed"),
        ("chains.tekton.dev/*", "Tekton Chains", "the run has to be signed"),
        ("results.tekton.dev/*", "Tekton Results", "the run has to be stored"),
        ("*.knative.dev", "Knative", "routes or sources of events have to be cleaned up"),
        ("finalizer.keda.sh", "KEDA", "the autoscaler has to be cleaned up"),
        # Data
        ("strimzi.io/*", "Strimzi", "the topic has to go in Kafka first"),
        ("longhorn.io", "Longhorn", "the volume has to be detached and removed"),
        ("*.ceph.rook.io", "Rook", "the storage has to be removed, or still has data"),
        ("ceph.rook.io/*", "Rook", "the storage has to be removed, or still has data"),
        ("delete-psmdb-pods-in-order", "the Percona operator for MongoDB", "its pods have to end in order"),
        ("delete-pxc-pods-in-order", "the Percona operator for MySQL", "its pods have to end in order"),
        ("percona.com/*", "a Percona operator", "the database has to be removed"),
        ("postgres-operator.crunchydata.com/finalizer", "the Crunchy Postgres operator", "the database has to go"),
        ("finalizer.*.k8s.elastic.co/*", "the Elastic operator", "what it made has to be cleaned up"),
        ("cnpg.io/*", "CloudNativePG", "the database object has to go first"),
        ("deletion.finalizers.rabbitmqclusters.rabbitmq.com", "the RabbitMQ operator", "RabbitMQ has to go"),
        ("deletion.finalizers.*.rabbitmq.com", "the RabbitMQ topology operator", "it has to go in RabbitMQ first"),
        ("finalizer.*.kafka.banzaicloud.io", "Koperator", "it has to go in Kafka first"),
        ("restores.velero.io/*", "Velero", "a restore has to be cleaned up"),
        ("snapshot.kubevirt.io/*", "KubeVirt", "a snapshot has to be cleaned up"),
        ("kubevirt.io/*", "KubeVirt", "a virtual machine has to end"),
        ("foregroundDeleteVirtualMachine", "KubeVirt", "the virtual machine has to end"),
        ("cluster.cluster.x-k8s.io", "Cluster API", "the cluster has to go first"),
        ("*.cluster.x-k8s.io", "Cluster API", "the machine or cluster has to go first"),
        ("finalizers.tf.contrib.fluxcd.io", "the Terraform controller of Flux", "what Terraform made has to go"),
        ("finalizer.stack.pulumi.com", "the Pulumi operator", "the stack has to be destroyed"),
        ("monitoring.coreos.com/*", "the Prometheus operator", "what it made has to be cleaned up"),
        ("envprov.io/teardown", "envprov's controller", "the teardown has to end"),
    )
)

_COMPILED = tuple(
    (re.compile(re.escape(owner.pattern).replace(r"\*", ".*")), owner)
    for owner in sorted(KNOWN, key=lambda owner: (-len(owner.pattern.replace("*", "")), owner.pattern))
)


def owner_of(finalizer: str) -> Owner | None:
    """
    Who takes a finalizer off.

    Args:
        finalizer: As it stands on the object.

    Returns:
        The row of the longest pattern that matches, or None if nobody of the table does.

    """
    return next((owner for pattern, owner in _COMPILED if pattern.fullmatch(finalizer)), None)


def explain_finalizers(finalizers: Iterable[str]) -> str:
    """
    Whose turn it is, as a clause.

    Args:
        finalizers: As they stand on the object.

    Returns:
        One part for each: ``the finalizer X, which Y takes off when Z``. Of one that is not known the domain is named,
        which usually is that of its owner, and it is said that this is all that is known.

    """
    return "; ".join(_explained(finalizer) for finalizer in finalizers)


def _explained(finalizer: str) -> str:
    owner = owner_of(finalizer)
    if owner is not None:
        return f"the finalizer {finalizer} of {owner.who} ({owner.waits})"
    domain = finalizer.partition("/")[0]
    hint = f"; its name points to {domain}" if "." in domain else ""
    return f"the finalizer {finalizer}, whose owner is not known{hint}"
