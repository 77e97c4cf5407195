"""Why a branch has no environment: no Project, a rule, nobody who asked for it, or somebody who ended it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from pydantic import ValidationError

from envprov.domain.causes import Cause
from envprov.domain.deliveries import Dismissal
from envprov.domain.environment import faults
from envprov.domain.evidence import Evidence, Fact, Part, Symptom, name_of
from envprov.domain.loose import Manifest, mapping, text, texts, within
from envprov.domain.project import Project, ProjectSpec
from envprov.domain.telling import command, up

_LISTED = 10
_DISMISSED = {
    Dismissal.DOWN.value: "somebody took it down",
    Dismissal.EXPIRED.value: "its lifetime had ended",
}


def no_project(branch: str, projects: Sequence[Manifest], said: str) -> Symptom:
    """
    What is wrong when it is not known which Project a branch belongs to.

    Args:
        branch: The branch.
        projects: All that there are.
        said: What was tried, and what came of it.

    """
    wanting = [name_of(item) for item in projects if (project := _read(item)) and _would_serve(project, branch)]
    facts = [Fact(f"Project {name_of(item)}", f"serves {_path_of(item)}") for item in projects[:_LISTED]]
    if not projects:
        advice = ("envprov project add, which makes one",)
        return Symptom(Cause.NO_PROJECT, f"there is no Project: {said}", (), advice)
    if len(wanting) > 1:
        listed = ", ".join(wanting[:_LISTED])
        summary = f"several Projects would give such a branch an environment ({listed}), and none was given: {said}"
        return Symptom(Cause.SEVERAL_PROJECTS, summary, tuple(facts), (f"{command('why', branch, wanting[0])}",))
    return Symptom(
        Cause.NO_PROJECT,
        f"no Project is known to serve this repository: {said}",
        tuple(facts),
        ("envprov project list",),
    )


def absences(evidence: Evidence) -> Iterator[Symptom]:
    """
    What keeps a branch from having an environment.

    Args:
        evidence: There is no record of the branch in it.

    """
    where = evidence.namespace
    namespace = evidence.one(Part.NAMESPACE)
    if namespace is not None:
        yield Symptom(
            Cause.NO_RECORD_OF_NAMESPACE,
            f"there is no record of it, although its Namespace {where} is there; the next sweep of the branches gives "
            "the Namespace its record back, and then it is taken down in good order or kept",
            (Fact(f"Namespace {where}", "is there"), Fact(f"Environment {evidence.name}", "is not there")),
            ("envprov cleanup --dry-run", f"envprov guard explain {where}"),
        )
    if not evidence.knows(Part.PROJECTS):
        return
    found = next((item for item in evidence.of(Part.PROJECTS) if name_of(item) == evidence.project), None)
    if found is None and Part.PROJECTS in evidence.unread:
        return  # they are too many to be all read
    if found is None:
        there = ", ".join(sorted(name_of(item) for item in evidence.of(Part.PROJECTS))[:_LISTED]) or "none"
        summary = f"there is no Project {evidence.project} in Namespace {evidence.control}; there is: {there}"
        yield Symptom(Cause.NO_PROJECT, summary, (), ("envprov project list",))
        return
    project = _read(found)
    if project is None:
        summary = f"Project {evidence.project} cannot be understood, so none of its branches gets one: {_fault(found)}"
        yield Symptom(Cause.PROJECT_INVALID, summary, (), (f"envprov project check {evidence.project}",))
        return
    yield _by_rule(evidence, project) or _nobody_asked(evidence, project)


def _by_rule(evidence: Evidence, project: Project) -> Symptom | None:
    branch, owner = evidence.branch, f"Project {project.name}"
    rule = project.rule_for(branch)
    if rule is None:
        every = [glob for row in project.spec.rules for glob in row.branches]
        listed = ", ".join(every[:_LISTED]) or "none"
        facts = (Fact(owner, f"has rules for {listed}"),)
        advice = (f"ask who writes {owner} for a rule that matches {branch}, or call the branch like one of those",)
        return Symptom(Cause.NO_RULE, f"no rule of {owner} is for it; there are rules for {listed}", facts, advice)
    place, globs = project.spec.rules.index(rule) + 1, ", ".join(rule.branches)
    fact = Fact(owner, f"rule {place} ({globs}): action {rule.action}")
    if rule.action == "ignore":
        summary = f"rule {place} of {owner}, which is for {globs}, says that such branches get none"
        advice = (f"ask who writes {owner} for another rule before that one, or call the branch otherwise",)
        return Symptom(Cause.RULE_IGNORES, summary, (fact,), advice)
    if rule.merge_request is None:
        return None
    wanted = [
        f"with one of the labels {', '.join(rule.merge_request.labels)}" if rule.merge_request.labels else "",
        "" if rule.merge_request.drafts else "that is no draft",
        "" if rule.merge_request.forks else "from the project itself",
    ]
    kind = ", ".join(part for part in wanted if part)
    summary = f"rule {place} of {owner}, which is for {globs}, gives it one only while it has an open merge request" + (
        f" {kind}" if kind else ""
    )
    return Symptom(Cause.NEEDS_MERGE_REQUEST, summary, (fact,), (f"open such a merge request, or {up(evidence)}",))


def _nobody_asked(evidence: Evidence, project: Project) -> Symptom:
    needs = frozenset({Part.TOMBSTONE})
    for stone in evidence.of(Part.TOMBSTONE):
        data = mapping(stone.get("data"))
        why = _DISMISSED.get(text(data.get("dismissed")))
        if why is not None:
            when = text(data.get("deletedAt"))
            summary = f"{why}{f' on {when}' if when else ''}; it comes back with the next push"
            fact = Fact(f"ConfigMap {name_of(stone)}", f"dismissed: {text(data.get('dismissed'))}")
            return Symptom(Cause.TAKEN_DOWN, summary, (fact,), (up(evidence), "or push to the branch"), needs)
    swept = project.spec.gitlab is not None
    how = (
        "it comes with the next push, or with the next sweep of the branches if GitLab has the branch"
        if swept
        else f"Project {project.name} is not connected to GitLab, so only the command line asks for environments"
    )
    synced = _condition(evidence, "Synced")
    hook = _condition(evidence, "HookHealthy")
    facts = tuple(
        Fact(f"Project {project.name}", f"{entry.get('type')} is {entry.get('status')}: {text(entry.get('message'))}")
        for entry in (synced, hook)
        if entry
    )
    troubled = next((entry for entry in (hook, synced) if entry.get("status") == "False"), None)
    trouble = f". Its Project says: {text(troubled.get('message'))}" if troubled else ""
    summary = f"Project {project.name} wants one for it, and nobody has asked for it yet; {how}{trouble}"
    return Symptom(Cause.NOT_RECORDED, summary, facts, (up(evidence), f"envprov project check {project.name}"), needs)


def _condition(evidence: Evidence, kind: str) -> Manifest:
    found = next((item for item in evidence.of(Part.PROJECTS) if name_of(item) == evidence.project), {})
    conditions = within(found, "status").get("conditions") or ()
    return next((mapping(entry) for entry in conditions if mapping(entry).get("type") == kind), {})


def _would_serve(project: Project, branch: str) -> bool:
    rule = project.rule_for(branch)
    return rule is not None and rule.action == "create"


def _read(item: Manifest) -> Project | None:
    try:
        return Project(name=name_of(item), spec=ProjectSpec.model_validate(item.get("spec")))
    except ValidationError:
        return None


def _fault(item: Manifest) -> str:
    try:
        ProjectSpec.model_validate(item.get("spec"))
    except ValidationError as error:
        return faults(error)
    return ""


def _path_of(item: Manifest) -> str:
    spec = within(item, "spec")
    path = within(spec, "gitlab").get("project")
    globs = [glob for rule in spec.get("rules") or () for glob in texts(mapping(rule).get("branches"))]
    return f"{path or 'no project of GitLab'}, branches {', '.join(globs[:_LISTED]) or '*'}"
