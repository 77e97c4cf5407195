"""What is asked about projects, their branches and files, and about whoever asks."""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import tarfile
from collections.abc import Sequence

from tests.gitlab.answers import Answer, Asked, as_json, keyset, not_found, paged, refuse
from tests.gitlab.api import READS, READS_CODE, REPORTER, Api, number, route, shown_user
from tests.gitlab.world import Commit, Json, Project, now


@route("GET", "/version")
def version(api: Api, _: Asked) -> Answer:
    return as_json({"version": api.world.settings.version, "revision": "4ab2a5c6a72", "enterprise": True})


@route("GET", "/user", READS | {"read_user"})
def current_user(api: Api, asked: Asked) -> Answer:
    user = api.user(asked)
    return as_json(shown_user(api, user) | {"bot": True, "email": "", "created_at": "2020-01-01T00:00:00.000Z"})


@route("GET", "/personal_access_tokens/self", frozenset())
def own_token(api: Api, asked: Asked) -> Answer:
    token = api.world.tokens[asked.headers["private-token"]]
    return as_json(
        {
            "id": 1,
            "name": "envprov",
            "description": "",
            "revoked": False,
            "created_at": "2020-01-01T00:00:00.000Z",
            "scopes": token.scopes,
            "user_id": token.user.id,
            "last_used_at": now(),
            "active": True,
            "expires_at": token.expires_at,
        }
    )


@route("GET", "/projects/*/members/all/*")
def member(api: Api, asked: Asked) -> Answer:
    project = api.project(asked)
    user = api.world.users.get(number(asked.parts[1]))
    if user is None or user.id not in project.members:
        raise not_found()
    return as_json(
        shown_user(api, user)
        | {"access_level": project.members[user.id], "expires_at": None, "membership_state": "active", "locked": False}
    )


@route("GET", "/projects/*")
def read_project(api: Api, asked: Asked) -> Answer:
    project = api.project(asked)
    web = f"{api.world.external_url}/{project.path}"
    level = project.members[api.user(asked).id]
    return as_json(
        {
            "id": project.id,
            "description": None,
            "name": project.name,
            "name_with_namespace": project.path.replace("/", " / "),
            "path": project.name,
            "path_with_namespace": project.path,
            "created_at": "2020-01-01T00:00:00.000Z",
            "default_branch": project.default_branch,
            "tag_list": [],
            "topics": [],
            "ssh_url_to_repo": f"git@gitlab.example.com:{project.path}.git",
            "http_url_to_repo": f"{web}.git",
            "web_url": web,
            "readme_url": None,
            "avatar_url": None,
            "forks_count": 0,
            "star_count": 0,
            "last_activity_at": "2020-01-01T00:00:00.000Z",
            "visibility": "private",
            "empty_repo": not project.branches,
            "archived": project.archived,
            "marked_for_deletion_at": project.marked_for_deletion_on,
            "marked_for_deletion_on": project.marked_for_deletion_on,
            "permissions": {
                "project_access": {"access_level": level, "notification_level": 3},
                "group_access": None,
            },
        }
    )


@route("GET", "/projects/*/repository/branches")
def list_branches(api: Api, asked: Asked) -> Answer:
    project = api.project(asked, REPORTER)
    if not project.repository_enabled:
        raise refuse(403, "403 Forbidden")
    found = sorted(_searched(asked, list(project.branches)), key=str.encode)

    def present(name: str) -> Json:
        return _branch(api, project, name)

    if asked.query.get("pagination") == "keyset" and api.world.settings.keyset:
        return keyset(api.world, asked, found, str, present)
    return paged(api.world, asked, found, present)


@route("GET", "/projects/*/repository/branches/*")
def read_branch(api: Api, asked: Asked) -> Answer:
    project = api.project(asked, REPORTER)
    if asked.parts[1] not in project.branches:
        raise not_found("Branch")
    return as_json(_branch(api, project, asked.parts[1]))


