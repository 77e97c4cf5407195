"""How long a failed deployment rests before it is tried again, whatever wakes the key meanwhile."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from envprov.domain.errors import EnvprovError, TerminalError

FIRST = timedelta(seconds=5)
LONGEST = timedelta(minutes=5)


@dataclass(frozen=True)
class _Failure:
    digest: str
    count: int
    until: datetime


@dataclass
class Holdoff:
    """
    The failures of each key, for one digest of chart and values.

    A deployment that fails wakes its own key by the objects it touched, so the queue's backoff alone would not hold it.
    Another digest is another deployment and does not wait. Forgotten with the process, which costs one try.
    """

    _failures: dict[str, _Failure] = field(default_factory=dict)

    def failed(self, key: str, digest: str, now: datetime, error: EnvprovError) -> timedelta:
        """
        Remember a failure.

        Args:
            key: Name of the Environment.
            digest: What was being deployed.
            now: Aware moment.
            error: A terminal one rests for the longest time at once.

        Returns:
            How long the key rests.

        """
        before = self._failures.get(key)
        count = before.count + 1 if before is not None and before.digest == digest else 1
        rest = LONGEST if isinstance(error, TerminalError) else min(FIRST * 2 ** min(count - 1, 10), LONGEST)
        self._failures[key] = _Failure(digest, count, now + rest)
        return rest

    def remaining(self, key: str, digest: str, now: datetime) -> timedelta | None:
        """How long the deployment of a digest still rests, or None if it may be tried."""
        failure = self._failures.get(key)
        if failure is None or failure.digest != digest or now >= failure.until:
            return None
        return failure.until - now

    def forget(self, key: str) -> None:
        """The deployment went well, or the key is gone."""
        self._failures.pop(key, None)
