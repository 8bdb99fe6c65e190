# SPDX-License-Identifier: MIT
"""Prometheus metrics of a client (extra ``metrics``): ``serve(client, 9464)``, and it can be scraped.

Names and units follow prometheus.io, "Metric and label naming": base units, ``_total`` for what only
grows. Percentiles are a summary whose quantiles cover the last minute, or what
:class:`~pacifica_fast.latency.Latency` was given; its sum and count are since the start.

Every series has the labels ``account`` and ``client``, the latter a number from 0: two clients of
one account may be exported together. Nothing exported is a secret, but it tells how you trade:
the default address is this machine's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from math import isfinite
from threading import Thread
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from pacifica_fast.errors import InvalidRequest
from pacifica_fast.latency import STAGES, LatencySummary, StageSummary
from pacifica_fast.status import (
    LINK_STATES,
    ClockStatus,
    CreditStatus,
    Fates,
    LinkStatus,
    Observable,
    OrderStatus,
    Status,
)

try:
    from prometheus_client import CollectorRegistry, generate_latest, start_http_server
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        Metric,
        SummaryMetricFamily,
    )
    from prometheus_client.parser import text_string_to_metric_families
    from prometheus_client.registry import Collector
except ImportError as _error:
    raise ImportError("metrics need prometheus_client: pip install 'pacifica-fast[metrics]'") from _error

if TYPE_CHECKING:
    from wsgiref.simple_server import WSGIServer

__all__ = ["Exporter", "StatusCollector", "collector", "exposition", "read_exposition", "serve"]

_PREFIX: Final = "pacifica_fast_"
_FATES: Final = ("acked", "rejected", "unknown", "not_sent")
_OWN: Final = ("account", "client")
_QUANTILES: Final = {"0.5": "p50", "0.9": "p90", "0.99": "p99", "0.999": "p999"}


class StatusCollector(Collector):
    """Turns ``status()`` into metrics whenever it is asked; made by :func:`collector`."""

    def __init__(self, clients: tuple[Observable, ...]) -> None:
        self._clients = clients

    def describe(self) -> Iterable[Metric]:
        """The metrics without values, for a registry to look for duplicates."""
        return _Families().all()

    def collect(self) -> Iterable[Metric]:
        """Ask every client."""
        families = _Families()
        for number, client in enumerate(self._clients):
            families.add(str(number), client.status())
        return families.all()


def collector(*clients: Observable) -> StatusCollector:
    """A collector for a registry of your own: ``REGISTRY.register(collector(client))``.

    Raises :class:`InvalidRequest` for what has no ``status()``.
    """
    if not clients:
        raise InvalidRequest("clients: expected at least one")
    for client in clients:
        if not callable(getattr(client, "status", None)):
            raise InvalidRequest(f"clients: expected something with status(), got {type(client).__name__}")
    return StatusCollector(clients)


def exposition(*clients: Observable) -> bytes:
    """The metrics in Prometheus's text format, for a bot that has an HTTP server of its own.

    Its content type is ``prometheus_client.CONTENT_TYPE_LATEST``.
    """
    return generate_latest(_registry(*clients))


class Exporter:
    """A running exporter, made by :func:`serve`; ``url`` is where to scrape it. Close it, or leave it."""

    def __init__(self, server: WSGIServer, thread: Thread, address: str) -> None:
        self._server = server
        self._thread = thread
        host = f"[{address}]" if ":" in address else address
        self.port: int = server.server_port
        self.url: str = f"http://{host}:{self.port}/metrics"

    def close(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Exporter:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def serve(*clients: Observable, port: int = 9464, address: str = "127.0.0.1") -> Exporter:
    """Serve the metrics of one or more clients over HTTP, in a daemon thread. ``port`` 0: a free one.

    Raises :class:`InvalidRequest` for wrong arguments, ``OSError`` if it cannot listen there.
    """
    if type(port) is not int or not 0 <= port < 1 << 16:
        raise InvalidRequest("port: expected a whole number from 0 to 65535")
    if not isinstance(address, str) or not address:
        raise InvalidRequest("address: expected the name or number of an interface")
    server, thread = start_http_server(port, address, _registry(*clients))
    return Exporter(server, thread, address)


def read_exposition(text: str) -> tuple[Status, ...]:
    """The other way round: the clients in what an exporter of this module served, in their order.

    Other metrics in the text are passed over. Raises ``ValueError`` for what is not such a text.
    """
    samples: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.startswith(_PREFIX):
                if not isfinite(sample.value):
                    raise ValueError(f"{sample.name} is not finite")
                name = sample.name.removeprefix(_PREFIX)
                samples.setdefault(name, []).append((sample.labels, sample.value))
    try:
        clients = sorted(
            (
                (labels["client"], labels["account"])
                for labels, _ in samples.get("opened_timestamp_seconds", [])
            ),
            key=lambda client: int(client[0]),
        )
        return tuple(_Reader(samples, number, account).status() for number, account in clients)
    except LookupError as error:
        raise ValueError(f"a metric or label of pacifica_fast is missing: {error}") from None


def _registry(*clients: Observable) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(collector(*clients))
    return registry


class _Families:
    """All metrics, and how a status becomes samples of them."""

    def __init__(self) -> None:
        self.opened = _gauge("opened_timestamp_seconds", "When the client was made, Unix time.")
        self.requests = _counter("requests", "Requests that have ended, by fate.", "fate")
        self.late = _counter("late_replies", "Replies that came after their request had ended.")
        self.in_flight = _gauge("requests_in_flight", "Requests sent and not ended.")
        self.reconnects = _counter("reconnects", "Connections made in place of a lost one.")
        self.link_state = _gauge("link_state", "1 for the state a link is in, else 0.", "link", "state")
        self.link_since = _gauge(
            "link_state_since_timestamp_seconds", "Since when it is in this state, Unix time.", "link"
        )
        self.remaining = _gauge("credits_remaining", "Credits left.")
        self.quota = _gauge("credits_quota", "Credits of a full period.")
        self.refresh = _gauge("credits_refresh_seconds", "Until the credits are full again.")
        self.per_cancel = _gauge("credits_per_cancel", "Credits a cancel costs, as observed.")
        self.offset = _gauge("clock_offset_seconds", "How far the exchange's clock is ahead of ours.")
        self.error = _gauge("clock_error_seconds", "By how much that may be wrong.")
        self.round_trip = _gauge("clock_round_trip_seconds", "The shortest way there and back.")
        self.tracked = _gauge("orders_tracked", "Resting orders that are known.")
        self.armed = _gauge("orders_armed", "Resting orders with a cancel signed ahead of time.")
        self.latency = SummaryMetricFamily(
            f"{_PREFIX}latency_seconds",
            "Time of a cancel's stages; quantiles of the window.",
            labels=[*_OWN, "stage"],
        )
        self.slowest = _gauge("latency_max_seconds", "The longest of the window.", "stage")
        self.window = _gauge("latency_window_seconds", "How far back quantiles and maximum look.")

    def all(self) -> list[Metric]:
        return list(vars(self).values())

    def add(self, number: str, status: Status) -> None:
        own = [status.account, number]
        self.opened.add_metric(own, status.opened)
        for fate in _FATES:
            self.requests.add_metric([*own, fate], getattr(status.fates, fate))
        self.late.add_metric(own, status.fates.late)
        self.in_flight.add_metric(own, status.in_flight)
        self.reconnects.add_metric(own, status.reconnects)
        for link in status.links:
            for state in dict.fromkeys((*LINK_STATES, link.state)):
                self.link_state.add_metric([*own, link.name, state], state == link.state)
            self.link_since.add_metric([*own, link.name], link.since)
        if status.credits is not None:
            self.remaining.add_metric(own, status.credits.remaining)
            self.quota.add_metric(own, status.credits.quota)
            self.refresh.add_metric(own, status.credits.refresh)
            if status.credits.per_cancel is not None:
                self.per_cancel.add_metric(own, status.credits.per_cancel)
        if status.clock is not None:
            self.offset.add_metric(own, status.clock.offset / 1e3)
            self.error.add_metric(own, status.clock.error / 1e3)
            self.round_trip.add_metric(own, status.clock.round_trip / 1e3)
        if status.orders is not None:
            self.tracked.add_metric(own, status.orders.tracked)
            self.armed.add_metric(own, status.orders.armed)
        if status.latency is not None:
            self._add_latency(own, status.latency)

    def _add_latency(self, own: list[str], latency: LatencySummary) -> None:
        self.window.add_metric(own, latency.window)
        for name in STAGES:
            stage, labels = latency.stage(name), [*own, name]
            self.latency.add_metric(labels, stage.count, stage.total / 1e6)
            of = dict(zip((*_OWN, "stage"), labels, strict=True))
            for quantile, field in _QUANTILES.items():
                value = getattr(stage, field)
                if value is not None:
                    self.latency.add_sample(self.latency.name, {**of, "quantile": quantile}, value / 1e6)
            if stage.max is not None:
                self.slowest.add_metric(labels, stage.max / 1e6)


class _Reader:
    """One client's samples, as a status."""

    def __init__(
        self, samples: dict[str, list[tuple[dict[str, str], float]]], number: str, account: str
    ) -> None:
        self._samples = samples
        self._number = number
        self._account = account

    def status(self) -> Status:
        return Status(
            account=self._account,
            opened=self._value("opened_timestamp_seconds"),
            links=tuple(self._links()),
            in_flight=int(self._value("requests_in_flight")),
            fates=self._fates(),
            reconnects=int(self._value("reconnects_total")),
            credits=self._if_there("credits_quota", self._credits),
            clock=self._if_there("clock_offset_seconds", self._clock),
            latency=self._if_there("latency_window_seconds", self._latency),
            orders=self._if_there("orders_tracked", self._orders),
        )

    def _links(self) -> Iterator[LinkStatus]:
        for labels, value in self._own("link_state"):
            if value:
                name = labels["link"]
                since = self._value("link_state_since_timestamp_seconds", link=name)
                yield LinkStatus(name, labels["state"], since)

    def _fates(self) -> Fates:
        ended = {fate: int(self._value("requests_total", fate=fate)) for fate in _FATES}
        return Fates(**ended, late=int(self._value("late_replies_total")))

    def _credits(self) -> CreditStatus:
        return CreditStatus(
            remaining=self._value("credits_remaining"),
            quota=self._value("credits_quota"),
            refresh=self._value("credits_refresh_seconds"),
            per_cancel=self._maybe("credits_per_cancel"),
        )

    def _clock(self) -> ClockStatus:
        return ClockStatus(
            offset=self._value("clock_offset_seconds") * 1e3,
            error=self._value("clock_error_seconds") * 1e3,
            round_trip=self._value("clock_round_trip_seconds") * 1e3,
        )

    def _orders(self) -> OrderStatus:
        return OrderStatus(int(self._value("orders_tracked")), int(self._value("orders_armed")))

    def _latency(self) -> LatencySummary:
        return LatencySummary(self._value("latency_window_seconds"), *map(self._stage, STAGES))

    def _stage(self, name: str) -> StageSummary:
        percentiles = {
            field: self._us("latency_seconds", stage=name, quantile=quantile)
            for quantile, field in _QUANTILES.items()
        }
        return StageSummary(
            count=int(self._value("latency_seconds_count", stage=name)),
            total=self._value("latency_seconds_sum", stage=name) * 1e6,
            max=self._us("latency_max_seconds", stage=name),
            **percentiles,
        )

    def _if_there(self, name: str, read: Callable[[], Any]) -> Any:
        return read() if self._maybe(name) is not None else None

    def _us(self, name: str, **labels: str) -> float | None:
        seconds = self._maybe(name, **labels)
        return None if seconds is None else seconds * 1e6

    def _value(self, name: str, **labels: str) -> float:
        value = self._maybe(name, **labels)
        if value is None:
            raise LookupError(_PREFIX + name)
        return value

    def _maybe(self, name: str, **labels: str) -> float | None:
        for found, value in self._own(name):
            if all(found.get(label) == wanted for label, wanted in labels.items()):
                return value
        return None

    def _own(self, name: str) -> Iterator[tuple[dict[str, str], float]]:
        for labels, value in self._samples.get(name, []):
            if labels.get("client") == self._number:
                yield labels, value


def _gauge(name: str, text: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(_PREFIX + name, text, labels=[*_OWN, *labels])


def _counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(_PREFIX + name, text, labels=[*_OWN, *labels])