@route("GET", "/projects/*/repository/files/*/raw", READS_CODE)
def raw_file(api: Api, asked: Asked) -> Answer:
    project = api.project(asked, REPORTER)
    path = asked.parts[1]
    commit = project.commit_of(asked.query.get("ref") or project.default_branch or "")
    if commit is None:
        raise not_found("Commit")
    if path not in commit.files:
        raise not_found("File")
    body = commit.files[path].encode()
    return Answer(
        200,
        body,
        {
            "Content-Type": "text/plain; charset=utf-8",
            "Content-Disposition": f'inline; filename="{path.rsplit("/", 1)[-1]}"',
            "X-Gitlab-Blob-Id": hashlib.sha1(body).hexdigest(),  # noqa: S324 - as Git does
            "X-Gitlab-Commit-Id": commit.sha,
            "X-Gitlab-Content-Sha256": hashlib.sha256(body).hexdigest(),
            "X-Gitlab-Encoding": "base64",
            "X-Gitlab-File-Name": path.rsplit("/", 1)[-1],
            "X-Gitlab-File-Path": path,
            "X-Gitlab-Last-Commit-Id": commit.sha,
            "X-Gitlab-Ref": asked.query.get("ref", ""),
            "X-Gitlab-Size": str(len(body)),
        },
    )


@route("GET", "/projects/*/repository/archive.tar.gz", READS_CODE)
def archive(api: Api, asked: Asked) -> Answer:
    project = api.project(asked, REPORTER)
    revision, path = asked.query.get("sha") or project.default_branch or "", asked.query.get("path", "").strip("/")
    commit = project.commit_of(revision)
    if commit is None:
        raise not_found("File")
    files = {name: text for name, text in commit.files.items() if not path or f"{name}/".startswith(f"{path}/")}
    prefix = "-".join(
        [project.name, revision.replace("/", "-"), commit.sha, *([path.replace("/", "-")] if path else [])]
    )
    # GitLab has said 200 before it finds out that there is no such folder.
    body = _tar(prefix, commit, files) if files else b""
    return Answer(
        200,
        body,
        {
            "Content-Type": "application/octet-stream",
            "Content-Disposition": f'attachment; filename="{prefix}.tar.gz"',
            "Content-Transfer-Encoding": "binary",
        },
    )


def _searched(asked: Asked, names: Sequence[str]) -> list[str]:
    search, pattern = asked.query.get("search"), asked.query.get("regex")
    found = [name for name in names if pattern is None or re.search(pattern, name)]
    if not search:
        return found
    if search.startswith("^"):
        return [name for name in found if name.startswith(search[1:])]
    if search.endswith("$"):
        return [name for name in found if name.endswith(search[:-1])]
    return [name for name in found if search in name]


def _branch(api: Api, project: Project, name: str) -> Json:
    commit = project.commits[project.branches[name]]
    web = f"{api.world.external_url}/{project.path}/-"
    author = {"author_name": commit.author.username.title(), "author_email": "[REDACTED]"}
    return {
        "name": name,
        "commit": {
            "id": commit.sha,
            "short_id": commit.sha[:8],
            "created_at": commit.at,
            "parent_ids": [commit.parent] if commit.parent else [],
            "title": commit.title,
            "message": f"{commit.title}\n",
            **author,
            "authored_date": commit.at,
            "committer_name": author["author_name"],
            "committer_email": author["author_email"],
            "committed_date": commit.at,
            "trailers": {},
            "extended_trailers": {},
            "web_url": f"{web}/commit/{commit.sha}",
        },
        "merged": False,
        "protected": name == project.default_branch,
        "developers_can_push": False,
        "developers_can_merge": False,
        "can_push": True,
        "default": name == project.default_branch,
        "web_url": f"{web}/tree/{name}",
    }


def _tar(prefix: str, commit: Commit, files: dict[str, str]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"comment": commit.sha}) as tar:
        folders = {"/".join(name.split("/")[:depth]) for name in files for depth in range(1, name.count("/") + 1)}
        for folder in ["", *sorted(folders)]:
            info = tarfile.TarInfo(f"{prefix}/{folder}".rstrip("/"))
            info.type, info.mode = tarfile.DIRTYPE, 0o775
            tar.addfile(info)
        for name, text in sorted(files.items()):
            info = tarfile.TarInfo(f"{prefix}/{name}")
            info.size, info.mode = len(text.encode()), 0o664
            tar.addfile(info, io.BytesIO(text.encode()))
    return gzip.compress(packed.getvalue(), mtime=0)
