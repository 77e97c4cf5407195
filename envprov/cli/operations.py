"""The commands that platform people and pods use, with their arguments; imported late, as in ``commands``."""

from __future__ import annotations

from typing import Annotated

import typer

from envprov.cli.commands import run
from envprov.cli.options import Common, with_common


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
) -> None:
    """End environments whose lifetime is over, forget old tombstones, and report namespaces without a record."""
    from envprov.cli.cleanup import cleanup

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
