"""The stand-in is held to python-gitlab's client, to documented payloads, and to GitLab's habits."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import tarfile
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import gitlab as python_gitlab
import pytest
from gitlab.exceptions import GitlabAuthenticationError, GitlabError, GitlabGetError, GitlabHttpError
from gitlab.v4.objects import Project

from tests.gitlab.driver import GitLabStandIn
from tests.gitlab.stories import Receiver
from tests.gitlab.world import environment_slug

ZERO = "0" * 40

BRANCH_FIELDS = {
    *("name", "commit", "merged", "protected", "default", "developers_can_push", "developers_can_merge"),
    *("can_push", "web_url"),
}
COMMIT_FIELDS = {
    *("id", "short_id", "created_at", "parent_ids", "title", "message", "author_name", "author_email"),
    *("authored_date", "committer_name", "committer_email", "committed_date", "trailers", "web_url"),
}
HOOK_FIELDS = {
    *("id", "url", "name", "description", "project_id", "push_events", "push_events_branch_filter", "issues_events"),
    *("confidential_issues_events", "merge_requests_events", "tag_push_events", "note_events"),
    *("confidential_note_events", "job_events", "pipeline_events", "wiki_page_events", "deployment_events"),
    *("releases_events", "feature_flag_events", "enable_ssl_verification", "repository_update_events"),
    *("alert_status", "disabled_until", "url_variables", "created_at", "resource_access_token_events"),
    *("custom_webhook_template", "custom_headers", "branch_filter_strategy", "signing_token_present"),
}
EVENT_FIELDS = {
    *("id", "url", "trigger", "request_headers", "request_data", "response_headers", "response_body"),
    *("execution_duration", "response_status"),
}
PROJECT_IN_EVENT = {
    *("id", "name", "description", "web_url", "avatar_url", "git_ssh_url", "git_http_url", "namespace"),
    *("visibility_level", "path_with_namespace", "default_branch", "homepage", "url", "ssh_url", "http_url"),
}
PUSH_FIELDS = {
    *("object_kind", "event_name", "before", "after", "ref", "ref_protected", "checkout_sha", "message", "user_id"),
    *("user_name", "user_username", "user_email", "user_avatar", "project_id", "project", "repository", "commits"),
    *("total_commits_count", "push_options"),
}
MERGE_REQUEST_FIELDS = {
    *("id", "iid", "target_branch", "source_branch", "source_project_id", "target_project_id", "author_id", "title"),
    *("created_at", "updated_at", "state", "state_id", "draft", "work_in_progress", "merge_status", "description"),
    *("url", "source", "target", "last_commit", "labels", "action", "detailed_merge_status"),
}
NOTE_FIELDS = {
    *("id", "note", "noteable_type", "author_id", "created_at", "updated_at", "project_id", "attachment", "line_code"),
    *("commit_id", "noteable_id", "system", "st_diff", "action", "url", "discussion_id"),
}
ENVIRONMENT_FIELDS = {
    *("id", "name", "slug", "external_url", "state", "tier", "created_at", "updated_at", "auto_stop_at"),
    *("kubernetes_namespace", "flux_resource_path", "auto_stop_setting"),
}
DEPLOYMENT_FIELDS = {"id", "iid", "ref", "sha", "created_at", "status", "user", "environment", "deployable"}


@pytest.fixture
def client(gitlab: GitLabStandIn) -> Iterator[python_gitlab.Gitlab]:
    """Yield python-gitlab itself, as anybody would use it."""
    gitlab.create_project("group/shop", project_id=15)
    with python_gitlab.Gitlab(gitlab.url, private_token=gitlab.token) as client:
        yield client


@pytest.fixture
def project(client: python_gitlab.Gitlab) -> Project:
    """Return the one project."""
    return client.projects.get("group/shop")


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Yield somebody to deliver to."""
    with Receiver() as receiver:
        yield receiver


