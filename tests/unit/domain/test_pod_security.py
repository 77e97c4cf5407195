"""What is said of pods below a level; that the rules are the API server's own is tested against it."""

from __future__ import annotations

from typing import Any

import pytest

from envprov.domain.checking import Given
from envprov.domain.checks import pod_security
from envprov.domain.checks.catalogue import check
from envprov.domain.checks.pod_security import minor_of
from envprov.domain.desired import Desired, desire
from envprov.domain.findings import Finding, Severity
from tests.unit import builders, facts

Manifest = dict[str, Any]


def levels(**security: str) -> Desired:
    """Return what ought to be on a platform with these Pod Security levels."""
    platform = builders.platform(pod_security=security)
    return desire(builders.environment(), builders.project(), platform)


def deployment(*containers: Manifest, **spec: Any) -> Manifest:  # noqa: ANN401 - any field
    template = {"spec": {"containers": list(containers) or [{"name": "web"}], **spec}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "shop"},
        "spec": {"template": template},
    }


def found(chart: Given) -> list[Finding]:
    return [finding for one in pod_security.CHECKS for finding in one(chart)]


def test_who_what_and_the_way_out_are_said() -> None:
    chart = facts.given(deployment({"name": "web", "ports": [{"containerPort": 80, "hostPort": 8080}]}))

    assert str(found(chart)[0]) == (
        'Deployment shop spec.template.spec.containers[0].ports[0].hostPort: container "web" uses hostPort 8080, which '
        "baseline:v1.30 forbids; remove hostPort, and reach the pod through a Service"
    )


def test_what_is_only_warned_of_is_one_finding_for_each_pod() -> None:
    [finding] = found(facts.given(deployment({"name": "web"}, {"name": "proxy"})))

    assert (finding.reason, finding.severity) == ("PodSecurityWarning", Severity.WARNING)
    assert finding.field == "spec.template.spec"
    assert finding.message == (
        'is below restricted:v1.30: container "web" does not set securityContext.allowPrivilegeEscalation=false; '
        'container "proxy" does not set securityContext.allowPrivilegeEscalation=false; '
        'container "web" does not set securityContext.capabilities.drop=["ALL"]; '
        'container "proxy" does not set securityContext.capabilities.drop=["ALL"]; '
        'neither the pod nor container "web", container "proxy" sets securityContext.runAsNonRoot to true; '
        'neither the pod nor container "web", container "proxy" sets securityContext.seccompProfile.type to '
        "RuntimeDefault or Localhost"
    )
    assert finding.remedy.endswith(
        "set securityContext.runAsNonRoot: true for the pod (spec.template.spec.securityContext.runAsNonRoot); "
        "set securityContext.seccompProfile.type to RuntimeDefault for the pod "
        "(spec.template.spec.securityContext.seccompProfile.type)"
    )


def test_what_is_refused_is_not_warned_of_as_well() -> None:
    safe = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    secure = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    chart = facts.given(deployment({"name": "web", "securityContext": safe}, securityContext=secure, hostPID=True))

    assert facts.reasons(found(chart)) == ["HostNamespaces"]


def test_at_restricted_each_missing_field_is_an_error() -> None:
    chart = facts.given(deployment(), desired=levels(enforce="restricted"))

    assert facts.reasons(check(chart)) == ["Capabilities", "PrivilegeEscalation", "RunAsNonRoot", "SeccompProfile"]
    assert {finding.severity for finding in check(chart)} == {Severity.ERROR}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param({"hostNetwork": True}, ["HostNamespaces"], id="network of the node -> refused"),
        pytest.param(
            {"volumes": [{"name": "x", "hostPath": {"path": "/"}}]}, ["HostPathVolume"], id="folder -> refused"
        ),
        pytest.param(
            {"containers": [{"name": "web", "ports": [{"hostPort": 80}]}]},
            ["HostPort"],
            id="port of the node -> refused",
        ),
        pytest.param(
            {"containers": [{"name": "web", "securityContext": {"privileged": True}}]},
            [],
            id="privileged container -> the platform allows it",
        ),
    ],
)
def test_what_belongs_to_the_node_is_refused_at_every_level(spec: Manifest, expected: list[str]) -> None:
    chart = facts.given(deployment(**spec), desired=levels(enforce="privileged", warn="privileged"))

    assert facts.reasons(check(chart)) == expected


@pytest.mark.parametrize("level", ["baseline", "restricted"])
def test_what_belongs_to_the_node_is_said_once(level: str) -> None:
    spec = {"hostIPC": True, "volumes": [{"name": "x", "hostPath": {"path": "/"}}]}
    reasons = facts.reasons(check(facts.given(deployment(**spec), desired=levels(enforce=level))))

    assert (reasons.count("HostNamespaces"), reasons.count("HostPathVolume"), reasons.count("VolumeType")) == (1, 1, 0)


@pytest.mark.parametrize(
    ("version", "minor"),
    [("v1.30", 30), ("v1.0", 0), ("v1.37", 37), ("v1.99", 37), ("latest", 37), ("v2.1", 37), ("1.30", 37), ("", 37)],
)
def test_a_version_that_is_newer_or_none_counts_as_the_newest(version: str, minor: int) -> None:
    assert minor_of(version) == minor
