"""Helm ended in the middle: by SIGKILL, by cancellation, by its time limit; and what comes after."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from envprov.domain.errors import Conflict, EnvprovError, HelmTimeout
from envprov.domain.release import Recovery, Release, ReleaseState, recovery
from envprov.releases.command import Timeouts

if TYPE_CHECKING:
    from tests.integration.releases.conftest import Workshop

S = ReleaseState
Operation = Callable[["Workshop"], Awaitable[object]]


async def install(workshop: Workshop) -> None:
    await workshop.helm.deploy(await workshop.spec({"hook": "pre-install"}))


async def upgrade(workshop: Workshop) -> None:
    await workshop.helm.deploy(await workshop.spec({"replicas": 2, "hook": "pre-upgrade"}))


async def uninstall(workshop: Workshop) -> None:
    await workshop.helm.uninstall("shop", workshop.namespace, workshop.user)


def killed_in(workshop: Workshop, operation: Operation, state: ReleaseState) -> None:
    """Start an operation whose hook hangs, and kill Helm -9 in the middle of it."""

    async def scenario() -> None:
        task = asyncio.ensure_future(operation(workshop))
        await workshop.until(state)
        for pid in workshop.processes():
            os.kill(pid, signal.SIGKILL)
        with suppress(EnvprovError):
            await task

    asyncio.run(scenario())
    assert workshop.release().state is state


def recovered(workshop: Workshop) -> Recovery:
    """Do what the recovery says, as the controller does."""
    release = workshop.release()
    way = recovery(release)
    match way:
        case Recovery.UNINSTALL:
            asyncio.run(workshop.helm.uninstall("shop", workshop.namespace, workshop.user, no_hooks=True))
        case Recovery.ROLLBACK:
            revision = release.last_deployed_revision or 0
            asyncio.run(workshop.helm.rollback("shop", workshop.namespace, revision, workshop.user))
        case Recovery.NONE:
            pass
    return way


def test_killed_in_an_install_it_is_uninstalled_and_installed(workshop: Workshop) -> None:
    killed_in(workshop, install, S.PENDING_INSTALL)
    with pytest.raises(Conflict, match="another operation"):
        workshop.deploy({})

    assert recovered(workshop) is Recovery.UNINSTALL

    assert workshop.release().state is S.ABSENT
    workshop.deploy({})
    assert workshop.release() == Release("shop", 1, S.DEPLOYED, "0123456789abcdef", None, 1)


def test_killed_in_an_upgrade_it_is_rolled_back_and_upgraded(workshop: Workshop) -> None:
    workshop.deploy({})
    killed_in(workshop, upgrade, S.PENDING_UPGRADE)
    with pytest.raises(Conflict, match="another operation"):
        workshop.deploy({})

    assert recovered(workshop) is Recovery.ROLLBACK

    assert workshop.release().state is S.DEPLOYED
    assert workshop.values()["replicas"] == 1
    workshop.deploy({"replicas": 2})
    assert workshop.release() == Release("shop", 4, S.DEPLOYED, "0123456789abcdef", None, 4)


def test_killed_in_an_upgrade_of_what_never_was_deployed_it_is_uninstalled(workshop: Workshop) -> None:
    with suppress(EnvprovError):
        workshop.deploy({"replicas": -1})
    killed_in(workshop, upgrade, S.PENDING_UPGRADE)

    assert recovered(workshop) is Recovery.UNINSTALL

    assert workshop.release().state is S.ABSENT
    workshop.deploy({})
    assert workshop.release().state is S.DEPLOYED


def test_left_in_a_rollback_it_is_rolled_back_and_upgraded(workshop: Workshop) -> None:
    """Our own rollback runs no hooks and cannot be caught in the middle, so a person's is taken."""
    workshop.deploy({"hook": "pre-rollback"})
    workshop.deploy({"replicas": 2})

    async def rollback_with_hooks(place: Workshop) -> None:
        process = await asyncio.create_subprocess_exec(
            place.settings.binary,
            *("rollback", "shop", "1", "--namespace", place.namespace, "--kubeconfig", str(place.settings.kubeconfig)),
            stderr=asyncio.subprocess.DEVNULL,
        )
        await process.wait()

    killed_in(workshop, rollback_with_hooks, S.PENDING_ROLLBACK)
    with pytest.raises(Conflict, match="another operation"):
        workshop.deploy({})

    assert recovered(workshop) is Recovery.ROLLBACK

    assert workshop.release().state is S.DEPLOYED
    assert workshop.values()["replicas"] == 2
    workshop.deploy({"replicas": 3})
    assert workshop.release().state is S.DEPLOYED


@pytest.mark.parametrize("hook", ["pre-delete", "post-delete"])
def test_killed_in_an_uninstall_it_is_uninstalled(workshop: Workshop, hook: str) -> None:
    workshop.deploy({"hook": hook})
    killed_in(workshop, uninstall, S.UNINSTALLING)

    assert recovered(workshop) is Recovery.UNINSTALL

    assert workshop.release().state is S.ABSENT
    assert workshop.objects("deployments") == []
    workshop.deploy({})
    assert workshop.release().state is S.DEPLOYED


@pytest.mark.parametrize(
    ("first", "operation", "pending", "ended"),
    [
        pytest.param(None, install, S.PENDING_INSTALL, Release("shop", 1, S.FAILED, "0123456789abcdef"), id="install"),
        pytest.param(
            {}, upgrade, S.PENDING_UPGRADE, Release("shop", 2, S.FAILED, "0123456789abcdef", None, 1), id="upgrade"
        ),
    ],
)
def test_cancelled_it_leaves_a_release_that_can_be_deployed_and_no_process(
    workshop: Workshop, first: dict[str, object] | None, operation: Operation, pending: ReleaseState, ended: Release
) -> None:
    if first is not None:
        workshop.deploy(first)

    async def scenario() -> None:
        task = asyncio.ensure_future(operation(workshop))
        await workshop.until(pending)
        assert len(workshop.processes()) == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert workshop.processes() == {}

    asyncio.run(scenario())

    assert workshop.release() == ended
    assert recovery(workshop.release()) is Recovery.NONE
    workshop.deploy({})
    assert workshop.release().state is S.DEPLOYED


def test_a_hook_that_hangs_is_named_when_the_time_is_over(workshop: Workshop) -> None:
    hasty = workshop.with_settings(timeouts=Timeouts(install=timedelta(seconds=10), upgrade=timedelta(seconds=10)))

    with pytest.raises(HelmTimeout, match=r"Job/\S+/shop-pre-install not ready"):
        hasty.deploy({"hook": "pre-install"})

    assert workshop.release().state is S.FAILED
    assert workshop.processes() == {}
