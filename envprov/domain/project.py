"""The Project: one GitLab project and its rules. The first rule whose glob matches decides."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, StringConstraints, TypeAdapter, WithJsonSchema, model_validator
from pydantic.config import JsonDict

from envprov.domain.lifetime import Duration, Lifetime
from envprov.domain.model import Model
from envprov.domain.quantity import Quantity
from envprov.domain.sizes import Size, SizeName

DnsLabel = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$", max_length=63)]
DnsName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$", max_length=253)]
Glob = Annotated[str, StringConstraints(min_length=1, max_length=255)]
Values = Annotated[
    dict[str, Any],
    WithJsonSchema({"type": "object", "x-kubernetes-preserve-unknown-fields": True}),
]
Text = Annotated[str, StringConstraints(min_length=1, max_length=1024)]
ValuePath = Annotated[str, StringConstraints(pattern=r"^([A-Za-z0-9_-]+\.)*([A-Za-z0-9_-]+|\*)$", max_length=253)]

Requests = Annotated[
    dict[Literal["cpu", "memory", "ephemeral-storage", "storage"], Quantity],
    Field(max_length=4),
    WithJsonSchema(
        {
            "type": "object",
            "maxProperties": 4,
            "additionalProperties": TypeAdapter(Quantity).json_schema(),
            "x-kubernetes-validations": [
                {
                    "rule": "self.all(name, name in ['cpu', 'memory', 'ephemeral-storage', 'storage'])",
                    "message": "takes cpu, memory, ephemeral-storage and storage",
                }
            ],
        }
    ),
]
"""Sums of requests by resource."""

_ONE_CHART_SOURCE: JsonDict = {
    "rule": "[has(self.git), has(self.oci), has(self.repository), has(self.local)].filter(x, x).size() == 1",
    "message": "give exactly one of git, oci, repository and local",
}


class Report(Model):
    """What is written back into GitLab; each part can be switched off by itself."""

    environment: bool = True
    """A GitLab environment for each branch, with a deployment for each revision."""
    note: bool = True
    """One note in the merge request, edited in place."""
    status: bool = False
    """A status of the commit. GitLab makes a pipeline for a commit that has none."""


class Commands(Model):
    """Commands in notes of merge requests, such as /envprov extend 3d."""

    role: Literal["reporter", "developer", "maintainer", "owner"] = "developer"
    """Least role in the project of who may give them."""


class GitLabProject(Model):
    """Where the branches are. The server's address and token are settings, not part of the Project."""

    project: Annotated[
        str | int,
        WithJsonSchema({"x-kubernetes-int-or-string": True}),
        Field(description="Path with namespace (group/shop) or numeric id."),
    ]
    report: Report = Report()
    """What GitLab's own pages show of the environments."""
    commands: Commands | None = None
    """Who may give commands in the notes of merge requests; by default nobody."""


class Credentials(Model):
    """A Secret in the control namespace with the keys username and password."""

    secret: DnsName
    """Name of the Secret."""


class GitChart(Model):
    """A chart in the repository, at the branch's commit."""

    path: Text = "deploy/chart"
    """Folder of the chart, from the top of the repository."""


class OciChart(Model):
    """A chart in an OCI registry."""

    ref: Annotated[str, StringConstraints(pattern=r"^oci://[^\s]+$", max_length=1024)]
    """Reference without version: oci://registry.example.com/charts/shop."""
    version: Text
    """Exact version or range, as Helm reads it."""
    credentials: Credentials | None = None
    """Who may read it, if not everybody."""


class RepositoryChart(Model):
    """A chart in a classic chart repository."""

    url: Annotated[str, StringConstraints(pattern=r"^https?://[^\s]+$", max_length=1024)]
    """Address of the repository."""
    name: DnsName
    """Name of the chart."""
    version: Text
    """Exact version or range, as Helm reads it."""
    credentials: Credentials | None = None
    """Who may read it, if not everybody."""


class LocalChart(Model):
    """A chart in the controller's own file system, below the chart root of its settings."""

    path: Text
    """Folder of the chart: absolute, or from the chart root."""


class ChartSource(Model):
    """Where the chart comes from: exactly one of the four."""

    model_config = ConfigDict(json_schema_extra={"x-kubernetes-validations": [_ONE_CHART_SOURCE]})

    git: GitChart | None = None
    """From the repository, at the branch's commit."""
    oci: OciChart | None = None
    """From an OCI registry."""
    repository: RepositoryChart | None = None
    """From a chart repository."""
    local: LocalChart | None = None
    """From the controller's file system."""

    @model_validator(mode="after")
    def _exactly_one(self) -> ChartSource:
        if sum(source is not None for source in (self.git, self.oci, self.repository, self.local)) != 1:
            raise ValueError("give exactly one of git, oci, repository and local")
        return self

    @property
    def source(self) -> GitChart | OciChart | RepositoryChart | LocalChart:
        """The one that is given."""
        found = self.git or self.oci or self.repository or self.local
        if found is None:  # the validator above has refused it
            raise ValueError("give exactly one of git, oci, repository and local")
        return found

    def __str__(self) -> str:
        match self.source:
            case GitChart(path=path):
                return f"git {path}"
            case OciChart(ref=ref, version=version):
                return f"{ref}:{version}"
            case RepositoryChart(url=url, name=name, version=version):
                return f"{url} {name}:{version}"
            case LocalChart(path=path):
                return f"local {path}"


