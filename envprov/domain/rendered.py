"""What a rendered chart does with ServiceAccounts (those it makes, those of others it refers to), and its hosts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from envprov.domain.charted import charted, flat
from envprov.domain.claims import SOURCES, Collector
from envprov.domain.custom import KNOWN, Custom
from envprov.domain.holds import Account
from envprov.domain.host_claims import claimed
from envprov.domain.loose import mapping, text
from envprov.domain.observed import Rendered
from envprov.domain.usage import EVERY

_BUILT_IN = {kind for _, kind in SOURCES}


def read_rendered(objects: Iterable[Mapping[str, Any]], namespace: str) -> Rendered:
    """
    Read a rendered chart.

    Args:
        objects: What Helm would install, hooks included.
        namespace: Of the release: where an object goes that names none.

    """
    owned: set[Account] = set()
    given_objects = tuple(objects)
    collector = Collector(datetime.fromtimestamp(0, UTC))  # ages nothing: what is rendered has no dates
    for number, given in enumerate(flat(given_objects)):
        metadata = mapping(given.get("metadata"))
        home = text(metadata.get("namespace")) or namespace
        item = {**given, "metadata": {**metadata, "namespace": home, "uid": f"rendered-{number}"}}
        kind = text(given.get("kind"))
        if kind == "ServiceAccount":
            owned.add(Account(home, text(metadata.get("name"))))
        elif kind in _BUILT_IN:
            collector.add(kind, [item])
        else:
            api_version = text(given.get("apiVersion"))
            fields = KNOWN.get((api_version.partition("/")[0], kind), ())
            collector.add_custom(Custom(api_version, kind, "", namespaced=True, fields=fields), [item])
    referred = {
        account
        for account in collector.finish().claims
        if account.namespace not in {namespace, EVERY} and account.name != EVERY
    }
    hosts = claimed(charted(given_objects, namespace, {}))
    return Rendered(tuple(sorted(owned)), tuple(sorted(referred - owned)), hosts)