def test_a_project_has_one_number_and_one_path(client: python_gitlab.Gitlab, project: Project) -> None:
    assert (project.id, project.path_with_namespace, project.default_branch) == (15, "group/shop", "main")
    assert client.projects.get(15).web_url == project.web_url
    assert (project.archived, project.empty_repo) == (False, False)
    assert project.permissions["project_access"]["access_level"] == 40


def test_branches_are_as_documented(gitlab: GitLabStandIn, project: Project) -> None:
    sha = gitlab.push("group/shop", "feature/x-🚀", {"a": "b"})
    branch = project.branches.get("feature/x-🚀")
    assert branch.attributes.keys() - {"project_id"} == BRANCH_FIELDS
    assert branch.commit.keys() >= COMMIT_FIELDS
    assert branch.commit["id"] == sha
    assert [one.name for one in project.branches.list(get_all=True)] == ["feature/x-🚀", "main"]
    assert [one.name for one in project.branches.list(regex="^ma", get_all=True)] == ["main"]
    assert [one.name for one in project.branches.list(search="feature", get_all=True)] == ["feature/x-🚀"]


@pytest.mark.parametrize("query", [{}, {"pagination": "keyset"}], ids=["offset", "keyset"])
def test_pages_are_followed_by_python_gitlab(gitlab: GitLabStandIn, project: Project, query: dict[str, str]) -> None:
    gitlab.create_branches(15, [f"b/{number:03}" for number in range(249)])
    found = [branch.name for branch in project.branches.list(iterator=True, per_page=100, **query)]
    assert found == [*(f"b/{number:03}" for number in range(249)), "main"]
    pages = [request["path"] for request in gitlab.requests() if "per_page=100" in request["path"]]
    assert len(pages) == 3
    assert all(("page_token=" in page) == bool(query) for page in pages[1:])


def test_offset_pages_have_totals_and_keyset_pages_have_none(
    gitlab: GitLabStandIn,
    client: python_gitlab.Gitlab,
) -> None:
    gitlab.create_branches(15, ["a", "b", "c", "d"])
    path = "/projects/15/repository/branches"
    headers = client.http_request("get", path, query_data={"per_page": 2, "page": 2}).headers
    assert (headers["X-Total"], headers["X-Total-Pages"], headers["X-Per-Page"]) == ("5", "3", "2")
    assert (headers["X-Page"], headers["X-Prev-Page"], headers["X-Next-Page"]) == ("2", "1", "3")
    assert all(f'rel="{rel}"' in headers["Link"] for rel in ("prev", "next", "first", "last"))
    headers = client.http_request("get", path, query_data={"per_page": 2, "pagination": "keyset"}).headers
    assert "X-Total" not in headers
    assert "page_token=b" in headers["Link"]
    last = client.http_request("get", path, query_data={"pagination": "keyset", "page_token": "c"})
    assert [one["name"] for one in last.json()] == ["d", "main"]
    assert "Link" not in last.headers


def test_an_old_gitlab_announces_a_second_page_that_is_empty(
    gitlab: GitLabStandIn, client: python_gitlab.Gitlab
) -> None:
    gitlab.settings(old_first_page=True, keyset=False)
    path = "/projects/15/repository/branches"
    headers = client.http_request("get", path, query_data={"per_page": 100, "pagination": "keyset"}).headers
    assert (headers["X-Next-Page"], headers["X-Total"]) == ("2", "1")
    assert client.http_request("get", path, query_data={"per_page": 100, "page": 2}).json() == []


def test_what_has_not_changed_is_not_sent_again(gitlab: GitLabStandIn, client: python_gitlab.Gitlab) -> None:
    path = "/projects/15/repository/branches"
    etag = client.http_request("get", path).headers["ETag"]
    with pytest.raises(GitlabHttpError) as caught:
        client.http_request("get", path, extra_headers={"If-None-Match": etag})
    assert (caught.value.response_code, caught.value.response_body) == (304, b"")
    gitlab.push(15, "new")
    assert client.http_request("get", path, extra_headers={"If-None-Match": etag}).status_code == 200


