"""One pass for one key: observe, plan, apply, report."""

from __future__ import annotations

import asyncio
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from envprov.controller.holdoff import Holdoff
from envprov.controller.ports import BranchFiles, Cluster, Manifest, Records
from envprov.domain.actions import Action, DeployRelease
from envprov.domain.desired import Desired, Identity, desire, identity_of, name_fault, term_of
from envprov.domain.environment import (
    FINALIZER,
    BranchFileStatus,
    Environment,
    EnvironmentStatus,
    Step,
    Type,
    parse_environment,
)
from envprov.domain.errors import (
    Conflict,
    EnvprovError,
    HoldLost,
    InvalidBranchFile,
    InvalidRecord,
    LeadershipLost,
    NameTaken,
    RetryableError,
    TerminalError,
)
from envprov.domain.lifetime import Term
from envprov.domain.observed import GuardSeen, Key, NamespaceState, Observed
from envprov.domain.plan import RESYNC, Phase, Plan, plan
from envprov.domain.platform import Platform
from envprov.domain.project import Project
from envprov.domain.report import (
    is_expired,
    next_expiry_check,
    release_status,
    replaced_accounts,
    report_fault,
    report_progress,
    report_teardown,
)
from envprov.domain.settled import check_settled, is_settled, keep, reads_file, settle
from envprov.domain.teardown import LOOK_AGAIN, Course, Descent, descend

Waves = tuple[tuple[Action, ...], ...]

REFUSED_AGAIN = timedelta(seconds=30)
"""A teardown that was refused is tried again: whoever refused may have let go, and no watch tells us."""

FENCE_SETTLE = timedelta(seconds=5)
"""How long ServiceAccounts are fenced before the guard looks for the last time."""

EXPIRED = "Expired"

ROUNDS = 12
"""A pass makes at most this many rounds of observing and applying; a full way up takes five."""


@dataclass(frozen=True)
class Outcome:
    """
    What one pass did, for its log line and its metrics.

    Attributes:
        phase: Where the environment stands after it.
        actions: What was carried out, in order.
        look_again: When to look again if nothing wakes us before; None for a key that is gone.

    """

    phase: str
    actions: tuple[str, ...] = ()
    look_again: timedelta | None = None


