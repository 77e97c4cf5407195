"""The controller's probes and metrics over HTTP."""

from __future__ import annotations

from collections.abc import Callable

from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest


def create_probes(registry: CollectorRegistry, unready: Callable[[], str | None]) -> FastAPI:
    """
    The application that answers ``/healthz``, ``/readyz`` and ``/metrics``.

    Args:
        registry: What ``/metrics`` shows.
        unready: Says why the process is not ready, or None.

    """
    app = FastAPI(title="envprov controller", docs_url=None, redoc_url=None, openapi_url=None)

    @app.get("/healthz")
    async def healthz() -> Response:
        return Response("ok\n", media_type="text/plain")

    @app.get("/readyz")
    async def readyz() -> Response:
        reason = unready()
        return Response(f"{reason or 'ok'}\n", status_code=503 if reason else 200, media_type="text/plain")

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)

    return app
