"""What a merge request means for an environment, by the rules of one Project. Pure."""

from __future__ import annotations

from envprov.domain.deliveries import BranchEvent, Questioned, Wanted
from envprov.domain.project import Project
from envprov.domain.trail import GONE
from webhooks.gitlab import Action, MergeRequestEvent


def news_of(project: Project, event: MergeRequestEvent) -> BranchEvent | Wanted | Questioned | None:
    """
    What is to be recorded.

    Args:
        project: Whose rules count.
        event: The delivery.

    Returns:
        None if merge requests decide nothing for such a branch. Nothing here ends an environment: another merge
        request may want it, or this delivery may be old. A question makes the controller look.

    """
    rule = project.rule_for(event.branch)
    if rule is None or rule.action != "create" or rule.merge_request is None:
        return None
    if event.is_fork and not rule.merge_request.forks:
        return None
    if event.ended:
        return Questioned(f"!{event.iid} is {event.ended}")
    if not project.wants_merge_request(event.branch, event.labels, draft=event.is_draft, fork=event.is_fork):
        return Questioned(f"!{event.iid} does not count by the rules")
    return _wish(event)


def _wish(event: MergeRequestEvent) -> BranchEvent | Wanted:
    """What a merge request says of which an environment is wanted."""
    if event.oldrev:  # what a push hook says of it; of a fork there is none
        return _link(event, event.oldrev)
    if event.is_fork and event.action is Action.OPEN and event.revision:
        return _link(event, GONE)
    if event.is_fork and event.action is Action.REOPEN:
        # A link from nothing to a commit that was there before would be taken for a late copy of the first one.
        return Wanted(event.revision)
    return Wanted(event.revision, only_missing=True)


def _link(event: MergeRequestEvent, before: str) -> BranchEvent:
    return BranchEvent(event.project_id, event.project_path, event.branch, before, event.revision, event.key)