def test_files_and_archives(gitlab: GitLabStandIn, project: Project) -> None:
    sha = gitlab.push(15, "feature/x", {"deploy/app/Chart.yaml": "name: app\n", "deploy/app/värde.yaml": "ü: 1\n"})
    raw = project.files.raw("deploy/app/Chart.yaml", ref=sha)
    assert raw == b"name: app\n"
    packed = project.repository_archive(sha=sha, path="deploy/app", format="tar.gz")
    with tarfile.open(fileobj=BytesIO(bytes(packed))) as archive:
        names = archive.getnames()
        assert archive.pax_headers == {"comment": sha}
    top = f"shop-{sha}-{sha}-deploy-app"
    assert names == [
        *(top, f"{top}/deploy", f"{top}/deploy/app"),
        *(f"{top}/deploy/app/Chart.yaml", f"{top}/deploy/app/värde.yaml"),
    ]


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/projects/99", 404, b'{"message":"404 Project Not Found"}'),
        ("/projects/group%2Fnone", 404, b'{"message":"404 Project Not Found"}'),
        ("/projects/15/repository/branches/none", 404, b'{"message":"404 Branch Not Found"}'),
        ("/projects/15/repository/files/none/raw?ref=main", 404, b'{"message":"404 File Not Found"}'),
        ("/projects/15/repository/files/README.md/raw?ref=none", 404, b'{"message":"404 Commit Not Found"}'),
        ("/projects/15/repository/archive.tar.gz?sha=none", 404, b'{"message":"404 File Not Found"}'),
        ("/projects/15/hooks/99", 404, b'{"message":"404 Not found"}'),
        ("/projects/15/members/all/99", 404, b'{"message":"404 Not found"}'),
        ("/nonsense", 404, b'{"error":"404 Not Found"}'),
    ],
)
def test_absence_is_worded_as_gitlab_words_it(
    client: python_gitlab.Gitlab, path: str, status: int, body: bytes
) -> None:
    with pytest.raises(GitlabHttpError) as caught:
        client.http_request("get", path)
    assert (caught.value.response_code, caught.value.response_body) == (status, body)


def test_tokens_roles_and_scopes(gitlab: GitLabStandIn, client: python_gitlab.Gitlab) -> None:
    gitlab.create_token("reads", user="reader", scopes=["read_api"], expires_at="2099-01-01")
    gitlab.create_token("old", user="reader", expires_at="2020-01-01")
    gitlab.create_token("revoked", user="reader", revoked=True)
    gitlab.create_token("stranger", user="stranger", everywhere=False)
    gitlab.create_token("guest", user="guest", everywhere=False)
    gitlab.member(15, "guest", 10)
    assert client.user is None
    client.auth()
    assert client.user is not None
    assert client.user.username == "envprov"

    def refused(token: str, path: str, verb: str = "get") -> tuple[int | None, bytes | None]:
        with python_gitlab.Gitlab(gitlab.url, private_token=token) as other, pytest.raises(GitlabError) as caught:
            other.http_request(verb, path)
        return caught.value.response_code, caught.value.response_body

    assert refused("nonsense", "/user") == (401, b'{"message":"401 Unauthorized"}')
    assert refused("old", "/user")[0] == 401
    assert b"Token was revoked" in (refused("revoked", "/user")[1] or b"")
    assert refused("stranger", "/projects/15") == (404, b'{"message":"404 Project Not Found"}')
    assert refused("guest", "/projects/15/repository/branches") == (403, b'{"message":"403 Forbidden"}')
    status, body = refused("reads", "/projects/15/environments", "post")
    assert status == 403
    assert body is not None
    assert body.startswith(b'{"error":"insufficient_scope","error_description":')
    with python_gitlab.Gitlab(gitlab.url, private_token="reads") as reader:
        own = reader.personal_access_tokens.get("self")
        assert (own.scopes, own.expires_at, own.active) == (["read_api"], "2099-01-01", True)


