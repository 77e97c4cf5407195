"""``list`` and ``status``: what there is, and how one environment is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from envprov.cli import printing
from envprov.cli.exits import ExitCode
from envprov.cli.found import find_environment
from envprov.cli.options import Common, Output
from envprov.cli.plain import note
from envprov.cli.session import opened
from envprov.cli.times import describe, parse_moment
from envprov.domain.environment import Type
from envprov.kube.client import Object
from envprov.kube.resources import ENVIRONMENTS

HEADER = ("BRANCH", "PHASE", "SIZE", "AGE", "EXPIRES", "URL")
WIDE_HEADER = (*HEADER, "PROJECT", "REVISION", "NAMESPACE", "MESSAGE")


async def list_environments(common: Common, project: str | None) -> ExitCode:
    """
    Print all environments.

    Args:
        common: The options of the call.
        project: Only those of this Project; None for all.

    """
    async with opened(common) as session:
        listing = await session.client.list(ENVIRONMENTS, session.namespace)
        items = [item for item in listing.items if project is None or item["spec"]["project"] == project]
        items.sort(key=lambda item: (str(item["spec"]["branch"]), item["metadata"]["name"]))
        if not common.output.is_for_people:
            printing.print_objects(items, common.output)
        elif not items:
            whose = f" of Project {project}" if project else ""
            note(f"no environments{whose} in namespace {session.namespace}", quiet=common.quiet)
        else:
            is_wide = common.output is Output.WIDE
            now = datetime.now(UTC)
            printing.print_table(
                WIDE_HEADER if is_wide else HEADER, [_row(item, now, is_wide=is_wide) for item in items]
            )
    return ExitCode.DONE


async def show_status(common: Common, branch: str, project: str | None) -> ExitCode:
    """
    Print how one environment is.

    Args:
        common: The options of the call.
        branch: The branch.
        project: Name of the Project; None for the one that the folder belongs to.

    """
    async with opened(common) as session:
        found = await find_environment(session, branch, project)
        if found is None:
            return ExitCode.FAILED
        _, item = found
        if common.output.is_for_people:
            _print_status(item, datetime.now(UTC))
        else:
            printing.print_object(item, common.output)
    return ExitCode.DONE


def phase_of(item: Object) -> str:
    """One word for where an environment stands."""
    if "deletionTimestamp" in item["metadata"]:
        return "TearingDown"
    ready = _ready(item)
    return str(ready["reason"]) if ready else "Pending"


def _ready(item: Object) -> Object | None:
    conditions = item.get("status", {}).get("conditions", ())
    return next((entry for entry in conditions if entry["type"] == Type.READY), None)


def _row(item: Object, now: datetime, *, is_wide: bool) -> Sequence[str]:
    spec, status = item["spec"], item.get("status", {})
    row = (
        spec["branch"],
        phase_of(item),
        status.get("size", spec.get("size", "")),
        _since(item["metadata"]["creationTimestamp"], now),
        _until(item, now),
        status.get("url", ""),
    )
    if not is_wide:
        return row
    ready = _ready(item)
    return (
        *row,
        spec["project"],
        status.get("observedRevision", "") or spec.get("revision", ""),
        status.get("namespace", ""),
        ready.get("message", "") if ready else "",
    )


def _print_status(item: Object, now: datetime) -> None:
    spec, status = item["spec"], item.get("status", {})
    phase = phase_of(item)
    printing.print_line(f"{spec['branch']} (Project {spec['project']}): {phase}", printing.style_of(phase))
    for name, value in _facts(item, now):
        if value:
            printing.print_line(f"  {name:<12}{value}")
    conditions = status.get("conditions", ())
    if conditions:
        printing.print_line("")
        printing.print_table(
            ("CONDITION", "STATUS", "REASON", "SINCE", "MESSAGE"),
            [
                (
                    entry["type"],
                    entry["status"],
                    entry["reason"],
                    _since(entry.get("lastTransitionTime"), now),
                    entry.get("message", ""),
                )
                for entry in conditions
            ],
        )


def _facts(item: Object, now: datetime) -> tuple[tuple[str, str], ...]:
    spec, status = item["spec"], item.get("status", {})
    release, queue, teardown = (status.get(name) or {} for name in ("release", "queue", "teardown"))
    wanted, deployed = spec.get("revision", ""), status.get("observedRevision", "")
    revision = deployed if deployed == wanted or not wanted else f"{deployed or 'none'} (wanted: {wanted})"
    numbered = f"{release.get('name')} revision {release.get('revision', '?')}, {release.get('status', 'unknown')}"
    place = f"place {queue.get('position')}: {queue.get('reason')}"
    step = f"{teardown.get('step')}, {teardown.get('plan', 'Full')}, for {_since(teardown.get('startedAt'), now)}"
    return (
        ("url", status.get("url", "")),
        ("namespace", status.get("namespace", "")),
        ("size", status.get("size", "") or spec.get("size", "")),
        ("revision", revision),
        ("release", numbered if release else ""),
        ("chart", release.get("chart", "")),
        ("age", _since(item["metadata"]["creationTimestamp"], now)),
        ("expires", _expiry(item, now)),
        ("asleep", "yes" if spec.get("asleep") else ""),
        ("queue", place if queue else ""),
        ("teardown", step if teardown else ""),
        ("waits for", "; ".join(teardown.get("waitingFor", ()))),
    )


def _expiry(item: Object, now: datetime) -> str:
    at = item.get("status", {}).get("expiresAt", "")
    left = _until(item, now)
    return left if left == "pinned" or not at else f"{at} ({'has passed' if left == 'passed' else f'in {left}'})"


def _since(moment: object, now: datetime) -> str:
    began = parse_moment(moment)
    return describe(now - began) if began else ""


def _until(item: Object, now: datetime) -> str:
    if item["spec"].get("pinned"):
        return "pinned"
    ends = parse_moment(item.get("status", {}).get("expiresAt"))
    if ends is None:
        return ""
    return describe(ends - now) if ends > now else "passed"
