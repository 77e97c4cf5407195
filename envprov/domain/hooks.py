"""
The webhook of a project, judged without I/O: which events the rules need, and whether what GitLab has delivers them.

Source: https://docs.gitlab.com/user/project/integrations/webhooks/, https://docs.gitlab.com/api/project_webhooks/
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import takewhile
from urllib.parse import urlsplit

from envprov.domain.forge import FilterStrategy, Hook, HookEvent, HookWish, Secret
from envprov.domain.names import branch_fault
from envprov.domain.project import Project
from envprov.domain.sweep import needs_merge_requests

FILTER_LIMIT = 255
"""Characters of a branch filter that GitLab takes."""
SIGNS_SINCE = (19, 0)
"""GitLab that can sign deliveries."""
FILTERS_BY_REGEX_SINCE = (17, 0)
"""GitLab whose API surely knows the strategy ``regex``."""
RECEIVER_PATH = "/webhooks/gitlab"
ALLOW = (
    "GitLab refuses to call private addresses: an administrator adds the receiver's host and port to Admin > Settings "
    "> Network > Outbound requests > Local IP addresses and domain names that hooks and integrations can access "
    "(outbound_local_requests_allowlist)"
)
"""What to do where GitLab may not call the receiver."""

_PORTS = {"http": 80, "https": 443}
_NUMBER = re.compile(r"\d+")
_NOT_ALLOWED = re.compile(r"Requests to .* not allowed", re.IGNORECASE)
_BAD = {"temporarily_disabled", "disabled"}


class HookReason(StrEnum):
    """Reasons of the condition HookHealthy."""

    OK = "OK"
    MISSING = "HookMissing"
    DISABLED = "HookDisabled"
    FAILING = "HookFailing"
    INCOMPLETE = "HookIncomplete"
    UNKNOWN = "HookUnknown"


@dataclass(frozen=True, slots=True)
class BranchFilter:
    """
    Which pushes are delivered.

    Attributes:
        strategy: How the pattern is read.
        pattern: Empty for all branches.

    """

    strategy: FilterStrategy = "all_branches"
    pattern: str = ""

    def __str__(self) -> str:
        return f"{self.strategy} {self.pattern}" if self.pattern else "all branches"


ALL_BRANCHES = BranchFilter()


@dataclass(frozen=True, slots=True)
class HookNeeds:
    """
    What a hook must deliver.

    Attributes:
        merge_requests: Whether changes of merge requests are needed.
        notes: Whether comments are.
        filters: Branch filters that let every push through that may matter; the first is the best. All branches
            is always good enough, and not among them unless it is the only one.

    """

    merge_requests: bool
    notes: bool
    filters: tuple[BranchFilter, ...]

    def wish(
        self, url: str, *, enable_ssl: bool = True, token: Secret | None = None, signing_token: Secret | None = None
    ) -> HookWish:
        """
        The hook as it ought to be.

        Args:
            url: Of the receiver.
            enable_ssl: Whether GitLab checks its certificate.
            token: None leaves what is there.
            signing_token: None leaves what is there.

        """
        return HookWish(
            url=url,
            push=True,
            merge_requests=self.merge_requests,
            notes=self.notes,
            branch_filter=self.filters[0].pattern,
            branch_filter_strategy=self.filters[0].strategy,
            enable_ssl=enable_ssl,
            token=token,
            signing_token=signing_token,
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """
    How a hook is.

    Attributes:
        reason: One word.
        message: In words, with the way out.
        hook: The one that is meant; None if there is none, or none to be seen.

    """

    reason: HookReason
    message: str
    hook: Hook | None = None

    @property
    def holds(self) -> bool | None:
        """Status of the condition HookHealthy; None for unknown."""
        return {HookReason.OK: True, HookReason.UNKNOWN: None}.get(self.reason, False)


def needs_of(project: Project, *, by_regex: bool = True) -> HookNeeds:
    """
    What the hook of a Project must deliver.

    Pushes always. Merge requests only if a rule asks for them: the note in a merge request does without, for it is
    written when an environment changes. Comments only if commands may be given in them.

    Args:
        project: Its rules.
        by_regex: Whether GitLab's API takes regular expressions as branch filters.

    """
    gitlab = project.spec.gitlab
    return HookNeeds(
        merge_requests=needs_merge_requests(project),
        notes=gitlab is not None and gitlab.commands is not None,
        filters=_filters(project, by_regex=by_regex),
    )


def find_hook(hooks: Iterable[Hook], url: str) -> Hook | None:
    """
    Our hook: the one that delivers to our URL; of several the one that works, then the oldest.

    Args:
        hooks: All of the project.
        url: Of the receiver.

    """
    ours = [hook for hook in hooks if same_url(hook.url, url)]
    return min(ours, key=lambda hook: (hook.alert_status in _BAD, hook.id), default=None)


def same_url(one: str, other: str) -> bool:
    """Whether two URLs lead to the same place: case of the host, a default port and a slash at the end say nothing."""
    return _place(one) == _place(other)


def is_of_a_receiver(url: str, *, not_at: str) -> bool:
    """Whether a URL reads as that of a receiver, at another place."""
    return _place(url)[3].endswith(RECEIVER_PATH) and not same_url(url, not_at)


def judge(hooks: Iterable[Hook], url: str, needs: HookNeeds, recent: Sequence[HookEvent] = ()) -> Verdict:
    """
    How our hook is.

    Args:
        hooks: All of the project.
        url: Of the receiver.
        needs: What it must deliver.
        recent: Its deliveries that GitLab remembers, the newest first; none if nobody has looked.

    """
    hook = find_hook(hooks, url)
    if hook is None:
        return Verdict(
            HookReason.MISSING,
            f"no webhook of the project delivers to {url}; `envprov project add` makes one. A hook of the group or of "
            "the whole GitLab cannot be seen from here",
        )
    if hook.alert_status in _BAD:
        return Verdict(HookReason.DISABLED, _disabled(hook), hook)
    failed = failed_in_a_row(recent)
    if failed:
        return Verdict(
            HookReason.FAILING, f"webhook {hook.id}: {tell_failures(failed)}; {hint_for(failed[0].status)}", hook
        )
    lacks = lacks_of(hook, needs)
    if lacks:
        return Verdict(
            HookReason.INCOMPLETE,
            f"webhook {hook.id} {'; '.join(lacks)}; `envprov project add` sets it right",
            hook,
        )
    return Verdict(HookReason.OK, f"webhook {hook.id} delivers to {url}", hook)


def lacks_of(hook: Hook, needs: HookNeeds) -> tuple[str, ...]:
    """
    What a hook does not deliver and must.

    Args:
        hook: As GitLab has it.
        needs: What it must deliver.

    """
    events = {
        "pushes": not hook.push,
        "merge requests, which a rule asks for": needs.merge_requests and not hook.merge_requests,
        "comments, which commands are given in": needs.notes and not hook.notes,
    }
    lacks = [f"does not deliver {event}" for event, is_missing in events.items() if is_missing]
    given = filter_of(hook)
    if given != ALL_BRANCHES and given not in needs.filters:
        lacks.append(f"delivers pushes of {given} only, and the rules need {needs.filters[0]}")
    return tuple(lacks)


def is_as_wished(hook: Hook, needs: HookNeeds, *, enable_ssl: bool = True) -> bool:
    """
    Whether a hook delivers exactly what is needed, and nothing of what we could switch off.

    Args:
        hook: As GitLab has it.
        needs: What it must deliver.
        enable_ssl: Whether GitLab is to check our certificate.

    """
    told = (hook.push, hook.merge_requests, hook.notes, hook.enable_ssl)
    return told == (True, needs.merge_requests, needs.notes, enable_ssl) and filter_of(hook) == needs.filters[0]


def filter_of(hook: Hook) -> BranchFilter:
    """The branch filter of a hook; what lets everything through is all branches, however it is written."""
    pattern = hook.branch_filter
    strategy = hook.branch_filter_strategy or "wildcard"
    if not pattern or strategy == "all_branches" or (strategy == "wildcard" and not pattern.strip("*")):
        return ALL_BRANCHES
    return BranchFilter("regex" if strategy == "regex" else "wildcard", pattern)


def has_failed(event: HookEvent) -> bool:
    """Whether GitLab counts a delivery as failed: anything but 2xx and 3xx, no answer too."""
    return not event.status.startswith(("2", "3"))


def failed_in_a_row(recent: Iterable[HookEvent]) -> tuple[HookEvent, ...]:
    """
    The deliveries that have failed since the last one that came through.

    Args:
        recent: The newest first.

    """
    return tuple(takewhile(has_failed, recent))


def tell_failures(failed: Sequence[HookEvent]) -> str:
    """How many deliveries failed, and how."""
    counted = Counter(event.status for event in failed).most_common()
    how = ", ".join(f"{status}{f' ({times} times)' if times > 1 else ''}" for status, times in counted)
    many = "the newest delivery" if len(failed) == 1 else f"the {len(failed)} newest deliveries"
    return f"{many} failed: {how}"


def hint_for(status: str) -> str:
    """
    What to do about a delivery that failed.

    Args:
        status: Answer of the far side, or GitLab's words if there was none.

    """
    if is_blocked(status):
        return ALLOW
    match status:
        case "401":
            return (
                "the receiver does not know the hook's secret: restart it if the secret is new "
                "(`kubectl rollout restart deployment envprov-receiver`), or give the hook another one "
                "(`envprov project add --rotate`)"
            )
        case "404" | "405":
            return f"something else answers at this URL; the receiver's ends in {RECEIVER_PATH}"
        case "502" | "503" | "504":
            return (
                "the receiver is not up, or could not write to the API server; "
                "`kubectl logs deployment/envprov-receiver` says why"
            )
        case _ if status[:1].isdecimal():
            return "`kubectl logs deployment/envprov-receiver` says why"
        case _:
            return (
                "GitLab got no answer: check name, firewall and certificate as GitLab's own host sees them; a "
                "self-managed GitLab refuses private addresses unless they are on its allowlist"
            )


def is_blocked(message: str) -> bool:
    """Whether GitLab's words say that it may not call the address."""
    return _NOT_ALLOWED.search(message) is not None


