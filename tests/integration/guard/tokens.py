"""Tokens of ServiceAccounts: how they are made, what the API server thinks of them, and acting with one."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from tests.cluster import Cluster


def mint(cluster: Cluster, namespace: str, account: str) -> str:
    """Make a token by TokenRequest."""
    return cluster.kubectl("create", "token", account, "-n", namespace).strip()


def review(cluster: Cluster, token: str) -> dict[str, Any]:
    """Ask whether a token is still good; returns the status of a TokenReview."""
    body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}}
    status: dict[str, Any] = json.loads(cluster.kubectl("create", "-f", "-", "-o", "json", input=json.dumps(body)))[
        "status"
    ]
    return status


def bearer(cluster: Cluster, token: str, folder: Path) -> Cluster:
    """Return the same cluster for who has nothing but a token."""
    config = yaml.safe_load(cluster.kubeconfig.read_text())
    for user in config["users"]:
        user["user"] = {"token": token}
    kubeconfig = folder / "kubeconfig"
    kubeconfig.touch(0o600)
    kubeconfig.write_text(yaml.safe_dump(config))
    return replace(cluster, kubeconfig=kubeconfig)