@dataclass(frozen=True)
class Reconciler:
    """Brings one environment to what its record says."""

    records: Records
    cluster: Cluster
    platform: Platform
    now: Callable[[], datetime]
    fence_settle: timedelta = FENCE_SETTLE
    files: BranchFiles | None = None
    holdoff: Holdoff = field(default_factory=Holdoff)

    async def __call__(self, key: str) -> Outcome:
        """
        Serve one key.

        Args:
            key: Name of the Environment.

        Returns:
            What was done. Expected waits are no errors: they say when to look again.

        Raises:
            RetryableError: Another try may succeed; the worker backs off.

        """
        try:
            return await self._serve(key)
        except TerminalError as error:
            return Outcome(error.reason, (), RESYNC)

    async def _serve(self, key: str) -> Outcome:
        manifest = self.records.environment(key)
        if manifest is None:
            self.holdoff.forget(key)
            if self.records.pending_successor(key) is None:
                return Outcome("Gone")
            await self.records.revive(key)
            return Outcome("Revived", ("create Environment",), timedelta(0))
        is_leaving = "deletionTimestamp" in manifest["metadata"]
        try:
            environment = parse_environment(_departing(manifest) if is_leaving else manifest)
        except InvalidRecord as error:
            await self.records.report_poison(manifest, str(error), self.now())
            return Outcome("Poison", (), RESYNC)
        if is_leaving:
            return await self._down(environment)
        return await self._up(environment)

    async def _up(self, environment: Environment) -> Outcome:
        latest = [environment]  # as last reported: a fault must not be said over an older status
        try:
            outcome = await self._rise(latest)
            return outcome if outcome.phase == EXPIRED else self._before_the_end(latest[-1], outcome)
        except TerminalError as error:
            stalled = await self._say(latest[-1], error, deploying=False)
            return self._before_the_end(stalled, Outcome(error.reason, (), RESYNC))
        except (Conflict, LeadershipLost):
            raise  # a cache that lags a moment, or another leader's to tell: nobody needs to hear of it
        except RetryableError as error:
            await self._say(latest[-1], error, deploying=False)
            raise

    async def _rise(self, latest: list[Environment]) -> Outcome:
        environment = latest[-1]
        desired = await self._desired(environment)
        if not environment.spec.pinned and is_expired(environment, desired, self.now()):
            await self.records.tell(environment, EXPIRED, "its lifetime has ended", warning=False)
            await self.records.expire(environment)
            return Outcome(EXPIRED, ("delete Environment",), LOOK_AGAIN)
        if FINALIZER not in environment.finalizers:
            await self.records.hold(environment)
        done: list[str] = []
        fresh: dict[Key, Manifest] = {}
        for _ in range(ROUNDS):
            observed = await self.cluster.observe(desired, fresh)
            try:
                decided = plan(desired, observed)
            except TerminalError:
                seen = release_status(latest[-1], desired, observed)  # it may have been got unstuck a moment ago
                status = latest[-1].status.model_copy(update={"release": seen})
                latest.append(await self._report(latest[-1], status))
                raise
            if not decided.waves:
                return await self._settle(latest, desired, observed, decided, done)
            if decided.phase is Phase.DEPLOYING:
                environment, outcome = await self._deploy(latest[-1], desired, observed, decided)
                latest.append(environment)
                if outcome is not None:
                    return replace(outcome, actions=tuple(done))
            else:
                if decided.phase in {Phase.FALLING_ASLEEP, Phase.WAKING}:  # on record before it begins
                    status = report_progress(latest[-1], desired, observed, decided, self.now())
                    latest.append(await self._report(latest[-1], status))
                await self._carry_out(decided.waves, fresh)
            done.extend(str(action) for wave in decided.waves for action in wave)
        return Outcome("Unfinished", tuple(done), timedelta(seconds=1))

    async def _deploy(
        self, environment: Environment, desired: Desired, observed: Observed, decided: Plan
    ) -> tuple[Environment, Outcome | None]:
        """Let Helm work, unless it rests; with an outcome if the pass ends here."""
        # Whoever asks for a release to be got out of where it is stuck asks for a try at once.
        name, digest = environment.name, f"{observed.digest or ''} {desired.unlock}"
        rest = self.holdoff.remaining(name, digest, self.now())
        if rest is not None:
            return environment, Outcome(Phase.RETRYING.value, (), rest)
        status = report_progress(environment, desired, observed, decided, self.now())
        environment = await self._report(environment, status)
        try:
            if not await self._unless_superseded(environment, decided.waves):
                return environment, Outcome("Superseded", (), timedelta(0))
        except (Conflict, LeadershipLost):
            raise
        except EnvprovError as error:
            rest = self.holdoff.failed(name, digest, self.now(), error)
            environment = await self._say(environment, error, deploying=True)
            return environment, Outcome(error.reason, (), rest)
        if any(isinstance(action, DeployRelease) for wave in decided.waves for action in wave):
            self.holdoff.forget(name)
        return environment, None

    async def _desired(self, environment: Environment) -> Desired:
        fault = name_fault(environment)
        if fault is not None:
            raise NameTaken(fault)
        project = self.records.project(environment.spec.project)
        if project is None:
            raise InvalidRecord(
                f"there is no Project {environment.spec.project} in namespace {environment.namespace}; "
                "`kubectl get eproj` lists them"
            )
        return desire(environment, project, self.platform, await self._file(environment, project))

    async def _file(self, environment: Environment, project: Project) -> BranchFileStatus | None:
        """What the branch's own file says; GitLab is asked once for each commit."""
        ref = project.spec.gitlab.project if project.spec.gitlab else None
        if self.files is None or ref is None or not reads_file(environment, project):
            return None
        known, sizes, now = environment.status.branch_file, self.platform.sizes, self.now()
        if known is not None and is_settled(environment):
            check_settled(known, environment, project, sizes, now=now)
            return known
        try:
            raw = await self.files.branch_file(ref, environment.spec.revision)
        except InvalidBranchFile as error:
            return keep(environment, error)
        return settle(environment, project, sizes, raw, now=now)

    async def _settle(
        self, latest: list[Environment], desired: Desired, observed: Observed, decided: Plan, done: list[str]
    ) -> Outcome:
        environment, now = latest[-1], self.now()
        status = report_progress(environment, desired, observed, decided, now)
        before = environment.status
        was = before.condition(Type.READY)
        environment = await self._report(environment, status)
        latest.append(environment)
        for account in replaced_accounts(latest[0].status, environment.status):
            message = (
                f"ServiceAccount {account} was deleted and made again while it was in use: its old tokens are "
                "worthless; restart what runs with it"
            )
            await self.records.tell(environment, HoldLost.__name__, message, warning=True)
        if decided.phase is Phase.QUEUED and (was is None or was.reason != decided.phase.value):
            await self.records.tell(environment, Phase.QUEUED.value, decided.message, warning=False)
        if decided.phase is Phase.READY and (was is None or was.status != "True"):
            await self.records.tell(environment, Phase.READY.value, decided.message, warning=False)
        if decided.phase is Phase.ASLEEP and (was is None or was.reason != Phase.ASLEEP):
            await self.records.tell(environment, Phase.ASLEEP.value, decided.message, warning=False)
        await self._warn(environment, before)
        return Outcome(decided.phase.value, tuple(done), decided.look_again)

    async def _warn(self, environment: Environment, before: EnvironmentStatus) -> None:
        end = environment.status.warned_for
        if end is not None and end != before.warned_for and not environment.spec.pinned:
            await self.records.tell(environment, "ExpiresSoon", _warning(end, environment), warning=True)

    def _before_the_end(self, environment: Environment, outcome: Outcome) -> Outcome:
        """The same, but nobody looks again later than its lifetime ends, or than that is to be said."""
        term = None if environment.spec.pinned or environment.deleting else self._term(environment)
        left = next_expiry_check(term, environment.status, self.now()) if term is not None else None
        if left is None or outcome.look_again is None or outcome.look_again <= left:
            return outcome
        return replace(outcome, look_again=left)

    def _term(self, environment: Environment) -> Term | None:
        """How long it is to live, as far as that is known without asking anybody."""
        try:
            project = self.records.project(environment.spec.project)
        except InvalidRecord:
            return None
        if project is None:
            return None
        return term_of(
            environment, project, environment.status.branch_file if reads_file(environment, project) else None
        )

    async def _carry_out(self, waves: Waves, fresh: dict[Key, Manifest]) -> None:
        for wave in waves:
            results = await asyncio.gather(*(self.cluster.apply(action) for action in wave), return_exceptions=True)
            for written in results:
                if isinstance(written, BaseException):
                    raise written  # not before all of the wave has ended: nothing goes on behind a failed pass
                if written is not None:
                    fresh[written["kind"], written["metadata"]["name"]] = written

    async def _unless_superseded(self, environment: Environment, waves: Waves) -> bool:
        """Carry out what may take long; False if a newer generation cut it short."""
        work = asyncio.ensure_future(self._carry_out(waves, {}))
        newer = asyncio.ensure_future(self.records.superseded(environment))
        try:
            await asyncio.wait({work, newer}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                await work
                return True
            await newer
            return False
        finally:
            newer.cancel()
            work.cancel()
            await asyncio.wait({work, newer})

    async def _down(self, environment: Environment) -> Outcome:
        if FINALIZER not in environment.finalizers:
            return Outcome("Leaving")
        identity = identity_of(environment)
        done: list[str] = []
        guard: GuardSeen | None = None
        descent: Descent | None = None
        for _ in range(ROUNDS):
            progress = environment.status.teardown
            remains = await self.cluster.remains(identity, thorough=progress is not None and progress.plan == "Husk")
            course = Course(
                self.platform.controller_account, progress, self.now(), self.fence_settle, self.cluster.alarm() or guard
            )
            descent = descend(identity, remains, course)
            if descent.asks_guard:
                guard = await self.cluster.ask_guard(identity)
                descent = descend(identity, remains, replace(course, guard=guard))
            guard = guard if descent.step is Step.SETTLED else None  # its last word covers release and deletion
            environment = await self._report_descent(environment, descent)
            if descent.is_over:
                if remains.namespace.state is NamespaceState.MISSING:
                    await self._look_back(environment, identity)
                await self.records.retire(environment, self.now())
                return Outcome("Gone", (*done, "remove finalizer"), timedelta(0))
            if not any(descent.waves):
                break
            try:
                await self._carry_out(descent.waves, {})
            except (Conflict, LeadershipLost):
                raise
            except EnvprovError as error:
                await self._report_descent(environment, replace(descent, waiting_for=(str(error),)))
                if isinstance(error, TerminalError):
                    return Outcome(error.reason, tuple(done), REFUSED_AGAIN)
                raise
            done.extend(str(action) for wave in descent.waves for action in wave)
        return Outcome("TearingDown", tuple(done), descent.look_again if descent else LOOK_AGAIN)

    async def _look_back(self, environment: Environment, identity: Identity) -> None:
        """Nothing stops a user between the last look and the deletion: who was too late must hear of it."""
        late = await self.cluster.look_back(identity)
        if late:
            message = (
                f"Namespace {identity.namespace} is gone, and others use what was in it: {'; '.join(late)}. "
                "The tokens are worthless; let them use another ServiceAccount"
            )
            await self.records.tell(environment, HoldLost.__name__, message, warning=True)

    async def _report_descent(self, environment: Environment, descent: Descent) -> Environment:
        before = environment.status.condition(Type.TEARDOWN_BLOCKED)
        reported = await self._report(environment, report_teardown(environment, descent, self.now()))
        after = reported.status.condition(Type.TEARDOWN_BLOCKED)
        if after is not None and after.status == "True" and (before is None or before.reason != after.reason):
            await self.records.tell(environment, after.reason, after.message, warning=True)
        return reported

    async def _say(self, environment: Environment, error: EnvprovError, *, deploying: bool) -> Environment:
        term = self._term(environment)
        status = report_fault(environment, error, self.now(), deploying=deploying, lived=term)
        before, after = environment.status.condition(Type.READY), status.condition(Type.READY)
        reported = await self._report(environment, status)
        if after is not None and (before is None or before.message != after.message):
            await self.records.tell(environment, error.reason, str(error), warning=True)
        await self._warn(reported, environment.status)
        return reported

    async def _report(self, environment: Environment, status: EnvironmentStatus) -> Environment:
        if status == environment.status:
            return environment
        await self.records.report(environment, status)
        return environment.model_copy(update={"status": status})


def _warning(end: datetime, environment: Environment) -> str:
    branch = shlex.quote(environment.spec.branch)
    return f"ends at {end:%Y-%m-%dT%H:%M:%SZ}; `envprov extend {branch}` or `envprov pin {branch}` keeps it"


def _departing(manifest: Manifest) -> Manifest:
    """What a teardown needs of a record: a field that nobody understands must not keep the environment for ever."""
    spec = manifest.get("spec", {})
    return {**manifest, "spec": {name: spec[name] for name in ("project", "branch") if name in spec}}
