"""The same answer from the record alone: for who reads a comment in a merge request, where nothing live can be read."""

from __future__ import annotations

from datetime import datetime

from envprov.domain.environment import Environment, Type
from envprov.domain.evidence import Evidence, Part
from envprov.domain.loose import Manifest
from envprov.domain.why import paragraph, symptoms_of


def paragraph_of(environment: Environment, now: datetime) -> str:
    """
    Why an environment is as it is, in one paragraph.

    Args:
        environment: The record, with what the controller last reported of it.
        now: Aware moment.

    """
    spec = environment.spec
    items = {Part.RECORD: (_manifest(environment),)}
    evidence = Evidence(spec.project, spec.branch, environment.namespace, now, items)
    found = next(iter(symptoms_of(evidence)), None)
    summary = found.summary if found is not None else _reported(environment)
    return paragraph(evidence, found, summary)


def _reported(environment: Environment) -> str:
    status = environment.status
    healthy, ready = status.condition(Type.HEALTHY), status.condition(Type.READY)
    if ready is None:
        return "no controller has reported on it yet"
    if environment.deleting or ready.status == "True" or healthy is None or healthy.status != "False":
        return ready.message or "nothing is seen to be wrong"
    return healthy.message or ready.message


def _manifest(environment: Environment) -> Manifest:
    metadata = {
        "name": environment.name,
        "namespace": environment.namespace,
        "generation": environment.generation,
        "finalizers": list(environment.finalizers),
    }
    if environment.deleting:
        metadata["deletionTimestamp"] = ""
    status = environment.status.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {"kind": "Environment", "metadata": metadata, "status": status}
