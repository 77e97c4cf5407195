"""What will not work is refused, with all that is wrong, before anything is made; what will work is let through."""

from __future__ import annotations

import dataclasses
import json
import secrets
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from envprov.domain.names import slug
from tests.cluster import Cluster
from tests.corpus import Case, passed, refused
from tests.eventually import eventually
from tests.shipped import Installation, condition, installed
from tests.unit.builders import SLUG

BRANCH = "feature/x"
CLASSES: list[dict[str, Any]] = [
    {"apiVersion": "networking.k8s.io/v1", "kind": "IngressClass", "metadata": {"name": "nginx"}}
    | {"spec": {"controller": "example.com/nobody"}},
    {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "standard"}}
    | {"provisioner": "example.com/nobody"},
]
OPERATORS = frozenset({"bitnami.com", "cert-manager.io", "databases.example.com", "external-secrets.io"})
"""Whose kinds the development cluster does not serve."""


def is_for_this_cluster(case: Case) -> bool:
    """Whether a case needs no other cluster than the development cluster, and is rendered by Helm."""
    groups = {str(item.get("apiVersion", "")).partition("/")[0] for item in case.objects}
    return not case.facts and not groups & OPERATORS and case.name != "no-kind"


REFUSED = tuple(case for case in refused() if is_for_this_cluster(case))
PASSED = tuple(case for case in passed() if is_for_this_cluster(case))


@pytest.fixture(scope="module")
def judged(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Judged]:
    """Yield an installation whose controller has looked at every chart of the corpus, each in a Project of its own."""
    namespace = f"envprov-e-{secrets.token_hex(4)}"
    cluster.kubectl("create", "namespace", namespace)
    folder = tmp_path_factory.mktemp(namespace)
    with installed(cluster, namespace, folder) as there:
        there.apply(*CLASSES)
        there.settings(helm={"chart_root": str(folder), "binary": str(cluster.binaries / "helm")})
        there.apply(*(manifest for case in (*REFUSED, *PASSED) for manifest in records(there, case)))
        there.start_controller().ready()
        found = eventually(lambda: looked_at(there), within=240, every=1, message="not every chart was looked at")
        yield Judged(found, there.namespaces())
    for item in CLASSES:
        cluster.kubectl("delete", item["kind"], item["metadata"]["name"], "--ignore-not-found")
    cluster.discard(namespace)


@dataclasses.dataclass
class Judged:
    """
    The controller's verdicts on all charts, read when it had looked at every one.

    Attributes:
        records: The Environments, by name.
        namespaces: Names of all namespaces of the cluster.

    """

    records: dict[str, dict[str, Any]]
    namespaces: set[str]

    def record(self, case: Case) -> dict[str, Any]:
        """Return the Environment of a case."""
        return self.records[slug(project_of(case), BRANCH)]


def looked_at(there: Installation) -> dict[str, dict[str, Any]] | None:
    """Return the Environments by name once each was refused or deployed."""
    found = {item["metadata"]["name"]: item for item in there.environments()}
    ended = (
        condition(item, "Accepted")["status"] == "False" or condition(item, "Deployed")["status"] == "True"
        for item in found.values()
    )
    return found if all(ended) else None


def project_of(case: Case) -> str:
    return case.name[:60]


def records(there: Installation, case: Case) -> list[dict[str, Any]]:
    """Write the chart of a case, and return its Project and its Environment."""
    project = project_of(case)
    name = slug(project, BRANCH)
    chart = dataclasses.replace(case, text=case.text.replace(SLUG, name)).write(there.folder)
    spec = {"chart": {"local": {"path": str(chart)}}} | yaml.safe_load(json.dumps(case.project).replace(SLUG, name))
    head = {"apiVersion": "envprov.io/v1alpha1"}
    return [
        head | {"kind": "Project", "metadata": {"name": project, "namespace": there.namespace}, "spec": spec},
        head
        | {"kind": "Environment", "metadata": {"name": name, "namespace": there.namespace}}
        | {"spec": {"project": project, "branch": BRANCH}},
    ]


def test_the_corpus_is_large_enough() -> None:
    assert len(REFUSED) >= 80
    assert len(PASSED) >= 15


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in REFUSED])
def test_what_cannot_work_is_refused_and_nothing_is_made(judged: Judged, case: Case) -> None:
    record = judged.record(case)
    name = record["metadata"]["name"]
    errors = {
        (each["reason"], each["object"], each["field"]): each
        for each in record["status"]["findings"]
        if each["severity"] == "error"
    }
    expected = errors.pop((case.reason, case.object.replace(SLUG, name), case.field))
    # The installer has no right either to some of what a chart must not have: that is told, too.
    assert {(reason, about) for reason, about, _ in errors} <= {("InstallerMayNot", expected["object"])}
    accepted = condition(record, "Accepted")
    assert (accepted["status"], accepted["reason"]) == ("False", "PlanRefused" if errors else case.reason)
    assert expected["message"][:100] in accepted["message"]
    assert expected["remedy"]
    assert f"env-{name}" not in judged.namespaces


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in PASSED])
def test_what_works_is_let_through(judged: Judged, case: Case) -> None:
    record = judged.record(case)
    accepted = condition(record, "Accepted")
    assert accepted["status"] == "True", accepted["message"]
    assert condition(record, "Deployed")["status"] == "True"
    assert f"env-{record['metadata']['name']}" in judged.namespaces
