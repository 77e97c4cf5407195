"""
The receiver: authenticate, parse, record, answer. What is slow is left to the controller.

======  ==========================================================================================
Answer  When
======  ==========================================================================================
202     recorded, with the names of the environments and of requests to the controller
204     understood, and nothing to do; GitLab would disable a hook that answers 4xx to such things
400     malformed; says what is wrong
401     not authentic; says nothing, and nobody has parsed the body
408     the body did not come in time
413     the body is too large
503     it could not be written in time, or the Projects are not known yet; ``Retry-After``
======  ==========================================================================================
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

import structlog
from fastapi import FastAPI, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from pydantic import SecretBytes, SecretStr
from starlette.requests import ClientDisconnect

from envprov.domain.deliveries import BranchEvent, Kind, Questioned, Recorded, Wanted
from envprov.domain.errors import EnvprovError, RejectedDelivery, Unavailable
from envprov.domain.project import Project
from webhooks.answers import (
    Answer,
    Facts,
    disconnected,
    not_ready,
    not_synced,
    nothing,
    rejected,
    written,
)
from webhooks.authentic import Secrets, authenticate
from webhooks.body import Room, read_body
from webhooks.gitlab import Delivery, MergeRequestEvent, NoteCommand, Uninteresting, parse
from webhooks.merge_requests import news_of
from webhooks.metrics import Metrics
from webhooks.protocol import KNOWN
from webhooks.writes import Write, write_all

log = structlog.get_logger("envprov.webhooks")

T = TypeVar("T")

PROBE_SECONDS = 1.0
REMEMBERED = 1024
MANY = 20
"""Changes of branches in one push; of more than that the sweep makes sure."""

Projects = Callable[[], Iterable[Project] | None]
"""The Projects as last seen, or None while they are not known yet."""


class Recorder(Protocol):
    """Where deliveries are recorded. What cannot be is an EnvprovError, which says why."""

    async def record(self, project: Project, event: BranchEvent) -> Recorded:
        """Record a push, for one Project."""

    async def record_merge_request(
        self, project: Project, branch: str, news: BranchEvent | Wanted | Questioned
    ) -> Recorded:
        """Record what a merge request means for a branch, for one Project."""

    async def request_command(self, project: Project, given: NoteCommand) -> str:
        """Ask the controller to look into a command, and return the request's name."""

    async def request_sweep(self, project: Project) -> str:
        """Ask the controller to look at all branches of a Project, and return the request's name."""


@dataclass(frozen=True)
class ReceiverSettings:
    """
    What the receiver is told.

    Attributes:
        tokens: Secrets that GitLab may send; without any, and without keys, every delivery is refused.
        signing_keys: Keys that GitLab may sign with.
        require_signature: Whether a token alone is not enough.
        body_limit_bytes: Largest body.
        body_seconds: For a body to arrive.
        strangers_limit_bytes: For all bodies together whose signature is not verified yet.
        record_seconds: For all records of one delivery; below the second after which GitLab's sender counts.
        source: What a sender may know now, where that changes; the tokens and keys above are left out then.

    """

    tokens: tuple[SecretStr, ...] = ()
    signing_keys: tuple[SecretBytes, ...] = ()
    require_signature: bool = False
    body_limit_bytes: int = 1 << 20
    body_seconds: float = 5.0
    strangers_limit_bytes: int = 32 << 20
    record_seconds: float = 0.9
    source: Callable[[], Secrets] | None = None

    def secrets(self) -> Secrets:
        """What a sender may know."""
        return Secrets(
            tokens=tuple(token.get_secret_value().encode() for token in self.tokens),
            keys=tuple(key.get_secret_value() for key in self.signing_keys),
            require_signature=self.require_signature,
        )


def create_app(
    recorder: Recorder,
    projects: Projects,
    settings: ReceiverSettings,
    registry: CollectorRegistry,
    probe: Callable[[], Awaitable[object]],
) -> FastAPI:
    """
    The receiver's ASGI application.

    Args:
        recorder: Where deliveries are recorded.
        projects: Whom they are for.
        settings: Secrets and limits.
        registry: What ``/metrics`` shows; the receiver's own metrics are added.
        probe: Asks the API server for a sign of life; raises EnvprovError when there is none.

    """
    app = FastAPI(title="envprov", docs_url=None, redoc_url=None, openapi_url=None)
    receiver = _Receiver(recorder, projects, settings)
    metrics = Metrics(registry)

    @app.post("/webhooks/gitlab")
    async def gitlab(request: Request) -> Response:
        clock = asyncio.get_running_loop()
        began = clock.time()
        answer = await receiver.receive(request)
        seconds = clock.time() - began
        metrics.seconds.observe(seconds)
        metrics.deliveries.labels(answer.outcome).inc()
        for outcome in answer.records:
            metrics.records.labels(outcome).inc()
        getattr(log, answer.level)(
            "delivery",
            outcome=answer.outcome,
            status=int(answer.response.status_code),
            records=answer.records,
            seconds=round(seconds, 4),
            **answer.facts,
        )
        return answer.response

    @app.get("/healthz")
    async def healthz() -> Response:
        return Response("ok\n", media_type="text/plain")

    @app.get("/readyz")
    async def readyz() -> Response:
        return not_ready(await _unready(projects, probe))

    @app.get("/metrics")
    async def show_metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return app


