"""
Comments on merge requests.

Source: https://docs.gitlab.com/api/notes/#merge-requests, https://docs.gitlab.com/api/discussions/#merge-requests
"""

from __future__ import annotations

from envprov.domain.forge import Note, ProjectRef
from envprov.gitlab import reading
from envprov.gitlab.asking import READS, Asking, project_path
from envprov.gitlab.paging import Listing
from envprov.gitlab.transport import Request

COMMENTS = "scope api and role Reporter"


class Notes(Asking):
    """Reads and writes comments on merge requests."""

    async def notes(self, ref: ProjectRef, iid: int) -> tuple[Note, ...]:
        """
        List the comments on a merge request.

        Args:
            ref: The project.
            iid: The merge request.

        Returns:
            Every one, oldest first, those of discussions and GitLab's own among them.

        """
        request = Request(
            f"list comments on !{iid} of {ref}",
            project_path(ref, "merge_requests", iid, "notes"),
            query={"order_by": "created_at", "sort": "asc"},
            needs=READS,
        )
        return await self._pager.all(Listing(request, reading.note, lambda note: note.id, remember=False))

    async def create_note(self, ref: ProjectRef, iid: int, body: str) -> Note:
        """
        Comment on a merge request. A line of nothing but quick actions makes no comment, and an error here.

        Args:
            ref: The project.
            iid: The merge request.
            body: In GitLab's Markdown.

        Raises:
            Conflict: The merge request is gone.

        """
        path = project_path(ref, "merge_requests", iid, "notes")
        request = Request(f"comment on !{iid} of {ref}", path, "post", body={"body": body}, needs=COMMENTS)
        return await self._one(request, reading.note)

    async def update_note(self, ref: ProjectRef, iid: int, note_id: int, body: str) -> Note:
        """
        Change a comment of our own.

        Args:
            ref: The project.
            iid: The merge request.
            note_id: The comment.
            body: In GitLab's Markdown.

        Raises:
            Conflict: It is gone.

        """
        path = project_path(ref, "merge_requests", iid, "notes", note_id)
        doing = f"update comment {note_id} on !{iid} of {ref}"
        return await self._one(Request(doing, path, "put", body={"body": body}, needs=COMMENTS), reading.note)

    async def reply(self, ref: ProjectRef, iid: int, discussion_id: str, body: str) -> Note:
        """
        Answer in a discussion.

        Args:
            ref: The project.
            iid: The merge request.
            discussion_id: The discussion, as a comment's delivery names it.
            body: In GitLab's Markdown.

        Raises:
            Conflict: It is gone.

        """
        path = project_path(ref, "merge_requests", iid, "discussions", discussion_id, "notes")
        request = Request(f"reply on !{iid} of {ref}", path, "post", body={"body": body}, needs=COMMENTS)
        return await self._one(request, reading.note)
