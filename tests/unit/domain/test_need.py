"""What a chart needs: each rule by hand, and what holds for every chart."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given as for_all
from hypothesis import settings
from hypothesis import strategies as st

from envprov.domain.charges import Surroundings
from envprov.domain.charted import charted
from envprov.domain.need import Needs, needs, needs_of, quantities_of
from envprov.domain.pod_resources import limits_of
from tests.unit.facts import facts, given, wanted

Manifest = dict[str, Any]

HOME = "env-x"
LIMITS = limits_of(
    {
        "spec": {
            "limits": [
                {
                    "type": "Container",
                    "default": {"memory": "400Mi"},
                    "defaultRequest": {"cpu": "50m", "memory": "100Mi"},
                    "max": {"cpu": "4", "memory": "8Gi"},
                },
                {"type": "PersistentVolumeClaim", "max": {"storage": "20Gi"}},
            ]
        }
    }
)


def workload(kind: str, name: str = "web", api_version: str = "apps/v1", **rest: Any) -> Manifest:  # noqa: ANN401 - spec
    spec = {"template": {"spec": {"containers": [cpu("100m")]}}} | rest
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, "spec": spec}


def template(**spec: Any) -> Manifest:  # noqa: ANN401 - any field
    return {"spec": {"containers": [cpu("100m")]} | spec}


def cpu(request: str, **more: Any) -> Manifest:  # noqa: ANN401 - any field of a container
    return {"name": "one", "resources": {"requests": {"cpu": request}}} | more


def hook(event: str, request: str, *, weight: int = 0, delete: str = "", name: str = "hook") -> Manifest:
    job = workload("Job", name, "batch/v1", template=template(containers=[cpu(request)]))
    annotations = {"helm.sh/hook": event, "helm.sh/hook-weight": str(weight)}
    job["metadata"]["annotations"] = annotations | ({"helm.sh/hook-delete-policy": delete} if delete else {})
    return job


def scaler(**spec: Any) -> Manifest:  # noqa: ANN401 - any field
    target = {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "web"},
        "spec": target | spec,
    }


def claim(storage: object = "1Gi") -> Manifest:
    return {"metadata": {"name": "data"}, "spec": {"resources": {"requests": {"storage": storage}}}}


def needed(*objects: Mapping[str, Any], **around: Any) -> Needs:  # noqa: ANN401 - fields of Surroundings
    return needs(charted(objects, HOME, {}), Surroundings(HOME, LIMITS, **around))


def steady(*objects: Mapping[str, Any], **around: Any) -> dict[str, str]:  # noqa: ANN401 - fields of Surroundings
    return quantities_of(needed(*objects, **around).steady.total)


def peak(*objects: Mapping[str, Any], **around: Any) -> dict[str, str]:  # noqa: ANN401 - fields of Surroundings
    return quantities_of(needed(*objects, **around).peak.total)


def of_pod(**spec: Any) -> dict[str, str]:  # noqa: ANN401 - fields of a pod's spec
    return steady({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": spec})


# --- One pod


@pytest.mark.parametrize(
    ("resources", "expected"),
    [
        pytest.param({}, ("50m", "100Mi", "400Mi"), id="says nothing -> defaults"),
        pytest.param(None, ("50m", "100Mi", "400Mi"), id="no resources at all -> defaults"),
        pytest.param({"limits": {"cpu": "1"}}, ("1", "100Mi", "400Mi"), id="only a CPU limit -> it is the request"),
        pytest.param({"limits": {"memory": "1Gi"}}, ("50m", "1Gi", "1Gi"), id="only a memory limit -> both"),
        pytest.param(
            {"requests": {"memory": "300Mi"}}, ("50m", "300Mi", "400Mi"), id="only a request -> default limit"
        ),
        pytest.param(
            {"requests": {"cpu": "10m"}, "limits": {"cpu": "2", "memory": "2Gi"}},
            ("10m", "2Gi", "2Gi"),
            id="its own request stands",
        ),
        pytest.param({"requests": {"cpu": 0.25, "memory": 1048576}}, ("250m", "1Mi", "400Mi"), id="numbers of YAML"),
        pytest.param({"requests": {"cpu": "0.0001"}}, ("1m", "100Mi", "400Mi"), id="less than milli is rounded up"),
        pytest.param({"requests": {"cpu": None, "memory": "+1Mi"}}, ("0", "1Mi", "400Mi"), id="null is zero"),
        pytest.param({"requests": {"cpu": "0"}}, ("0", "100Mi", "400Mi"), id="zero is a request"),
        pytest.param({"requests": {"cpu": "many"}}, ("50m", "100Mi", "400Mi"), id="no quantity -> as if not there"),
    ],
)
def test_a_container_is_charged_after_defaults(resources: Manifest | None, expected: tuple[str, str, str]) -> None:
    found = of_pod(containers=[{"name": "one", "resources": resources}])
    assert (found["requests.cpu"], found["requests.memory"], found["limits.memory"]) == expected


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        pytest.param({"containers": [cpu("100m"), cpu("200m")]}, "300m", id="containers run side by side -> sum"),
        pytest.param(
            {"containers": [cpu("100m")], "initContainers": [cpu("30m"), cpu("400m")]},
            "400m",
            id="init containers run before -> the larger",
        ),
        pytest.param(
            {"containers": [cpu("100m")], "initContainers": [cpu("30m"), cpu("40m")]},
            "100m",
            id="small init containers -> nothing more",
        ),
        pytest.param(
            {"containers": [cpu("100m")], "initContainers": [cpu("30m", restartPolicy="Always")]},
            "130m",
            id="a sidecar stays -> sum",
        ),
        pytest.param(
            {"containers": [cpu("100m")], "initContainers": [cpu("30m", restartPolicy="Always"), cpu("400m")]},
            "430m",
            id="an init container after a sidecar -> beside it",
        ),
        pytest.param(
            {"containers": [cpu("100m")], "initContainers": [cpu("400m"), cpu("30m", restartPolicy="Always")]},
            "400m",
            id="an init container before a sidecar -> alone",
        ),
        pytest.param(
            {"containers": [cpu("100m")], "resources": {"requests": {"cpu": "250m"}}},
            "250m",
            id="the pod says how much",
        ),
        pytest.param(
            {"containers": [cpu("100m")], "resources": {"limits": {"cpu": "2"}}},
            "100m",
            id="the pod has only a limit -> its containers' requests",
        ),
        pytest.param({"containers": [cpu("100m")], "runtimeClassName": "vm"}, "350m", id="its RuntimeClass adds"),
        pytest.param({"containers": [cpu("100m")], "runtimeClassName": "no"}, "100m", id="unknown RuntimeClass"),
    ],
)
def test_a_pod_is_charged(spec: Manifest, expected: str) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": spec}
    found = steady(pod, overheads={"vm": {"cpu": Decimal("0.25"), "memory": Decimal(100)}})
    assert (found["requests.cpu"], found["pods"]) == (expected, "1")


def test_limits_of_a_pod_are_its_own_or_those_of_its_containers() -> None:
    def limit(own: Manifest) -> str:
        return of_pod(containers=[cpu("1m"), cpu("1m")], resources=own)["limits.memory"]

    assert limit({"limits": {"memory": "3Gi"}}) == "3Gi"
    assert limit({"requests": {"memory": "600Mi"}}) == "800Mi"
    assert limit({"requests": {"memory": "900Mi"}}) == "900Mi"
    assert limit({}) == "800Mi"


def test_an_overhead_grows_only_limits_that_are_there() -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"}, "spec": {"runtimeClassName": "vm"}}
    bare = steady(pod, overheads={"vm": {"memory": Decimal(1024)}})
    assert (bare["requests.memory"], bare.get("limits.memory")) == ("1Ki", None)
    full = steady(
        pod | {"spec": {"containers": [{"name": "one"}], "runtimeClassName": "vm"}},
        overheads={"vm": {"memory": Decimal(1048576)}},
    )
    assert (full["requests.memory"], full["limits.memory"]) == ("101Mi", "401Mi")


def test_a_limit_range_derives_what_it_does_not_say() -> None:
    said = {"type": "Container", "max": {"cpu": "4", "memory": "8Gi"}, "min": {"memory": "1Mi", "ephemeral-storage": 5}}
    found = limits_of({"spec": {"limits": [said | {"default": {"memory": "1Gi"}}]}})
    assert quantities_of(found.limits) == {"cpu": "4", "memory": "1Gi"}
    assert quantities_of(found.requests) == {"cpu": "4", "memory": "1Gi", "ephemeral-storage": "5"}


# --- How many pods


@pytest.mark.parametrize(
    ("objects", "now", "later"),
    [
        pytest.param([workload("Deployment")], "1", "2", id="no replicas -> one, and one more in an update"),
        pytest.param([workload("Deployment", replicas=0)], "0", "0", id="none -> none"),
        pytest.param([workload("Deployment", replicas=4)], "4", "5", id="a quarter more"),
        pytest.param([workload("Deployment", replicas=5)], "5", "7", id="a quarter, rounded up"),
        pytest.param(
            [workload("Deployment", replicas=4, strategy={"rollingUpdate": {"maxSurge": "100%"}})],
            "4",
            "8",
            id="all at once",
        ),
        pytest.param(
            [workload("Deployment", replicas=4, strategy={"rollingUpdate": {"maxSurge": 3}})], "4", "7", id="a number"
        ),
        pytest.param(
            [workload("Deployment", replicas=4, strategy={"rollingUpdate": {"maxSurge": 0}})], "4", "4", id="no surge"
        ),
        pytest.param([workload("Deployment", replicas=4, strategy={"type": "Recreate"})], "4", "4", id="Recreate"),
        pytest.param([workload("StatefulSet", replicas=4)], "4", "4", id="StatefulSet: one by one"),
        pytest.param([workload("ReplicaSet", replicas=4)], "4", "4", id="ReplicaSet: no updates"),
        pytest.param([workload("DaemonSet")], "3", "3", id="DaemonSet: one on each node"),
        pytest.param(
            [workload("DaemonSet", updateStrategy={"rollingUpdate": {"maxSurge": "50%"}})],
            "3",
            "5",
            id="DaemonSet with surge: of the nodes, rounded up",
        ),
        pytest.param([workload("ReplicationController", api_version="v1", replicas=2)], "2", "2", id="the old kind"),
        pytest.param([workload("Job", api_version="batch/v1")], "1", "1", id="Job"),
        pytest.param([workload("Job", api_version="batch/v1", parallelism=3)], "3", "3", id="Job without completions"),
        pytest.param(
            [workload("Job", api_version="batch/v1", parallelism=3, completions=2)],
            "2",
            "2",
            id="Job: no more than wanted",
        ),
        pytest.param([workload("Job", api_version="batch/v1", completions=5)], "1", "1", id="Job: one after the other"),
        pytest.param([workload("Job", api_version="batch/v1", suspend=True)], "0", "0", id="Job that waits"),
        pytest.param(
            [workload("Deployment", replicas=2), scaler(maxReplicas=6)], "2", "8", id="scaled up, then updated"
        ),
        pytest.param([workload("Deployment", replicas=2), scaler(minReplicas=3, maxReplicas=4)], "3", "5", id="least"),
        pytest.param(
            [workload("Deployment", replicas=9), scaler(maxReplicas=2)], "9", "12", id="begins above its most"
        ),
        pytest.param([workload("Deployment", replicas=0), scaler(maxReplicas=6)], "0", "0", id="none is left alone"),
        pytest.param([workload("Deployment", name="api"), scaler(maxReplicas=6)], "1", "2", id="another's autoscaler"),
        pytest.param([workload("Deployment", api_version="example.com/v1")], None, None, id="another group's kind"),
    ],
)
def test_how_many_pods_there_are_at_first_and_at_most(
    objects: list[Manifest], now: str | None, later: str | None
) -> None:
    assert (steady(*objects, nodes=3).get("pods"), peak(*objects, nodes=3).get("pods")) == (now, later)


def test_a_cron_job_counts_one_run_and_the_jobs_that_it_keeps() -> None:
    cron = workload("CronJob", "nightly", "batch/v1", jobTemplate={"spec": {"parallelism": 2, "template": template()}})
    assert "pods" not in steady(cron)
    assert (peak(cron)["pods"], peak(cron)["requests.cpu"], peak(cron)["count/jobs.batch"]) == ("2", "200m", "5")
    cron["spec"] |= {"successfulJobsHistoryLimit": 0, "failedJobsHistoryLimit": 0}
    assert peak(cron)["count/jobs.batch"] == "1"
    cron["spec"]["suspend"] = True
    assert "pods" not in peak(cron)


# --- Hooks


@pytest.mark.parametrize(
    ("hooks", "now"),
    [
        pytest.param([hook("pre-install", "150m")], "200m", id="before the release -> alone"),
        pytest.param([hook("pre-install", "500m")], "500m", id="a large one before the release -> it decides"),
        pytest.param([hook("post-install", "150m")], "350m", id="after the release -> beside it"),
        pytest.param([hook("pre-install,post-install", "150m")], "350m", id="both"),
        pytest.param(
            [hook("post-install", "150m"), hook("post-install", "100m", name="other")], "350m", id="one after the other"
        ),
        pytest.param([hook("pre-upgrade", "150m")], "200m", id="in an update -> not at first"),
        pytest.param([hook("test", "9")], "200m", id="a test -> never"),
    ],
)
def test_hooks_run_one_by_one_at_their_time(hooks: list[Manifest], now: str) -> None:
    assert steady(workload("Deployment", replicas=2), *hooks)["requests.cpu"] == now


def test_hooks_of_updates_and_of_the_end_count_at_the_worst() -> None:
    web = workload("Deployment", replicas=2, strategy={"type": "Recreate"})
    for event in ("pre-upgrade", "post-upgrade", "pre-rollback", "post-rollback", "pre-delete"):
        assert peak(web, hook(event, "150m"))["requests.cpu"] == "350m"
    assert peak(web, hook("post-delete", "150m"))["requests.cpu"] == "200m"


def test_what_a_hook_leaves_behind_is_counted_on() -> None:
    stays = workload("Deployment", "stays")
    stays["metadata"]["annotations"] = {"helm.sh/hook": "pre-install"}
    assert steady(stays, workload("Deployment"))["pods"] == "2"
    jobs = [hook("pre-install", "1m", name=f"job-{number}") for number in range(3)]
    assert steady(*jobs)["count/jobs.batch"] == "3"
    gone = [hook("pre-install", "1m", name=f"job-{number}", delete="hook-succeeded") for number in range(3)]
    assert steady(*gone, workload("Job", "last", "batch/v1"))["count/jobs.batch"] == "3"
    assert steady(*jobs, workload("Job", "last", "batch/v1"))["count/jobs.batch"] == "4"


def test_hooks_run_by_weight() -> None:
    light, heavy = hook("pre-install", "1", weight=-5, name="light"), hook("pre-install", "1", weight=10, name="heavy")
    names = [phase.name for phase in needed(heavy, light).steady.phases]
    assert names == ["pre-install hook light", "pre-install hook heavy", ""]


# --- Everything else that is counted


@pytest.mark.parametrize(
    ("spec", "ports", "balancers"),
    [
        pytest.param({}, None, None, id="inside only"),
        pytest.param({"type": "NodePort", "ports": [{"port": 1}, {"port": 2}]}, "2", None, id="NodePort"),
        pytest.param({"type": "LoadBalancer", "ports": [{"port": 1}, {"port": 2}]}, "2", "1", id="LoadBalancer"),
        pytest.param(
            {"type": "LoadBalancer", "ports": [{"port": 1}], "allocateLoadBalancerNodePorts": False},
            "0",
            "1",
            id="LoadBalancer without node ports",
        ),
        pytest.param(
            {"type": "LoadBalancer", "ports": [{"nodePort": 30000}, {}], "allocateLoadBalancerNodePorts": False},
            "1",
            "1",
            id="LoadBalancer with one of its own",
        ),
    ],
)
def test_services_take_node_ports_and_load_balancers(spec: Manifest, ports: str | None, balancers: str | None) -> None:
    found = steady({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}, "spec": spec})
    assert (found.get("services.nodeports"), found.get("services.loadbalancers")) == (ports, balancers)


def test_claims_are_counted_wherever_they_come_from() -> None:
    single = {"apiVersion": "v1", "kind": "PersistentVolumeClaim"} | claim("1.5")
    assert (steady(single)["persistentvolumeclaims"], steady(single)["requests.storage"]) == ("1", "2")
    database = workload("StatefulSet", replicas=3, volumeClaimTemplates=[claim(), claim("2Gi")])
    assert (steady(database)["persistentvolumeclaims"], steady(database)["requests.storage"]) == ("6", "9Gi")
    scratch = [{"name": "tmp", "ephemeral": {"volumeClaimTemplate": claim()}}, {"name": "other"}]
    web = workload("Deployment", replicas=2, template=template(volumes=scratch))
    assert (steady(web)["persistentvolumeclaims"], steady(web)["requests.storage"]) == ("2", "2Gi")
    assert peak(web)["persistentvolumeclaims"] == "3"


def test_objects_are_counted_with_those_that_others_make() -> None:
    def plain(kind: str, name: str, api_version: str = "v1") -> Manifest:
        return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}}

    objects = [plain("Secret", "mine"), plain("Secret", "pull"), plain("ConfigMap", "a")]
    objects += [plain("Ingress", "a", "networking.k8s.io/v1"), plain("Ingress", "b", "example.com/v1")]
    found = steady(*objects, secrets=("pull", "tls"), history=7)
    assert found == {
        "count/secrets": "4",
        "count/configmaps": "2",
        "count/ingresses.networking.k8s.io": "1",
    }
    assert peak(*objects, secrets=("pull", "tls"), history=7)["count/secrets"] == "10"


def test_what_goes_elsewhere_is_not_charged_here() -> None:
    web = workload("Deployment")
    web["metadata"]["namespace"] = "other"
    assert "pods" not in steady(web)


def test_every_number_can_be_traced() -> None:
    web, worker = workload("Deployment", "web", replicas=3), workload("StatefulSet", "worker", replicas=2)
    found = needed(worker, web, hook("pre-install", "50m")).steady
    users = [
        (use.subject.name, use.copies, quantities_of(use.each)["requests.cpu"]) for use in found.users("requests.cpu")
    ]
    assert users == [("web", 3, "100m"), ("worker", 2, "100m")]
    assert found.when("requests.cpu").name == ""
    assert found.users("requests.storage") == ()


def test_the_environment_says_what_the_chart_meets_there() -> None:
    chart = given(
        workload("Deployment", template=template(runtimeClassName="vm", containers=[{"name": "one"}])),
        workload("DaemonSet", "agent"),
        desired=wanted(copySecrets=[{"namespace": "shared", "name": "pull"}]),
        seen=facts(runtime_classes={"vm": {"overhead": {"podFixed": {"cpu": "200m"}}}}, nodes=2, history_max=4),
    )
    found = quantities_of(needs_of(chart).steady.total)
    assert found == {
        "pods": "3",
        "requests.cpu": "450m",
        "requests.memory": "384Mi",
        "limits.memory": "1536Mi",
        "requests.ephemeral-storage": "384Mi",
        "count/secrets": "2",
        "count/configmaps": "1",
    }
    assert quantities_of(needs_of(chart).peak.total)["count/secrets"] == "5"


# --- What always holds

_quantities = st.sampled_from(["0", "1m", "100m", "1", "1.5", "64Mi", "1Gi", "1e3", 2, 0.5])
_lists = st.dictionaries(st.sampled_from(["cpu", "memory", "ephemeral-storage"]), _quantities, max_size=3)
_resources = st.fixed_dictionaries({}, optional={"requests": _lists, "limits": _lists})
_containers = st.builds(
    lambda resources, stays: {"name": "one", "resources": resources} | ({"restartPolicy": "Always"} if stays else {}),
    _resources,
    st.booleans(),
)
_pods = st.fixed_dictionaries(
    {"containers": st.lists(_containers, min_size=1, max_size=3)},
    optional={"initContainers": st.lists(_containers, max_size=3), "resources": _resources},
)
_kinds = st.sampled_from(["Deployment", "StatefulSet", "ReplicaSet", "DaemonSet", "Job"])
_workloads = st.builds(
    lambda kind, spec, replicas, claims: workload(
        kind,
        api_version="batch/v1" if kind == "Job" else "apps/v1",
        template={"spec": spec},
        replicas=replicas,
        parallelism=replicas,
        volumeClaimTemplates=[claim()] * claims,
    ),
    _kinds,
    _pods,
    st.integers(0, 5),
    st.integers(0, 2),
)
_KEYS = """
    apiVersion kind metadata annotations helm.sh/hook spec template containers initContainers resources requests limits
    cpu memory storage replicas strategy rollingUpdate maxSurge volumeClaimTemplates jobTemplate parallelism completions
    type ports volumes ephemeral volumeClaimTemplate scaleTargetRef minReplicas maxReplicas runtimeClassName