class _Receiver:
    def __init__(self, recorder: Recorder, projects: Projects, settings: ReceiverSettings) -> None:
        self._recorder = recorder
        self._projects = projects
        self._settings = settings
        fixed = settings.secrets()
        self._secrets = settings.source or (lambda: fixed)
        self._strangers = Room(settings.strangers_limit_bytes)
        self._said: OrderedDict[tuple[str, str], None] = OrderedDict()

    async def receive(self, request: Request) -> Answer:
        try:
            delivery = await self._read(request)
        except RejectedDelivery as error:
            return rejected(error)
        except ClientDisconnect:
            return disconnected()
        if isinstance(delivery, Uninteresting):
            return nothing("uninteresting", {"reason": delivery.reason}, level="debug")
        return await self._record(delivery)

    async def _record(self, delivery: tuple[BranchEvent, ...] | MergeRequestEvent | NoteCommand) -> Answer:
        facts = _facts(delivery)
        known = self._projects()
        if known is None:
            return not_synced(facts)
        about = delivery[0] if isinstance(delivery, tuple) else delivery
        serving = [project for project in known if project.serves(about.project_id, about.project_path)]
        if not serving:
            return nothing("unknown_project", facts, level=self._level(about.project_path, ""))
        match delivery:
            case MergeRequestEvent():
                return await self._record_merge_request(serving, delivery, facts)
            case NoteCommand():
                return await self._request_command(serving, delivery, facts)
            case _:
                return await self._record_pushes(serving, delivery, facts)

    async def _read(self, request: Request) -> Delivery:
        headers, secrets = request.scope["headers"], self._secrets()
        signature = authenticate(headers, secrets, now=time.time())
        if signature is None:
            request.scope.setdefault("state", {})[KNOWN] = True
        body = await read_body(
            request,
            limit_bytes=self._settings.body_limit_bytes,
            limit_seconds=self._settings.body_seconds,
            room=self._strangers if signature else None,
        )
        if signature is not None:
            signature.verify(body, secrets.keys)
            request.scope.setdefault("state", {})[KNOWN] = True
        return parse(headers, body)

    async def _record_pushes(self, serving: list[Project], events: tuple[BranchEvent, ...], facts: Facts) -> Answer:
        concerned = [(project, event) for event in events for project in serving if _concerns(project, event)]
        if not concerned:
            return self._ignored(serving, events[0].project_path, events[0].branch, facts)
        ends = asyncio.get_running_loop().time() + self._settings.record_seconds
        requests = []
        if len(events) > MANY:
            sweeps = {project.name: partial(self._recorder.request_sweep, project) for project, _ in concerned}
            requests = await self._write(list(sweeps.values()), ends)
        results = await self._write([partial(self._recorder.record, *pair) for pair in concerned], ends)
        return written(results, facts, requests)

    async def _record_merge_request(self, serving: list[Project], event: MergeRequestEvent, facts: Facts) -> Answer:
        writes = [
            partial(self._recorder.record_merge_request, project, event.branch, news)
            for project in serving
            if (news := news_of(project, event)) is not None
        ]
        if not writes:
            return self._ignored(serving, event.project_path, event.branch, facts)
        return written(await self._write(writes), facts)

    async def _request_command(self, serving: list[Project], command: NoteCommand, facts: Facts) -> Answer:
        willing = [project for project in serving if project.spec.gitlab and project.spec.gitlab.commands]
        if not willing:
            return nothing("ignored_command", facts, level=self._level(command.project_path, "commands"))
        writes = [partial(self._recorder.request_command, project, command) for project in willing]
        return written([], facts, await self._write(writes))

    async def _write(self, writes: Sequence[Write[T]], ends: float | None = None) -> list[T | BaseException]:
        now = asyncio.get_running_loop().time()
        left = self._settings.record_seconds if ends is None else ends - now
        results = await write_all(writes, seconds=left)
        late = Unavailable("the API server did not answer in time")
        return [late if isinstance(result, TimeoutError) else result for result in results]

    def _ignored(self, projects: list[Project], path: str, branch: str, facts: Facts) -> Answer:
        rules = [project.rule_for(branch) for project in projects]
        said = "; ".join(",".join(rule.branches) if rule else "no rule" for rule in rules)
        return nothing("ignored_branch", facts, level=self._level(path, said))

    def _level(self, project: str, rule: str) -> str:
        """Info the first time, debug after that; what was said longest ago may be said again."""
        key = project, rule
        level = "debug" if key in self._said else "info"
        self._said[key] = None
        self._said.move_to_end(key)
        if len(self._said) > REMEMBERED:
            self._said.popitem(last=False)
        return level


def _concerns(project: Project, event: BranchEvent) -> bool:
    """
    Whether a push may change a record. It makes one only if the Project wants the branch without a merge request.

    A deletion is carried out even if a rule has come to ignore the branch: its environment may still be there.
    """
    rule = project.rule_for(event.branch)
    return event.kind is Kind.DELETED or (rule is not None and rule.action == "create")


def _facts(delivery: tuple[BranchEvent, ...] | MergeRequestEvent | NoteCommand) -> Facts:
    """What the log says of a delivery; of a command neither its text nor its author."""
    match delivery:
        case MergeRequestEvent():
            own: Facts = {"merge_request": delivery.iid, "action": delivery.action.value, "revision": delivery.revision}
            return {"project": delivery.project_path, "branch": delivery.branch} | own
        case NoteCommand():
            own = {"merge_request": delivery.iid, "note": delivery.note_id}
            return {"project": delivery.project_path, "branch": delivery.branch} | own
        case (event,):
            own = {"branch": event.branch, "kind": event.kind.value, "revision": event.after or event.before}
            return {"project": event.project_path} | own
        case _:
            return {"project": delivery[0].project_path, "branches": len(delivery)}


async def _unready(projects: Projects, probe: Callable[[], Awaitable[object]]) -> str | None:
    if projects() is None:
        return "the Projects are not known yet"
    try:
        async with asyncio.timeout(PROBE_SECONDS):
            await probe()
    except TimeoutError:
        return "the API server does not answer in time"
    except EnvprovError as error:
        return f"the API server cannot be reached ({error.reason})"
    return None
