"""No secret in logs, arguments, Events or conditions; copied Secrets arrive, and only those."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from tests.e2e.conftest import Shop
from tests.eventually import eventually
from tests.shipped import TOKEN, Process

Commits = Callable[[int], str]
PASSWORD = "a-password-that-nobody-may-see"


def secret(shop: Shop, name: str, data: dict[str, str]) -> None:
    shop.installation.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": shop.installation.namespace},
            "type": "Opaque",
            "stringData": data,
        }
    )


def test_values_and_tokens_show_nowhere(
    make_shop: Callable[..., Shop], controller: Process, receiver: Process, commits: Commits
) -> None:
    shop = make_shop(
        values={"message": PASSWORD, "extra": [{"apiVersion": "v1", "kind": "Nonsense", "password": PASSWORD}]}
    )
    assert shop.create("feature/secret", commits(1)) == 202
    eventually(
        lambda: "Accepted" in json.dumps((shop.record("feature/secret") or {}).get("status", {}).get("conditions", [])),
        message="nothing was said",
    )
    status = json.dumps((shop.record("feature/secret") or {})["status"])
    events = shop.installation.cluster.kubectl("get", "events", "-n", shop.installation.namespace, "-o", "json")
    for place in (controller.output(), receiver.output(), status, events):
        assert PASSWORD not in place
        assert TOKEN not in place


def test_token_and_values_are_in_no_arguments(
    make_shop: Callable[..., Shop], controller: Process, receiver: Process, commits: Commits
) -> None:
    shop = make_shop(values={"message": PASSWORD})
    assert shop.create("feature/argv", commits(1)) == 202
    seen: set[str] = set()
    over = threading.Event()

    def look() -> None:
        """Helm is there for a fifth of a second: nothing else may be done between two looks."""
        while not over.wait(0.005):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                with suppress(OSError):
                    seen.add(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        eventually(lambda: shop.installation.is_ready("feature/argv"), within=90, message="it is not Ready")
    finally:
        over.set()
        looking.join()
    assert any("helm" in command and "upgrade" in command for command in seen), "no Helm was seen at work"
    assert not [command for command in seen if PASSWORD in command or TOKEN in command]
    assert controller.popen.poll() is None
    assert receiver.popen.poll() is None


def test_copied_secret_arrives_and_follows(make_shop: Callable[..., Shop], shop: Shop, commits: Commits) -> None:
    source = {"namespace": shop.installation.namespace, "name": "registry-pull", "imagePull": True}
    secret(shop, "registry-pull", {"password": "first"})
    copying = make_shop(copySecrets=[source])
    namespace = copying.up("feature/pull", commits(1))["status"]["namespace"]
    kubectl = shop.installation.cluster.kubectl

    def copied() -> str:
        data = kubectl("get", "secret", "registry-pull", "-n", namespace, "-o", "jsonpath={.data.password}")
        return base64.b64decode(data).decode()

    assert copied() == "first"
    account = json.loads(kubectl("get", "sa", "default", "-n", namespace, "-o", "json"))
    assert {"name": "registry-pull"} in account["imagePullSecrets"]

    secret(shop, "registry-pull", {"password": "second"})
    assert copying.push("feature/pull", commits(1), commits(2)) == 202
    eventually(lambda: copied() == "second", message="the copy did not follow")


def test_secret_that_is_not_there_is_named(make_shop: Callable[..., Shop], commits: Commits) -> None:
    shop = make_shop()
    namespace = shop.installation.namespace
    copying = make_shop(copySecrets=[{"namespace": namespace, "name": "there-is-none"}])
    assert copying.create("feature/waits", commits(1)) == 202
    eventually(
        lambda: "there-is-none" in json.dumps((copying.record("feature/waits") or {}).get("status", {})),
        message="the missing Secret was not named",
    )
