"""Liveness, readiness and metrics."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from goclaw.gateway.house import House


def ops_routes(house: House) -> list[Route]:
    """`/healthz` and `/readyz` are open; `/metrics` and `/metrics/json` need the token."""

    async def healthz(_: Request) -> Response:
        return JSONResponse({"healthy": True, "version": house.identity.version, "boot_id": house.identity.boot_id})

    async def readyz(_: Request) -> Response:
        ready = await house.vitals.readiness()
        return JSONResponse(ready, 200 if ready["ready"] else 503)

    async def metrics(_: Request) -> Response:
        return PlainTextResponse(
            await house.vitals.metrics_text(), media_type="text/plain; version=0.0.4; charset=utf-8"
        )

    async def metrics_json(_: Request) -> Response:
        return JSONResponse(await house.vitals.metrics_json())

    return [
        Route("/healthz", healthz),
        Route("/readyz", readyz),
        Route("/metrics", metrics),
        Route("/metrics/json", metrics_json),
    ]
