"""The file ``.envprov.yaml`` of branches, each commit asked for once: a commit never changes."""

from __future__ import annotations

from collections import OrderedDict
from typing import Protocol

from envprov.domain.branch_file import FILE
from envprov.domain.document import SIZE_LIMIT_BYTES
from envprov.domain.errors import Invalid, InvalidBranchFile
from envprov.domain.forge import ProjectRef

REMEMBERED = 256


class Files(Protocol):
    """Reads files of a repository."""

    async def raw_file(self, ref: ProjectRef, path: str, revision: str, *, limit_bytes: int) -> bytes | None:
        """One file at a commit, or None."""


class BranchFileReader:
    """
    Reads the file of a commit, and remembers the last ones.

    Args:
        files: GitLab.

    """

    def __init__(self, files: Files) -> None:
        self._files = files
        self._known: OrderedDict[tuple[ProjectRef, str], bytes | None] = OrderedDict()

    async def branch_file(self, ref: ProjectRef, revision: str) -> bytes | None:
        """
        The file at a commit.

        Args:
            ref: The project.
            revision: The commit.

        Returns:
            Its content, or None if GitLab says that there is none.

        Raises:
            InvalidBranchFile: It is too large.
            EnvprovError: GitLab did not answer.

        """
        key = (ref, revision)
        if key not in self._known:
            try:
                self._known[key] = await self._files.raw_file(ref, FILE, revision, limit_bytes=SIZE_LIMIT_BYTES)
            except Invalid:
                limit = f"{SIZE_LIMIT_BYTES >> 10} KiB"
                raise InvalidBranchFile(
                    f"{FILE}: the file is larger than {limit}; keep what is not for envprov elsewhere"
                ) from None
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        self._known.move_to_end(key)
        return self._known[key]