def version_of(text: str) -> tuple[int, int]:
    """Major and minor of GitLab's version; zeros for what cannot be read."""
    numbers = [int(number) for number in _NUMBER.findall(text)[:2]]
    return (numbers[0], numbers[1]) if len(numbers) == 2 else (0, 0)  # noqa: PLR2004 - major and minor


def _disabled(hook: Hook) -> str:
    if hook.alert_status == "disabled":
        return f"GitLab has switched webhook {hook.id} off, since 40 deliveries failed; a test that succeeds revives it"
    until = f" until {hook.disabled_until}" if hook.disabled_until else ""
    return f"GitLab has paused webhook {hook.id}{until}, since deliveries failed; what happens meanwhile is not sent"


def _filters(project: Project, *, by_regex: bool) -> tuple[BranchFilter, ...]:
    """
    Filters by the globs of all rules that create: more than what gets an environment, since an earlier rule may ignore.

    GitLab's wildcard knows ``*`` alone, for any run of characters, which is what ours means.
    """
    globs = tuple(
        dict.fromkeys(glob for rule in project.spec.rules if rule.action == "create" for glob in rule.branches)
    )
    if not globs or any("[" in glob or not glob.strip("*") for glob in globs):
        return (ALL_BRANCHES,)
    found = []
    if len(globs) == 1 and branch_fault(globs[0].replace("*", "x")) is None:
        found.append(BranchFilter("wildcard", globs[0]))
    pattern = f"^({'|'.join(map(_as_regex, globs))})$"
    if by_regex:
        found.append(BranchFilter("regex", pattern))
    return tuple(one for one in found if len(one.pattern) <= FILTER_LIMIT) or (ALL_BRANCHES,)


def _as_regex(glob: str) -> str:
    """A glob without sets in RE2's syntax; both read one character as one code point."""
    return "".join({"*": ".*", "?": "."}.get(letter) or _quoted(letter) for letter in glob)


def _quoted(letter: str) -> str:
    return "\\" + letter if letter in r"\.+()|{}^$]" else letter


def _place(url: str) -> tuple[str, str, int | None, str, str]:
    try:
        parts = urlsplit(url)
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return ("", url, None, "", "")
    return (parts.scheme, (parts.hostname or "").casefold(), port, parts.path.rstrip("/"), parts.query)