def test_a_moved_project_redirects_reads_and_refuses_writes(
    gitlab: GitLabStandIn, client: python_gitlab.Gitlab
) -> None:
    gitlab.move_project(15, "other/shop")
    assert client.projects.get("group/shop").path_with_namespace == "other/shop"
    with pytest.raises(GitlabHttpError, match="Non GET methods are not allowed for moved projects"):
        client.http_request("post", "/projects/group%2Fshop/environments", post_data={"name": "x"})


def test_the_rate_limit_is_told_in_headers(gitlab: GitLabStandIn, client: python_gitlab.Gitlab) -> None:
    gitlab.settings(requests_per_period=2, period_seconds=60)
    client.http_request("get", "/version")
    client.http_request("get", "/version")
    with pytest.raises(GitlabHttpError) as caught:
        client.http_request("get", "/version", obey_rate_limit=False)
    assert (caught.value.response_code, caught.value.response_body) == (429, b"Retry later\n")


def test_environments_and_deployments_are_as_documented(gitlab: GitLabStandIn, project: Project) -> None:
    sha = gitlab.push(15, "feature/x", {"a": "b"})
    made = project.environments.create({"name": "review/feature-x", "tier": "development", "external_url": "https://x"})
    assert made.attributes.keys() >= ENVIRONMENT_FIELDS
    assert made.slug == environment_slug("review/feature-x")
    assert [one.id for one in project.environments.list(name="review/feature-x", get_all=True)] == [made.id]
    deployment = project.deployments.create(
        {"environment": made.name, "sha": sha, "ref": "feature/x", "tag": False, "status": "running"}
    )
    assert deployment.attributes.keys() >= DEPLOYMENT_FIELDS
    deployment.status = "success"
    deployment.save()
    assert [one.status for one in project.deployments.list(environment=made.name, get_all=True)] == ["success"]
    with pytest.raises(GitlabError) as caught:
        made.delete()
    assert caught.value.response_code == 403
    gitlab.delete_branch(15, "feature/x")
    assert project.environments.get(made.id).state == "stopped"
    made.delete()
    assert project.environments.list(get_all=True) == []


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("review/023f1bce01229c686a73", "review-023f1bce01-3uxznk"),
        ("review/85d4c26a388348d3c4c0", "review-85d4c26a38-5giw1c"),
        ("staging", "staging"),
        ("QA", "qa-1x6wbl"),
    ],
)
def test_environment_slugs_are_gitlabs(name: str, slug: str) -> None:
    assert environment_slug(name) == slug


def test_statuses_and_comments(gitlab: GitLabStandIn, project: Project) -> None:
    sha = gitlab.push(15, "feature/x", {"a": "b"})
    iid = gitlab.open_merge_request(15, "feature/x", labels=["env"])
    commit = project.commits.get(sha, lazy=True)
    commit.statuses.create({"state": "running", "name": "envprov"})
    assert [one.status for one in commit.statuses.list(get_all=True)] == ["running"]
    with pytest.raises(GitlabError, match="Cannot transition status"):
        commit.statuses.create({"state": "running", "name": "envprov"})
    request = project.mergerequests.get(iid)
    assert (request.sha, request.labels, request.draft, request.state) == (sha, ["env"], False, "opened")
    note = request.notes.create({"body": "hello"})
    note.body = "better"
    note.save()
    assert [(one.body, one.author["username"]) for one in request.notes.list(get_all=True)] == [("better", "envprov")]
    talk = request.discussions.list(get_all=True)[0]
    talk.notes.create({"body": "reply"})
    assert [one["body"] for one in gitlab.state(15)["notes"]] == ["better", "reply"]


def test_hooks_are_as_documented(project: Project, receiver: Receiver) -> None:
    hook = project.hooks.create({"url": receiver.url, "push_events": True, "token": "s3cret"})
    assert hook.attributes.keys() >= HOOK_FIELDS
    assert "s3cret" not in str(hook.attributes)
    assert (hook.alert_status, hook.disabled_until, hook.signing_token_present) == ("executable", None, False)
    hook.note_events = True
    hook.save()
    assert project.hooks.get(hook.id).note_events
    hook.delete()
    assert project.hooks.list(get_all=True) == []
    with pytest.raises(GitlabError, match="Invalid url given"):
        project.hooks.create({"url": "ftp://x"})


