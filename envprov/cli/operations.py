"""The commands that platform people and pods use, with their arguments; imported late, as in ``commands``."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from envprov.cli.commands import run
from envprov.cli.options import Common, with_common

AccountArgument = Annotated[
    str, typer.Argument(metavar="NAMESPACE/NAME", help="ServiceAccount, with the Namespace that it is in.")
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
