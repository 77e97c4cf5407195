"""What the checks say about hosts."""

from __future__ import annotations

from typing import Any

import pytest

from envprov.domain.checks.catalogue import CHECKS, RULES
from envprov.domain.checks.hosts import hosts_can_be_reserved
from envprov.domain.findings import Finding, Severity
from tests.unit.builders import SLUG
from tests.unit.facts import facts, given, wanted

BY = "branch feature/y of Project shop (Environment feature-y-2xmjeilo)"


def ingress(*hosts: str, name: str = "web") -> dict[str, Any]:
    rules = [{"host": host} if host else {} for host in hosts]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": name},
        "spec": {"rules": rules},
    }


def found(*objects: dict[str, Any], host: str | None = None, taken: dict[str, str] | None = None) -> list[Finding]:
    desired = wanted(**({"host": host} if host else {}))
    return list(hosts_can_be_reserved(given(*objects, desired=desired, seen=facts(hosts=taken or {}))))


@pytest.mark.parametrize(
    ("host", "reason", "message"),
    [
        pytest.param("", "CatchAllHost", "claims the requests of every host", id="no host"),
        pytest.param("*", "CatchAllHost", "claims the requests of every host", id="every host"),
        pytest.param(
            "*.dev.example.com", "WildcardHost", "*.dev.example.com reaches into other environments", id="wildcard"
        ),
        pytest.param("a_b!.example.com", "InvalidHost", "'a_b!.example.com' is no host name", id="no host name"),
        pytest.param("Taken.example.com", "HostTaken", f"host taken.example.com is reserved by {BY}", id="taken"),
    ],
)
def test_a_host_that_cannot_be_reserved_is_refused(host: str, reason: str, message: str) -> None:
    (finding,) = found(ingress("fine.example.com", host), taken={"taken.example.com": BY})
    assert (finding.reason, finding.severity, finding.message) == (reason, Severity.ERROR, message)
    assert (str(finding.subject), finding.field) == ("Ingress web", "spec.rules[1].host")
    assert finding.remedy


@pytest.mark.parametrize(
    "host",
    [
        pytest.param("shop.example.com", id="nobody's host"),
        pytest.param(f"*.{SLUG}.dev.example.com", id="a wildcard below the own name"),
        pytest.param("bücher.example.com", id="another alphabet"),
    ],
)
def test_a_host_that_can_be_reserved_is_not_mentioned(host: str) -> None:
    assert found(ingress(host), taken={"other.example.com": BY}) == []


def test_all_is_said_at_once() -> None:
    reasons = [one.reason for one in found(ingress(""), ingress("*.example.com", name="b"), ingress("a b", name="c"))]
    assert reasons == ["CatchAllHost", "WildcardHost", "InvalidHost"]


def test_a_regular_expression_is_cited() -> None:
    annotated = ingress("a.example.com")
    annotated["metadata"]["annotations"] = {"nginx.ingress.kubernetes.io/server-alias": "~^b\\d+$"}
    (finding,) = found(annotated)
    assert finding.reason == "InvalidHost"
    assert finding.message == "'^b\\\\d+$' is a regular expression, which cannot be reserved"


@pytest.mark.parametrize(
    ("host", "reason", "message"),
    [
        pytest.param("one.example.com", "HostTaken", f"host one.example.com is reserved by {BY}", id="one for all"),
        pytest.param("{branch}.example.com", "InvalidHost", "'feature/x.example.com' is no host name", id="a branch"),
    ],
)
def test_the_host_of_the_project_is_judged_too(host: str, reason: str, message: str) -> None:
    (finding,) = found(host=host, taken={"one.example.com": BY})
    assert (finding.reason, finding.subject, finding.field) == (reason, None, "")
    assert finding.message == f"{message} (host of Project shop)"


def test_the_check_is_in_the_chain_and_its_rules_in_the_catalogue() -> None:
    assert hosts_can_be_reserved in CHECKS
    assert {"HostTaken", "CatchAllHost", "WildcardHost", "InvalidHost"} <= {rule.reason for rule in RULES}
