"""A release's state, read from the labels of its Secrets, and what gets it out of a stuck one."""

from __future__ import annotations

from typing import Any

import pytest

from envprov.domain.release import Recovery, Release, ReleaseState, recovery, release_of

S = ReleaseState


def revision(number: int | str, status: str, name: str = "shop", **more: str) -> dict[str, Any]:
    return {
        "name": f"sh.helm.release.v1.{name}.v{number}",
        "labels": {"owner": "helm", "name": name, "status": status, "version": str(number), **more},
    }


DIGEST = {"envprov.io/digest": "0123456789abcdef", "envprov.io/revision": "c0ffee"}


@pytest.mark.parametrize(
    ("secrets", "expected"),
    [
        pytest.param([], Release("shop"), id="no Secret -> absent"),
        pytest.param(
            [{"name": "pull", "labels": None}, {"name": "other"}], Release("shop"), id="other Secrets -> absent"
        ),
        pytest.param([revision(1, "deployed", "basket")], Release("shop"), id="another release -> absent"),
        pytest.param([revision(1, "deployed", owner="someone")], Release("shop"), id="not Helm's -> absent"),
        pytest.param([revision("x", "deployed")], Release("shop"), id="a revision that is no number -> absent"),
        pytest.param(
            [revision(1, "deployed", **DIGEST)],
            Release("shop", 1, S.DEPLOYED, "0123456789abcdef", "c0ffee", 1),
            id="first install -> deployed with digest and commit",
        ),
        pytest.param(
            [revision(10, "deployed"), revision(9, "superseded", **DIGEST)],
            Release("shop", 10, S.DEPLOYED, None, None, 10),
            id="ten after nine -> the newest by number, not by name",
        ),
        pytest.param(
            [revision(2, "failed", **DIGEST), revision(1, "deployed")],
            Release("shop", 2, S.FAILED, "0123456789abcdef", "c0ffee", 1),
            id="failed upgrade -> failed, the old one still in force",
        ),
        pytest.param(
            [revision(1, "superseded"), revision(2, "superseded"), revision(3, "pending-upgrade")],
            Release("shop", 3, S.PENDING_UPGRADE, None, None, 2),
            id="killed between two labels -> goes back to what was superseded last",
        ),
        pytest.param(
            [revision(1, "failed"), revision(2, "pending-upgrade")],
            Release("shop", 2, S.PENDING_UPGRADE, None, None, None),
            id="never deployed -> nothing to go back to",
        ),
        pytest.param(
            [revision(1, "deployed", **{"envprov.io/digest": "", "envprov.io/revision": ""})],
            Release("shop", 1, S.DEPLOYED, None, None, 1),
            id="empty labels -> none",
        ),
        pytest.param(
            [revision(1, "exploded")],
            Release("shop", 1, S.UNKNOWN, None, None, None),
            id="a state of the future -> unknown",
        ),
    ],
)
def test_release_of(secrets: list[dict[str, Any]], expected: Release) -> None:
    assert release_of("shop", secrets) == expected


@pytest.mark.parametrize(
    ("state", "last", "expected"),
    [
        (S.ABSENT, None, Recovery.NONE),
        (S.DEPLOYED, 1, Recovery.NONE),
        (S.FAILED, None, Recovery.NONE),
        (S.FAILED, 1, Recovery.NONE),
        (S.SUPERSEDED, 1, Recovery.NONE),
        (S.UNINSTALLED, None, Recovery.NONE),
        (S.PENDING_INSTALL, None, Recovery.UNINSTALL),
        (S.PENDING_UPGRADE, 1, Recovery.ROLLBACK),
        (S.PENDING_UPGRADE, None, Recovery.UNINSTALL),
        (S.PENDING_ROLLBACK, 1, Recovery.ROLLBACK),
        (S.PENDING_ROLLBACK, None, Recovery.UNINSTALL),
        (S.UNINSTALLING, 1, Recovery.UNINSTALL),
        (S.UNINSTALLING, None, Recovery.UNINSTALL),
        (S.UNKNOWN, 1, Recovery.ROLLBACK),
        (S.UNKNOWN, None, Recovery.UNINSTALL),
    ],
)
def test_recovery(state: ReleaseState, last: int | None, expected: Recovery) -> None:
    assert recovery(Release("shop", 3, state, last_deployed_revision=last)) is expected
