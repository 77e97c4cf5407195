"""What platform people decide once for all environments: the part of the settings that shapes them."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from envprov.domain.model import Model
from envprov.domain.project import DnsLabel, Text
from envprov.domain.quantity import Quantity
from envprov.domain.sizes import DEFAULT_SIZES, Size

Price = Annotated[Decimal, Field(ge=0, le=1_000_000, allow_inf_nan=False)]


class ContainerDefaults(Model):
    """The LimitRange: what a container gets that asks for nothing, and the most that one may ask for."""

    cpu_request: Quantity = "50m"
    """CPU request of a container without one."""
    memory_request: Quantity = "128Mi"
    """Memory request of a container without one."""
    memory_limit: Quantity = "512Mi"
    """Memory limit of a container without one. A request above it needs a limit of its own."""
    ephemeral_request: Quantity = "128Mi"
    """Ephemeral storage request of a container without one."""
    ephemeral_limit: Quantity = "1Gi"
    """Ephemeral storage limit of a container without one."""
    cpu_max: Quantity = "4"
    """Most CPU that one container may have."""
    memory_max: Quantity = "8Gi"
    """Most memory that one container may have."""
    claim_max: Quantity = "20Gi"
    """Largest PersistentVolumeClaim."""


class Network(Model):
    """What an environment may reach and who may reach it."""

    profile: Literal["internet", "isolated"] = "internet"
    """internet: public addresses too, but no private ones and no metadata service. isolated: the environment only."""
    ingress_namespaces: tuple[DnsLabel, ...] = Field(default=("ingress-nginx",), max_length=20)
    """Namespaces of ingress controllers, by their name."""
    shared_namespaces: tuple[DnsLabel, ...] = Field(default=(), max_length=50)
    """Namespaces that every environment may reach, such as one of shared databases."""
    node_local_dns: Text = "169.254.20.10/32"
    """Address of NodeLocal DNS, which no selector matches."""


class PodSecurity(Model):
    """The Pod Security levels of every environment's namespace."""

    enforce: Literal["privileged", "baseline", "restricted"] = "baseline"
    """Pods below this level are refused."""
    warn: Literal["privileged", "baseline", "restricted"] = "restricted"
    """Pods below this level are warned about and audited."""
    version: Text = "v1.30"
    """Version of the levels, pinned so that an upgrade of the cluster does not change what is accepted."""


class Prices(Model):
    """What an hour costs, for showing what an environment costs; nothing is billed."""

    cpu: Price = Decimal(0)
    """One requested core."""
    memory: Price = Decimal(0)
    """One requested GiB of memory."""
    storage: Price = Decimal(0)
    """One GiB of claimed storage."""
    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")] = "EUR"
    """ISO 4217 code."""


class Platform(Model):
    """Everything that shapes an environment besides its Project and its own spec."""

    control_namespace: DnsLabel = "envprov-system"
    """Namespace of the Projects and Environments."""
    controller_account: DnsLabel = "envprov"
    """The controller's own ServiceAccount in the control namespace."""
    sizes: dict[str, Size] = Field(default_factory=lambda: dict(DEFAULT_SIZES))
    """The sizes by name."""
    containers: ContainerDefaults = ContainerDefaults()
    """Defaults and maxima of single containers."""
    network: Network = Network()
    """Isolation from other environments and the rest of the cluster."""
    pod_security: PodSecurity = PodSecurity()
    """Pod Security levels."""
    prices: Prices | None = None
    """What an hour costs. Without it no cost is shown."""
    url_scheme: Literal["https", "http"] = "https"
    """How an environment's URL begins."""
