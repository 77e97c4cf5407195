"""What a client may do, as the API server answers it."""

from __future__ import annotations

from envprov.kube.client import KubeClient
from envprov.kube.resources import SELF_SUBJECT_ACCESS_REVIEWS
from envprov.kube.transport import Request


async def can_i(  # noqa: PLR0913, PLR0917 - the attributes of a review, in its order
    client: KubeClient,
    verb: str,
    group: str,
    resource: str,
    namespace: str | None = None,
    name: str | None = None,
    subresource: str | None = None,
) -> bool:
    """
    Ask whether a client may do something.

    Args:
        client: As whom.
        verb: As in RBAC.
        group: API group; the core group is the empty string.
        resource: Plural, as in RBAC.
        namespace: None for all namespaces, or for none.
        name: None for every name.
        subresource: Such as ``status``.

    """
    asked = {"verb": verb, "group": group, "resource": resource}
    asked |= {"namespace": namespace or "", "name": name or "", "subresource": subresource or ""}
    review = SELF_SUBJECT_ACCESS_REVIEWS
    body = {"apiVersion": review.api_version, "kind": review.kind, "spec": {"resourceAttributes": asked}}
    answer = await client.send(Request(f"ask whether we may {verb}", "POST", review.path(), body=body))
    return bool(answer["status"]["allowed"])
