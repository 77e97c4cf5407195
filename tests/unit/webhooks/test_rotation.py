"""Secrets that change: exchanged whole, and never lost to a read that fails."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
import structlog

from envprov.domain.errors import ConfigError
from tests.eventually import eventually_async
from webhooks.authentic import Secrets
from webhooks.rotation import Rotation

OLD, NEW = Secrets(tokens=(b"old-secret",)), Secrets(tokens=(b"new-secret",), keys=(b"k" * 32,))
TORN = Secrets(tokens=(b"old-secret",), keys=(b"k" * 32,))


class Files:
    """Files that are read one after the other."""

    def __init__(self, *reads: Secrets | Exception) -> None:
        self.reads: Iterator[Secrets | Exception] = iter(reads)

    def __call__(self) -> Secrets:
        found = next(self.reads)
        if isinstance(found, Exception):
            raise found
        return found


def after(*reads: Secrets | Exception, renewals: int = 1) -> tuple[Secrets, list[dict[str, object]]]:
    """Return what is valid after some reads, and what the log says."""
    rotation = Rotation(Files(OLD, *reads))
    with structlog.testing.capture_logs() as logged:
        for _ in range(renewals):
            asyncio.run(rotation.renew())
    return rotation.current(), [dict(entry) for entry in logged]


def test_what_has_not_changed_is_not_told() -> None:
    assert after(OLD) == (OLD, [])


def test_what_has_changed_is_valid_at_once_and_told_without_secrets() -> None:
    found, logged = after(NEW, NEW)
    assert found == NEW
    assert logged == [{"event": "secrets read again", "log_level": "info", "tokens": 1, "signing_tokens": 1}]


def test_what_is_being_exchanged_waits_for_the_next_read() -> None:
    assert after(TORN, NEW) == (OLD, [])
    assert after(TORN, NEW, NEW, NEW, renewals=2)[0] == NEW


@pytest.mark.parametrize(
    "error",
    [ConfigError("webhook token file /x/token: is empty"), FileNotFoundError(2, "No such file", "/x")],
    ids=["empty", "gone"],
)
def test_what_cannot_be_read_changes_nothing_and_is_told_once(error: Exception) -> None:
    found, logged = after(error, NEW, error, error, renewals=3)
    assert found == OLD
    assert [(entry["event"], entry["log_level"]) for entry in logged] == [("secrets not read again", "warning")]
    assert "secret" not in str(logged[0]["error"])


def test_a_fault_that_comes_back_is_told_again() -> None:
    error = ConfigError("webhook token file /x/token: is empty")
    _, logged = after(error, OLD, error, renewals=3)
    assert len(logged) == 2


def test_without_secrets_at_the_start_there_is_no_receiver() -> None:
    with pytest.raises(ConfigError, match="no webhook token"):
        Rotation(Files(ConfigError("no webhook token")))


async def is_new(rotation: Rotation) -> bool:
    return rotation.current() == NEW


def test_it_reads_again_by_itself() -> None:
    async def story() -> None:
        rotation = Rotation(Files(OLD, OLD, *[NEW] * 9999), interval_seconds=0.001)
        running = asyncio.create_task(rotation.run())
        await eventually_async(lambda: is_new(rotation), every=0.001)
        running.cancel()
        await asyncio.wait({running})

    asyncio.run(story())
