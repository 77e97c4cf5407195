"""Kubernetes Events: what people should see of an object with ``kubectl describe``."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog

from envprov.domain.errors import EnvprovError
from envprov.kube.client import KubeClient, Object

log = structlog.get_logger("envprov.events")

MESSAGE_LIMIT = 1000
_NAME_LIMIT = 200
"""Of the object's own name in that of the Event, which also has a digest and at most 253 characters."""


@dataclass(frozen=True)
class Events:
    """
    Records Events.

    Attributes:
        client: Speaks to the API server.
        source: Who tells, which is also the field manager.

    """

    client: KubeClient
    source: str

    async def tell(self, about: Mapping[str, str], reason: str, message: str, *, warning: bool) -> None:
        """
        Record an Event; that it cannot be recorded stops nothing.

        Args:
            about: The object: apiVersion, kind, name, namespace and uid.
            reason: CamelCase word.
            message: In words; cut off after ``MESSAGE_LIMIT`` characters.
            warning: Whether somebody should look into it.

        """
        event = _event(about, reason, message[:MESSAGE_LIMIT], self.source, warning=warning)
        try:
            await self.client.apply(event, manager=self.source)
        except EnvprovError as error:
            where = f"{about['namespace']}/{about['name']}"
            log.warning("event not recorded", about=where, reason=reason, error=str(error))


def _event(about: Mapping[str, str], reason: str, message: str, source: str, *, warning: bool) -> Object:
    # The same fact has the same name: told again, it is one Event with a later time.
    digest = hashlib.sha256(f"{about['uid']}/{reason}/{message}".encode()).hexdigest()[:16]
    moment = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{about['name'][:_NAME_LIMIT]}.{digest}", "namespace": about["namespace"]},
        "involvedObject": dict(about),
        "reason": reason,
        "message": message,
        "type": "Warning" if warning else "Normal",
        "source": {"component": source},
        "reportingComponent": source,
        "lastTimestamp": moment,
    }