class Sizes(Model):
    """Which sizes the project's environments may have."""

    default: SizeName = "S"
    """Size of a branch whose rule names none."""
    allowed: tuple[SizeName, ...] = Field(default=("S",), max_length=20)
    """Sizes that a branch may choose for itself; a rule may give any."""
    custom: dict[str, Size] = Field(default={}, max_length=20)
    """Sizes of this project's own, by name; they come before those of the settings."""


class SharedAccount(Model):
    """A ServiceAccount that the environments use together."""

    namespace: DnsLabel
    """Namespace of the ServiceAccount."""
    name: DnsName
    """Name of the ServiceAccount."""
    policy: Literal["keep", "delete-with-last-user"] = "keep"
    """What becomes of it when its last user is gone. If two Projects differ, it is kept."""


class SecretCopy(Model):
    """A Secret that every environment of the project gets a copy of."""

    namespace: DnsLabel
    """Namespace of the original; the controller needs permission to read it there."""
    name: DnsName
    """Name of the original and of the copy."""
    image_pull: bool = False
    """Whether the environment's default ServiceAccount pulls images with it."""


class Access(Model):
    """Who may work in every environment of the project."""

    model_config = ConfigDict(
        json_schema_extra={
            "x-kubernetes-validations": [
                {"rule": "has(self.group) != has(self.user)", "message": "give exactly one of group and user"}
            ]
        }
    )

    group: Text | None = None
    """A group as the cluster's authenticator names it."""
    user: Text | None = None
    """A user as the cluster's authenticator names it."""
    role: Literal["view", "edit", "admin"] = "edit"
    """The built-in ClusterRole that is bound."""

    @model_validator(mode="after")
    def _exactly_one(self) -> Access:
        if (self.group is None) == (self.user is None):
            raise ValueError("give exactly one of group and user")
        return self


class Limits(Model):
    """How much all environments of the project may have together."""

    environments: int | None = Field(default=None, ge=1, le=10000)
    """Number of environments."""
    requests: Requests = Field(default={})
    """Sum of what their sizes let them request: cpu, memory, ephemeral-storage and storage."""
    lifetime: Duration | None = None
    """Longest lifetime that a branch or a person may choose, counted from now; what a rule says may be longer."""


class BranchFileRules(Model):
    """What the file .envprov.yaml of a branch may decide. Sizes are bounded by sizes.allowed, lifetimes by limits."""

    read: bool = True
    """Whether it is read at all."""
    values: tuple[ValuePath, ...] = Field(default=(), max_length=100)
    """Chart values that it may set: image.tag one of them, web.* all below web, * all."""
    chart: bool = False
    """Whether it may name another folder of the repository as the chart."""


class ClusterScoped(Model):
    """A kind of cluster-scoped objects, or one of them by name."""

    group: Annotated[str, StringConstraints(pattern=r"^[a-z0-9.-]*$", max_length=253)] = ""
    """API group; empty for the core group."""
    kind: Annotated[str, StringConstraints(pattern=r"^[A-Za-z][A-Za-z0-9]*$", max_length=63)]
    """Kind, such as ClusterRole."""
    name: Text | None = None
    """Glob for the names; by default any. Two branches whose objects have one name collide: let it hold the slug."""


class Checks(Model):
    """What the check of a chart lets pass before Helm runs."""

    cluster_scoped: tuple[ClusterScoped, ...] = Field(default=(), max_length=50)
    """Cluster-scoped objects that a chart may have. The installer must have the right to make them, too."""
    warn_only: tuple[Annotated[str, StringConstraints(pattern=r"^(\*|[A-Z][A-Za-z0-9]*)$", max_length=64)], ...] = (
        Field(default=(), max_length=100)
    )
    """Reasons of findings that only warn, as docs/findings.md lists them; * for all. What the API server refuses \
is not among them."""


class MergeRequestFilter(Model):
    """Which merge requests count."""

    labels: tuple[Text, ...] = Field(default=(), max_length=50)
    """It must bear one of these labels; none given: any merge request counts."""
    drafts: bool = True
    """Whether drafts count."""
    forks: bool = False
    """Whether merge requests from forks count: their branch is called merge-requests/NUMBER/head, and whoever may \
fork the project can then run code in the cluster."""

    def fits(self, labels: Collection[str], *, draft: bool, fork: bool) -> bool:
        """Whether a merge request counts."""
        if (draft and not self.drafts) or (fork and not self.forks):
            return False
        return not self.labels or bool(set(labels) & set(self.labels))


