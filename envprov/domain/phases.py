"""When Helm makes an object: with the release, or as a hook before or after it."""

from __future__ import annotations

from envprov.domain.charted import HOOK, Charted
from envprov.domain.loose import text, within

RELEASE = ""
"""The phase of what is no hook."""
PRE_INSTALL = "pre-install"
POST_INSTALL = "post-install"

_WEIGHT = "helm.sh/hook-weight"
_POLICY = "helm.sh/hook-delete-policy"
_TESTS = frozenset({"test", "test-success", "test-failure"})
_PASSING = "hook-succeeded"


def phases(item: Charted) -> frozenset[str]:
    """The phases in which an object is made: hooks by their names, or ``RELEASE`` alone."""
    if not item.is_hook:
        return frozenset({RELEASE})
    return frozenset(part.strip() for part in _annotation(item, HOOK).split(","))


def is_test(item: Charted) -> bool:
    """Whether an object is only made by ``helm test``, which envprov does not run."""
    return phases(item) <= _TESTS


def passes(item: Charted) -> bool:
    """Whether Helm deletes a hook as soon as it has succeeded, which everything but a Job or pod does at once."""
    return _PASSING in _annotation(item, _POLICY)


def in_time(maker: Charted, user: Charted) -> bool:
    """
    Whether an object is there when another one needs it.

    Pods of the release wait until what they need has come, whether Helm makes it before or after. The release waits for
    each hook to end, so a hook before the release can only use what is there already: hooks before it.

    Args:
        maker: The object that is needed, or from which it comes.
        user: The object that needs it.

    """
    return all(_in_time(phase, maker, user) for phase in phases(user))


def _in_time(phase: str, maker: Charted, user: Charted) -> bool:
    made = phases(maker)
    match phase:
        case "":
            return RELEASE in made or (not passes(maker) and bool(made & {PRE_INSTALL, POST_INSTALL}))
        case "pre-install" | "post-delete":
            # Hooks of one weight run in the order of their kinds: what pods need comes before pods.
            return phase in made and _weight(maker) <= _weight(user)
        case _:
            return not is_test(maker) or is_test(user)


def _weight(item: Charted) -> int:
    try:
        return int(_annotation(item, _WEIGHT))
    except ValueError:
        return 0


def _annotation(item: Charted, name: str) -> str:
    return text(within(item.manifest, "metadata", "annotations").get(name))
