"""envprov as shipped, for each file of promises: one installation with its processes, fresh projects for each test."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import Cluster
from tests.e2e.killing import Executioner, killing
from tests.eventually import eventually
from tests.payloads import push_created, push_deleted, push_updated
from tests.shipped import Installation, Process, installed, is_ready


@pytest.fixture(scope="module")
def installation(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Yield envprov installed into a control namespace of this file; nothing runs yet."""
    namespace = f"envprov-e-{secrets.token_hex(4)}"
    cluster.kubectl("create", "namespace", namespace)
    with installed(cluster, namespace, tmp_path_factory.mktemp(namespace)) as there:
        yield there
    cluster.discard(namespace)


@pytest.fixture(scope="module")
def receiver(installation: Installation) -> Process:
    """Return the running receiver."""
    return installation.start_receiver().ready()


@pytest.fixture(scope="module")
def controller(installation: Installation) -> Process:
    """Return the running controller."""
    return installation.start_controller().ready()


@pytest.fixture
def own(cluster: Cluster, tmp_path: Path) -> Iterator[Installation]:
    """Yield an installation whose processes one test alone starts and kills."""
    namespace = f"envprov-k-{secrets.token_hex(4)}"
    cluster.kubectl("create", "namespace", namespace)
    with installed(cluster, namespace, tmp_path) as there:
        yield there
    cluster.discard(namespace)


@pytest.fixture
def deadly(own: Installation) -> Iterator[tuple[Executioner, Path]]:
    """Yield who kills the controller, and a kubeconfig that leads the controller through it."""
    with killing(own, Executioner()) as found:
        yield found


@dataclass(frozen=True)
class Shop:
    """
    A GitLab project as a developer sees it: branches are pushed and deleted, environments come and go.

    Attributes:
        installation: Where.
        receiver: What GitLab delivers to.
        name: Name of the Project, and the end of its path in GitLab.

    """

    installation: Installation
    receiver: Process
    name: str

    @property
    def path(self) -> str:
        """Path in GitLab."""
        return f"group/{self.name}"

    def is_known(self) -> bool:
        """Whether the receiver has seen the Project: it says so of any delivery."""
        self.delete("no-such-branch", "1" * 40)
        told = [entry for entry in self.receiver.entries() if entry.get("project") == self.path]
        return bool(told) and told[-1]["outcome"] != "unknown_project"

    def create(self, branch: str, commit: str) -> int:
        """Push a new branch; returns the answer's status."""
        return self._deliver(push_created(branch, commit, project_id=7, path=self.path))

    def push(self, branch: str, before: str, after: str) -> int:
        """Push to a branch; returns the answer's status."""
        return self._deliver(push_updated(branch, after, project_id=7, path=self.path, before=before))

    def delete(self, branch: str, commit: str) -> int:
        """Delete a branch; returns the answer's status."""
        return self._deliver(push_deleted(branch, commit, project_id=7, path=self.path))

    def up(self, branch: str, commit: str, within: float = 120) -> dict[str, Any]:
        """Push a new branch and wait until it is Ready; returns its Environment."""
        assert self.create(branch, commit) == 202
        return self.ready(branch, commit, within)

    def ready(self, branch: str, commit: str | None = None, within: float = 120) -> dict[str, Any]:
        """Wait until a branch is Ready; returns its Environment."""
        eventually(lambda: is_ready(self.record(branch), commit), within=within, message=f"{branch} is not Ready")
        found = self.record(branch)
        assert found is not None
        return found

    def gone(self, branch: str, within: float = 120) -> None:
        """Wait until nothing of a branch is left."""
        eventually(lambda: self.record(branch) is None, within=within, message=f"{branch} is still there")

    def record(self, branch: str) -> dict[str, Any] | None:
        """The Environment of a branch of this project, if there is one."""
        return next(
            (
                item
                for item in self.installation.environments()
                if item["spec"]["branch"] == branch and item["spec"]["project"] == self.name
            ),
            None,
        )

    def _deliver(self, payload: dict[str, Any]) -> int:
        return self.installation.deliver(self.receiver, payload).status_code


@pytest.fixture
def make_shop(installation: Installation, receiver: Process, controller: Process) -> Callable[..., Shop]:
    """Return a maker of Projects of this test's own, everything running."""
    del controller

    def make(**spec: Any) -> Shop:  # noqa: ANN401 - any field of a Project
        name = f"shop-{secrets.token_hex(3)}"
        installation.project(name, **spec)
        shop = Shop(installation, receiver, name)
        eventually(shop.is_known, message="the receiver does not know the Project")
        return shop

    return make


@pytest.fixture
def shop(make_shop: Callable[..., Shop]) -> Shop:
    """Return a Project of this test's own."""
    return make_shop()


@pytest.fixture
def commits() -> Callable[[int], str]:
    """Return a function from a number to a commit id."""
    salt = secrets.token_hex(4)
    return lambda number: f"{number:08x}{salt}".ljust(40, "0")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of this test's own."""
    return tmp_path


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a failure what the processes said and what the records say."""
    report = yield
    found = getattr(item, "funcargs", {}).get("installation") or getattr(item, "funcargs", {}).get("own")
    if report.failed and isinstance(found, Installation):
        for process in found.processes:
            report.sections.append(("a process said", "".join(process.lines[-60:])))
        statuses = [{item["metadata"]["name"]: item.get("status")} for item in found.environments()]
        report.sections.append(("the records say", json.dumps(statuses, indent=1, ensure_ascii=False)))
    return report
