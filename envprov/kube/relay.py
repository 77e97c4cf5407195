"""What the API server passes on: to a kubelet for the log of a pod, to a Service of the cluster for its answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from envprov.kube.client import KubeClient
from envprov.kube.collections import naming
from envprov.kube.resources import PODS, SERVICES
from envprov.kube.transport import ANYTHING, Request

LOG_LIMIT_BYTES = 1 << 20


async def pod_log(  # noqa: PLR0913 - the selection is the API's own
    client: KubeClient,
    name: str,
    namespace: str,
    *,
    tail_lines: int,
    container: str | None = None,
    previous: bool = False,
    limit_bytes: int = LOG_LIMIT_BYTES,
) -> str:
    """
    Read the end of a container's log.

    Args:
        client: As whom.
        name: The pod.
        namespace: Its namespace.
        tail_lines: How many lines at most.
        container: None is the only one there is.
        previous: Whether the log before the last restart is meant.
        limit_bytes: How much of these lines, from their beginning.

    Raises:
        Invalid: The container has not started, or must be named.
        Conflict: The pod is gone.

    """
    query = {"tailLines": str(tail_lines), "limitBytes": str(limit_bytes)}
    if previous:
        query["previous"] = "true"
    if container is not None:
        query["container"] = container
    doing = naming("read", PODS, name, namespace, "log")
    return str(await client.send(Request(doing, "GET", PODS.path(namespace, name, "log"), query, accept=ANYTHING)))


async def post_to_service(client: KubeClient, namespace: str, service: str, path: str, body: Mapping[str, Any]) -> int:
    """
    Ask a Service of the cluster something, through the API server.

    Args:
        client: As whom.
        namespace: Of the Service.
        service: Its name; ``http:NAME:PORT`` where scheme or port must be said.
        path: Of the request, without a slash at its beginning.
        body: Sent as JSON.

    Returns:
        HTTP status of the answer. The API server's own refusals are among them, such as 403, 404 and 503.

    Raises:
        Unavailable: There is no answer.

    """
    where = SERVICES.path(namespace, service, "proxy")
    request = Request(f"ask Service {namespace}/{service}", "POST", f"{where}/{path}", body=body)
    return await client.status(request)
