"""
Charts made by chance, the same ones for the same seed: for comparing the arithmetic of sizes with the API server's.

Half of them are aimed: one more pod or claim fills a resource of the size exactly, or by the least amount too much. The
aim is taken with the arithmetic under test, so that an error of any amount in it shows in what the API server does.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from envprov.domain.checking import ClusterFacts, Given
from envprov.domain.desired import Desired, desire
from envprov.domain.need import needs_of
from envprov.domain.quantity import amount
from envprov.domain.sizes import Size
from tests.unit.builders import environment, platform, project
from tests.unit.facts import facts

Manifest = dict[str, Any]

RUNTIME_CLASS = "envprov-test-overhead"
OVERHEAD = {"cpu": "30m", "memory": "20Mi"}

_SIZES = {
    "XS": Size(cpu="1", memory="2Gi", memory_limit="5Gi", pods=9, claims=3, storage="10Gi", ephemeral_storage="3Gi"),
    "S": Size(
        cpu="2",
        memory="3Gi",
        memory_limit="7Gi",
        pods=12,
        claims=5,
        storage="24Gi",
        ephemeral_storage="4Gi",
        load_balancers=1,
    ),
}
_CPU = ["10m", "0.05", 0.1, "120m", "1e-1", "33m", "0.0005"]
_MEMORY = ["16Mi", "33554432", "64M", "96Mi", "1e8", "130Mi", "1536Ki"]
_DISK = ["10Mi", "200Mi", "128Mi", "1e8"]


@dataclass(frozen=True)
class GeneratedChart:
    """
    One chart.

    Attributes:
        name: Says how it was made.
        size: Name of the size that it is to fit into.
        objects: What it renders.

    """

    name: str
    size: str
    objects: tuple[Manifest, ...]

    @property
    def desired(self) -> Desired:
        """An environment of the size."""
        settings = platform(sizes={name: size.model_dump() for name, size in _SIZES.items()})
        return desire(environment(), project(sizes={"default": self.size, "allowed": list(_SIZES)}), settings)

    @property
    def given(self) -> Given:
        """What the checks are given."""
        return Given(self.desired, self.objects, seen())


def seen() -> ClusterFacts:
    """The usual cluster, with the RuntimeClass of the charts."""
    return facts(runtime_classes={RUNTIME_CLASS: {"overhead": {"podFixed": OVERHEAD}}})


def charts(count: int) -> Iterator[GeneratedChart]:
    """The first charts, by seed."""
    return (chart(seed) for seed in range(count))


def chart(seed: int) -> GeneratedChart:
    """The chart of a seed."""
    luck = random.Random(seed)  # noqa: S311 - charts, not keys
    size = luck.choice(list(_SIZES))
    objects = [*_workloads(luck), *_others(luck)]
    made = GeneratedChart(f"{seed}", size, tuple(objects))
    return _aimed(made, luck) if seed % 2 else made


def full_of(kind: str, count: int) -> GeneratedChart:
    """A chart of nothing but objects of a kind."""
    kinds: dict[str, tuple[str, Manifest]] = {
        "ConfigMap": ("v1", {"data": {}}),
        "Secret": ("v1", {"stringData": {}}),
        "Ingress": ("networking.k8s.io/v1", {"spec": _INGRESS}),
        "Job": (
            "batch/v1",
            {"spec": {"suspend": True, "template": _template({"containers": [_container("one")], "job": True})}},
        ),
    }
    api_version, spec = kinds[kind]
    objects = tuple(_object(api_version, kind, f"many-{number}", copy.deepcopy(spec)) for number in range(count))
    return GeneratedChart(f"{count} of {kind}", "S", objects)


_INGRESS = {"defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}}


def _object(api_version: str, kind: str, name: str, rest: Mapping[str, Any]) -> Manifest:
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, **rest}


def _container(name: str, resources: Mapping[str, Any] | None = None) -> Manifest:
    return {"name": name, "image": "app", **({} if resources is None else {"resources": resources})}


def _template(spec: Mapping[str, Any]) -> Manifest:
    # No scheduler takes them: they wait, and are charged, for ever.
    never = {"schedulerName": "nobody", "restartPolicy": "Never" if "job" in spec else "Always"}
    return {
        "metadata": {"labels": {"app": "generated"}},
        "spec": never | {key: value for key, value in spec.items() if key != "job"},
    }


def _list(luck: random.Random, *, share: float, scale: int) -> Manifest:
    found: Manifest = {}
    for name, values in (("cpu", _CPU), ("memory", _MEMORY), ("ephemeral-storage", _DISK)):
        if luck.random() < share:
            value = luck.choice(values)
            found[name] = value if scale == 1 else _times(value, scale)
    return found


def _times(value: object, scale: int) -> str:
    return f"{amount(str(value)) * scale:f}"


def _resources(luck: random.Random) -> Manifest | None:
    match luck.choices(["none", "limits", "requests", "both", "odd"], [4, 4, 4, 6, 1])[0]:
        case "none":
            nothing: list[Manifest | None] = [None, {}, {"requests": {}}, {"requests": {"cpu": None}}]
            return luck.choice(nothing)
        case "limits":
            return {"limits": _list(luck, share=0.7, scale=2)}
        case "requests":
            return {"requests": _list(luck, share=0.7, scale=1)}
        case "both":
            requests = _list(luck, share=0.8, scale=1)
            return {"requests": requests, "limits": {name: _times(value, 2) for name, value in requests.items()}}
        case _:
            odd: list[Manifest] = [
                {"requests": {"memory": "600Mi"}},
                {"requests": {"memory": "512Mi"}},
                {"requests": {"cpu": "200m"}, "limits": {"cpu": "199m"}},
                {"limits": {"cpu": "4001m"}, "requests": {"cpu": "1m"}},
                {"limits": {"cpu": 4}, "requests": {"cpu": "1m"}},
                {"requests": {"ephemeral-storage": "1025Mi"}},
                {"requests": {"cpu": "-1m"}},
            ]
            return luck.choice(odd)


def _pod(luck: random.Random) -> Manifest:
    spec: Manifest = {
        "containers": [_container(f"c{number}", _resources(luck)) for number in range(luck.choice([1, 1, 1, 2]))]
    }
    if luck.random() < 0.4:
        spec["initContainers"] = [
            _container(f"i{number}", _resources(luck)) | ({"restartPolicy": "Always"} if luck.random() < 0.4 else {})
            for number in range(luck.choice([1, 2, 3]))
        ]
    if luck.random() < 0.1:
        spec["runtimeClassName"] = RUNTIME_CLASS
    if luck.random() < 0.08:
        spec["resources"] = luck.choice(
            [
                {"requests": {"cpu": "400m"}},
                {"requests": {"memory": "1Gi"}, "limits": {"memory": "2Gi"}},
                {"limits": {"memory": "3Gi"}},
                {"limits": {"cpu": "1"}},
                {"limits": {"cpu": "8", "memory": "1Gi"}, "requests": {"cpu": "10m"}},
            ]
        )
    return spec


def _workloads(luck: random.Random) -> Iterator[Manifest]:
    for number in range(luck.choice([1, 1, 2, 2, 3])):
        kind = luck.choice(["Deployment", "Deployment", "StatefulSet", "Job", "ReplicaSet", "Pod", "CronJob"])
        name = f"{kind.lower()}-{number}"
        spec = _pod(luck)
        match kind:
            case "Pod":
                yield _object("v1", kind, name, {"spec": _template(spec)["spec"]})
            case "Job":
                yield _object("batch/v1", kind, name, {"spec": _job(luck, spec)})
            case "CronJob":
                schedule = {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": _job(luck, spec)}}
                yield _object("batch/v1", kind, name, {"spec": schedule})
            case _:
                yield _object("apps/v1", kind, name, {"spec": _replicated(luck, kind, name, spec)})


def _job(luck: random.Random, spec: Manifest) -> Manifest:
    job: Manifest = {"template": _template(spec | {"job": True})}
    job |= luck.choice(
        [{}, {"parallelism": 2}, {"parallelism": 3, "completions": 2}, {"completions": 3}, {"suspend": True}]
    )
    return job


def _replicated(luck: random.Random, kind: str, name: str, spec: Manifest) -> Manifest:
    template = _template(spec)
    template["metadata"]["labels"]["app"] = name
    made: Manifest = {"selector": {"matchLabels": {"app": name}}, "template": template}
    if luck.random() < 0.7:
        made["replicas"] = luck.choice([0, 1, 2, 2, 3])
    if kind == "StatefulSet":
        made |= {"serviceName": name, "podManagementPolicy": "Parallel"}
        if luck.random() < 0.7:
            made["volumeClaimTemplates"] = [
                {"metadata": {"name": f"data{number}"}, "spec": _claim(luck.choice(["1Gi", "2Gi", "3500Mi", "5e9"]))}
                for number in range(luck.choice([1, 1, 2]))
            ]
    return made


def _claim(storage: str) -> Manifest:
    return {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": storage}}}


def _others(luck: random.Random) -> Iterator[Manifest]:
    for number in range(luck.choice([0, 0, 1, 2])):
        storage = luck.choice(["1Gi", "2Gi", "4Gi", "1500M", "1073741824.5", "300Mi"])
        if luck.random() < 0.1:
            storage = luck.choice(["20Gi", "20481Mi"])
        yield _object("v1", "PersistentVolumeClaim", f"claim-{number}", {"spec": _claim(storage)})
    for number in range(luck.choice([0, 1, 2])):
        yield _object("v1", "ConfigMap", f"config-{number}", {"data": {"a": "b"}})
        yield _object("v1", "Secret", f"secret-{number}", {"stringData": {"a": "b"}})
    if luck.random() < 0.5:
        kind = luck.choices(["ClusterIP", "NodePort", "LoadBalancer"], [8, 1, 3])[0]
        spec: Manifest = {"type": kind, "selector": {"app": "web"}, "ports": [{"port": 80}]}
        if kind == "LoadBalancer" and luck.random() < 0.8:
            spec["allocateLoadBalancerNodePorts"] = False
        yield _object("v1", "Service", "web", {"spec": spec})
    if luck.random() < 0.3:
        yield _object("networking.k8s.io/v1", "Ingress", "web", {"spec": copy.deepcopy(_INGRESS)})


def _aimed(made: GeneratedChart, luck: random.Random) -> GeneratedChart:
    """The chart with one object more, which fills a resource exactly, or by the least amount too much."""
    size, needed = _SIZES[made.size], needs_of(made.given).steady.total
    resource = luck.choice(
        ["requests.cpu", "requests.memory", "limits.memory", "requests.ephemeral-storage", "requests.storage", "pods"]
    )
    step = Decimal("0.001") if resource == "requests.cpu" else Decimal(1)
    over = luck.choice([0, 1])
    left = amount(size.hard()[resource]) - needed.get(resource, Decimal(0)) + over * step
    if left <= 0:
        return made
    name = f"{made.name}, {resource} {'exceeded by the least amount' if over else 'filled exactly'}"
    return GeneratedChart(name, made.size, (*made.objects, *_filling(resource, left)))


def _filling(resource: str, left: Decimal) -> list[Manifest]:
    if resource == "requests.storage":
        return [_object("v1", "PersistentVolumeClaim", "filling", {"spec": _claim(f"{left:f}")})]
    asked: Manifest = {
        "requests": {"cpu": "1m", "memory": "1Ki", "ephemeral-storage": "1Ki"},
        "limits": {"memory": "2Ki", "ephemeral-storage": "8Gi"},
    }
    replicas = 1
    if resource == "pods":
        replicas = int(left)
    else:
        part, _, name = resource.partition(".")
        asked[part][name] = f"{left:f}"
        asked["limits"]["memory"] = asked["limits"]["memory"] if name != "memory" else f"{left:f}"
    spec = _template({"containers": [_container("one", asked)]})
    spec["metadata"]["labels"]["app"] = "filling"
    filled = {"replicas": replicas, "selector": {"matchLabels": {"app": "filling"}}, "template": spec}
    return [_object("apps/v1", "Deployment", "filling", {"spec": filled})]
