"""
Our reading of the Pod Security Standards against the API server's own: pod by pod, check by check.

Every pod is created for real, as a dry run, in namespaces that enforce a level in a version of the standards.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from envprov.domain.charted import charted, pod_template
from envprov.domain.checks import pod_rules
from envprov.domain.checks.pod_security import violations
from tests.cluster import Cluster
from tests.eventually import eventually

Manifest = dict[str, Any]

# One set of namespaces serves all of them.
pytestmark = pytest.mark.xdist_group("pod-security")

STANDARDS = [
    ("baseline", "v1.18"),
    ("baseline", "v1.30"),
    ("baseline", "latest"),
    ("restricted", "v1.18"),
    ("restricted", "v1.24"),
    ("restricted", "v1.30"),
    ("restricted", "v1.34"),
    ("restricted", "latest"),
]

WORDS = {
    "host namespaces": "HostNamespaces",
    "hostPath volumes": "HostPathVolume",
    "hostPort": "HostPort",
    "hostProcess": "HostProcess",
    "privileged": "PrivilegedContainer",
    "non-default capabilities": "Capabilities",
    "unrestricted capabilities": "Capabilities",
    "probe or lifecycle host": "HostProbe",
    "forbidden AppArmor profile": "AppArmorProfile",
    "forbidden AppArmor profiles": "AppArmorProfile",
    "seLinuxOptions": "SELinuxOptions",
    "procMount": "ProcMount",
    "seccompProfile": "SeccompProfile",
    "forbidden sysctls": "UnsafeSysctl",
    "restricted volume types": "VolumeType",
    "allowPrivilegeEscalation != false": "PrivilegeEscalation",
    "runAsNonRoot != true": "RunAsNonRoot",
    "runAsUser=0": "RunAsUser",
}
"""What the API server calls a check that failed, and which rule of ours that is."""

DEFAULTED = {"host-network-and-port": {"HostPort"}}
"""The API server gives every port of a pod in the node's network a hostPort; we say hostNetwork, and not both."""

SAFE: Manifest = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
SAFE_POD: Manifest = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
WINDOWS: Manifest = {"os": {"name": "windows"}}


def container(name: str = "app", **fields: Any) -> Manifest:  # noqa: ANN401 - any field
    return {"name": name, "image": "registry.example.com/app:1", "securityContext": dict(SAFE), **fields}


def context(**fields: Any) -> Manifest:  # noqa: ANN401 - any field
    """Return a container that is safe but for these fields of its securityContext."""
    return container(securityContext={**SAFE, **fields})


def pod(*containers: Manifest, **fields: Any) -> Manifest:  # noqa: ANN401 - any field
    return {"spec": {"containers": list(containers) or [container()], "securityContext": dict(SAFE_POD), **fields}}


def secured(**fields: Any) -> Manifest:  # noqa: ANN401 - any field
    """Return a pod that is safe but for these fields of its own securityContext."""
    return pod(securityContext={**SAFE_POD, **fields})


def volumes(**source: Any) -> Manifest:  # noqa: ANN401 - any field
    return pod(volumes=[{"name": "data", **source}])


def annotated(key: str, value: str) -> Manifest:
    """Return a pod with an annotation, and without the field that has taken its place."""
    return pod(securityContext={"runAsNonRoot": True}) | {"metadata": {"annotations": {key: value}}}


def sysctl(name: str, value: str = "1") -> Manifest:
    return secured(sysctls=[{"name": name, "value": value}])


def probing(**fields: Any) -> Manifest:  # noqa: ANN401 - any field
    return pod(container(**fields))


GET: Manifest = {"path": "/", "port": 80}
APP_ARMOR = "container.apparmor.security.beta.kubernetes.io/app"