"""
_keys = st.sampled_from(_KEYS.split())
_junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | _quantities,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys | st.text(max_size=4), inner, max_size=5),
    max_leaves=25,
)


def _covers(more: Mapping[str, Decimal], less: Mapping[str, Decimal]) -> bool:
    return all(more.get(name, Decimal(0)) >= value for name, value in less.items())


@settings(deadline=None, max_examples=50)
@for_all(st.lists(_workloads, max_size=4))
def test_the_worst_is_never_less_than_the_first(objects: list[Manifest]) -> None:
    found = needed(*objects, nodes=2, history=3)
    assert _covers(found.peak.total, found.steady.total)


@settings(deadline=None, max_examples=50)
@for_all(_workloads, st.integers(1, 4))
def test_more_replicas_never_need_less(item: Manifest, more: int) -> None:
    larger = item | {"spec": item["spec"] | {"replicas": item["spec"]["replicas"] + more}}
    assert _covers(needed(larger).steady.total, needed(item).steady.total)
    assert _covers(needed(larger).peak.total, needed(item).peak.total)


@settings(deadline=None, max_examples=50)
@for_all(st.lists(_workloads, max_size=3), st.lists(_workloads, max_size=3))
def test_two_charts_together_need_the_sum(one: list[Manifest], other: list[Manifest]) -> None:
    apart = [needed(*chart).steady.total for chart in (one, other, [])]
    both = needed(*one, *other).steady.total
    for name in both:
        first, second, none = (total.get(name, Decimal(0)) for total in apart)
        assert both[name] == first + second - none  # what is there without any chart is in both


@settings(deadline=None, max_examples=50)
@for_all(st.lists(_workloads, max_size=4))
def test_the_users_of_a_resource_need_all_of_it(objects: list[Manifest]) -> None:
    found = needed(*objects).peak
    for name, value in found.total.items():
        assert sum((use.amounts[name] for use in found.users(name)), Decimal(0)) == value


@settings(deadline=None, max_examples=100)
@for_all(st.lists(st.dictionaries(_keys, _junk, max_size=6), max_size=3), _kinds, _junk)
def test_junk_needs_something_or_nothing_and_never_raises(objects: list[Manifest], kind: str, spec: object) -> None:
    odd = {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": "odd"}, "spec": spec}
    found = needed(*objects, odd)
    assert all(value >= 0 for value in found.peak.total.values())
    quantities_of(found.peak.total)
