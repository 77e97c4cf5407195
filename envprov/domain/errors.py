"""
The error tree. A class is named by its cause, so that a caller can branch on it.

::

    EnvprovError
    + ConfigError            start-up or usage; exit 2; names file and field
    + RejectedDelivery       HTTP 400, 401, 408, 413, 431; never says why a token failed
    + RetryableError         back off, or wait ``retry_after`` if the far side said so
    | + Conflict             somebody else wrote first; read again
    | + Throttled            the API server asks for patience
    | + Unavailable          no answer, a time-out, a broken connection, a 5xx
    | + Expired              the resourceVersion is too old; list again
    | + HelmFailed           Helm ended with an error that another try may cure
    | + HelmTimeout          Helm did not end in the time that the settings give it
    | + HoldLost             a ServiceAccount went while a hold was put on it
    | + Disarmed             the guard's policies are not in force; nothing is torn down
    | + LeadershipLost       the lease could not be renewed in time; another process may lead
    | + ForgeUnreliable      an answer that cannot be GitLab's own, or is not complete
    + TerminalError          Stalled: waits until spec, project, settings or cluster change
      + Forbidden            RBAC or an admission policy said no
      + Invalid              the API server refused the object as it is
      + NotOwned             the object exists and belongs to somebody else
      + NameTaken            the record of that name names another branch
      + GhostObjects         a force-finalised namespace left objects behind
      + ChartNotFound        no chart where the Project says
      + ChartRefused         the chart is there, and is not taken: too large, unsafe, or without its dependencies
      + InvalidBranchFile    .envprov.yaml of the branch is wrong or asks for more than its Project allows
      + PlanRefused          the chart breaks rules of docs/findings.md; names them all
      + AccountTaken         a ServiceAccount of the release belongs to somebody else after it was deployed
      + HostTaken            another environment has reserved a host that this one wants
      + OverBudget           alone it needs more than its Project or the cluster may have in all
      + RenderFailed         the chart does not render with these values
      + InvalidRecord        an Environment or Project that cannot be understood
      + ForgeForbidden       GitLab does not let our token do it; says which right or scope is missing

``NotFound`` is deliberately no member: on reading it is ``None``, on deleting it is success.
Any other exception is a bug: the worker logs it with its traceback, backs off and counts it.
"""

from __future__ import annotations

from envprov.domain.findings import Finding, refusing


class EnvprovError(Exception):
    """
    Base of every error that envprov raises on purpose.

    Args:
        message: What happened, to which object, and what to do; never a body, a value or a token.

    """

    @property
    def reason(self) -> str:
        """CamelCase word for conditions, Events and metrics: the class's own name."""
        return type(self).__name__


class ConfigError(EnvprovError):
    """A setting or an argument is wrong: nothing starts."""


class RejectedDelivery(EnvprovError):
    """
    A delivery that is not recorded.

    Args:
        status: The HTTP status that answers it.
        message: What the sender may read.

    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class RetryableError(EnvprovError):
    """
    Another try may succeed.

    Args:
        message: See EnvprovError.
        retry_after: Seconds that the far side asked for, if it did.

    """

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Conflict(RetryableError):
    """HTTP 409: a precondition failed or the name exists."""


class Throttled(RetryableError):
    """HTTP 429 from API Priority and Fairness or a proxy."""


class Unavailable(RetryableError):
    """No usable answer: connection refused or broken, time-out, 5xx."""


class Expired(RetryableError):
    """HTTP 410: the resourceVersion or continue token has been compacted away."""


class HelmFailed(RetryableError):
    """Helm ended with an error that may pass: a hook that failed, a quota that is full now."""


class HelmTimeout(RetryableError):
    """Helm was ended because it took longer than its setting allows."""


class HoldLost(RetryableError):
    """A ServiceAccount or its Namespace was being deleted, or was another, when a hold was put on it; it was undone."""


class Disarmed(RetryableError):
    """The API server does not enforce the guard's policies: no teardown goes on and no hold is released."""


class LeadershipLost(RetryableError):
    """The lease could not be renewed within its deadline: the led work was cancelled, and another process may lead."""


class ForgeUnreliable(RetryableError):
    """
    Something other than GitLab answered, or half of GitLab: nothing may be concluded from it.

    A page for people, a redirect, a 404 that is not GitLab's own, JSON that breaks off, a list whose totals disagree.
    """


class TerminalError(EnvprovError):
    """No further try until something changes: shown as Stalled, not backed off."""


class Forbidden(TerminalError):
    """HTTP 403, by RBAC, quota or an admission policy; the message is the API server's own."""


class Invalid(TerminalError):
    """HTTP 400 or 422: the object cannot be stored as it is."""


class NotOwned(TerminalError):
    """The object exists and does not carry our label and this Environment as its owner."""


class NameTaken(TerminalError):
    """Two branches ask for one name; the message names both."""


class GhostObjects(TerminalError):
    """Objects older than their namespace: a force-finalised namespace left live credentials behind."""


class ChartNotFound(TerminalError):
    """There is no chart where the Project says."""


class ChartRefused(TerminalError):
    """The chart is there and is not taken: too large, unsafe to unpack or to fetch, or without its dependencies."""


class InvalidBranchFile(TerminalError):
    """The file .envprov.yaml of a branch is wrong, or asks for more than its Project allows; names all faults."""


class PlanRefused(TerminalError):
    """
    The chart breaks rules: nothing of it is deployed.

    Args:
        findings: Everything that was found, worst first.

    """

    def __init__(self, findings: tuple[Finding, ...]) -> None:
        self.findings = findings
        self._refusing = refusing(findings)
        count = len(self._refusing)
        what = "the chart cannot be deployed" if count == 1 else f"the chart cannot be deployed for {count} reasons"
        super().__init__(f"{what}: {'; '.join(str(finding) for finding in self._refusing)}")

    @property
    def reason(self) -> str:
        """The rule that is broken, if it is one only."""
        reasons = {finding.reason for finding in self._refusing}
        return reasons.pop() if len(reasons) == 1 else type(self).__name__


class AccountTaken(TerminalError):
    """A ServiceAccount that the release has just installed belongs to another release, too."""


class HostTaken(TerminalError):
    """A host that the environment wants is reserved by another one; names that one. It is looked for again."""


class OverBudget(TerminalError):
    """The environment would not fit into the budget if it were alone in it; says which, and by how much."""


class RenderFailed(TerminalError):
    """The chart does not render, or its values do not fit its schema."""


class InvalidRecord(TerminalError):
    """An Environment or Project that cannot be understood; says which field."""


class ForgeForbidden(TerminalError):
    """HTTP 401 or 403 from GitLab, or a project that it hides from our token; says what is missing and what to do."""
