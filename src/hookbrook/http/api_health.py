"""`/healthz`, `/readyz` and `/metrics`."""

from collections.abc import Iterator
from contextlib import suppress

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector
from starlette.responses import JSONResponse

from hookbrook.core.delivery import State
from hookbrook.errors import StoreError
from hookbrook.http.gateway import Gateway, Stats
from hookbrook.http.tally import Tally


class Health:
    """The routes, bound to a gateway. They need no credential and tell no names."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        # Of this app alone: a process may hold several, and the library's own registry is global.
        self._registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._registry.register(_Numbers(gateway.stats, gateway.tally))

    def router(self) -> APIRouter:
        router = APIRouter(tags=["operation"])
        for path, route, summary in (
            ("/healthz", self.alive, "Alive"),
            ("/readyz", self.ready, "Able to accept events"),
            ("/metrics", self.metrics, "Prometheus metrics"),
        ):
            router.add_api_route(path, route, methods=["GET"], summary=summary)
            # Load balancers ask by HEAD; the document need not say so.
            router.add_api_route(path, route, methods=["HEAD"], include_in_schema=False)
        return router

    async def alive(self) -> JSONResponse:
        """200 as long as the process answers at all."""
        return JSONResponse({"status": "ok"})

    async def ready(self) -> JSONResponse:
        """200 while an event would be accepted, else 503 with the reason."""
        if not self._gateway.accepting():
            return _unready("The server is shutting down.")
        health = await self._gateway.store.health()
        return JSONResponse({"status": "ok"}) if health.ok else _unready(health.reason)

    async def metrics(self) -> Response:
        health = await self._gateway.store.health()
        writable = GaugeMetricFamily(
            "hookbrook_store_writable", "1 if an event would be accepted now.", value=health.ok
        )
        lines = generate_latest(self._registry) + generate_latest(_registry_of(writable))
        with suppress(StoreError):  # what else is known is worth telling, above all then
            lines += generate_latest(_registry_of(await self._deliveries()))
        return Response(lines, media_type=CONTENT_TYPE_LATEST)

    async def _deliveries(self) -> Metric:
        counts = await self._gateway.store.counts()
        gauge = GaugeMetricFamily("hookbrook_deliveries", "Deliveries that have not succeeded.", labels=["status"])
        for state in State:
            if state is not State.SUCCEEDED:
                gauge.add_metric([state.value], counts.get(state, 0))
        return gauge


def _unready(reason: str) -> JSONResponse:
    return JSONResponse({"status": "unavailable", "reason": reason}, 503)


def _registry_of(metric: Metric) -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Fixed(metric))
    return registry


class _Fixed(Collector):
    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> Iterator[Metric]:
        yield self._metric


class _Numbers(Collector):
    """What the parts count, read when somebody asks."""

    def __init__(self, stats: Stats, tally: Tally) -> None:
        self._stats = stats
        self._tally = tally

    def collect(self) -> Iterator[Metric]:
        yield CounterMetricFamily("hookbrook_events", "Events appended.", value=self._stats.events())
        yield GaugeMetricFamily("hookbrook_streams_open", "Streams open now.", value=self._stats.streams())
        yield GaugeMetricFamily(
            "hookbrook_attempts_in_flight",
            "Attempts under way, or answered and not on the disk yet.",
            value=self._stats.in_flight(),
        )
        yield CounterMetricFamily(
            "hookbrook_attempts_prevented",
            "Attempts that did not come about, for want of a socket or of the proxy.",
            value=self._stats.prevented(),
        )
        attempts = CounterMetricFamily("hookbrook_attempts", "Attempts by what they led to.", labels=["outcome"])
        for outcome, number in self._stats.outcomes().items():
            attempts.add_metric([outcome], number)
        yield attempts
        webhooks = CounterMetricFamily("hookbrook_webhooks", "Webhooks received, by outcome.", labels=["outcome"])
        for became, number in self._tally.total().items():
            webhooks.add_metric([became], number)
        yield webhooks
