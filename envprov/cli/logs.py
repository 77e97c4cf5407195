"""Logs: structlog on standard error, one JSON object or one line of text for each entry."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from envprov.settings import LogSettings

SECRET_KEYS = frozenset({"token", "secret", "password", "authorization"})

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def configure(settings: LogSettings) -> None:
    """
    Set up logging for a process: our own entries and those of the libraries.

    Args:
        settings: Level and form.

    """
    json = settings.format == "json"
    last: list[Any] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(default=str)]
        if json
        else [structlog.dev.ConsoleRenderer(colors=False)]
    )
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        drop_secrets,
    ]
    level = _LEVELS[settings.level]
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared[1:], structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    # The libraries say at INFO what they are called with, for each request: that is not for a log.
    logging.basicConfig(handlers=[handler], level=max(level, logging.WARNING), force=True)


def configure_for_people(*, debug: bool) -> None:
    """
    Set up logging for a command that a person waits for: silence, unless something is wrong.

    Args:
        debug: Whether to say everything.

    """
    configure(LogSettings(level="debug" if debug else "error", format="text"))


def drop_secrets(_logger: object, _method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Leave out what stands under a secret's name, should it ever come so far."""
    for key in [key for key in entry if key.lower() in SECRET_KEYS]:
        del entry[key]
    return entry


def raised(settings: LogSettings, *, debug: bool) -> LogSettings:
    """The settings of the logs, with everything in them if ``--debug`` asks for it."""
    return settings.model_copy(update={"level": "debug"}) if debug else settings
