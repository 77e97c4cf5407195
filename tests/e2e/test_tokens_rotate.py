"""A webhook's tokens are rotated in a mounted Secret, and the receiver that runs follows without a restart."""

from __future__ import annotations

import base64
import json
import os
import time
from pathlib import Path

import httpx

from tests.eventually import eventually
from tests.gitlab.courier import signed
from tests.payloads import push_created
from tests.shipped import ROOT, Installation, Process

OLD, NEW = "the-old-secret-token", "the-new-secret-token"
SIGNING = f"whsec_{base64.b64encode(b'k' * 32).decode()}"


class MountedSecret:
    """A folder as the kubelet mounts a Secret: files are links through one link that is exchanged."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.turns = folder, 0
        folder.mkdir()

    def show(self, **data: str) -> None:
        """Exchange all of what it shows at once."""
        self.turns += 1
        fresh = self.folder / f"..turn-{self.turns}"
        fresh.mkdir()
        for name, text in data.items():
            (fresh / name).write_text(text)
        link = self.folder / "..data_tmp"
        link.symlink_to(fresh.name)
        os.replace(link, self.folder / "..data")  # noqa: PTH105 - the very call that a kubelet makes
        for name in data:
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(f"..data/{name}")
        for entry in self.folder.iterdir():
            if entry.is_symlink() and not entry.exists():
                entry.unlink()


def answer(receiver: Process, **headers: str) -> int:
    """Return the status that a delivery with these headers gets."""
    body = json.dumps(push_created("feature/x", "1" * 40, project_id=7, path="group/nobody")).encode()
    if "signing_token" in headers:
        headers = signed(headers["signing_token"], "id-1", str(int(time.time())), body)
    given = {"X-Gitlab-Event": "Push Hook", "Content-Type": "application/json"} | headers
    url = f"http://127.0.0.1:{receiver.port}/webhooks/gitlab"
    return httpx.post(url, content=body, headers=given, timeout=10, trust_env=False).status_code


def token(receiver: Process, text: str) -> int:
    return answer(receiver, **{"X-Gitlab-Token": text})


def test_what_is_rotated_is_followed_and_what_cannot_be_read_changes_nothing(own: Installation) -> None:
    tokens, keys = MountedSecret(own.folder / "webhook"), MountedSecret(own.folder / "signing")
    tokens.show(one=OLD)
    own.settings(
        webhook={
            "port": 0,
            "token_files": [str(tokens.folder)],
            "signing_token_files": [str(keys.folder)],
        },
        helm={"chart_root": str(ROOT)},
    )
    receiver = own.start_receiver().ready()
    assert (token(receiver, OLD), token(receiver, NEW)) == (204, 401)

    tokens.show(one=OLD, two=NEW)
    eventually(lambda: token(receiver, NEW) == 204, message="the new token is not known")
    assert token(receiver, OLD) == 204

    tokens.show(two=NEW)
    eventually(lambda: token(receiver, OLD) == 401, message="the old token is still good")
    assert token(receiver, NEW) == 204

    tokens.show(two="")
    said = "secrets not read again"
    eventually(lambda: any(entry.get("event") == said for entry in receiver.entries()), message="nothing is said")
    assert (token(receiver, NEW), token(receiver, "")) == (204, 401)

    tokens.show(two=NEW)
    keys.show(signing=SIGNING)
    eventually(lambda: answer(receiver, signing_token=SIGNING) == 204, message="the key is not known")
    assert receiver.popen.poll() is None
    for secret in (OLD, NEW, SIGNING):
        assert secret not in receiver.output()
