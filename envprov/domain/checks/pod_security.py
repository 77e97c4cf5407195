"""
The Pod Security Standards, as the API server's own admission judges them: what a pod must not have at a level.

A pod below the level that a namespace enforces never starts, and only the ReplicaSet or Job that should make it hears
of that: so every template of a chart is judged here, in the version of the standards that the platform has pinned.

Source: https://kubernetes.io/docs/concepts/security/pod-security-standards/ and the policy of
https://github.com/kubernetes/pod-security-admission, whose checks and versions these are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from envprov.domain.charted import PodTemplate
from envprov.domain.checking import Given
from envprov.domain.checks.pod_rules import (
    ALLOWED_VOLUMES,
    APP_ARMOR,
    BASELINE_CAPABILITIES,
    CAPABILITIES,
    ESCALATION,
    HOST_NAMESPACES,
    HOST_PATH,
    HOST_PORT,
    HOST_PROBE,
    HOST_PROCESS,
    NON_ROOT,
    PRIVILEGED,
    PROC_MOUNT,
    REFUSED_VOLUMES,
    ROOT_USER,
    SAFE_SYSCTLS,
    SECCOMP,
    SELINUX,
    SELINUX_TYPES,
    SYSCTLS,
    VOLUMES,
    WARNED,
)
from envprov.domain.findings import Finding, Rule
from envprov.domain.loose import mapping, mappings, sequence, text, within

BASELINE = "baseline"
RESTRICTED = "restricted"
NEWEST = 37
"""Minor version of the newest rules that are known here; a newer version of the standards is judged by them."""

_APP_ARMOR = "container.apparmor.security.beta.kubernetes.io/"
_SECCOMP_POD = "seccomp.security.alpha.kubernetes.io/pod"
_SECCOMP_CONTAINER = "container.seccomp.security.alpha.kubernetes.io/"
_PROFILES = ("RuntimeDefault", "Localhost")
_CONTAINERS = {
    "initContainers": "init container",
    "containers": "container",
    "ephemeralContainers": "ephemeral container",
}


@dataclass(frozen=True)
class Violation:
    """
    What keeps a pod from a level.

    Attributes:
        rule: The rule that is broken.
        field: Path of the field in the object that makes the pod.
        message: Who breaks it and how, in the words of the standards.
        remedy: What to do, if more can be said than the rule says.

    """

    rule: Rule
    field: str
    message: str
    remedy: str = ""


@dataclass(frozen=True)
class _Holder:
    """The pod or one of its containers: whatever has a securityContext."""

    words: str
    path: str
    manifest: Mapping[str, Any]

    @property
    def security(self) -> Mapping[str, Any]:
        return mapping(self.manifest.get("securityContext"))

    def at(self, field: str) -> str:
        return f"{self.path}.securityContext.{field}"


@dataclass(frozen=True)
class _Pod:
    """A template, and the version of the standards by which it is judged."""

    template: PodTemplate
    minor: int

    @property
    def spec(self) -> Mapping[str, Any]:
        return self.template.spec

    @property
    def path(self) -> str:
        return self.template.path

    @property
    def itself(self) -> _Holder:
        return _Holder("the pod", self.path, self.spec)

    @cached_property
    def containers(self) -> tuple[_Holder, ...]:
        return tuple(
            _Holder(f'{words} "{text(given.get("name"))}"', f"{self.path}.{field}[{number}]", given)
            for field, words in _CONTAINERS.items()
            for number, given in enumerate(sequence(self.spec.get(field)))
            if isinstance(given, Mapping)
        )

    @property
    def holders(self) -> tuple[_Holder, ...]:
        return (self.itself, *self.containers)

    @property
    def annotations(self) -> Mapping[str, Any]:
        return mapping(self.template.metadata.get("annotations"))

    def annotation(self, key: str) -> str:
        return f"{self.path.removesuffix('spec')}metadata.annotations[{key}]"

    @property
    def is_windows(self) -> bool:
        """Whether it is exempt from what only Linux knows: since 1.25."""
        return self.minor >= 25 and mapping(self.spec.get("os")).get("name") == "windows"  # noqa: PLR2004 - a version

    @property
    def has_own_users(self) -> bool:
        """Whether root in it is nobody outside, which counts since 1.35."""
        return self.minor >= 35 and self.spec.get("hostUsers") is False  # noqa: PLR2004 - a version


Found = Iterator[Violation]
_PodCheck = Callable[[_Pod], Found]


def violations(template: PodTemplate, level: str, version: str) -> Iterator[Violation]:
    """
    What keeps a pod from a level.

    Args:
        template: The pod.
        level: ``privileged``, ``baseline`` or ``restricted``.
        version: Of the standards: ``v1.30``, or ``latest``; what cannot be read counts as that.

    """
    minor = minor_of(version)
    pod = _Pod(template, minor)
    for check, first_at_restricted, since in _CHECKS_OF_BASELINE:
        if level == BASELINE or (level == RESTRICTED and minor < first_at_restricted):
            yield from check(pod) if minor >= since else ()
    if level == RESTRICTED:
        for check, since in _CHECKS_OF_RESTRICTED:
            yield from check(pod) if minor >= since else ()


def minor_of(version: str) -> int:
    """The minor version of the rules that apply: of ``v1.30`` it is 30."""
    match = re.fullmatch(r"v1\.(\d{1,3})", version)
    return min(int(match[1]), NEWEST) if match else NEWEST


def below_enforced(given: Given) -> Iterator[Finding]:
    """Pods that the namespace would refuse."""
    security = given.desired.platform.pod_security
    for template in given.pods:
        for found in violations(template, security.enforce, security.version):
            message = f"{found.message}, which {security.enforce}:{security.version} forbids"
            yield found.rule.found(template.owner.subject, found.field, message, found.remedy)


def below_warned(given: Given) -> Iterator[Finding]:
    """Pods that the namespace takes, with a warning: one finding for each pod, for they are many."""
    security = given.desired.platform.pod_security
    for template in given.pods:
        refused = {(found.rule, found.field) for found in violations(template, security.enforce, security.version)}
        warned = [
            found
            for found in violations(template, security.warn, security.version)
            if (found.rule, found.field) not in refused
        ]
        if warned:
            faults = "; ".join(dict.fromkeys(found.message for found in warned))
            ways = "; ".join(dict.fromkeys(f"{found.remedy or found.rule.remedy} ({found.field})" for found in warned))
            message = f"is below {security.warn}:{security.version}: {faults}"
            yield WARNED.found(template.owner.subject, template.path, message, ways)


CHECKS = (below_enforced, below_warned)


# --- Baseline


def _host_namespaces(pod: _Pod) -> Found:
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.spec.get(field) is True:
            yield Violation(HOST_NAMESPACES, f"{pod.path}.{field}", f"the pod sets {field}=true")


def _host_path_volumes(pod: _Pod) -> Found:
    for number, volume in enumerate(sequence(pod.spec.get("volumes"))):
        if mapping(volume).get("hostPath") is not None:
            folder = text(within(volume, "hostPath").get("path"))
            message = f'volume "{text(volume.get("name"))}" is the folder {folder or "(none named)"} of the node'
            yield Violation(HOST_PATH, f"{pod.path}.volumes[{number}].hostPath", message)


def _host_ports(pod: _Pod) -> Found:
    for container in pod.containers:
        for number, port in enumerate(sequence(container.manifest.get("ports"))):
            wanted = mapping(port).get("hostPort")
            if _is_number(wanted) and wanted != 0:
                field = f"{container.path}.ports[{number}].hostPort"
                yield Violation(HOST_PORT, field, f"{container.words} uses hostPort {wanted}")


def _host_process(pod: _Pod) -> Found:
    for holder in pod.holders:
        if mapping(holder.security.get("windowsOptions")).get("hostProcess") is True:
            message = f"{holder.words} sets securityContext.windowsOptions.hostProcess=true"
            yield Violation(HOST_PROCESS, holder.at("windowsOptions.hostProcess"), message)


def _privileged(pod: _Pod) -> Found:
    for container in pod.containers:
        if container.security.get("privileged") is True:
            message = f"{container.words} sets securityContext.privileged=true"
            yield Violation(PRIVILEGED, container.at("privileged"), message)


def _capabilities(pod: _Pod, allowed: frozenset[str] = BASELINE_CAPABILITIES) -> Found:
    for container in pod.containers:
        given = sequence(mapping(container.security.get("capabilities")).get("add"))
        added = [str(name) for name in given if not isinstance(name, str) or name not in allowed]
        if added:
            message = f"{container.words} includes {_quoted(added)} in securityContext.capabilities.add"
            remedy = f"take {' and '.join(added)} out of securityContext.capabilities.add"
            yield Violation(CAPABILITIES, container.at("capabilities.add"), message, remedy)


def _host_probes(pod: _Pod) -> Found:
    places = (
        *((probe,) for probe in ("livenessProbe", "readinessProbe", "startupProbe")),
        *(("lifecycle", handler) for handler in ("postStart", "preStop")),
    )
    for container in pod.containers:
        for place in places:
            for action in ("httpGet", "tcpSocket"):
                host = within(container.manifest, *place, action).get("host")
                if host:
                    field = ".".join((container.path, *place, action, "host"))
                    yield Violation(HOST_PROBE, field, f'{container.words} uses the probe or lifecycle host "{host}"')


def _app_armor(pod: _Pod) -> Found:
    for holder in pod.holders:
        profile = holder.security.get("appArmorProfile")
        if profile is not None and (kind := mapping(profile).get("type")) not in _PROFILES:
            message = f'{holder.words} sets the AppArmor profile type to "{kind or ""}"'
            yield Violation(APP_ARMOR, holder.at("appArmorProfile.type"), message)
    for key, value in pod.annotations.items():
        is_allowed = value in ("", "runtime/default", None) or text(value).startswith("localhost/")
        if text(key).startswith(_APP_ARMOR) and not is_allowed:
            message = f'the annotation {key} sets the AppArmor profile to "{value}"'
            yield Violation(APP_ARMOR, pod.annotation(key), message, "remove the annotation")


def _selinux(pod: _Pod) -> Found:
    for holder in pod.holders:
        options = mapping(holder.security.get("seLinuxOptions"))
        for field in ("user", "role"):
            if options.get(field):
                message = f"{holder.words} sets securityContext.seLinuxOptions.{field}"
                yield Violation(SELINUX, holder.at(f"seLinuxOptions.{field}"), message)
        kind = options.get("type") or ""
        if not isinstance(kind, str) or SELINUX_TYPES.get(kind, NEWEST + 1) > pod.minor:
            message = f'{holder.words} sets securityContext.seLinuxOptions.type to "{kind}"'
            remedy = "remove the type, or use container_t, container_init_t or container_kvm_t"
            yield Violation(SELINUX, holder.at("seLinuxOptions.type"), message, remedy)


def _proc_mount(pod: _Pod) -> Found:
    for container in pod.containers:
        mount = container.security.get("procMount")
        if mount is not None and mount != "Default":
            message = f'{container.words} sets securityContext.procMount to "{mount}"'
            yield Violation(PROC_MOUNT, container.at("procMount"), message)


def _proc_mount_baseline(pod: _Pod) -> Found:
    return iter(()) if pod.has_own_users else _proc_mount(pod)


def _seccomp_set_wrong(pod: _Pod) -> Found:
    for holder in pod.holders:
        profile = holder.security.get("seccompProfile")
        if profile is not None and (kind := mapping(profile).get("type")) not in _PROFILES:
            message = f'{holder.words} sets securityContext.seccompProfile.type to "{kind or ""}"'
            yield Violation(SECCOMP, holder.at("seccompProfile.type"), message)


def _seccomp_baseline(pod: _Pod) -> Found:
    if pod.minor >= 19:  # noqa: PLR2004 - a version: until then there were annotations
        yield from _seccomp_set_wrong(pod)
        return
    names = (text(container.manifest.get("name")) for container in pod.containers)
    for key in (_SECCOMP_POD, *(_SECCOMP_CONTAINER + name for name in names)):
        value = pod.annotations.get(key)
        if value is None or value in ("runtime/default", "docker/default") or text(value).startswith("localhost/"):
            continue
        yield Violation(SECCOMP, pod.annotation(key), f'the annotation {key} is "{value}"', "remove the annotation")


def _sysctls(pod: _Pod) -> Found:
    for number, sysctl in enumerate(sequence(pod.itself.security.get("sysctls"))):
        name = text(mapping(sysctl).get("name"))
        if SAFE_SYSCTLS.get(name, NEWEST + 1) > pod.minor:
            field = pod.itself.at(f"sysctls[{number}].name")
            yield Violation(SYSCTLS, field, f"the pod sets the sysctl {name or '(without a name)'}")


# --- Restricted


def _volume_types(pod: _Pod) -> Found:
    for number, volume in enumerate(mappings(pod.spec.get("volumes"))):
        kinds = {key for key, value in volume.items() if value is not None}
        # The API server makes an emptyDir of what names none that it knows.
        other = next((kind for kind in REFUSED_VOLUMES if kind in kinds), None)
        if other and not kinds & ALLOWED_VOLUMES:
            message = f'volume "{text(volume.get("name"))}" uses the restricted volume type "{other}"'
            rule = HOST_PATH if other == "hostPath" else VOLUMES
            yield Violation(rule, f"{pod.path}.volumes[{number}].{other}", message)


def _escalation(pod: _Pod) -> Found:
    for container in () if pod.is_windows else pod.containers:
        if container.security.get("allowPrivilegeEscalation") is not False:
            message = f"{container.words} does not set securityContext.allowPrivilegeEscalation=false"
            yield Violation(ESCALATION, container.at("allowPrivilegeEscalation"), message)


def _capabilities_restricted(pod: _Pod) -> Found:
    if pod.is_windows:
        return
    for container in pod.containers:
        if "ALL" not in sequence(mapping(container.security.get("capabilities")).get("drop")):
            message = f'{container.words} does not set securityContext.capabilities.drop=["ALL"]'
            remedy = 'set securityContext.capabilities.drop: ["ALL"]'
            yield Violation(CAPABILITIES, container.at("capabilities.drop"), message, remedy)
    yield from _capabilities(pod, frozenset({"NET_BIND_SERVICE"}))


def _run_as_non_root(pod: _Pod) -> Found:
    if pod.has_own_users:
        return
    wrong = [holder for holder in pod.holders if holder.security.get("runAsNonRoot") is False]
    for holder in wrong:
        message = f"{holder.words} sets securityContext.runAsNonRoot=false"
        yield Violation(NON_ROOT, holder.at("runAsNonRoot"), message)
    if not wrong and pod.itself.security.get("runAsNonRoot") is not True:
        silent = [container for container in pod.containers if container.security.get("runAsNonRoot") is not True]
        yield from _unsaid(pod, silent, NON_ROOT, "runAsNonRoot", "true")


def _run_as_user(pod: _Pod) -> Found:
    for holder in () if pod.has_own_users else pod.holders:
        user = holder.security.get("runAsUser")
        if _is_number(user) and user == 0:
            yield Violation(ROOT_USER, holder.at("runAsUser"), f"{holder.words} sets runAsUser=0")


def _seccomp_restricted(pod: _Pod) -> Found:
    if pod.is_windows:
        return
    wrong = list(_seccomp_set_wrong(pod))
    yield from wrong
    if not wrong and pod.itself.security.get("seccompProfile") is None:
        silent = [container for container in pod.containers if container.security.get("seccompProfile") is None]
        yield from _unsaid(pod, silent, SECCOMP, "seccompProfile.type", "RuntimeDefault or Localhost")


def _unsaid(pod: _Pod, silent: Iterable[_Holder], rule: Rule, field: str, value: str) -> Found:
    """What the pod can say once for all its containers."""
    names = ", ".join(container.words for container in silent)
    if names:
        message = f"neither the pod nor {names} sets securityContext.{field} to {value}"
        yield Violation(rule, pod.itself.at(field), message, f"{rule.remedy} for the pod")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


_NEVER = NEWEST + 1
_CHECKS_OF_BASELINE: tuple[tuple[_PodCheck, int, int], ...] = (
    # Each with the minor version since when restricted has a stricter one in its place, and since when there is it.
    (_host_namespaces, _NEVER, 0),
    (_host_path_volumes, 0, 0),
    (_host_ports, _NEVER, 0),
    (_host_process, _NEVER, 0),
    (_privileged, _NEVER, 0),
    (_capabilities, 22, 0),
    (_host_probes, _NEVER, 34),
    (_app_armor, _NEVER, 0),
    (_selinux, _NEVER, 0),
    (_proc_mount_baseline, 35, 0),
    (_seccomp_baseline, 19, 0),
    (_sysctls, _NEVER, 0),
)
_CHECKS_OF_RESTRICTED: tuple[tuple[_PodCheck, int], ...] = (
    (_volume_types, 0),
    (_escalation, 8),
    (_capabilities_restricted, 22),
    (_proc_mount, 35),
    (_run_as_non_root, 0),
    (_run_as_user, 23),
    (_seccomp_restricted, 19),
)