def test_push_events_are_as_documented(gitlab: GitLabStandIn, project: Project, receiver: Receiver) -> None:
    project.hooks.create({"url": f"{receiver.url}/in?x=1", "push_events": True, "token": "s3cret"})
    head = gitlab.state(15)["branches"]["main"]
    sha = gitlab.push(15, "feature/x", {"a": "b"})
    newer = gitlab.push(15, "feature/x", {"a": "c"})
    gitlab.push(15, "bare")
    gitlab.delete_branch(15, "feature/x")
    gitlab.settle()
    created, updated, bare, deleted = receiver.received
    assert created.json.keys() == PUSH_FIELDS
    assert created.json["project"].keys() >= PROJECT_IN_EVENT
    assert (created.method, created.path) == ("POST", "/in?x=1")
    headers = created.headers
    assert (headers["x-gitlab-event"], headers["x-gitlab-token"]) == ("Push Hook", "s3cret")
    assert headers["content-type"] == "application/json"
    assert headers["user-agent"].startswith("GitLab/")
    assert headers.keys() >= {"idempotency-key", "x-gitlab-webhook-uuid", "x-gitlab-event-uuid", "x-gitlab-instance"}

    def said(event: dict[str, Any]) -> tuple[Any, ...]:
        return event["before"], event["after"], event["checkout_sha"], event["ref"], event["total_commits_count"]

    assert said(created.json) == (ZERO, sha, sha, "refs/heads/feature/x", 1)
    assert said(updated.json) == (sha, newer, newer, "refs/heads/feature/x", 1)
    assert said(bare.json) == (ZERO, head, head, "refs/heads/bare", 0)
    assert said(deleted.json) == (newer, ZERO, None, "refs/heads/feature/x", 0)
    assert created.json["commits"][0]["added"] == ["a"]
    assert updated.json["commits"][0]["modified"] == ["a"]
    assert len({request.headers["x-gitlab-webhook-uuid"] for request in receiver.received}) == 4


def test_merge_request_events_are_as_documented(gitlab: GitLabStandIn, project: Project, receiver: Receiver) -> None:
    project.hooks.create({"url": receiver.url, "push_events": False, "merge_requests_events": True})
    sha = gitlab.push(15, "feature/x", {"a": "b"})
    iid = gitlab.open_merge_request(15, "feature/x")
    gitlab.change_merge_request(15, iid, labels=["env"])
    newer = gitlab.push(15, "feature/x", {"a": "c"})
    gitlab.change_merge_request(15, iid, action="close")
    gitlab.settle()
    assert [request.headers["x-gitlab-event"] for request in receiver.received] == ["Merge Request Hook"] * 4
    opened, labelled, pushed, closed = (request.json for request in receiver.received)
    assert opened.keys() == {
        *("object_kind", "event_type", "user", "project", "repository", "object_attributes", "labels", "changes")
    }
    assert opened["object_attributes"].keys() >= MERGE_REQUEST_FIELDS
    actions = [event["object_attributes"]["action"] for event in (opened, labelled, pushed, closed)]
    assert actions == ["open", "update", "update", "close"]
    assert (labelled["labels"][0]["title"], labelled["changes"]["labels"]["previous"]) == ("env", [])
    assert "oldrev" not in labelled["object_attributes"]
    assert (pushed["object_attributes"]["oldrev"], pushed["object_attributes"]["last_commit"]["id"]) == (sha, newer)
    assert closed["object_attributes"]["state"] == "closed"


