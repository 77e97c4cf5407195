"""What a delivery is answered, and what is said of it in the log and the metrics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus

from fastapi import Response
from fastapi.responses import JSONResponse

from envprov.domain.deliveries import Recorded
from envprov.domain.errors import EnvprovError, NameTaken, RejectedDelivery, RetryableError

RETRY_AFTER_SECONDS = 5
SHOWN = 20
"""Names in a log entry: a push may change thousands of branches."""

Facts = dict[str, object]
"""What the log says beside outcome and status."""

_REJECTED = {
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "too_large",
    HTTPStatus.REQUEST_TIMEOUT: "slow",
    HTTPStatus.SERVICE_UNAVAILABLE: "crowded",
}


@dataclass
class Answer:
    """
    An answer.

    Attributes:
        outcome: One word for the log and the metrics.
        response: The answer itself.
        facts: For the log.
        level: Of the log entry.
        records: What became of each record.

    """

    outcome: str
    response: Response
    facts: Facts = field(default_factory=dict)
    level: str = "info"
    records: tuple[str, ...] = ()


def written(
    results: Sequence[Recorded | BaseException], facts: Facts, requests: Sequence[str | BaseException] = ()
) -> Answer:
    """
    The answer to a delivery that was written down, or was not.

    Args:
        results: What became of each record.
        facts: For the log.
        requests: Names of requests to the controller, or why they are not there. Beside records they ask for a
            sweep, which makes up for every record that could not be written.

    Raises:
        BaseException: Whatever is a bug: 500, with its traceback in the log.

    """
    for error in (*results, *requests):
        if isinstance(error, BaseException) and not isinstance(error, EnvprovError):
            raise error
    asked = [one for one in requests if isinstance(one, str)]
    errors = [one for one in results or requests if isinstance(one, BaseException)]
    failed = [error for error in errors if not isinstance(error, NameTaken)]
    is_made_up_for = bool(results) and bool(asked) and len(asked) == len(requests)
    if failed and not is_made_up_for:
        waits = [error.retry_after for error in failed if isinstance(error, RetryableError) and error.retry_after]
        answer = _unavailable("unavailable", facts | {"reason": str(failed[0])}, max(waits, default=None))
    else:
        answer = _accepted(results, errors, facts, asked)
        if failed:
            answer.outcome, answer.level = "left_to_sweep", "warning"
    answer.records = tuple(result.outcome for result in results if isinstance(result, Recorded))
    return answer


def rejected(error: RejectedDelivery) -> Answer:
    """The answer to a delivery that is refused; why a sender is not authentic stands in the log alone."""
    status = HTTPStatus(error.status)
    if status is HTTPStatus.UNAUTHORIZED:
        reason = "; ".join(getattr(error, "__notes__", []))
        return Answer("unauthenticated", Response(status_code=status), {"reason": reason}, level="warning")
    headers = {"Retry-After": str(RETRY_AFTER_SECONDS)} if status is HTTPStatus.SERVICE_UNAVAILABLE else None
    response = JSONResponse({"error": str(error)}, status, headers)
    return Answer(_REJECTED.get(status, "rejected"), response, {"reason": str(error)}, level="warning")


def disconnected() -> Answer:
    """The answer that nobody reads."""
    return Answer("disconnected", Response(status_code=HTTPStatus.BAD_REQUEST))


def nothing(outcome: str, facts: Facts, *, level: str = "info") -> Answer:
    """The answer when there is nothing to do."""
    return Answer(outcome, Response(status_code=HTTPStatus.NO_CONTENT), facts, level)


def not_synced(facts: Facts) -> Answer:
    """The answer before the Projects are known."""
    return _unavailable("not_synced", facts | {"reason": "the Projects are not known yet"}, None)


def not_ready(fault: str | None) -> Response:
    """The answer to a probe."""
    status = HTTPStatus.SERVICE_UNAVAILABLE if fault else HTTPStatus.OK
    return Response(f"{fault or 'ok'}\n", status_code=status, media_type="text/plain")


def _accepted(
    results: Sequence[Recorded | BaseException], errors: Sequence[BaseException], facts: Facts, asked: Sequence[str]
) -> Answer:
    names = [one.environment for one in results if isinstance(one, Recorded) and one.outcome != "gone"]
    if errors:
        facts = facts | {"reason": str(errors[0])}
    if not names and not asked:
        return nothing("name_taken", facts, level="error") if errors else nothing("nothing_to_do", facts)
    said = ({"environments": names} if results else {}) | ({"requests": list(asked)} if asked else {})
    shown = {name: found[:SHOWN] for name, found in said.items()}
    outcome = "recorded" if results else "requested"
    return Answer(outcome, JSONResponse(said, HTTPStatus.ACCEPTED), facts | shown)


def _unavailable(outcome: str, facts: Facts, retry_after: float | None) -> Answer:
    seconds = math.ceil(retry_after or RETRY_AFTER_SECONDS)
    response = JSONResponse(
        {"error": "not recorded; try again"}, HTTPStatus.SERVICE_UNAVAILABLE, {"Retry-After": str(seconds)}
    )
    return Answer(outcome, response, facts, level="error")
