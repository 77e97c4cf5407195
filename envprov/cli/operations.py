"""The commands that platform people and pods use, with their arguments; imported late, as in ``commands``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from envprov.cli.commands import run
from envprov.cli.options import Common, with_common

AccountArgument = Annotated[
    str, typer.Argument(metavar="NAMESPACE/NAME", help="ServiceAccount, with the Namespace that it is in.")
]
UrlOption = Annotated[
    str | None,
    typer.Option(
        "--url", metavar="URL", help="Where GitLab reaches the receiver; by default gitlab.hook_url of the settings."
    ),
]


class LastUser(StrEnum):
    """What becomes of an adopted ServiceAccount when its last user is gone."""

    KEEP = "keep"
    DELETE_WITH_LAST_USER = "delete-with-last-user"


@with_common
def serve(common: Common) -> None:
    """Run the receiver of GitLab's webhooks."""
    from envprov.cli.processes import serve

    run(serve(common))


@with_common
def controller(
    common: Common,
    *,
    identity: Annotated[
        str | None,
        typer.Option("--identity", metavar="NAME", help="Name in the Lease; by default one that nobody else has."),
    ] = None,
) -> None:
    """Run the controller."""
    from envprov.cli.processes import control

    run(control(common, identity))


@with_common
def cleanup(
    common: Common,
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    confirm_mass_delete: Annotated[
        str | None,
        typer.Option(
            "--confirm-mass-delete",
            metavar="PROJECT",
            help="Agree to the loss of exactly those environments that the sweep of this Project has stopped at.",
        ),
    ] = None,
) -> None:
    """Remove what nobody needs: expired environments, branches that are gone, and what is left of them."""
    from envprov.cli.cleanup import cleanup, confirm

    if confirm_mass_delete is not None:
        run(confirm(common, confirm_mass_delete))
    run(cleanup(common, dry_run=dry_run))


@with_common
def manifests(
    common: Common,
    *,
    image: Annotated[
        str | None, typer.Option("--image", metavar="IMAGE", help="Container image, with its tag or digest.")
    ] = None,
) -> None:
    """Print what to `kubectl apply` to install envprov."""
    from envprov.cli.manifests import print_manifests

    raise typer.Exit(print_manifests(image, common.namespace))


@with_common
def doctor(
    common: Common,
    *,
    as_controller: Annotated[
        bool, typer.Option("--as-controller", help="Check the permissions that the controller needs.")
    ] = False,
) -> None:
    """Check everything that envprov needs, and say what to do about what is missing."""
    from envprov.cli.doctor import doctor

    run(doctor(common, as_controller=as_controller))


@with_common
def guard_status(common: Common) -> None:
    """Show whether the guard is in force, and what it guards."""
    from envprov.cli.guard_status import show_status

    run(show_status(common))


@with_common
def guard_explain(
    common: Common,
    what: Annotated[
        str, typer.Argument(metavar="NAMESPACE[/NAME]", help="ServiceAccount, or the name of a Namespace alone.")
    ],
) -> None:
    """Show who keeps a ServiceAccount or a Namespace, and what to do about it."""
    from envprov.cli.guard_show import explain

    run(explain(common, what))


@with_common
def guard_hold(
    common: Common,
    account: AccountArgument,
    *,
    by: Annotated[str, typer.Option("--by", metavar="WHO", help="Who uses it: a team, a system.")],
    ttl: Annotated[str, typer.Option("--ttl", metavar="TIME", help="For how long: 30d, 12h, 1w3d; at most 10 years.")],
    reason: Annotated[str, typer.Option("--reason", metavar="TEXT", help="What it is used for.")] = "",
) -> None:
    """Declare that somebody outside the cluster uses a ServiceAccount; again to renew it."""
    from envprov.cli.guard import hold

    run(hold(common, account, by=by, ttl=ttl, reason=reason))


@with_common
def guard_release(
    common: Common,
    account: AccountArgument,
    *,
    by: Annotated[
        str | None,
        typer.Option("--by", metavar="WHO", help="End the hold that WHO declared; without, guard it no longer."),
    ] = None,
) -> None:
    """End a declared hold, or guard an adopted ServiceAccount no longer if nobody uses it."""
    from envprov.cli.guard import release

    run(release(common, account, by))


@with_common
def guard_adopt(
    common: Common,
    account: AccountArgument,
    *,
    policy: Annotated[
        LastUser, typer.Option("--policy", help="What becomes of it when its last user is gone.")
    ] = LastUser.KEEP,
) -> None:
    """Guard a ServiceAccount from now on, also while nobody uses it."""
    from envprov.cli.guard import adopt

    run(adopt(common, account, policy.value))


@with_common
def project_add(  # noqa: PLR0913 - one parameter for each option
    common: Common,
    gitlab: Annotated[
        str, typer.Argument(metavar="GROUP/PROJECT", help="Path in GitLab, or the number, which stays when it moves.")
    ],
    *,
    name: Annotated[
        str | None,
        typer.Option("--name", metavar="NAME", help="Name of the Project; by default the last part of the path."),
    ] = None,
    chart: Annotated[
        str | None,
        typer.Option(
            "--chart",
            metavar="CHART",
            help="Folder of the repository (deploy/chart is the default), oci://REF@VERSION, or URL#NAME@VERSION.",
        ),
    ] = None,
    host: Annotated[
        str | None, typer.Option("--host", metavar="HOST", help="Host of an environment: {slug}.dev.example.com.")
    ] = None,
    branches: Annotated[
        list[str] | None,
        typer.Option("--branches", metavar="GLOB", help="Which branches get an environment; several times for more."),
    ] = None,
    url: UrlOption = None,
    token_secret: Annotated[
        str | None,
        typer.Option(
            "--token-secret",
            metavar="NAME",
            help="Secret that the receiver reads the webhook's secret from; by default envprov-webhook-signing where "
            "GitLab signs, or else envprov-webhook.",
        ),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", metavar="FILE", help="File with the webhook's secret; no Secret is touched."),
    ] = None,
    signature: Annotated[
        bool, typer.Option("--signature/--no-signature", help="Whether GitLab is to sign, if it is 19.0 or later.")
    ] = True,
    rotate: Annotated[bool, typer.Option("--rotate", help="Give the webhook a new secret.")] = False,
    no_hook: Annotated[bool, typer.Option("--no-hook", help="Write the Project alone.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Change a Project that is there and is other than asked for.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
) -> None:
    """Serve a project of GitLab: write its Project, make its webhook, and test that it arrives."""
    from envprov.cli.project_add import add
    from envprov.cli.project_hook import HookArguments
    from envprov.cli.project_wish import ProjectArguments

    arguments = ProjectArguments(gitlab, name, chart, host, tuple(branches or ()))
    hook = None if no_hook else HookArguments(url, token_secret, token_file, rotate, signature)
    run(add(common, arguments, hook, force=force, dry_run=dry_run))


@with_common
def project_list(common: Common) -> None:
    """List the Projects, and how far each is in step with GitLab."""
    from envprov.cli.project_list import list_projects

    run(list_projects(common))


@with_common
def project_check(
    common: Common,
    names: Annotated[
        list[str] | None, typer.Argument(metavar="NAME", help="Projects; by default all.", show_default=False)
    ] = None,
    *,
    url: UrlOption = None,
    test: Annotated[
        bool, typer.Option("--test", help="Have GitLab deliver a sample, which is a push of the default branch.")
    ] = False,
) -> None:
    """Check everything between GitLab and the Projects, and say what to do about what is missing."""
    from envprov.cli.project_check import check

    run(check(common, tuple(names or ()), url=url, test=test))