PODS: dict[str, Manifest] = {
    "safe": pod(),
    "bare": {"spec": {"containers": [{"name": "app", "image": "registry.example.com/app:1"}]}},
    # Of the node
    "host-network": pod(hostNetwork=True),
    "host-network-and-port": pod(container(ports=[{"containerPort": 80}]), hostNetwork=True),
    "host-pid": pod(hostPID=True),
    "host-ipc": pod(hostIPC=True),
    "host-nothing": pod(hostNetwork=False, hostPID=False, hostIPC=False),
    "host-port": pod(container(ports=[{"containerPort": 80, "hostPort": 8080}])),
    "host-port-zero": pod(container(ports=[{"containerPort": 80, "hostPort": 0}])),
    "host-port-of-init": pod(initContainers=[container("init", ports=[{"containerPort": 80, "hostPort": 8080}])]),
    "host-path": volumes(hostPath={"path": "/etc"}),
    "host-process": pod(
        {"name": "app", "image": "app"},
        hostNetwork=True,
        securityContext={"runAsNonRoot": True, "windowsOptions": {"hostProcess": True, "runAsUserName": "me"}},
        **WINDOWS,
    ),
    "host-process-false": pod(
        {"name": "app", "image": "app"},
        securityContext={"runAsNonRoot": True, "windowsOptions": {"hostProcess": False}},
        **WINDOWS,
    ),
    "windows": pod({"name": "app", "image": "app"}, securityContext={"runAsNonRoot": True}, **WINDOWS),
    "windows-as-root": pod({"name": "app", "image": "app"}, securityContext={}, **WINDOWS),
    "linux-by-name": pod(os={"name": "linux"}),
    # Privileges
    "privileged": pod(container(securityContext={"privileged": True})),
    "privileged-false": pod(context(privileged=False)),
    "privileged-init": pod(initContainers=[container("init", securityContext={"privileged": True})]),
    "escalating": pod(container(securityContext={"capabilities": {"drop": ["ALL"]}, "allowPrivilegeEscalation": True})),
    "escalating-unsaid": pod(container(securityContext={"capabilities": {"drop": ["ALL"]}})),
    "escalating-init": pod(initContainers=[container("init", securityContext={"capabilities": {"drop": ["ALL"]}})]),
    "drop-nothing": pod(container(securityContext={"allowPrivilegeEscalation": False})),
    "drop-some": pod(context(capabilities={"drop": ["CHOWN"]})),
    "drop-all-in-small": pod(context(capabilities={"drop": ["all"]})),
    "add-bind": pod(context(capabilities={"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]})),
    "add-chown": pod(context(capabilities={"drop": ["ALL"], "add": ["CHOWN"]})),
    "add-raw": pod(context(capabilities={"drop": ["ALL"], "add": ["NET_RAW"]})),
    "add-admin": pod(context(capabilities={"add": ["SYS_ADMIN", "SYS_CHROOT"]})),
    "add-prefixed": pod(context(capabilities={"drop": ["ALL"], "add": ["CAP_CHOWN"]})),
    "add-all": pod(context(capabilities={"drop": ["ALL"], "add": ["ALL"]})),
    # Users
    "root-allowed": secured(runAsNonRoot=False),
    "root-unsaid": pod(securityContext={"seccompProfile": {"type": "RuntimeDefault"}}),
    "root-allowed-in-container": pod(context(runAsNonRoot=False)),
    "non-root-by-container": pod(
        context(runAsNonRoot=True), securityContext={"seccompProfile": {"type": "RuntimeDefault"}}
    ),
    "non-root-by-one-of-two": pod(
        context(runAsNonRoot=True),
        container("other"),
        securityContext={"seccompProfile": {"type": "RuntimeDefault"}},
    ),
    "user-0": secured(runAsUser=0),
    "user-1000": secured(runAsUser=1000),
    "user-0-of-container": pod(context(runAsUser=0)),
    "own-users": pod(context(runAsUser=0, runAsNonRoot=False), hostUsers=False),
    "own-users-unmasked": pod(context(procMount="Unmasked"), hostUsers=False),
    "shared-users": pod(context(runAsUser=0), hostUsers=True),
    # Profiles
    "seccomp-unconfined": secured(seccompProfile={"type": "Unconfined"}),
    "seccomp-local": secured(seccompProfile={"type": "Localhost", "localhostProfile": "app.json"}),
    "seccomp-unsaid": pod(securityContext={"runAsNonRoot": True}),
    "seccomp-unconfined-in-container": pod(context(seccompProfile={"type": "Unconfined"})),
    "seccomp-by-container": pod(
        context(seccompProfile={"type": "RuntimeDefault"}), securityContext={"runAsNonRoot": True}
    ),
    "seccomp-by-one-of-two": pod(
        context(seccompProfile={"type": "RuntimeDefault"}),
        container("other"),
        securityContext={"runAsNonRoot": True},
    ),
    "seccomp-annotation": annotated("container.seccomp.security.alpha.kubernetes.io/app", "unconfined"),
    "seccomp-annotation-of-pod": annotated("seccomp.security.alpha.kubernetes.io/pod", "unconfined"),
    "seccomp-annotation-of-nobody": annotated("container.seccomp.security.alpha.kubernetes.io/other", "unconfined"),
    "seccomp-annotation-default": annotated("seccomp.security.alpha.kubernetes.io/pod", "runtime/default"),
    "app-armor-unconfined": secured(appArmorProfile={"type": "Unconfined"}),
    "app-armor-default": secured(appArmorProfile={"type": "RuntimeDefault"}),
    "app-armor-local": pod(context(appArmorProfile={"type": "Localhost", "localhostProfile": "app"})),
    "app-armor-unconfined-in-container": pod(context(appArmorProfile={"type": "Unconfined"})),
    "app-armor-annotation": annotated(APP_ARMOR, "unconfined"),
    "app-armor-annotation-default": annotated(APP_ARMOR, "runtime/default"),
    "app-armor-annotation-local": annotated(APP_ARMOR, "localhost/app"),
    "selinux-type": secured(seLinuxOptions={"type": "spc_t"}),
    "selinux-type-of-containers": secured(seLinuxOptions={"type": "container_t", "level": "s0"}),
    "selinux-type-of-engines": pod(context(seLinuxOptions={"type": "container_engine_t"})),
    "selinux-user": secured(seLinuxOptions={"user": "system_u"}),
    "selinux-role": pod(context(seLinuxOptions={"role": "system_r"})),
    "proc-default": pod(context(procMount="Default")),
    # Sysctls
    "sysctl-safe": sysctl("kernel.shm_rmid_forced"),
    "sysctl-since-27": sysctl("net.ipv4.ip_local_reserved_ports", "8080"),
    "sysctl-since-29": sysctl("net.ipv4.tcp_keepalive_time"),
    "sysctl-since-32": sysctl("net.ipv4.tcp_rmem"),
    "sysctl-since-37": sysctl("net.ipv4.tcp_notsent_lowat"),
    "sysctl-unsafe": sysctl("kernel.msgmax"),
    # Probes
    "probe": probing(livenessProbe={"httpGet": GET}),
    "probe-host": probing(livenessProbe={"httpGet": {**GET, "host": "169.254.169.254"}}),
    "probe-host-by-tcp": probing(readinessProbe={"tcpSocket": {"port": 80, "host": "10.0.0.1"}}),
    "probe-host-at-start": probing(startupProbe={"httpGet": {**GET, "host": "10.0.0.1"}}),
    "hook-host": probing(lifecycle={"postStart": {"httpGet": {**GET, "host": "10.0.0.1"}}}),
    "hook-host-at-stop": probing(lifecycle={"preStop": {"tcpSocket": {"port": 80, "host": "10.0.0.1"}}}),
    # Volumes
    "volume-of-nothing": volumes(),
    "volume-empty": volumes(emptyDir={}),
    "volume-config": volumes(configMap={"name": "settings"}),
    "volume-secret": volumes(secret={"secretName": "passwords"}),
    "volume-claim": volumes(persistentVolumeClaim={"claimName": "data"}),
    "volume-projected": volumes(projected={"sources": []}),
    "volume-downward": volumes(downwardAPI={"items": []}),
    "volume-csi": volumes(csi={"driver": "csi.example.com"}),
    "volume-image": volumes(image={"reference": "registry.example.com/data:1"}),
    "volume-ephemeral": volumes(
        ephemeral={
            "volumeClaimTemplate": {
                "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
            }
        }
    ),
    "volume-nfs": volumes(nfs={"server": "nfs.example.com", "path": "/"}),
    "volume-iscsi": volumes(iscsi={"targetPortal": "10.0.0.1", "iqn": "iqn.2026-01.com.example:data", "lun": 0}),
    "volume-disk": volumes(gcePersistentDisk={"pdName": "data"}),
}


@pytest.fixture(scope="module")
def spaces(cluster: Cluster) -> Iterator[dict[tuple[str, str], str]]:
    """Yield a namespace for each standard, each with its default ServiceAccount: pods need it."""
    run = secrets.token_hex(4)
    names = {standard: f"pod-security-{run}-{number}" for number, standard in enumerate(STANDARDS)}
    for (level, version), name in names.items():
        labels = {
            "pod-security.kubernetes.io/enforce": level,
            "pod-security.kubernetes.io/enforce-version": version,
        }
        manifest = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}
        cluster.kubectl("create", "-f", "-", input=json.dumps(manifest))
    for name in names.values():
        eventually(partial(has_default_account, cluster, name))
    yield names
    for name in names.values():
        cluster.discard(name)


@pytest.mark.parametrize("standard", STANDARDS, ids=":".join)
def test_the_api_server_says_the_same(
    cluster: Cluster, spaces: dict[tuple[str, str], str], standard: tuple[str, str]
) -> None:
    manifests = {name: manifest(name, spec, spaces[standard]) for name, spec in PODS.items()}
    items = {"apiVersion": "v1", "kind": "List", "items": list(manifests.values())}

    said = cluster.kubectl("create", "--dry-run=server", "-f", "-", input=json.dumps(items), check=False)

    theirs = {name: verdict(said, name) for name in manifests}
    ours = {name: judged(given, standard) for name, given in manifests.items()}
    differing = {
        name: {"we say": ours[name], "the API server says": theirs[name]}
        for name in PODS
        if ours[name] | DEFAULTED.get(name, set()) != theirs[name]
    }
    assert differing == {}


def test_every_rule_was_broken_by_some_pod() -> None:
    broken = {
        rule
        for name, given in PODS.items()
        for standard in STANDARDS
        for rule in judged(manifest(name, given), standard)
    }

    assert len(PODS) >= 60
    assert broken == {rule.reason for rule in pod_rules.RULES if rule is not pod_rules.WARNED}


def has_default_account(cluster: Cluster, namespace: str) -> bool:
    return cluster.kubectl("get", "sa", "default", "-n", namespace, "--ignore-not-found") != ""


def manifest(name: str, given: Manifest, namespace: str = "any") -> Manifest:
    metadata = {"name": name, "namespace": namespace, **given.get("metadata", {})}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": given["spec"]}


def judged(given: Manifest, standard: tuple[str, str]) -> set[str]:
    """Return the rules that we say a pod breaks."""
    template = pod_template(charted([given], "any", {})[0])
    assert template is not None
    return {found.rule.reason for found in violations(template, *standard)}


def verdict(said: str, name: str) -> set[str]:
    """
    Return the rules that the API server says a pod breaks.

    Raises:
        AssertionError: It says neither that it would create the pod, nor that Pod Security refuses it.
    """
    if f"pod/{name} created" in said:
        return set()
    refusal = re.search(rf'pods "{name}" is forbidden: violates PodSecurity "[^"]*": (.*)', said)
    assert refusal, f"{name} is no valid pod: {said}"
    checks = re.sub(r'"[^"]*"', '""', refusal[1])
    found = {rule for words, rule in WORDS.items() if re.search(rf"(^|, ){re.escape(words)} \(", checks)}
    # It does not name the volume types in the same check as we do.
    return found - {"VolumeType"} | {"HostPathVolume"} if '"hostPath"' in refusal[1] else found