class Rule(Model):
    """What happens to the branches that match."""

    branches: tuple[Glob, ...] = Field(min_length=1, max_length=100)
    """Globs: * matches any run of characters, slashes too; ? one; [ab] a set. Case matters."""
    action: Literal["create", "ignore"] = "create"
    """Whether such a branch gets an environment."""
    merge_request: MergeRequestFilter | None = None
    """If given, such a branch gets an environment only while it has an open merge request that counts."""
    size: SizeName | None = None
    """Size of such environments, whether or not a branch could choose it for itself."""
    priority: int = Field(default=0, ge=-10, le=10)
    """Who goes first when there is no room for all: each point is worth a day of waiting. Within a day the higher \
priority goes first, then the older."""
    lifetime: Lifetime | None = None
    """How long such environments live."""
    values: Values = Field(default={})
    """Chart values, laid over those of the project."""


class ProjectSpec(Model):
    """One GitLab project and its rules, written by platform people."""

    gitlab: GitLabProject | None = None
    """Where the branches come from. Without it only the command line makes environments."""
    chart: ChartSource
    """The chart that is installed for every branch."""
    values: Values = Field(default={})
    """Chart values for every branch. In strings, {slug} {branch} {project} {revision} {host} {url} are filled in."""
    inject: bool = True
    """Whether the chart also gets the value "envprov" with project, branch, slug, revision, host and url; switch it \
off for a chart whose schema refuses unknown values."""
    host: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9{}.*-]+$", max_length=253)] | None = None
    """Host name of an environment: {slug}.dev.example.com. Of {slug}, {branch} and {project} only {slug} is unique."""
    sizes: Sizes = Sizes()
    """Which sizes the environments may have."""
    shared_service_accounts: tuple[SharedAccount, ...] = Field(default=(), max_length=100)
    """ServiceAccounts that the environments use and do not own; the guard keeps them while they are used."""
    copy_secrets: tuple[SecretCopy, ...] = Field(default=(), max_length=50)
    """Secrets that every environment gets a copy of."""
    access: tuple[Access, ...] = Field(default=(), max_length=50)
    """Who may work in every environment."""
    limits: Limits = Limits()
    """How much all environments may have together."""
    branch_file: BranchFileRules = BranchFileRules()
    """What the file .envprov.yaml of a branch may decide."""
    checks: Checks = Checks()
    """What the check of a chart lets pass before Helm runs."""
    rules: tuple[Rule, ...] = Field(default=(Rule(branches=("*",)),), max_length=200)
    """Which branches get an environment, and what kind; the first rule that matches decides."""


class Project(Model):
    """A Project as the controller reads it: the name and the spec."""

    name: str
    """Name of the object."""
    spec: ProjectSpec
    """What its author wrote."""
    known_id: int | None = None
    """GitLab's number of the project, as the first sweep saw it."""

    def rule_for(self, branch: str) -> Rule | None:
        """
        The first rule that matches a branch.

        Args:
            branch: Branch name without ``refs/heads/``.

        Returns:
            The rule, or None if no rule mentions the branch, which then gets no environment.

        """
        return next(
            (rule for rule in self.spec.rules if any(fnmatchcase(branch, glob) for glob in rule.branches)), None
        )

    def wants(self, branch: str) -> bool:
        """Whether a branch gets an environment of itself, without a merge request."""
        rule = self.rule_for(branch)
        return rule is not None and rule.action == "create" and rule.merge_request is None

    def wants_merge_request(self, branch: str, labels: Collection[str], *, draft: bool, fork: bool) -> bool:
        """
        Whether a branch gets an environment because of an open merge request.

        Args:
            branch: The source branch, or ``merge-requests/NUMBER/head`` of one that comes from a fork.
            labels: Of the merge request.
            draft: Whether it is one.
            fork: Whether it comes from a fork.

        """
        rule = self.rule_for(branch)
        if rule is None or rule.action != "create":
            return False
        if rule.merge_request is None:
            return not fork
        return rule.merge_request.fits(labels, draft=draft, fork=fork)

    def serves(self, project_id: int, path: str) -> bool:
        """
        Whether this Project is meant by a delivery: not by one of another project that has taken its path since.

        Args:
            project_id: GitLab's numeric id.
            path: Path with namespace as the delivery spells it; GitLab compares it without case.

        """
        if self.spec.gitlab is None:
            return False
        mine = self.spec.gitlab.project
        if str(mine) == str(project_id):
            return True
        return str(mine).casefold() == path.casefold() and self.known_id in {None, project_id}


def known_sizes(project: Project, settings: Mapping[str, Size]) -> dict[str, Size]:
    """The sizes that a project knows: those of the settings, and its own before them."""
    return {**settings, **project.spec.sizes.custom}
