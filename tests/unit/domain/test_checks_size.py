"""What is said of a chart that does not fit: the numbers, who needs how much, and the way out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

from envprov.domain.checking import ClusterFacts, Given
from envprov.domain.checks import limits, size
from envprov.domain.findings import Finding, Severity
from tests import corpus
from tests.corpus import Case
from tests.unit.facts import FACTS, facts, given, wanted

Manifest = dict[str, Any]


def findings(chart: Given) -> list[Finding]:
    return [finding for check in (*size.CHECKS, *limits.CHECKS) for finding in check(chart)]


def found(*objects: Mapping[str, Any], seen: ClusterFacts = FACTS, **project: Any) -> list[Finding]:  # noqa: ANN401
    return findings(given(*objects, desired=wanted(**project), seen=seen))


def deployment(name: str, replicas: int, resources: Manifest, **spec: Any) -> Manifest:  # noqa: ANN401 - any field
    pod = {"containers": [{"name": name, "resources": resources}]}
    whole = {"replicas": replicas, "strategy": {"type": "Recreate"}, "template": {"spec": pod}} | spec
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": whole}


def asks(**requests: str) -> Manifest:
    return {"requests": {"memory": "64Mi"} | requests, "limits": {"memory": "512Mi"}}


def cases(which: tuple[Case, ...]) -> list[Any]:
    return [pytest.param(case, id=case.name) for case in which if case.name.startswith(("size-", "limit-"))]


# --- The corpus


def judged(case: Case) -> list[Finding]:
    return found(*case.objects, seen=facts(**case.facts), **case.project)


@pytest.mark.parametrize("case", cases(corpus.refused()))
def test_a_chart_that_breaks_one_rule_is_refused_for_it_alone(case: Case) -> None:
    errors = [finding for finding in judged(case) if finding.severity is Severity.ERROR]
    said = [(finding.reason, str(finding.subject or ""), finding.field) for finding in errors]
    assert said == [(case.reason, case.object, case.field)], errors


@pytest.mark.parametrize("case", cases(corpus.passed()))
def test_a_chart_that_breaks_none_passes_without_a_word(case: Case) -> None:
    assert judged(case) == []


# --- What is said


def test_the_shortfall_names_numbers_users_and_larger_sizes() -> None:
    web, worker = deployment("web", 3, asks(cpu="500m")), deployment("worker", 2, asks(cpu="500m"))
    (finding,) = found(web, worker, sizes={"default": "S", "allowed": ["S", "M", "L"]})
    assert finding.message == (
        "needs 2500m CPU (web 3 × 500m, worker 2 × 500m), size S has 1; size M has 2, size L has 6"  # noqa: RUF001
    )
    assert finding.remedy == "`envprov up feature/x --size L`: L is the smallest size that fits."


def test_all_resources_that_fall_short_are_told_at_once() -> None:
    many = [deployment(f"app-{number}", 2, asks(cpu="100m", memory="450Mi")) for number in range(6)]
    (finding,) = found(*many, sizes={"allowed": ["S", "M"]})
    assert finding.message == (
        "needs 1200m CPU (app-0 2 × 100m, app-1 2 × 100m, app-2 2 × 100m, 3 more 600m), "  # noqa: RUF001
        "size S has 1; size M has 2, size L has 6; "
        "needs 5400Mi memory (app-0 2 × 450Mi, app-1 2 × 450Mi, app-2 2 × 450Mi, 3 more 2700Mi), "  # noqa: RUF001
        "size S has 2Gi; size M has 6Gi, size L has 16Gi; "
        "needs 6Gi memory limits (app-0 2 × 512Mi, app-1 2 × 512Mi, app-2 2 × 512Mi, 3 more 3Gi), "  # noqa: RUF001
        "size S has 4Gi; size M has 12Gi, size L has 32Gi"
    )
    assert finding.remedy.startswith("`envprov up feature/x --size M`")


def test_a_size_that_a_branch_may_not_choose_is_said_to_be_so() -> None:
    (finding,) = found(deployment("web", 3, asks(cpu="500m")))
    assert finding.remedy == (
        "Lower requests, limits or replicas. M is the smallest size that fits, and Project shop does not let a branch "
        "choose it: its sizes.allowed or a rule must name it."
    )


def test_where_no_size_fits_it_is_said() -> None:
    (finding,) = found(deployment("web", 70, {"requests": {"cpu": "1m", "memory": "1Mi"}, "limits": {"memory": "1Mi"}}))
    assert "needs 70 pods (web 70), size S has 15; size M has 30, size L has 60" in finding.message
    assert (
        finding.remedy == "Lower requests, limits or replicas: no size fits. Platform people can define a larger one."
    )


def test_what_fits_only_while_nothing_happens_is_a_warning() -> None:
    rolling = deployment("web", 2, asks(cpu="400m"), strategy={"type": "RollingUpdate"})
    (finding,) = found(rolling, sizes={"allowed": ["M"]})
    assert (finding.reason, finding.severity) == ("PeakExceedsSize", Severity.WARNING)
    assert finding.message == (
        "when it is updated, scaled up or runs its CronJobs: "
        "needs 1200m CPU (web 3 × 400m), size S has 1; size M has 2, size L has 6"  # noqa: RUF001
    )
    assert finding.remedy == "`envprov up feature/x --size M`: M is the smallest size that fits."


def test_a_hook_that_does_not_fit_is_named_with_its_time() -> None:
    job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "migrate"}}
    job["metadata"] = {"name": "migrate", "annotations": {"helm.sh/hook": "pre-upgrade"}}
    pod = {"containers": [{"name": "one", "resources": asks(cpu="300m")}]}
    migrate = job | {"spec": {"template": {"spec": pod}}}
    (finding,) = found(deployment("web", 2, asks(cpu="400m")), migrate)
    assert finding.message.startswith("during the pre-upgrade hook migrate: needs 1100m CPU (web 2 ×")  # noqa: RUF001


def test_too_many_objects_are_told_with_the_largest_makers() -> None:
    maps = [{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"c-{number:03}"}} for number in range(100)]
    (finding,) = found(*maps)
    assert finding.message == (
        "needs 101 ConfigMaps (c-000 1, c-001 1, c-002 1, 98 more 98), and an environment may have 100"
    )
    assert found(*maps[1:]) == []


def test_a_daemon_set_counts_once_for_each_node_where_their_number_is_known() -> None:
    daemon = {"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": "agent"}, "spec": {}}
    assert found(daemon) == []
    assert found(daemon, seen=facts(nodes=3)) == []
    (finding,) = found(daemon, seen=facts(nodes=16))
    assert finding.message == "needs 16 pods (agent 16), size S has 15; size M has 30, size L has 60"


@pytest.mark.parametrize(
    ("size_bytes", "reasons"),
    [
        (None, []),
        (838_860, []),
        (838_861, ["ReleaseNearlyTooLarge"]),
        (1_048_576, ["ReleaseNearlyTooLarge"]),
        (1_048_577, ["ReleaseTooLarge"]),
    ],
)
def test_the_release_must_fit_into_a_secret(size_bytes: int | None, reasons: list[str]) -> None:
    assert [finding.reason for finding in found(seen=facts(release_bytes=size_bytes))] == reasons


def test_a_container_is_told_what_is_wrong_first_for_each_resource() -> None:
    resources = {"requests": {"cpu": "many", "memory": "9Gi"}, "limits": {"cpu": "1", "memory": "8Gi"}}
    chart = found(deployment("web", 0, resources))
    said = [(finding.reason, finding.field.rpartition("resources.")[2], finding.message) for finding in chart]
    assert said == [
        ("QuantityInvalid", "requests.cpu", "'many' is no quantity"),
        (
            "ContainerTooLarge",
            "requests.memory",
            "container web asks for 9Gi memory, and one container may have 8Gi",
        ),
    ]


def test_a_default_limit_is_named_with_the_way_out() -> None:
    (finding,) = found(deployment("web", 1, {"requests": {"memory": "600Mi"}}))
    assert finding.message == (
        "container web requests 600Mi memory and has no limit of its own, so that it gets the default limit of 512Mi"
    )
    assert finding.remedy == "Set spec.template.spec.containers[0].resources.limits.memory to 600Mi or more."


@pytest.mark.parametrize(
    ("own", "containers", "expected"),
    [
        pytest.param(
            {"requests": {"cpu": "1"}, "limits": {"cpu": "4"}}, [{"requests": {"cpu": "1"}}], None, id="all alike"
        ),
        pytest.param(
            {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}},
            [{"limits": {"cpu": "1"}}],
            "the pod requests 2 cpu and has a limit of 1",
            id="its own request is above its own limit",
        ),
        pytest.param(
            {"requests": {"memory": "200Mi"}},
            [{}, {}],
            "the pod requests 200Mi memory, and its containers request 256Mi together",
            id="containers with default requests are above it",
        ),
        pytest.param(
            {"limits": {"memory": "256Mi"}},
            [{}],
            "container c0 has no limit of its own, so that it gets the default limit of 512Mi memory, and the pod as a "
            "whole has 256Mi",
            id="a container with a default limit is above it",
        ),
        pytest.param(
            {"limits": {"memory": "256Mi"}},
            [{"limits": {"memory": "300Mi"}}],
            "container c0 has a limit of 300Mi memory, and the pod as a whole has 256Mi",
            id="a container with its own limit is above it",
        ),
        pytest.param({"requests": {"cpu": None}}, [{"requests": {"cpu": 0}}], None, id="null is zero"),
        pytest.param({"limits": {"cpu": "no"}}, [{}], "'no' is no quantity", id="no quantity"),
    ],
)
def test_a_pod_with_resources_of_its_own_must_hold_its_containers(
    own: Manifest, containers: list[Manifest], expected: str | None
) -> None:
    listed = [{"name": f"c{number}", "resources": each} for number, each in enumerate(containers)]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}}
    chart = found(pod | {"spec": {"containers": listed, "resources": own}}, sizes={"default": "L"})
    assert [finding.message.replace("CPU", "cpu") for finding in chart] == ([expected] if expected else [])


def test_pods_of_other_namespaces_are_not_measured_by_our_limits() -> None:
    other = deployment("web", 1, {"requests": {"memory": "600Mi"}})
    other["metadata"]["namespace"] = "other"
    assert found(other) == []


def test_rules_have_names_of_their_own_and_a_way_out() -> None:
    rules = (*size.RULES, *limits.RULES)
    assert len({rule.reason for rule in rules}) == len(rules)
    assert all(rule.cause.endswith(".") and rule.remedy.endswith(".") for rule in rules)


_keys = st.sampled_from(["resources", "requests", "limits", "cpu", "memory", "storage", "name", "spec", "ephemeral"])
_junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.sampled_from(["1", "1Gi"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=4),
    max_leaves=15,
)


@settings(deadline=None, max_examples=100)
@for_all(st.sampled_from(["containers", "initContainers", "resources", "volumes"]), _junk, _junk)
def test_no_check_raises_on_junk(part: str, value: object, other: object) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "odd"}, "spec": {part: value, "containers": [other]}}
    sets = {"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "odd"}, "spec": {part: value}}
    claim = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "odd"}, "spec": {part: other}}
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "odd"}, "spec": other}
    for finding in found(pod, sets, claim, service, pod | {"spec": value}):
        assert finding.message
        assert str(finding)
