"""
A project, its branches, merge requests and files.

Source: https://docs.gitlab.com/api/projects/, https://docs.gitlab.com/api/branches/
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from envprov.domain.errors import ChartNotFound, ForgeUnreliable
from envprov.domain.forge import Branch, ForgeProject, MergeRequest, ProjectRef
from envprov.gitlab import reading
from envprov.gitlab.asking import GONE, READS, Asking, project_path
from envprov.gitlab.errors import PROJECT_NOT_FOUND
from envprov.gitlab.paging import Listing
from envprov.gitlab.transport import Request


class Repository(Asking):
    """Reads what a project holds."""

    async def project(self, ref: ProjectRef) -> ForgeProject | None:
        """
        Read a project.

        Args:
            ref: Its path or number.

        Returns:
            None only if GitLab itself says that it is not there; it says the same of what our token may not see.

        Raises:
            ForgeUnreliable: Also for the old path of a project that has moved.

        """
        absent = frozenset({PROJECT_NOT_FOUND})
        request = Request(f"read project {ref}", project_path(ref), needs=READS, absent=absent)
        return await self._maybe(request, reading.project)

    async def branches(self, ref: ProjectRef) -> tuple[Branch, ...]:
        """
        List all branches of a project.

        The list may be half a minute old, which is how long GitLab keeps it: ask for the one branch before acting on
        its absence.

        Args:
            ref: Its path or number.

        Returns:
            Every branch, in order of names; empty only if GitLab also says that the project is.

        Raises:
            ForgeUnreliable: The list is not whole, or does not agree with itself.

        """
        doing = f"list branches of {ref}"
        request = Request(doing, project_path(ref, "repository", "branches"), needs=READS)
        found = await self._pager.all(Listing(request, reading.branch, lambda branch: branch.name, keyset=True))
        if not found:
            project = await self.project(ref)
            if project is None or not project.is_empty:
                raise ForgeUnreliable(f"{doing}: none came, of a project that is not empty")
        return found

    async def branch(self, ref: ProjectRef, name: str) -> Branch | None:
        """
        Read one branch.

        Args:
            ref: The project.
            name: Without ``refs/heads/``.

        Returns:
            None only if GitLab itself says that this branch is not there.

        Raises:
            ForgeUnreliable: Any other 404, a proxy's above all.
            ForgeForbidden: The project is not there, or hidden.

        """
        request = Request(
            f"read branch {name} of {ref}",
            project_path(ref, "repository", "branches", name),
            needs=READS,
            absent=frozenset({"404 Branch Not Found"}),
        )
        found = await self._maybe(request, reading.branch)
        if found is not None and found.name != name:
            raise ForgeUnreliable(f"{request.doing}: the answer is about another branch")
        return found

    async def merge_requests(self, ref: ProjectRef, *, source_branch: str | None = None) -> tuple[MergeRequest, ...]:
        """
        List the open merge requests of a project.

        Args:
            ref: The project that they would be merged into.
            source_branch: Only those of this branch, forks' too.

        Returns:
            Every one, oldest first.

        Raises:
            ForgeUnreliable: The list is not whole, or does not agree with itself.

        """
        query = {"state": "opened", "order_by": "created_at", "sort": "asc"}
        query |= {"source_branch": source_branch} if source_branch is not None else {}
        request = Request(
            f"list merge requests of {ref}", project_path(ref, "merge_requests"), query=query, needs=READS
        )
        return await self._pager.all(Listing(request, reading.merge_request, lambda found: found.iid, proven=True))

    async def raw_file(self, ref: ProjectRef, path: str, revision: str, *, limit_bytes: int) -> bytes | None:
        """
        Read a file.

        Args:
            ref: The project.
            path: Of the file, from the root of the repository.
            revision: Commit or branch.
            limit_bytes: Its greatest size.

        Returns:
            None only if GitLab itself says that the commit does not have it.

        Raises:
            Invalid: It is larger.
            ForgeUnreliable: Also if the commit is not there, or what came is not what GitLab has.

        """
        request = Request(
            f"read {path} of {ref} at {revision}",
            project_path(ref, "repository", "files", path, "raw"),
            query={"ref": revision},
            needs=READS,
            absent=frozenset({"404 File Not Found"}),
        )
        answer = await self._transport.raw(request, limit_bytes)
        if answer is None:
            return None
        given = answer.headers
        digest = given.get("x-gitlab-content-sha256")
        if "x-gitlab-blob-id" not in given and given.get("content-type", "").startswith("text/html"):
            raise ForgeUnreliable(f"{request.doing}: a page came; does a proxy stand before GitLab?")
        if digest is not None and hashlib.sha256(answer.body).hexdigest() != digest:
            raise ForgeUnreliable(f"{request.doing}: what came is not what GitLab has")
        return answer.body

    async def archive(self, ref: ProjectRef, path: str, revision: str, target: Path, *, limit_bytes: int) -> None:
        """
        Store a folder as a ``.tar.gz``, whose entries lie below one folder with a name of GitLab's choice.

        Args:
            ref: The project.
            path: Of the folder, from the root of the repository; empty for all of it.
            revision: Commit or branch.
            target: File to be written; removed again if it did not become whole.
            limit_bytes: Greatest size, packed.

        Raises:
            ChartNotFound: GitLab says that it is not there.
            Invalid: It is larger.
            ForgeUnreliable: It breaks off, which is also what GitLab does when the commit has no such folder.

        """
        request = Request(
            f"fetch {path or 'all'} of {ref} at {revision}",
            project_path(ref, "repository", "archive.tar.gz"),
            query={"sha": revision} | ({"path": path} if path else {}),
            needs=READS,
            absent=frozenset({"404 File Not Found"}),
        )
        if not await self._transport.download(request, target, limit_bytes):
            raise ChartNotFound(f"{request.doing}: GitLab says 404 File Not Found; are commit and folder there?")

    async def access_level(self, ref: ProjectRef, user_id: int) -> int | None:
        """
        Role of a user in a project, inherited ones counted.

        Args:
            ref: The project.
            user_id: The user.

        Returns:
            As ``Access`` numbers it; None if GitLab itself says that they are no member.

        """
        request = Request(
            f"read the role of user {user_id} in {ref}",
            project_path(ref, "members", "all", user_id),
            needs=READS,
            absent=GONE,
        )
        return await self._maybe(request, reading.access_level)
