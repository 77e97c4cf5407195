"""
How GitLab shows what we run: its environments, its deployments, and statuses of commits.

Source: https://docs.gitlab.com/api/environments/, https://docs.gitlab.com/api/deployments/
"""

from __future__ import annotations

from envprov.domain.errors import Conflict, ForgeUnreliable, Invalid
from envprov.domain.forge import (
    AutoStop,
    CommitState,
    Deployment,
    DeploymentStatus,
    EnvironmentState,
    ForgeEnvironment,
    ProjectRef,
)
from envprov.gitlab import reading
from envprov.gitlab.asking import GONE, READS, WRITES, Asking, project_path
from envprov.gitlab.paging import Listing
from envprov.gitlab.transport import Request

TIER = "development"
DEPLOYMENTS_LIMIT = 20
COMMIT_NOT_FOUND = "404 Commit Not Found"
DESCRIPTION_LIMIT = 255
SEARCH_LEAST = 3
"""Characters that GitLab wants of a search."""


class Deployments(Asking):
    """Reads and writes environments, deployments and statuses. Writing takes the role Developer."""

    async def environments(
        self, ref: ProjectRef, *, search: str | None = None, state: EnvironmentState | None = None
    ) -> tuple[ForgeEnvironment, ...]:
        """
        List environments.

        Args:
            ref: The project.
            search: Part of the name, of at least three characters.
            state: Only those in it.

        """
        if search is not None and len(search) < SEARCH_LEAST:
            raise Invalid(f"list environments of {ref}: a search of fewer than {SEARCH_LEAST} characters")
        query = ({"search": search} if search else {}) | ({"states": state} if state else {})
        request = Request(f"list environments of {ref}", project_path(ref, "environments"), query=query, needs=READS)
        return await self._pager.all(Listing(request, reading.environment, lambda found: found.id))

    async def find_environment(self, ref: ProjectRef, name: str) -> ForgeEnvironment | None:
        """
        Read the environment of a name.

        Args:
            ref: The project.
            name: In full.

        """
        request = Request(
            f"find environment {name} of {ref}", project_path(ref, "environments"), query={"name": name}, needs=READS
        )
        found = await self._pager.all(Listing(request, reading.environment, lambda environment: environment.id))
        if any(environment.name != name for environment in found):
            raise ForgeUnreliable(f"{request.doing}: the answer is about another environment")
        return found[0] if found else None

    async def create_environment(
        self, ref: ProjectRef, name: str, *, external_url: str | None = None, auto_stop_setting: AutoStop = "always"
    ) -> ForgeEnvironment:
        """
        Create an environment of the tier development.

        Args:
            ref: The project.
            name: Cannot be changed.
            external_url: Where its button leads.
            auto_stop_setting: When GitLab stops it by itself. ``with_action`` would leave its Stop button without
                effect, since no job of ours stands behind it.

        Raises:
            Conflict: The name is taken.

        """
        body = {"name": name, "tier": TIER, "auto_stop_setting": auto_stop_setting}
        body |= {"external_url": external_url} if external_url else {}
        path = project_path(ref, "environments")
        request = Request(f"create environment {name} of {ref}", path, "post", body=body, needs=WRITES)
        return await self._one(request, reading.environment)

    async def update_environment(
        self,
        ref: ProjectRef,
        environment_id: int,
        *,
        external_url: str | None = None,
        auto_stop_setting: AutoStop | None = None,
    ) -> ForgeEnvironment:
        """
        Change an environment.

        Args:
            ref: The project.
            environment_id: The environment.
            external_url: Where its button leads; None leaves it.
            auto_stop_setting: When GitLab stops it by itself; None leaves it.

        Raises:
            Conflict: It is gone.

        """
        given = {"external_url": external_url, "auto_stop_setting": auto_stop_setting, "tier": TIER}
        body = {name: value for name, value in given.items() if value is not None}
        path = project_path(ref, "environments", environment_id)
        request = Request(f"update environment {environment_id} of {ref}", path, "put", body=body, needs=WRITES)
        return await self._one(request, reading.environment)

    async def stop_environment(
        self, ref: ProjectRef, environment_id: int, *, force: bool = True
    ) -> ForgeEnvironment | None:
        """
        Stop an environment.

        Args:
            ref: The project.
            environment_id: The environment.
            force: Whether without the jobs that somebody wrote for it.

        Returns:
            None if it was not there.

        """
        request = Request(
            f"stop environment {environment_id} of {ref}",
            project_path(ref, "environments", environment_id, "stop"),
            "post",
            body={"force": force},
            needs=WRITES,
            absent=GONE,
        )
        return await self._maybe(request, reading.environment)

    async def delete_environment(self, ref: ProjectRef, environment_id: int) -> bool:
        """
        Delete a stopped environment, and its deployments.

        Args:
            ref: The project.
            environment_id: The environment.

        Returns:
            False if it was not there.

        Raises:
            ForgeForbidden: Also if it is not stopped.

        """
        request = Request(
            f"delete environment {environment_id} of {ref}",
            project_path(ref, "environments", environment_id),
            "delete",
            needs=f"a stopped environment, {WRITES}",
            absent=GONE,
        )
        return await self._transport.send(request) is not None

    async def create_deployment(
        self, ref: ProjectRef, environment: str, sha: str, ref_name: str, status: DeploymentStatus
    ) -> Deployment:
        """
        Record a deployment, which is what shows the environment in a merge request.

        Args:
            ref: The project.
            environment: Its name; GitLab creates it if need be.
            sha: What is deployed.
            ref_name: The branch.
            status: How it stands.

        """
        body = {"environment": environment, "sha": sha, "ref": ref_name, "tag": False, "status": status}
        path = project_path(ref, "deployments")
        request = Request(f"record a deployment to {environment} of {ref}", path, "post", body=body, needs=WRITES)
        return await self._one(request, reading.deployment)

    async def update_deployment(self, ref: ProjectRef, deployment_id: int, status: DeploymentStatus) -> Deployment:
        """
        Change how a deployment stands.

        Args:
            ref: The project.
            deployment_id: The deployment.
            status: How it stands now.

        Raises:
            Conflict: It is gone.
            Invalid: It cannot change to that, such as one that has ended.

        """
        path = project_path(ref, "deployments", deployment_id)
        request = Request(
            f"update deployment {deployment_id} of {ref}", path, "put", body={"status": status}, needs=WRITES
        )
        return await self._one(request, reading.deployment)

    async def deployments(self, ref: ProjectRef, environment: str) -> tuple[Deployment, ...]:
        """
        List the 20 newest deployments to an environment.

        Args:
            ref: The project.
            environment: Its name.

        Returns:
            Newest first.

        """
        request = Request(
            f"list deployments to {environment} of {ref}",
            project_path(ref, "deployments"),
            query={"environment": environment, "order_by": "id", "sort": "desc"},
            needs=READS,
        )
        listing = Listing(
            request,
            reading.deployment,
            lambda deployment: deployment.id,
            limit=DEPLOYMENTS_LIMIT,
            cut=True,
            per_page=DEPLOYMENTS_LIMIT,
        )
        return await self._pager.all(listing)

    async def set_status(  # noqa: PLR0913 - the fields of a status, as GitLab has them
        self,
        ref: ProjectRef,
        sha: str,
        state: CommitState,
        *,
        name: str,
        ref_name: str | None = None,
        target_url: str | None = None,
        description: str | None = None,
    ) -> None:
        """
        Set a status of a commit. GitLab makes a pipeline for it if the commit has none.

        Args:
            ref: The project.
            sha: The commit.
            state: How it stands; the state that it has already is no error.
            name: Which status.
            ref_name: The branch.
            target_url: Where it leads.
            description: One line; cut at 255 characters.

        Raises:
            Invalid: The project does not have the commit any more.

        """
        given = {"state": state, "name": name, "ref": ref_name, "target_url": target_url}
        given |= {"description": description[:DESCRIPTION_LIMIT] if description else None}
        body = {key: value for key, value in given.items() if value is not None}
        path = project_path(ref, "statuses", sha)
        request = Request(f"set status {name} of {sha} of {ref}", path, "post", body=body, needs=WRITES)
        try:
            await self._transport.json(request)
        except Invalid as error:
            if "Cannot transition status" not in str(error):
                raise
        except Conflict as error:
            if COMMIT_NOT_FOUND not in str(error):
                raise
            raise Invalid(f"{error}; it was pushed over, and no other try brings it back") from error
