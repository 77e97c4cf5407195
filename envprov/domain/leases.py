"""Names of the Leases by which only one process works at a time."""

from __future__ import annotations

CONTROLLER_LEASE = "envprov-controller"
"""In the control namespace: its holder is the controller that works, the others stand by."""
HELM_LEASE = "envprov-helm"
"""In the namespace of an environment, while a Helm of ours works there."""
