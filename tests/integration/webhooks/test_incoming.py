"""Merge requests, commands, many branches and signatures, as they end on a real API server."""

from __future__ import annotations

import asyncio
import hmac
import json
import time
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretBytes

from envprov.domain.deliveries import Dismissal, Unwanted, Wanted
from envprov.domain.environment import DOUBTED, parse_environment
from envprov.domain.names import slug
from envprov.domain.policies import RECORD
from envprov.domain.project import Project
from envprov.kube.requests import COMMAND, SWEEP, parse_command
from envprov.kube.resources import CONFIG_MAPS
from tests import payloads
from tests.integration.records import install_definition, let_go
from tests.integration.records import project as plain_project
from tests.integration.webhooks.receiving import NAME, TOKEN, Receiver, receiving
from tests.shipped import Installation, install

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx

    from tests.cluster import Cluster

SHA = payloads.HEAD
NEXT = "b" * 40
NOW = datetime(2026, 1, 1, tzinfo=UTC)
MERGE = {"X-Gitlab-Event": "Merge Request Hook"}
NOTE = {"X-Gitlab-Event": "Note Hook"}
SYSTEM = {"X-Gitlab-Event": "System Hook"}
PREVIEW = [{"branches": ["*"], "merge_request": {"labels": ["preview"]}}]
FORKS: list[dict[str, Any]] = [
    {"branches": ["merge-requests/*"], "merge_request": {"forks": True}},
    {"branches": ["*"]},
]
FORK = slug("shop", "merge-requests/12/head")
KEY = bytes(range(32))


def project(name: str = "shop", *, rules: list[dict[str, Any]] | None = None, commands: bool = False) -> Project:
    gitlab: dict[str, Any] = {"project": "group/shop"} | ({"commands": {}} if commands else {})
    spec: dict[str, Any] = {"gitlab": gitlab, "chart": {"local": {"path": "environment"}}}
    return Project.model_validate({"name": name, "spec": spec | ({"rules": rules} if rules else {})})


@pytest.fixture(scope="module", autouse=True)
def _definition(cluster: Cluster) -> None:
    install_definition(cluster)


@pytest.fixture
def namespace(cluster: Cluster, control_namespace: str) -> Iterator[str]:
    yield control_namespace
    let_go(cluster, control_namespace)


async def merge_request(receiver: Receiver, action: str, *labels: str, **attributes: Any) -> httpx.Response:  # noqa: ANN401 - any field
    return await receiver.post(payloads.merge_request(action, labels=labels, **attributes), **MERGE)


async def marks(receiver: Receiver, name: str = NAME) -> dict[str, str]:
    live = await receiver.environments.get(name)
    assert live is not None
    found: dict[str, str] = live["metadata"].get("annotations", {})
    return found


