"""
One sweep of a thousand branches: how long, and how many calls of GitLab's API.

The first one makes a thousand records; the second finds everything as it ought to be, which is what a sweep finds
nearly always. Both ask a GitLab that keeps state, in a process of its own, and a real API server.
"""

from __future__ import annotations

import asyncio
import secrets
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from envprov.controller.sweep import BranchSweep
from envprov.domain.sweep import Brake
from envprov.gitlab.client import Connection as GitLabConnection
from envprov.gitlab.client import GitLabClient
from envprov.kube.client import Connection, KubeClient
from envprov.kube.environments import Environments
from envprov.kube.resources import CONFIG_MAPS, ENVIRONMENTS, PROJECTS
from envprov.kube.sweeps import SweepBook
from tests.cluster import Cluster
from tests.gitlab.driver import GitLabStandIn
from tests.shipped import Installation, install

pytestmark = pytest.mark.bench

BRANCHES = 1000


def test_a_sweep_of_a_thousand_branches(cluster: Cluster, tmp_path: Path) -> None:
    namespace = f"envprov-b-{secrets.token_hex(4)}"
    cluster.kubectl("create", "namespace", namespace)
    install(cluster, namespace)
    rules = [{"branches": ["main"], "action": "ignore"}, {"branches": ["*"]}]
    Installation(cluster, namespace, tmp_path).project("shop", rules=rules)
    with GitLabStandIn() as gitlab:
        gitlab.create_project("group/shop")
        gitlab.create_branches("group/shop", [f"event/{number:04}" for number in range(BRANCHES)])
        for line in asyncio.run(_measured(cluster, namespace, gitlab)):
            sys.stdout.write(f"{line}\n")
    cluster.discard(namespace)


async def _measured(cluster: Cluster, namespace: str, gitlab: GitLabStandIn) -> list[str]:
    lines: list[str] = []
    where = GitLabConnection(url=gitlab.url, token_file=gitlab.token_file)
    async with KubeClient.connect(Connection(cluster.kubeconfig)) as client, GitLabClient.connect(where) as forge:
        for name in ("first sweep, all missing", "second sweep, all in step", "third sweep, all in step"):
            book = await _book(client, namespace)
            gitlab.forget_requests()
            began = time.perf_counter()
            sweep = BranchSweep(forge, book, lambda: datetime.now(UTC), Brake())
            swept = await sweep(book.tracked()["shop"])
            seconds = time.perf_counter() - began
            answers = Counter(str(one["status"]) for one in gitlab.requests())
            calls = ", ".join(f"{count} x {status}" for status, count in sorted(answers.items()))
            lines.append(
                f"{name:<28} {seconds * 1000:7.0f} ms   {len(swept.asked):4} recorded   calls of GitLab: {calls}"
            )
    return lines


async def _book(client: KubeClient, namespace: str) -> SweepBook:
    async def items(resource: Any) -> tuple[dict[str, Any], ...]:  # noqa: ANN401 - a kind
        return tuple((await client.list(resource, namespace)).items)

    projects, environments, stones = await items(PROJECTS), await items(ENVIRONMENTS), await items(CONFIG_MAPS)
    return SweepBook(
        client=client,
        store=Environments(client, namespace),
        control_namespace=namespace,
        projects=lambda: projects,
        environments=lambda _: environments,
        config_maps=lambda: stones,
    )
