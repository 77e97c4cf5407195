"""Following one Environment until it is where it should be: a watch, taken up again when it breaks."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass
from datetime import timedelta

from envprov.cli.exits import ExitCode
from envprov.cli.options import Common
from envprov.cli.progress import Story, View, progress
from envprov.cli.session import Session
from envprov.cli.times import parse_timeout
from envprov.cli.verdicts import Outcome, last_word
from envprov.domain.errors import ConfigError, Expired, Throttled, Unavailable
from envprov.kube.client import KubeClient, Object
from envprov.kube.collections import Listing
from envprov.kube.resources import ENVIRONMENTS

WATCH_SECONDS = 300
RECONNECT_SECONDS = 1.0

Work = Callable[[Session, asyncio.Event], Awaitable[None]]
"""Does a controller's work in our own process until the event is set."""


@dataclass(frozen=True)
class Waiting:
    """
    How a command waits.

    Attributes:
        limit: For how long; None for not at all.
        work: Does the work meanwhile; None where a controller does it.

    """

    limit: timedelta | None
    work: Work | None = None


@dataclass(frozen=True)
class Following:
    """
    What is followed, and until when.

    Attributes:
        name: Name of the Environment.
        title: What is going on, for the head of the view.
        story: What is shown of each state.
        judge: Says whether a state is the end.
        limit: How long to follow.
        work: See Waiting.

    """

    name: str
    title: str
    story: Story
    judge: Callable[[Object | None], Outcome | None]
    limit: timedelta
    work: Work | None


async def follow(session: Session, common: Common, following: Following) -> tuple[Object | None, Outcome]:
    """
    Show an Environment until it has come to an end, or the time is over.

    Args:
        session: Where.
        common: The options of the call.
        following: What to follow.

    Returns:
        The Environment as it was last seen, and how it ended.

    Raises:
        EnvprovError: The work in our own process failed, or the API server does not answer at all.

    """
    over = asyncio.Event()
    seen: list[Object | None] = [None]
    with progress(common, following.story, following.title) as view:
        watching = asyncio.ensure_future(_watch(session, following, view, seen))
        tasks: set[asyncio.Future[Outcome | None]] = {watching}
        if following.work is not None:
            # Helm must not outlive us.
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, _cancel, asyncio.current_task())
            tasks.add(asyncio.ensure_future(_work(session, following.work, over)))
        try:
            seconds = following.limit.total_seconds()
            done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            outcomes = [task.result() for task in done]
            over.set()
            watching.cancel()
            await asyncio.wait(tasks, timeout=session.settings.controller.drain.total_seconds())
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
    outcome = next((outcome for outcome in outcomes if outcome is not None), None)
    return seen[0], outcome or _late(following, seen[0])


async def states(client: KubeClient, namespace: str, name: str) -> AsyncGenerator[Object | None, None]:
    """
    An Environment as it is now and each time that it changes; never ends by itself.

    Args:
        client: Where.
        namespace: Control namespace.
        name: Name of the Environment.

    Yields:
        The object, or None while there is none.

    Raises:
        Unavailable: The API server does not answer at all. Once it has, a broken watch is taken up again.

    """
    selector = f"metadata.name={name}"
    listing = await client.list(ENVIRONMENTS, namespace, field_selector=selector)
    while True:
        yield listing.items[0] if listing.items else None
        try:
            async with aclosing(_changes(client, namespace, selector, listing.resource_version)) as changes:
                async for item in changes:
                    yield item
        except Expired:
            pass
        except (Unavailable, Throttled) as error:
            await asyncio.sleep(error.retry_after or RECONNECT_SECONDS)
        listing = await _list_again(client, namespace, selector)


async def _changes(
    client: KubeClient, namespace: str, selector: str, version: str
) -> AsyncGenerator[Object | None, None]:
    """What changes after a moment; ends with the error that ends the watch."""
    while True:
        watch = client.watch(
            ENVIRONMENTS,
            namespace,
            resource_version=version,
            timeout_seconds=WATCH_SECONDS,
            field_selector=selector,
        )
        async with aclosing(watch) as events:
            async for event in events:
                version = event.object["metadata"]["resourceVersion"]
                if event.type != "BOOKMARK":
                    yield None if event.type == "DELETED" else event.object


async def _list_again(client: KubeClient, namespace: str, selector: str) -> Listing:
    while True:
        try:
            return await client.list(ENVIRONMENTS, namespace, field_selector=selector)
        except (Unavailable, Throttled, Expired) as error:
            await asyncio.sleep(error.retry_after or RECONNECT_SECONDS)


async def _watch(session: Session, following: Following, view: View, seen: list[Object | None]) -> Outcome | None:
    async with aclosing(states(session.client, session.namespace, following.name)) as items:
        async for item in items:
            seen[0] = item
            view.show(item)
            outcome = following.judge(item)
            if outcome is not None:
                return outcome
    return None


async def _work(session: Session, work: Work, over: asyncio.Event) -> Outcome | None:
    await work(session, over)
    return Outcome(ExitCode.FAILED, "the work in this process ended before its time")


def waiting(*, wait: bool, timeout: str, work: Work | None) -> Waiting:
    """
    How a command waits, from its arguments.

    Args:
        wait: Whether it does.
        timeout: For how long, as it was written.
        work: See Waiting.

    Raises:
        ConfigError: The time limit is none, or nobody would do the work.

    """
    limit = parse_timeout(timeout)
    if work is not None and not wait:
        raise ConfigError("--standalone and --no-wait: the work is done by this very command, so it has to wait")
    return Waiting(limit if wait else None, work)


def _cancel(task: asyncio.Task[object] | None) -> None:
    if task is not None:
        task.cancel()


def _late(following: Following, item: Object | None) -> Outcome:
    seconds = f"{following.limit.total_seconds():g}s"
    goes_on = "nobody works on it any more: call this again" if following.work else "it goes on in the cluster"
    return Outcome(ExitCode.NOT_READY, f"not there after {seconds} ({last_word(item)}); {goes_on}")
