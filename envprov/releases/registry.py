"""
Charts from OCI registries.

Source: https://github.com/opencontainers/distribution-spec/blob/main/spec.md,
https://distribution.github.io/distribution/spec/auth/token/, https://helm.sh/docs/topics/registries/
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from envprov.domain.errors import ChartNotFound, ChartRefused
from envprov.domain.loose import mapping, mappings, text, texts
from envprov.releases.download import Answer, Ask, Downloads, Login, joined
from envprov.releases.tar import ArchiveLimits
from envprov.releases.versions import best, parse_version

MANIFEST_LIMIT_BYTES = 1 << 20
TAGS_LIMIT_BYTES = 4 << 20
TOKEN_LIMIT_BYTES = 256 << 10
PAGE_LIMIT = 50
TAG_LIMIT = 50_000

_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CHART_LAYERS = ("application/vnd.cncf.helm.chart.content.v1.tar+gzip", "application/tar+gzip")
_NAME = re.compile(r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_PARAMETER = re.compile(r'([a-z]+)="([^"]*)"')
_NEXT = re.compile(r'<([^>]*)>\s*;[^,]*\brel="?next"?')
_UNAUTHORIZED = frozenset({401, 403})


@dataclass(frozen=True)
class Registry:
    """
    One repository of an OCI registry.

    Attributes:
        downloads: Fetches.
        base: ``https://registry.example.com``.
        name: Of the repository in it: ``charts/shop``.
        what: What it is, for messages.
        login: Who reads it.

    """

    downloads: Downloads
    base: str
    name: str
    what: str
    login: Login | None = None

    async def fetch(self, version: str, target: Path) -> str:
        """
        Fetch a chart's archive.

        Args:
            version: A version, or a range of them.
            target: File to be written.

        Returns:
            The version that was taken.

        Raises:
            ChartNotFound: There is none that fits, or it may not be read.
            ChartRefused: It is no chart, is too large, or is not what the registry says.
            Unavailable: The registry does not answer.

        """
        if _NAME.fullmatch(self.name) is None:
            raise ChartNotFound(f"{self.what}: {self.name!r} is no name of a repository, such as charts/shop")
        session = _Session(self)
        found = version if parse_version(version) is not None else await self._choose(session, version)
        tag = found.replace("+", "_")  # tags have no +, see https://github.com/helm/helm/issues/10166
        if _TAG.fullmatch(tag) is None:
            raise ChartNotFound(f"{self.what}: {found!r} cannot be a tag")
        path = f"/v2/{self.name}/manifests/{tag}"
        answer = await session.get(path, MANIFEST_LIMIT_BYTES, accept=_MANIFEST)
        hexadecimal = self._layer(_json(answer, self.what))
        blob = await session.get(
            f"/v2/{self.name}/blobs/sha256:{hexadecimal}", ArchiveLimits().packed_bytes, target=target
        )
        if blob.sha256 != hexadecimal:
            raise ChartRefused(f"{self.what}: what came is not what its manifest says (sha256)")
        return found

    async def _choose(self, session: _Session, version: str) -> str:
        tags: list[str] = []
        path = f"/v2/{self.name}/tags/list?n=1000"
        for _ in range(PAGE_LIMIT):
            answer = await session.get(path, TAGS_LIMIT_BYTES)
            tags += texts(_json(answer, self.what).get("tags"))
            following = _NEXT.search(answer.headers.get("link", ""))
            if following is None or len(tags) > TAG_LIMIT:
                break
            path = following[1]
        chosen = best(version, (tag.replace("_", "+") for tag in tags))
        if chosen is None:
            raise ChartNotFound(f"{self.what}: none of its {len(tags)} tags is a version that fits {version}")
        return chosen

    def _layer(self, manifest: Mapping[str, Any]) -> str:
        layers = {text(layer.get("mediaType")): text(layer.get("digest")) for layer in mappings(manifest.get("layers"))}
        digest = next((layers[kind] for kind in _CHART_LAYERS if kind in layers), None)
        if digest is None:
            raise ChartRefused(f"{self.what} is no Helm chart: its manifest has no layer with one")
        matched = _DIGEST.fullmatch(digest)
        if matched is None:
            raise ChartRefused(f"{self.what}: its manifest names no SHA-256 of the chart")
        return matched[1]


class _Session:
    """Asks a registry, and gets a token from where it says when it wants one."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._authorization: str | None = None

    async def get(self, path: str, limit_bytes: int, *, accept: str = "*/*", target: Path | None = None) -> Answer:
        registry = self._registry
        url = joined(registry.what, f"{registry.base}/", path)
        if not url.startswith(f"{registry.base}/"):
            raise ChartRefused(f"{registry.what}: its list of tags goes on at another host")
        ask = Ask(registry.what, url, limit_bytes, accept, self._authorization)
        answer = await registry.downloads.get(ask, target)
        if answer.status == 401 and self._authorization is None and answer.is_from_host:  # noqa: PLR2004 - of HTTP
            self._authorization = await self._authorize(answer.headers.get("www-authenticate", ""))
            answer = await registry.downloads.get(replace(ask, authorization=self._authorization), target)
        if answer.status in _UNAUTHORIZED:
            raise ChartNotFound(
                f"{registry.what} may not be read ({answer.status}): "
                + ("its credentials are not accepted" if registry.login else "it needs credentials in the Project")
            )
        if answer.status != 200:  # noqa: PLR2004 - of HTTP
            raise ChartNotFound(f"{registry.what} is not there: the registry answers {answer.status}")
        return answer

    async def _authorize(self, challenge: str) -> str | None:
        registry = self._registry
        scheme, _, rest = challenge.partition(" ")
        if scheme.lower() == "basic" or not challenge:
            return registry.login.authorization if registry.login else None
        given = dict(_PARAMETER.findall(rest))
        realm = given.get("realm", "")
        if scheme.lower() != "bearer" or not realm:
            raise ChartRefused(f"{registry.what}: the registry wants an authentication that is not known")
        query = {"service": given.get("service", ""), "scope": f"repository:{registry.name}:pull"}
        # The registry says who checks passwords for it; a password of its own is known to it anyway.
        ask = Ask(
            f"token for {registry.what}",
            f"{realm}{'&' if '?' in realm else '?'}{urlencode({key: value for key, value in query.items() if value})}",
            TOKEN_LIMIT_BYTES,
            "application/json",
            registry.login.authorization if registry.login else None,
        )
        answer = await registry.downloads.get(ask)
        if answer.status != 200:  # noqa: PLR2004 - of HTTP
            return None
        content = _json(answer, registry.what)
        token = text(content.get("token")) or text(content.get("access_token"))
        if not token or not token.isascii() or not token.isprintable():
            raise ChartRefused(f"{registry.what}: the registry's token service gives no token")
        return f"Bearer {token}"


def _json(answer: Answer, what: str) -> Mapping[str, Any]:
    try:
        content = json.loads(answer.body)
    except (ValueError, RecursionError):
        raise ChartRefused(f"{what}: what answers is no registry, for it sends no JSON") from None
    return mapping(content)