def test_a_branch_with_a_merge_request_that_counts_has_an_environment(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with receiving(cluster.kubeconfig, namespace, project(rules=PREVIEW)) as receiver:
            assert (await receiver.post(payloads.push_created("feature/x", SHA))).status_code == 204
            assert (await merge_request(receiver, "open")).status_code == 204
            assert await receiver.revision() is None

            assert (await merge_request(receiver, "update", "preview")).status_code == 202
            assert await receiver.revision() == SHA
            pushed = payloads.push_updated("feature/x", NEXT, before=SHA)
            assert (await receiver.post(pushed)).status_code == 202
            assert await receiver.revision() == NEXT
            late = await merge_request(receiver, "update", "preview")  # still says SHA
            assert (late.status_code, await receiver.revision()) == (202, NEXT)

            assert (await merge_request(receiver, "update")).status_code == 202
            assert (await marks(receiver))["envprov.io/doubted-delete"] == "!12 does not count by the rules"
            assert (await merge_request(receiver, "update", "preview")).status_code == 202
            assert "envprov.io/doubted-delete" not in await marks(receiver)
            for action, said in (("close", "!12 is closed"), ("merge", "!12 is merged")):
                assert (await merge_request(receiver, action, "preview")).status_code == 202
                assert (await marks(receiver))["envprov.io/doubted-delete"] == said
            assert await receiver.revision() == NEXT  # whether it goes is decided by whoever asks GitLab

            gone = payloads.push_deleted("feature/x", NEXT)
            assert (await receiver.post(gone)).status_code == 202
            assert await receiver.revision() is None

    asyncio.run(story())


def test_new_commits_count_whichever_hook_tells_of_them_first(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with receiving(cluster.kubeconfig, namespace, project(rules=PREVIEW)) as receiver:
            # The push came when there was no record, so only the merge request knows of it.
            await receiver.post(payloads.push_updated("feature/x", NEXT, before=SHA))
            await merge_request(receiver, "open", "preview")
            await merge_request(receiver, "update", "preview", oldrev=SHA, last_commit={"id": NEXT})
            assert await receiver.revision() == NEXT
            await receiver.post(payloads.push_updated("feature/x", NEXT, before=SHA))
            assert await receiver.revision() == NEXT

    asyncio.run(story())


@pytest.mark.parametrize("when", ["while it goes", "when it is gone"])
def test_a_merge_request_does_not_bring_back_what_a_person_ended(cluster: Cluster, namespace: str, when: str) -> None:
    is_gone = when == "when it is gone"

    async def story() -> None:
        async with receiving(cluster.kubeconfig, namespace, project(rules=PREVIEW)) as receiver:
            await merge_request(receiver, "open", "preview")
            assert await receiver.environments.down("shop", "feature/x")
            if is_gone:
                live = await receiver.environments.get(NAME)
                assert live is not None
                await receiver.environments.retire(parse_environment(live), NOW)
            assert (await merge_request(receiver, "update", "preview")).status_code == 202
            assert await receiver.revision() is None
            assert is_gone or "envprov.io/successor" not in await marks(receiver)

            await merge_request(receiver, "update", "preview", oldrev=SHA, last_commit={"id": NEXT})
            assert (
                await receiver.revision() == NEXT
                if is_gone
                else (await marks(receiver))["envprov.io/successor"] == NEXT
            )

    asyncio.run(story())


def test_the_life_of_a_merge_request_from_a_fork(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with receiving(cluster.kubeconfig, namespace, project(rules=FORKS)) as receiver:

            async def fork(action: str, **attributes: Any) -> int:  # noqa: ANN401 - any field
                answer = await merge_request(receiver, action, source_project_id=payloads.FORK, **attributes)
                return answer.status_code

            assert await fork("open") == 202
            assert await receiver.revision(FORK) == SHA
            assert await receiver.revision(NAME) is None
            assert await fork("update", oldrev=SHA, last_commit={"id": NEXT}) == 202
            assert await receiver.revision(FORK) == NEXT
            assert await fork("close", last_commit={"id": NEXT}) == 202
            assert (await marks(receiver, FORK))["envprov.io/doubted-delete"] == "!12 is closed"

    asyncio.run(story())


def test_a_fork_whose_merge_request_is_opened_again_comes_back_at_the_same_commit(
    cluster: Cluster, namespace: str
) -> None:
    """Also right after it went, while a second push that creates the branch would be taken for a late one."""

    async def story() -> None:
        async with receiving(cluster.kubeconfig, namespace, project(rules=FORKS)) as receiver:
            for action in ("open", "reopen"):
                answer = await merge_request(receiver, action, source_project_id=payloads.FORK)
                assert answer.status_code == 202
                assert await receiver.revision(FORK) == SHA
                await receiver.environments.down("shop", "merge-requests/12/head")
                live = await receiver.environments.get(FORK)
                assert live is not None
                await receiver.environments.retire(parse_environment(live), NOW)

    asyncio.run(story())


def test_forks_are_ignored_unless_a_rule_says_otherwise(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        async with receiving(cluster.kubeconfig, namespace, project(rules=PREVIEW), plain_project("two")) as receiver:
            answer = await merge_request(receiver, "open", "preview", source_project_id=payloads.FORK)
            assert answer.status_code == 204
            assert await receiver.environments.list() == ()

    asyncio.run(story())


def test_a_command_is_left_once_however_often_it_comes(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        takers = project(commands=True), project("mirror", commands=True), project("deaf")
        async with receiving(cluster.kubeconfig, namespace, *takers) as receiver:
            for _ in range(2):
                answer = await receiver.post(payloads.note("/envprov extend 3d"), **NOTE)
                assert answer.status_code == 202
                assert answer.json() == {"requests": ["command-1244-shop", "command-1244-mirror"]}
            found = (await receiver.client.list(CONFIG_MAPS, namespace, label_selector=f"{RECORD}={COMMAND}")).items
            commands = [parse_command(item) for item in found]
            assert sorted(command.project for command in commands) == ["mirror", "shop"]
            assert {command.text for command in commands} == {"/envprov extend 3d"}
            assert {command.created_at for command in commands} == {datetime(2026, 5, 17, 18, 21, 36, tzinfo=UTC)}

    asyncio.run(story())


def test_fifty_branches_of_one_push_are_all_on_record_and_a_sweep_is_asked_for(
    cluster: Cluster, namespace: str
) -> None:
    async def story() -> None:
        changes = [payloads.change(f"feature/{number}", payloads.ZERO, SHA) for number in range(50)]
        pushed = payloads.repository_updated(*changes)
        async with receiving(cluster.kubeconfig, namespace, project(), project("mirror")) as receiver:
            for _ in range(2):
                answer = await receiver.post(pushed, **SYSTEM)
                assert answer.status_code == 202
                assert len(answer.json()["environments"]) == 100
                assert answer.json()["requests"] == ["sweep-shop", "sweep-mirror"]
            assert len(await receiver.environments.list("shop")) == 50
            found = (await receiver.client.list(CONFIG_MAPS, namespace, label_selector=f"{RECORD}={SWEEP}")).items
            assert sorted(item["data"]["project"] for item in found) == ["mirror", "shop"]
            moments = [datetime.fromisoformat(item["data"]["requestedAt"]) for item in found]
            assert all(datetime.now(UTC) - moment < timedelta(minutes=5) for moment in moments)

    asyncio.run(story())


def test_a_push_of_thousands_is_answered_in_time_and_left_to_the_sweep(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        changes = [payloads.change(f"feature/{number}", payloads.ZERO, SHA) for number in range(5000)]
        pushed = payloads.repository_updated(*changes)
        async with receiving(cluster.kubeconfig, namespace, project(), record_seconds=0.9) as receiver:
            answer = await receiver.post(pushed, **SYSTEM)
            assert answer.status_code == 202
            assert answer.json()["requests"] == ["sweep-shop"]
            assert len(answer.json()["environments"]) < 5000

    asyncio.run(story())


def signed(payload: object, key: bytes = KEY) -> dict[str, str]:
    moment = str(int(time.time()))
    digest = hmac.digest(key, f"f5e5f430.{moment}.".encode() + json.dumps(payload).encode(), "sha256")
    return {
        "X-Gitlab-Event": "Push Hook",
        "webhook-id": "f5e5f430",
        "webhook-timestamp": moment,
        "webhook-signature": "v1," + b64encode(digest).decode(),
    }


def test_a_replayed_delivery_changes_nothing(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        created = payloads.push_created("feature/x", SHA)
        headers = signed(created)
        async with receiving(
            cluster.kubeconfig, namespace, signing_keys=(SecretBytes(KEY),), require_signature=True
        ) as receiver:
            assert (await receiver.deliver(created, headers)).status_code == 202
            first = await receiver.environments.get(NAME)
            for _ in range(3):
                assert (await receiver.deliver(created, headers)).status_code == 202
            assert await receiver.environments.get(NAME) == first

            pushed = payloads.push_updated("feature/x", NEXT, before=SHA)
            assert (await receiver.deliver(pushed, signed(pushed))).status_code == 202
            assert (await receiver.deliver(created, headers)).status_code == 202
            assert await receiver.revision() == NEXT  # what was sent before does not bring the branch back

            altered = created | {"after": "c" * 40}
            assert (await receiver.deliver(altered, headers)).status_code == 401
            assert (await receiver.post(created)).status_code == 401
            assert await receiver.revision() == NEXT

    asyncio.run(story())


def test_a_replayed_deletion_does_not_end_what_has_come_back(cluster: Cluster, namespace: str) -> None:
    async def story() -> None:
        created, deleted = payloads.push_created("feature/x", SHA), payloads.push_deleted("feature/x", SHA)
        async with receiving(cluster.kubeconfig, namespace) as receiver:
            await receiver.post(created)
            await receiver.post(deleted)
            going = await receiver.environments.get(NAME)
            assert going is not None
            await receiver.environments.retire(parse_environment(going), NOW)
            await receiver.environments.bring("shop", "feature/x", Wanted(SHA))  # by the sweep, at the same commit

            assert (await receiver.post(deleted)).status_code == 202
            assert await receiver.revision() == SHA
            live = await receiver.environments.get(NAME)
            assert live is not None
            assert live["metadata"]["annotations"][DOUBTED] == SHA  # so that the controller asks GitLab

            await receiver.environments.bring("shop", "feature/x", Unwanted(Dismissal.UNWANTED))
            assert await receiver.revision() is None

    asyncio.run(story())


def test_the_shipped_receiver_has_the_rights_for_all_of_it(cluster: Cluster, namespace: str, tmp_path: Path) -> None:
    """Its own process, as its own ServiceAccount, with a signing token and no other secret."""
    install(cluster, namespace)
    there = Installation(cluster, namespace, tmp_path)
    (tmp_path / "signing").write_text("whsec_" + b64encode(KEY).decode())
    webhook = {"port": 0, "signing_token_files": [str(tmp_path / "signing")], "require_signature": True}
    there.settings(webhook=webhook)
    there.project("shop", gitlab={"project": "group/shop", "commands": {}})
    receiver = there.start_receiver().ready()
    try:

        def deliver(payload: dict[str, Any], headers: dict[str, str]) -> int:
            url = f"http://127.0.0.1:{receiver.port}/webhooks/gitlab"
            return there.gitlab.post(url, content=json.dumps(payload).encode(), headers=headers).status_code

        changes = [payloads.change(f"feature/{number}", payloads.ZERO, SHA) for number in range(21)]
        for payload, hook in (
            (payloads.push_created("feature/x", SHA), {}),
            (payloads.repository_updated(*changes), SYSTEM),
            (payloads.note("/envprov up"), NOTE),
        ):
            assert deliver(payload, signed(payload) | hook) == 202
        forged = payloads.push_created("feature/y", SHA)
        assert deliver(forged, signed(forged, b"x" * 32) | {"X-Gitlab-Token": TOKEN}) == 401
        names = cluster.kubectl("get", "cm", "-n", namespace, "-l", "envprov.io/record", "-o", "name").split()
        assert names == ["configmap/command-1244-shop", "configmap/sweep-shop"]
        assert "the signature does not verify" in receiver.output()
        assert "whsec_" not in receiver.output()
    finally:
        receiver.kill()
        there.gitlab.close()
