"""
The receiver: verify, parse, record, answer. One delivery is at most one write for each Project that it is for.

======  ==========================================================================================
Answer  When
======  ==========================================================================================
202     recorded, with the names of the environments
204     understood, and nothing to do; GitLab would disable a hook that answers 4xx to such things
400     malformed; says what is wrong
401     not authentic; says nothing, and the body has not been read
408     the body did not come in time
413     the body is too large
503     the record could not be written in time, or the Projects are not known yet; ``Retry-After``
======  ==========================================================================================
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Protocol

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from pydantic import SecretStr
from starlette.requests import ClientDisconnect

from envprov.domain.deliveries import BranchEvent, Kind, Recorded
from envprov.domain.errors import EnvprovError, NameTaken, RejectedDelivery, RetryableError
from envprov.domain.project import Project
from webhooks.body import read_body
from webhooks.gitlab import Uninteresting, authenticate, parse
from webhooks.metrics import Metrics

log = structlog.get_logger("envprov.webhooks")

RETRY_AFTER_SECONDS = 5
PROBE_SECONDS = 1.0
REMEMBERED = 1024

Projects = Callable[[], Iterable[Project] | None]
"""The Projects as last seen, or None while they are not known yet."""


class Recorder(Protocol):
    """Where deliveries are recorded."""

    async def record(self, project: Project, event: BranchEvent) -> Recorded:
        """
        Record a delivery for one Project.

        Raises:
            EnvprovError: It is not on record, and why.

        """


@dataclass(frozen=True)
class ReceiverSettings:
    """
    What the receiver is told.

    Attributes:
        tokens: Secrets that GitLab may send; without any, every delivery is refused.
        body_limit_bytes: Largest body.
        body_seconds: For a body to arrive.
        record_seconds: For all records of one delivery; below the second after which GitLab's sender counts.

    """

    tokens: tuple[SecretStr, ...]
    body_limit_bytes: int = 1 << 20
    body_seconds: float = 5.0
    record_seconds: float = 0.9


@dataclass
class _Answer:
    """An answer, and what is said of it in the log and the metrics."""

    outcome: str
    response: Response
    facts: dict[str, object] = field(default_factory=dict)
    level: str = "info"
    records: tuple[str, ...] = ()


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
        fault = await _unready(projects, probe)
        status = HTTPStatus.SERVICE_UNAVAILABLE if fault else HTTPStatus.OK
        return Response(f"{fault or 'ok'}\n", status_code=status, media_type="text/plain")

    @app.get("/metrics")
    async def show_metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return app


class _Receiver:
    def __init__(self, recorder: Recorder, projects: Projects, settings: ReceiverSettings) -> None:
        self._recorder = recorder
        self._projects = projects
        self._settings = settings
        self._secrets = tuple(token.get_secret_value().encode() for token in settings.tokens)
        self._said: OrderedDict[tuple[str, str], None] = OrderedDict()

    async def receive(self, request: Request) -> _Answer:
        headers = request.scope["headers"]
        try:
            authenticate(headers, self._secrets)
            body = await read_body(
                request,
                limit_bytes=self._settings.body_limit_bytes,
                limit_seconds=self._settings.body_seconds,
            )
            event = parse(headers, body)
        except RejectedDelivery as error:
            return _rejected(error)
        except ClientDisconnect:
            return _Answer("disconnected", Response(status_code=HTTPStatus.BAD_REQUEST))
        if isinstance(event, Uninteresting):
            return _nothing("uninteresting", {"reason": event.reason}, level="debug")
        return await self._record(event)

    async def _record(self, event: BranchEvent) -> _Answer:
        facts: dict[str, object] = {
            "project": event.project_path,
            "branch": event.branch,
            "kind": event.kind.value,
            "revision": event.after or event.before,
        }
        known = self._projects()
        if known is None:
            return _unavailable("not_synced", facts | {"reason": "the Projects are not known yet"}, None)
        serving = [project for project in known if project.serves(event.project_id, event.project_path)]
        if not serving:
            return _nothing("unknown_project", facts, level=self._level(event.project_path, ""))
        # A deletion is carried out even if a rule has come to ignore the branch: its environment may still be there.
        wanting = [project for project in serving if event.kind is Kind.DELETED or project.wants(event.branch)]
        if not wanting:
            return _nothing("ignored_branch", facts, level=self._level(event.project_path, _rules(serving, event)))
        return await self._write(wanting, event, facts)

    async def _write(self, projects: list[Project], event: BranchEvent, facts: dict[str, object]) -> _Answer:
        try:
            async with asyncio.timeout(self._settings.record_seconds):
                results = await asyncio.gather(
                    *(self._recorder.record(project, event) for project in projects), return_exceptions=True
                )
        except TimeoutError:
            return _unavailable("unavailable", facts | {"reason": "the API server did not answer in time"}, None)
        answer = _answered(results, facts)
        answer.records = tuple(result.outcome for result in results if isinstance(result, Recorded))
        return answer

    def _level(self, project: str, rule: str) -> str:
        """Info the first time, debug after that; what was said longest ago may be said again."""
        key = project, rule
        level = "debug" if key in self._said else "info"
        self._said[key] = None
        self._said.move_to_end(key)
        if len(self._said) > REMEMBERED:
            self._said.popitem(last=False)
        return level


def _answered(results: list[Recorded | BaseException], facts: dict[str, object]) -> _Answer:
    errors = [result for result in results if isinstance(result, BaseException)]
    for error in errors:
        if not isinstance(error, EnvprovError):
            raise error  # a bug: 500, with its traceback in the log
    failed = [error for error in errors if not isinstance(error, NameTaken)]
    if failed:
        waits = [error.retry_after for error in failed if isinstance(error, RetryableError) and error.retry_after]
        return _unavailable("unavailable", facts | {"reason": str(failed[0])}, max(waits, default=None))
    names = [one.environment for one in results if isinstance(one, Recorded) and one.outcome != "gone"]
    if errors:
        facts = facts | {"reason": str(errors[0])}
    if names:
        response = JSONResponse({"environments": names}, HTTPStatus.ACCEPTED)
        return _Answer("recorded", response, facts | {"environments": names})
    return _nothing("name_taken", facts, level="error") if errors else _nothing("nothing_to_do", facts)


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


def _rules(projects: list[Project], event: BranchEvent) -> str:
    rules = [project.rule_for(event.branch) for project in projects]
    return "; ".join(",".join(rule.branches) if rule else "no rule" for rule in rules)


def _rejected(error: RejectedDelivery) -> _Answer:
    status = HTTPStatus(error.status)
    if status is HTTPStatus.UNAUTHORIZED:
        return _Answer("unauthenticated", Response(status_code=status), level="warning")
    outcomes = {HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "too_large", HTTPStatus.REQUEST_TIMEOUT: "slow"}
    response = JSONResponse({"error": str(error)}, status)
    return _Answer(outcomes.get(status, "rejected"), response, {"reason": str(error)}, level="warning")


def _nothing(outcome: str, facts: dict[str, object], *, level: str = "info") -> _Answer:
    return _Answer(outcome, Response(status_code=HTTPStatus.NO_CONTENT), facts, level)


def _unavailable(outcome: str, facts: dict[str, object], retry_after: float | None) -> _Answer:
    seconds = math.ceil(retry_after or RETRY_AFTER_SECONDS)
    response = JSONResponse(
        {"error": "not recorded; try again"}, HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": str(seconds)}
    )
    return _Answer(outcome, response, facts, level="error")
