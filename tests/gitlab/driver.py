"""
The stand-in's process, and everything that a test may have happen in it: over HTTP alone.

Calls block. Whoever serves webhooks in the same event loop calls ``settle`` in a thread.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, Self

import httpx

from tests.eventually import eventually

ROOT = Path(__file__).parent.parent.parent
TOKEN = "glpat-envprov-0123456789abcdef"
READY_SECONDS = 30

Json = dict[str, Any]
Ref = str | int
HookOrder = Literal["drop", "duplicate", "delay", "hold", "deliver"]


class GitLabStandIn:
    """
    A GitLab. Use as ``with GitLabStandIn() as gitlab``; it begins with one token, of a Maintainer of every project.

    Attributes:
        url: Where it is.
        token: An access token of scope api.
        token_file: A file with it, for the client under test.

    """

    def __init__(self) -> None:
        self.url = ""
        self.token = TOKEN
        self.token_file = Path()

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="envprov-gitlab-")
        folder = Path(self._folder.name)
        port_file, log = folder / "port", folder / "log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.gitlab.standin", "--port-file", str(port_file)],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._log = log
        try:
            eventually(lambda: self._has_port(port_file), within=READY_SECONDS, every=0.02)
        except BaseException:
            self._end()
            raise
        self.url = f"http://127.0.0.1:{port_file.read_text()}"
        self._client = httpx.Client(base_url=f"{self.url}/_control/", timeout=60, trust_env=False)
        self.token_file = folder / "token"
        self.token_file.write_text(f"{self.token}\n")
        self.create_token(self.token, user="envprov")
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._end()

    @property
    def log(self) -> str:
        """What the process has written; nothing, unless something went wrong in it."""
        return self._log.read_text(errors="replace")

    # Administrators

    def settings(self, **given: object) -> None:
        """
        Set what an administrator would.

        Such as ``push_event_hooks_limit``, ``auto_disabling_web_hooks``, ``webhook_timeout``, ``keyset`` (whether
        branches have keyset paging), ``old_first_page`` (a first page that always announces a second),
        ``local_hooks``, ``requests_per_period`` and ``period_seconds`` (rate limit), ``version``.
        """
        self._do("settings", **given)

    def create_token(
        self,
        token: str,
        *,
        user: str,
        scopes: Iterable[str] = ("api",),
        expires_at: str | None = None,
        revoked: bool = False,
        everywhere: bool = True,
    ) -> int:
        """Make or change a token; return its user's id. *everywhere* makes the user Maintainer of all projects."""
        given = {"scopes": list(scopes), "expires_at": expires_at, "revoked": revoked, "everywhere": everywhere}
        return int(self._do("token", token=token, user=user, **given)["user_id"])

    def member(self, project: Ref, user: str, level: int) -> int:
        """Give a user a role, 0 for none; return the user's id."""
        return int(self._do("member", project=project, user=user, level=level)["user_id"])

    def system_hook(
        self,
        url: str,
        *,
        push: bool = False,
        repository_update: bool = True,
        token: str | None = None,
        signing_token: str | None = None,
    ) -> int:
        """Make a system hook; return its id."""
        fields = {"push_events": push, "repository_update_events": repository_update}
        return int(self._do("system_hook", url=url, fields=fields, token=token, signing_token=signing_token)["id"])

    # Projects and branches

    def create_project(
        self, path: str, *, default_branch: str = "main", empty: bool = False, project_id: int | None = None
    ) -> int:
        """Make a project with one commit, unless *empty*; return its id."""
        return int(self._do("project", path=path, default_branch=default_branch, empty=empty, id=project_id)["id"])

    def change_project(self, project: Ref, **given: object) -> None:
        """Change ``archived``, ``marked_for_deletion_on``, ``default_branch`` or ``repository_enabled``."""
        self._do("change_project", project=project, **given)

    def move_project(self, project: Ref, path: str) -> None:
        """Give a project another path; the old one redirects to its number."""
        self._do("change_project", project=project, path=path)

    def delete_project(self, project: Ref) -> None:
        """Delete a project."""
        self._do("change_project", project=project, gone=True)

    def push(
        self,
        project: Ref,
        branch: str,
        files: Mapping[str, str | None] | None = None,
        *,
        user: str = "dev",
        force: bool = False,
        sha: str | None = None,
        silent: bool = False,
    ) -> str:
        """
        Push to one branch; return its head. A new branch without files is where the default branch is.

        Args:
            project: The project.
            branch: Created if need be.
            files: Path to text, on top of what is there; None as text removes.
            user: Who pushes.
            force: Whether the commit has no parent.
            sha: Of the commit.
            silent: Whether no webhook hears of it.

        """
        change: Json = {"branch": branch, "files": dict(files) if files is not None else None}
        change |= {"force": force, "sha": sha}
        return self.push_many(project, [change], user=user, silent=silent)[branch]

    def delete_branch(self, project: Ref, branch: str, *, user: str = "dev", silent: bool = False) -> None:
        """Delete one branch."""
        self.push_many(project, [{"branch": branch, "delete": True}], user=user, silent=silent)

    def push_many(
        self, project: Ref, changes: Iterable[Mapping[str, object]], *, user: str = "dev", silent: bool = False
    ) -> dict[str, str]:
        """
        Push to several branches at once; return their heads, zeros for those that are gone.

        Each change is ``{"branch": …}`` with ``files``, ``sha``, ``force`` or ``delete``.
        """
        given = [dict(change) for change in changes]
        heads: dict[str, str] = self._do("push", project=project, changes=given, user=user, silent=silent)["heads"]
        return heads

    def create_branches(self, project: Ref, names: Iterable[str], *, silent: bool = True) -> dict[str, str]:
        """Create branches in one push, each with a commit of its own."""
        return self.push_many(project, [{"branch": name, "files": {"name": name}} for name in names], silent=silent)

    def state(self, project: Ref) -> Json:
        """Return branches, environments, deployments, statuses and notes of a project."""
        return self._do("state", project=project)

    # Merge requests

    def open_merge_request(
        self,
        project: Ref,
        source_branch: str,
        *,
        target_branch: str | None = None,
        source_project: Ref | None = None,
        labels: Iterable[str] = (),
        draft: bool = False,
        user: str = "dev",
    ) -> int:
        """Open a merge request; return its number."""
        return int(
            self._do(
                "open",
                project=project,
                source_branch=source_branch,
                target_branch=target_branch,
                source_project=source_project,
                labels=list(labels),
                draft=draft,
                user=user,
            )["iid"]
        )

    def change_merge_request(
        self, project: Ref, iid: int, *, action: str = "update", user: str = "dev", **given: object
    ) -> None:
        """Do ``close``, ``reopen``, ``merge`` or ``update``, and change ``labels`` or ``draft``."""
        self._do("change", project=project, iid=iid, action=action, user=user, **given)

    def comment(
        self, project: Ref, iid: int, body: str, *, user: str = "dev", discussion_id: str | None = None
    ) -> Json:
        """Comment on a merge request; return ``id``, ``discussion_id`` and ``user_id``."""
        return self._do("comment", project=project, iid=iid, body=body, user=user, discussion_id=discussion_id)

    # Webhooks

    def hooks(self, what: HookOrder, *, times: int = 1, seconds: float = 0.0) -> None:
        """
        Say what happens to the next deliveries.

        Args:
            what: They get lost, come twice, come late, are held until ``release``; or all orders are forgotten.
            times: How many; below zero all.
            seconds: How late.

        """
        self._do("hooks", what=what, times=times, seconds=seconds)

    def release(self, *, backwards: bool = False) -> int:
        """Send what was held, the last one first if *backwards*; return how many they are."""
        return int(self._do("release", backwards=backwards)["released"])

    def settle(self, seconds: float = 30) -> None:
        """Wait until every delivery that is not held has been made."""
        assert self._do("settle", seconds=seconds)["settled"], f"deliveries are still on their way after {seconds} s"

    def deliveries(self, *, forget: bool = False) -> list[Json]:
        """Return ``hook``, ``event``, ``key``, ``status``, ``headers`` and ``payload`` of what was sent or lost."""
        return self._list("deliveries", forget=forget)

    # Faults

    def fault(self, fault: str, pattern: str = "", *, times: int = 1, after: int = 0, **given: object) -> None:
        """
        Spoil the next answers of the API.

        Args:
            fault: Its name in ``tests.gitlab.orders``.
            pattern: Regular expression, searched for in ``GET /api/v4/…?…`` as the client wrote it.
            times: How many answers; below zero all.
            after: How many matching ones are left alone first.
            given: Such as ``location``, ``seconds``, ``retry_after``, ``total``, ``bytes``, ``status``, ``body``,
                ``headers``, ``entry``, ``fields``.

        """
        self._do("fault", fault=fault, pattern=pattern, times=times, after=after, given=given)

    def mend(self) -> None:
        """Forget all faults."""
        self._do("mend")

    def requests(self, *, forget: bool = False) -> list[Json]:
        """Return ``method``, ``path``, ``status`` (0 for none) and more of each request to the API."""
        return self._list("requests", forget=forget)

    def forget_requests(self) -> None:
        """Begin to count anew."""
        self.requests(forget=True)

    def _do(self, verb: str, **given: object) -> Json:
        answer: Json = self._post(verb, given)
        return answer

    def _list(self, verb: str, **given: object) -> list[Json]:
        answer: list[Json] = self._post(verb, given)
        return answer

    def _post(self, verb: str, given: dict[str, object]) -> Any:  # noqa: ANN401 - JSON
        answer = self._client.post(verb, json=given)
        assert answer.status_code == httpx.codes.OK, f"{verb}: {answer.text}\n{self.log}"
        return answer.json()

    def _has_port(self, file: Path) -> bool:
        assert self._process.poll() is None, f"the stand-in ended: {self.log}"
        return file.exists()

    def _end(self) -> None:
        self._process.terminate()
        self._process.wait(10)
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._folder.cleanup()
