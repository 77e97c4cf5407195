"""Why an image cannot be pulled: what registries, containerd and CRI-O say, translated."""

from __future__ import annotations

import re

from envprov.domain.causes import Cause

PULLING = frozenset(
    {
        "ErrImagePull",
        "ImagePullBackOff",
        "InvalidImageName",
        "ErrImageNeverPull",
        "RegistryUnavailable",
        "ImageInspectError",
        "SignatureValidationFailed",
    }
)
"""Reasons of a container that waits for its image."""

_ROWS: tuple[tuple[re.Pattern[str], Cause, str], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), cause, said)
    for pattern, cause, said in (
        (
            r"\b429\b|toomanyrequests|too many requests|rate limit",
            Cause.IMAGE_RATE_LIMITED,
            "the registry has had too many requests and refuses for a while",
        ),
        (
            r"no match for platform|no matching manifest for|exec format",
            Cause.IMAGE_PLATFORM,
            "the image is not made for the processor of the node",
        ),
        (
            r"may require|\b401\b|\b403\b|unauthorized|authentication required|no basic auth|\bdenied\b|forbidden",
            Cause.IMAGE_UNAUTHORIZED,
            "the registry does not let it have the image (a registry says the same of an image that is not there)",
        ),
        (
            r"not found|manifest unknown|name unknown|\b404\b|does not exist|no such image",
            Cause.IMAGE_NOT_FOUND,
            "the registry has no such image",
        ),
        (
            (
                r"no such host|connection re|timeout|timed out|deadline exceeded|x509|tls:|no route|unreachable"
                r"|name resolution|HTTP response to HTTPS|misbehaving|EOF|\b50[0234]\b"
            ),
            Cause.IMAGE_REGISTRY_UNREACHABLE,
            "the registry does not answer as it should",
        ),
    )
)

_ADDRESS = re.compile(r"https?://[^\s\"]+")

ADVICE = {
    Cause.IMAGE_NAME_INVALID: "correct the image in the chart's values: REGISTRY/NAME:TAG",
    Cause.IMAGE_NOT_FOUND: "see that the pipeline has pushed that tag, and that the chart's values name it right",
    Cause.IMAGE_UNAUTHORIZED: "see that the image is there, and that the Project copies a pull Secret for its registry "
    "(`copySecrets` with `imagePull: true`)",
    Cause.IMAGE_RATE_LIMITED: "wait, or pull through a mirror or with a login: Kubernetes tries again by itself",
    Cause.IMAGE_REGISTRY_UNREACHABLE: "ask who runs the registry or the network; Kubernetes tries again by itself",
    Cause.IMAGE_PLATFORM: "build the image for the processor of the nodes as well",
    Cause.IMAGE_PULL_FAILED: "read what the node says below",
}


def explain_pull(reason: str, words: str, image: str = "") -> tuple[Cause, str]:
    """
    Why an image cannot be pulled.

    Args:
        reason: Of the container that waits, such as ``ImagePullBackOff``.
        words: All that the node said about it.
        image: The image. Its name and tag may be any word or number, ``shop:404`` for one, and say nothing.

    Returns:
        The cause, and a clause that says it.

    """
    if reason == "InvalidImageName":
        return Cause.IMAGE_NAME_INVALID, "that is no name of an image"
    if reason == "ErrImageNeverPull":
        return Cause.IMAGE_NOT_FOUND, "the node does not have it, and imagePullPolicy: Never forbids to fetch it"
    said_of_it = _without_names(words, image)
    for pattern, cause, said in _ROWS:
        if pattern.search(said_of_it):
            return cause, said
    return Cause.IMAGE_PULL_FAILED, "the node does not say why in words that are known"


def _without_names(words: str, image: str) -> str:
    """What was said, without the image, its tag and addresses that they stand in."""
    left = _ADDRESS.sub(" ", words.replace(image, " ") if image else words)
    tag = image.rpartition("/")[2].partition("@")[0].partition(":")[2]
    return re.sub(rf"(?<![\w.-]){re.escape(tag)}(?![\w.-])", " ", left) if tag else left