def test_comment_events_are_as_documented(gitlab: GitLabStandIn, project: Project, receiver: Receiver) -> None:
    project.hooks.create({"url": receiver.url, "push_events": False, "note_events": True})
    gitlab.push(15, "feature/x", {"a": "b"})
    iid = gitlab.open_merge_request(15, "feature/x", labels=["env"])
    written = gitlab.comment(15, iid, "/envprov up", user="dev")
    gitlab.settle()
    event = receiver.received[0].json
    assert receiver.received[0].headers["x-gitlab-event"] == "Note Hook"
    assert event.keys() == {
        *("object_kind", "event_type", "user", "project_id", "project", "repository", "object_attributes"),
        "merge_request",
    }
    attributes = event["object_attributes"]
    assert attributes.keys() >= NOTE_FIELDS
    assert (attributes["note"], attributes["action"], attributes["noteable_type"]) == (
        *("/envprov up", "create"),
        "MergeRequest",
    )
    assert (attributes["discussion_id"], attributes["author_id"]) == (written["discussion_id"], written["user_id"])
    assert (event["merge_request"]["iid"], event["merge_request"]["source_branch"]) == (iid, "feature/x")


def test_deliveries_are_signed(gitlab: GitLabStandIn, project: Project, receiver: Receiver) -> None:
    key = secrets.token_bytes(32)
    signing = f"whsec_{base64.b64encode(key).decode()}"
    hook = project.hooks.create({"url": receiver.url, "push_events": True, "signing_token": signing})
    assert hook.signing_token_present
    assert signing not in str(hook.attributes)
    gitlab.push(15, "feature/x", {"a": "b"})
    gitlab.settle()
    got = receiver.received[0]
    assert "x-gitlab-token" not in got.headers
    assert got.headers["webhook-id"] == got.headers["idempotency-key"]
    content = f"{got.headers['webhook-id']}.{got.headers['webhook-timestamp']}.".encode() + got.body
    expected = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    assert got.headers["webhook-signature"] == f"v1,{expected}"


@pytest.mark.parametrize(
    ("created", "deleted", "delivered"),
    [
        pytest.param(3, 0, 3, id="three new ones -> three"),
        pytest.param(4, 0, 0, id="four new ones -> none at all"),
        pytest.param(3, 3, 6, id="three of each kind -> six"),
        pytest.param(4, 2, 2, id="four new and two gone -> two"),
    ],
)
def test_a_push_of_too_many_branches_is_told_to_system_hooks_alone(
    gitlab: GitLabStandIn,
    project: Project,
    receiver: Receiver,
    created: int,
    deleted: int,
    delivered: int,
) -> None:
    gitlab.create_branches(15, [f"old/{number}" for number in range(deleted)])
    project.hooks.create({"url": receiver.url, "push_events": True})
    gitlab.system_hook(receiver.url, repository_update=True)
    gitlab.push_many(
        15,
        [
            *({"branch": f"new/{number}", "files": {"a": str(number)}} for number in range(created)),
            *({"branch": f"old/{number}", "delete": True} for number in range(deleted)),
        ],
    )
    gitlab.settle()
    events = [request.headers["x-gitlab-event"] for request in receiver.received]
    assert events == ["Push Hook"] * delivered + ["System Hook"]
    update = receiver.received[-1].json
    assert update["event_name"] == "repository_update"
    assert len(update["changes"]) == len(update["refs"]) == created + deleted
    assert update["changes"][0].keys() == {"before", "after", "ref"}


def test_branch_filters(gitlab: GitLabStandIn, project: Project, receiver: Receiver) -> None:
    for path, strategy, given in (("a", "wildcard", "feature/*"), ("b", "regex", "^fix/"), ("c", "all_branches", "")):
        project.hooks.create(
            {
                "url": f"{receiver.url}/{path}",
                "push_events": True,
                "push_events_branch_filter": given,
                "branch_filter_strategy": strategy,
            }
        )
    gitlab.push(15, "feature/x")
    gitlab.push(15, "fix/y")
    gitlab.settle()
    assert [request.path for request in receiver.received] == ["/a", "/c", "/b", "/c"]


