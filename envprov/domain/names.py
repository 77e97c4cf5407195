"""
Names that Kubernetes, Helm and DNS accept, one for each branch, whatever it is called.

Every name is a readable part and a hash of (project, branch), always: ``feature/x`` and ``feature-x``
read alike, and a Japanese branch name leaves nothing to read.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from base64 import b32encode

SLUG_LIMIT = 40
HASH_LENGTH = 8
BRANCH_LIMIT_BYTES = 255
NAMESPACE_PREFIX = "env-"
FALLBACK = "branch"

_SLUG = re.compile(rf"[a-z]([a-z0-9-]*[a-z0-9])?-[a-z2-7]{{{HASH_LENGTH}}}", re.ASCII)
_UNREADABLE = re.compile(r"[^a-z0-9]+")
_FORBIDDEN_IN_BRANCH = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//")


def slug(project: str, branch: str) -> str:
    """
    Name of the Environment, of its Helm release and of its host label.

    Args:
        project: Name of the Project object.
        branch: Branch name without ``refs/heads/``.

    Returns:
        RFC 1035 label of 10 to 40 characters: it starts with a letter, so that a Service may bear it.
        Two branches share one only if 40 bits of SHA-256 collide, which the registry then refuses.

    Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/names/

    """
    digest = hashlib.sha256(f"{project}\0{branch}".encode()).digest()
    suffix = b32encode(digest).decode().lower()[:HASH_LENGTH]
    return f"{_readable(branch)}-{suffix}"


def namespace_of(environment: str) -> str:
    """
    Namespace that serves one Environment.

    Args:
        environment: Name of the Environment, which is its slug.

    Returns:
        RFC 1123 label of at most 44 characters.

    """
    return NAMESPACE_PREFIX + environment


def environment_of(namespace: str) -> str | None:
    """Name of the Environment that a namespace serves, or None if the namespace cannot be one of ours."""
    return namespace.removeprefix(NAMESPACE_PREFIX) if namespace.startswith(NAMESPACE_PREFIX) else None


def is_slug(name: str) -> bool:
    """Whether a name can be one that :func:`slug` made."""
    return len(name) <= SLUG_LIMIT and _SLUG.fullmatch(name) is not None


def branch_fault(branch: str) -> str | None:
    """
    Why a branch of this name gets no environment.

    Args:
        branch: Branch name without ``refs/heads/``.

    Returns:
        The reason in words, or None for a good name.

    """
    return _ref_fault(branch) or odd_branch(branch)


def odd_branch(branch: str) -> str | None:
    """
    Why a branch that Git lets be pushed gets no environment all the same: nobody could work with it.

    Args:
        branch: Branch name without ``refs/heads/``.

    Returns:
        The reason in words, or None.

    """
    size = len(branch.encode(errors="replace"))
    faults = {
        f"has {size} bytes; at most {BRANCH_LIMIT_BYTES} are possible": size > BRANCH_LIMIT_BYTES,
        f"is {branch!r}, which Git reserves": branch in {"@", "HEAD"},
        "begins with '-'": branch.startswith("-"),
    }
    return next((fault for fault, is_so in faults.items() if is_so), None)


def _readable(branch: str) -> str:
    """Lower-case letters, digits and single dashes; starts with a letter, ends with a letter or digit."""
    plain = unicodedata.normalize("NFKD", branch).encode("ascii", "ignore").decode().lower()
    words = _UNREADABLE.sub("-", plain).strip("-")
    if not words:
        return FALLBACK
    if not words[0].isalpha():
        words = f"b-{words}"
    return words[: SLUG_LIMIT - HASH_LENGTH - 1].rstrip("-")


def _ref_fault(branch: str) -> str | None:
    """
    Why there can be no branch of this name.

    Source: https://git-scm.com/docs/git-check-ref-format

    """
    try:
        branch.encode()
    except UnicodeEncodeError:
        return "is not valid Unicode"
    faults = {
        "is empty": not branch,
        "holds a space, a control character or one of ~ ^ : ? * [ \\ .. @{ //": bool(
            _FORBIDDEN_IN_BRANCH.search(branch)
        ),
        "begins with '/', or ends with '/' or '.'": branch.startswith("/") or branch.endswith(("/", ".")),
        "has a part that begins with '.' or ends with '.lock'": any(
            part.startswith(".") or part.endswith(".lock") for part in branch.split("/")
        ),
    }
    return next((fault for fault, is_so in faults.items() if is_so), None)
