"""What somebody changes in an environment of envprov's own making is told, and no longer when it is put back."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.shipped import ROOT, Installation


def test_a_change_by_hand_is_told_until_it_is_put_back(installation: Installation) -> None:
    def envprov(*arguments: str) -> subprocess.CompletedProcess[str]:
        program = [str(Path(sys.executable).parent / "envprov"), *arguments, "--project", "terminal"]
        command = [*program, "--kubeconfig", str(installation.cluster.kubeconfig)]
        return subprocess.run(
            command, check=False, capture_output=True, text=True, env=installation.environment(), timeout=120
        )

    assert "has no environment" in envprov("diff", "feature-x").stderr
    came = envprov("up", "feature-x", "--chart", str(ROOT / "tests/charts/app"), "--standalone")
    assert came.returncode == 0, came.stderr
    record = installation.environment_of("feature-x")
    assert record is not None
    namespace = record["status"]["namespace"]

    installation.cluster.kubectl("scale", "deployment/web", "--replicas=2", "-n", namespace)
    told = json.loads(envprov("diff", "feature-x", "-o", "json").stdout)
    assert told["release"] == {"name": record["metadata"]["name"], "revision": 1, "status": "deployed"}
    (changed,) = [item for item in told["objects"] if item["state"] != "same"]
    (field,) = changed["fields"]
    assert (field["path"], field["before"], field["after"]) == ("spec.replicas", 1, 2)
    assert field["by"]["name"] == "kubectl scale"

    installation.cluster.kubectl("scale", "deployment/web", "--replicas=1", "-n", namespace)
    put_back = envprov("diff", "feature-x", "--exit-code")
    assert (put_back.returncode, put_back.stdout) == (0, ""), put_back.stderr