def test_deliveries_are_remembered_and_sent_again_with_the_same_key(
    gitlab: GitLabStandIn,
    client: python_gitlab.Gitlab,
    project: Project,
    receiver: Receiver,
) -> None:
    hook = project.hooks.create({"url": receiver.url, "push_events": True, "token": "s3cret"})
    receiver.status = 503
    gitlab.push(15, "feature/x", {"a": "b"})
    gitlab.settle()
    receiver.status = 202
    path = f"/projects/15/hooks/{hook.id}/events"
    (event,) = client.http_request("get", path, query_data={"status": "server_failure"}).json()
    assert event.keys() == EVENT_FIELDS
    assert (event["trigger"], event["response_status"]) == ("push_hooks", "503")
    assert event["request_headers"]["X-Gitlab-Token"] == "[REDACTED]"
    assert client.http_request("post", f"{path}/{event['id']}/resend").json() == {"response_status": 202}
    first, second = receiver.received
    assert first.headers["idempotency-key"] == second.headers["idempotency-key"]
    assert first.json == second.json
    for _ in range(4):
        client.http_request("post", f"{path}/{event['id']}/resend")
    with pytest.raises(GitlabHttpError) as caught:
        client.http_request("post", f"{path}/{event['id']}/resend", obey_rate_limit=False)
    assert caught.value.response_code == 429


def test_a_hook_that_fails_is_paused_and_loses_what_happens_meanwhile(
    gitlab: GitLabStandIn,
    project: Project,
    receiver: Receiver,
) -> None:
    gitlab.settings(auto_disabling_web_hooks=True)
    hook = project.hooks.create({"url": receiver.url, "push_events": True})
    receiver.status = 500
    for number in range(4):
        assert project.hooks.get(hook.id).alert_status == "executable"
        gitlab.push(15, f"b{number}")
        gitlab.settle()
    paused = project.hooks.get(hook.id)
    assert paused.alert_status == "temporarily_disabled"
    assert paused.disabled_until is not None
    gitlab.push(15, "lost")
    gitlab.settle()
    assert len(receiver.received) == 4
    assert gitlab.deliveries()[-1]["status"] == "disabled"


def test_deliveries_are_lost_doubled_and_turned_around_on_demand(
    gitlab: GitLabStandIn,
    project: Project,
    receiver: Receiver,
) -> None:
    project.hooks.create({"url": receiver.url, "push_events": True})
    gitlab.hooks("drop")
    gitlab.push(15, "lost")
    gitlab.hooks("duplicate")
    gitlab.push(15, "twice")
    gitlab.hooks("hold", times=2)
    gitlab.push(15, "first")
    gitlab.push(15, "second")
    gitlab.push(15, "third")
    gitlab.settle()
    assert gitlab.release(backwards=True) == 2
    gitlab.hooks("delay", seconds=0.3)
    gitlab.push(15, "late")
    gitlab.push(15, "early")
    gitlab.settle()
    refs = [request.json["ref"].removeprefix("refs/heads/") for request in receiver.received]
    assert refs == ["twice", "twice", "third", "second", "first", "early", "late"]
    keys = [request.headers["idempotency-key"] for request in receiver.received]
    assert keys[0] == keys[1]


def test_a_hook_is_tested_at_once(gitlab: GitLabStandIn, project: Project, receiver: Receiver) -> None:
    hook = project.hooks.create({"url": receiver.url, "push_events": True})
    hook.test("push_events")
    assert receiver.received[0].json["object_kind"] == "push"
    receiver.status = 500
    with pytest.raises(GitlabError) as caught:
        hook.test("push_events")
    assert caught.value.response_code == 422
    assert gitlab.log == ""


def test_members_have_roles(gitlab: GitLabStandIn, project: Project) -> None:
    user = gitlab.member(15, "dev", 30)
    assert project.members_all.get(user).access_level == 30
    gitlab.member(15, "dev", 0)
    with pytest.raises(GitlabGetError, match="404 Not found"):
        project.members_all.get(user)


def test_without_a_token_nothing_is_said(gitlab: GitLabStandIn) -> None:
    with python_gitlab.Gitlab(gitlab.url) as nobody, pytest.raises(GitlabAuthenticationError, match="401 Unauthorized"):
        nobody.http_get("/version")
