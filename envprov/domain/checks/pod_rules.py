"""The rules of the Pod Security Standards, in words, and what they allow; how pods are judged is in pod_security."""

from __future__ import annotations

from collections.abc import Mapping

from envprov.domain.findings import Rule, Severity


def _error(reason: str, cause: str, remedy: str) -> Rule:
    return Rule(reason, Severity.ERROR, cause, remedy)


HOST_NAMESPACES = _error(
    "HostNamespaces",
    "A pod in the network, process or IPC namespace of its node sees and reaches what belongs to the node and to all "
    "other pods there, past every NetworkPolicy; two branches on one node collide.",
    "remove the field, or set it to false",
)
HOST_PATH = _error(
    "HostPathVolume",
    "A `hostPath` volume is a folder of the node, which all pods there share and which outlives the environment.",
    "use emptyDir, or a PersistentVolumeClaim for what is to stay",
)
HOST_PORT = _error(
    "HostPort",
    "A `hostPort` is a port of the node: only one pod of the whole cluster can have it there, and who reaches the node "
    "reaches the pod past the NetworkPolicies.",
    "remove hostPort, and reach the pod through a Service",
)
HOST_PROCESS = _error(
    "HostProcess",
    "A Windows HostProcess container runs on the node itself.",
    "remove windowsOptions.hostProcess, or set it to false",
)
PRIVILEGED = _error(
    "PrivilegedContainer",
    "A privileged container has the node for itself: nothing isolates it any more.",
    "remove securityContext.privileged, or set it to false",
)
CAPABILITIES = _error(
    "Capabilities",
    "Capabilities beyond those of the Pod Security level give a container power over its node or its neighbours. "
    "`baseline` allows the default ones of container runtimes; at `restricted` all are dropped, and only "
    "`NET_BIND_SERVICE` may be added.",
    "take it out of securityContext.capabilities.add",
)
HOST_PROBE = _error(
    "HostProbe",
    "A probe or lifecycle handler with a `host` makes the kubelet send requests to that address, from the node and "
    "past every NetworkPolicy. Forbidden since version 1.34 of the standards.",
    "remove host: without it the pod itself is asked",
)
APP_ARMOR = _error(
    "AppArmorProfile",
    "The default AppArmor profile of the node may not be switched off.",
    "set the type to RuntimeDefault or Localhost, or leave it out",
)
SELINUX = _error(
    "SELinuxOptions",
    "SELinux user and role may not be set, and only the types of containers: others may touch what is the node's.",
    "remove the option",
)
PROC_MOUNT = _error(
    "ProcMount",
    "Parts of `/proc` are masked because they reach the node's kernel.",
    "remove securityContext.procMount, or set it to Default",
)
SECCOMP = _error(
    "SeccompProfile",
    "The seccomp profile of the container runtime may not be switched off; at `restricted` a profile has to be named.",
    "set securityContext.seccompProfile.type to RuntimeDefault",
)
SYSCTLS = _error(
    "UnsafeSysctl",
    "Sysctls that are not known as safe act on the whole node.",
    "remove it from securityContext.sysctls",
)
VOLUMES = _error(
    "VolumeType",
    "At `restricted` a pod may only mount volumes that do not name a disk or server by themselves: ConfigMaps, "
    "Secrets, claims, emptyDir, projected, ephemeral, CSI and image volumes.",
    "use a PersistentVolumeClaim",
)
ESCALATION = _error(
    "PrivilegeEscalation",
    "At `restricted` a process may not get more rights than the one that started it, as by a set-user-ID file.",
    "set securityContext.allowPrivilegeEscalation: false",
)
NON_ROOT = _error(
    "RunAsNonRoot",
    "At `restricted` containers have to say that they do not run as root.",
    "set securityContext.runAsNonRoot: true",
)
ROOT_USER = _error(
    "RunAsUser",
    "At `restricted` nothing may run as user 0.",
    "set securityContext.runAsUser to a number other than 0, or leave it to the image",
)
WARNED = Rule(
    "PodSecurityWarning",
    Severity.WARNING,
    "The pod is below the Pod Security level that the platform warns of. It is deployed; when that level is enforced "
    "one day, it will not start any more.",
    "set the fields that are named",
)

RULES: tuple[Rule, ...] = (
    HOST_NAMESPACES,
    HOST_PATH,
    HOST_PORT,
    HOST_PROCESS,
    PRIVILEGED,
    CAPABILITIES,
    HOST_PROBE,
    APP_ARMOR,
    SELINUX,
    PROC_MOUNT,
    SECCOMP,
    SYSCTLS,
    VOLUMES,
    ESCALATION,
    NON_ROOT,
    ROOT_USER,
    WARNED,
)

BASELINE_CAPABILITIES = frozenset(
    [
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ]
)
SAFE_SYSCTLS: Mapping[str, int] = {
    "kernel.shm_rmid_forced": 0,
    "net.ipv4.ip_local_port_range": 0,
    "net.ipv4.tcp_syncookies": 0,
    "net.ipv4.ping_group_range": 0,
    "net.ipv4.ip_unprivileged_port_start": 0,
    "net.ipv4.ip_local_reserved_ports": 27,
    "net.ipv4.tcp_keepalive_time": 29,
    "net.ipv4.tcp_fin_timeout": 29,
    "net.ipv4.tcp_keepalive_intvl": 29,
    "net.ipv4.tcp_keepalive_probes": 29,
    "net.ipv4.tcp_rmem": 32,
    "net.ipv4.tcp_wmem": 32,
    "net.ipv4.tcp_slow_start_after_idle": 37,
    "net.ipv4.tcp_notsent_lowat": 37,
}
"""The sysctls that are safe, and since which minor version they count as such."""
SELINUX_TYPES: Mapping[str, int] = {
    "": 0,
    "container_t": 0,
    "container_init_t": 0,
    "container_kvm_t": 0,
    "container_engine_t": 31,
}
ALLOWED_VOLUMES = frozenset(
    [
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "image",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ]
)
REFUSED_VOLUMES = (
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "gitRepo",
    "nfs",
    "iscsi",
    "glusterfs",
    "rbd",
    "flexVolume",
    "cinder",
    "cephfs",
    "flocker",
    "fc",
    "azureFile",
    "vsphereVolume",
    "quobyte",
    "azureDisk",
    "portworxVolume",
    "photonPersistentDisk",
    "scaleIO",
    "storageos",
)
