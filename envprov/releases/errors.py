"""From what Helm says on stderr to our error tree, in one sentence, without Helm's wrapping and without values."""

from __future__ import annotations

import re

from envprov.domain.errors import (
    ChartNotFound,
    ConfigError,
    Conflict,
    EnvprovError,
    Forbidden,
    HelmFailed,
    HelmTimeout,
    Invalid,
    NotOwned,
    RenderFailed,
    Unavailable,
)

LENGTH_LIMIT = 512

_CAUSES: tuple[tuple[re.Pattern[str], type[EnvprovError]], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE | re.MULTILINE), cause)
    for pattern, cause in (
        (r"because it is being terminated", Conflict),
        (r"cannot impersonate resource", Forbidden),
        (
            r"error calling lookup: .*(connection re(fused|set)|timeout|TLS handshake|unexpected EOF|etcdserver)",
            Unavailable,
        ),
        (r"error calling lookup: .*(too many requests|service unavailable|unable to handle the request)", Unavailable),
        (r"another operation .* in progress|cannot re-use a name|has no deployed releases", Conflict),
        (r"release: not found|release has no \S+ version", Conflict),
        (r"has been modified; please apply your changes|apply failed with \d+ conflict|: already exists$", Conflict),
        (r"invalid ownership metadata", NotOwned),
        (r"cannot load Chart.yaml|chart metadata|missing in charts/ directory", ChartNotFound),
        (r"context \"[^\"]*\" does not exist|error loading config file|invalid configuration:", ConfigError),
        (r"don't meet the specifications of the schema", RenderFailed),
        (
            r"execution error at|parse error at|executing \"|error calling |\.yaml:\d+:\d+|error converting YAML",
            RenderFailed,
        ),
        (r"chart requires kubeVersion|release name is invalid|Request entity too large", RenderFailed),
        (r"chart \"[^\"]*\".* not found|path \"[^\"]*\" not found", ChartNotFound),
        (
            r"on source: .*: not found|failed to fetch \S+ : 4\d\d|Chart.yaml|chart metadata|invalid_reference",
            ChartNotFound,
        ),
        (r"forbidden:|is forbidden|: unauthorized|authentication required", Forbidden),
        (r"no matches for kind|is invalid: |field is immutable|failed to create typed patch object", Invalid),
        (r"unable to decode \"|error validating \"", Invalid),
        (r"strict decoding error|unknown field|cannot be handled as|admission webhook .* denied", Invalid),
        (r"kubernetes cluster unreachable|etcdserver|connection refused|connection reset|unexpected EOF", Unavailable),
        (r"i/o timeout|TLS handshake|Client\.Timeout|request timed out|no such host|too many requests", Unavailable),
        (r"service unavailable|internal error occurred|network is unreachable|connection lost", Unavailable),
        (r"unable to handle the request|provide credentials|cannot be reached", Unavailable),
        (r"context deadline exceeded|timed out waiting", HelmTimeout),
    )
)
"""The first that matches names the cause; what is certain stands before what is only likely."""

_SWALLOWED = re.compile(
    r"uninstall: Failed to delete release(?:\" error=\"|: )\[(?P<reason>.*)\](?:\"|$)", re.MULTILINE
)
"""Why an object could not be deleted: only ``--debug`` tells."""
_STACK = re.compile(r"^helm\.go:\d+: .* \[debug\] ", re.MULTILINE)
_NOISE = re.compile(
    r"^(WARNING: |level=(DEBUG|INFO|WARN) |[IW]\d{4} |\w+\.go:\d+: |Pulled: |Digest: |Use --debug flag )"
)
_WRAPPING = re.compile(
    r"^("
    r"Error: |\* |\d+ errors? occurred:|(UPGRADE|INSTALLATION|ROLLBACK|UNINSTALL) FAILED: |"
    r"unable to continue with (install|update): |could not get information about the resource [^:]*: |"
    r"unable to build kubernetes objects from (current |new |old )?release manifest: |"
    r"server-side apply failed for object [^:]*: |"
    r"failed to create resource: |"
    r"cannot patch \"[^\"]*\" with kind [^:]*: |create: |query: |update: |get: |uninstall: |"
    r"failed to (create|update|get|query with labels|perform \"[^\"]*\" on source): |"
    r"an error occurred while (checking for chart dependencies\. |rolling back the release\. )|"
    r"pre-upgrade hooks failed: |release \S+ failed, and has been (uninstalled|rolled back)[^:]*: "
    r")",
    re.IGNORECASE,
)
_OBJECT = re.compile(
    r"(?:failed to create typed patch object \(|conflict occurred while applying object )"
    r"[^/\s]*/(?P<name>[^\s;]+);? \S+, Kind=(?P<kind>\w+)\)?: (?:errors:$)?"
)
_VALUES: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(Invalid|Unsupported|Duplicate) value: (\"(?:[^\"\\]|\\.)*\"|[{\[].*[}\]]|\S+): "), ""),
    (re.compile(r", got &value\.valueUnstructured\{.*"), ""),
    (re.compile(r"(!!\w+) `[^`]*`"), r"\1"),
    (
        re.compile(r"(at '[^']*': )'(?:[^']|'(?! (does not match|is not valid)))*' (?=does not match|is not valid)"),
        r"\1",
    ),
    (re.compile(r"(Object 'Kind' is missing) in '.*'"), r"\1"),
    (re.compile(r"\(groups=\[[^\]]*\]\) "), ""),
)


def error_of(stderr: str) -> EnvprovError:
    """
    The error of a Helm that ended with an exit code other than 0.

    Args:
        stderr: What it wrote there, in any state of completeness.

    Returns:
        An error of the tree. Its message is one line of at most 512 characters: the object and what Kubernetes, the
        chart or the registry answered.

    """
    swallowed = _SWALLOWED.search(stderr)
    told = swallowed["reason"].replace('\\"', '"') if swallowed else _STACK.split(stderr)[0]
    lines = [line for line in told.splitlines() if line.strip() and not _NOISE.match(line)]
    cause = next((cause for pattern, cause in _CAUSES if pattern.search("\n".join(lines))), HelmFailed)
    return cause(_shortened(_joined(lines) or "Helm ended with an error that it did not describe"))


def _joined(lines: list[str]) -> str:
    """One line of facts, none twice; a line that goes on with the one before stays joined to it."""
    message, told = "", set[str]()
    for line in lines:
        fact = _bare(line.strip())
        if not fact or fact in told:
            continue
        told.add(fact)
        goes_on = message.endswith(":") or line[0].isspace()
        message += (" " if goes_on else "; ") + fact if message else fact
    return message


def _bare(line: str) -> str:
    fact = line
    while match := _WRAPPING.match(fact):
        fact = fact[match.end() :]
    fact = _OBJECT.sub(r'\g<kind> "\g<name>": ', fact).rstrip()
    for pattern, replacement in _VALUES:
        fact = pattern.sub(replacement, fact)
    return fact


def _shortened(message: str) -> str:
    return message if len(message) <= LENGTH_LIMIT else message[: LENGTH_LIMIT - 1] + "…"
