# SPDX-License-Identifier: MIT
"""The exporter: scraped over real HTTP, read by Prometheus's own parser."""

from __future__ import annotations

import http.client
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from observed import ACCOUNT, Bot, a_status, statuses
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from pacifica_fast import InvalidRequest, Keypair, Signer
from pacifica_fast.mock_exchange import MockExchange
from pacifica_fast.prometheus import Exporter, collector, exposition, read_exposition, serve
from pacifica_fast.status import Status
from pacifica_fast.sync import connect

BASE_UNITS = ("_seconds", "_total")
NO_UNIT = ("_in_flight", "_state", "_remaining", "_quota", "_per_cancel", "_tracked", "_armed")


def scrape(url: str) -> tuple[int, str, str]:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=60)
    try:
        connection.request("GET", parts.path)
        answer = connection.getresponse()
        return answer.status, answer.headers["Content-Type"], answer.read().decode()
    finally:
        connection.close()


def samples(text: str) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Every sample by name and labels; none is there twice."""
    found: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found
            found[key] = sample.value
    return found


def value(text: str, name: str, **labels: str) -> float:
    labels = {"account": ACCOUNT, "client": "0", **labels}
    return samples(text)[f"pacifica_fast_{name}", frozenset(labels.items())]


def test_scraped_over_http() -> None:
    bot = Bot()
    with serve(bot, port=0) as exporter:
        assert exporter.url == f"http://127.0.0.1:{exporter.port}/metrics"
        status, content_type, text = scrape(exporter.url)
        assert status == 200
        assert content_type.startswith("text/plain")
        assert value(text, "requests_total", fate="acked") == 120
        assert value(text, "requests_total", fate="not_sent") == 1
        assert value(text, "late_replies_total") == 1
        assert value(text, "requests_in_flight") == 3
        assert value(text, "reconnects_total") == 2
        assert value(text, "link_state", link="0", state="open") == 1
        assert value(text, "link_state", link="0", state="waiting") == 0
        assert value(text, "link_state_since_timestamp_seconds", link="1") == 1_790_000_100
        assert value(text, "credits_remaining") == 118.5
        assert value(text, "credits_per_cancel") == 0.5
        assert value(text, "clock_offset_seconds") == 0.00125
        assert value(text, "orders_armed") == 118
        assert value(text, "latency_seconds", stage="ack", quantile="0.5") == 0.012
        assert value(text, "latency_seconds_count", stage="ack") == 120
        assert value(text, "latency_seconds_sum", stage="ack") == 1.44
        assert value(text, "latency_max_seconds", stage="ack") == 0.024
        bot.now = a_status(in_flight=4)
        assert value(scrape(exporter.url)[2], "requests_in_flight") == 4
    with pytest.raises(ConnectionRefusedError):
        scrape(exporter.url)


def test_a_real_client() -> None:
    keypair = Keypair.generate()
    with (
        MockExchange(tls=False).in_thread() as exchange,
        connect(Signer(keypair), url=exchange.url, latency=True) as client,
        serve(client, port=0) as exporter,
    ):
        for _ in range(3):
            order = exchange.place(keypair.pubkey())
            pending = client.cancel_order_nowait("BTC", order_id=order.order_id)
            pending.result()
        text = scrape(exporter.url)[2]
    labels = {"account": keypair.pubkey()}
    assert value(text, "requests_total", fate="acked", **labels) == 3
    assert value(text, "latency_seconds_count", stage="ack", **labels) == 3
    for stage in ("build", "write", "ack"):
        assert 0 < value(text, "latency_seconds", stage=stage, quantile="0.5", **labels) < 5
    (status,) = read_exposition(text)
    assert status.account == keypair.pubkey()


@given(statuses, statuses)
def test_what_is_read_is_what_was_served(one: Status, other: Status) -> None:
    text = exposition(Bot(one), Bot(other)).decode()
    samples(text)
    got = read_exposition(text)
    assert len(got) == 2
    for read, status in zip(got, (one, other), strict=True):
        assert nearly(read) == nearly(status)


def nearly(status: Any) -> Any:
    """Without what the change of units and back does to the last bit; links in one order."""
    if isinstance(status, float):
        return float(f"{status:.12g}")
    if isinstance(status, tuple):
        return tuple(nearly(part) for part in status)
    if hasattr(status, "__slots__"):
        return tuple(nearly(getattr(status, name)) for name in status.__slots__)
    return status


def test_names_follow_the_rules() -> None:
    text = exposition(Bot()).decode()
    for family in text_string_to_metric_families(text):
        assert re.fullmatch(r"pacifica_fast_[a-z_]+", family.name)
        assert family.documentation.endswith(".")
        assert family.type in ("counter", "gauge", "summary")
        shown = family.name + ("_total" if family.type == "counter" else "")
        assert shown.endswith(BASE_UNITS + NO_UNIT), shown
        for sample in family.samples:
            assert {"account", "client"} <= sample.labels.keys()


def test_two_clients_of_one_account_are_told_apart() -> None:
    text = exposition(Bot(), Bot(a_status(in_flight=7))).decode()
    assert value(text, "requests_in_flight") == 3
    assert value(text, "requests_in_flight", client="1") == 7


def test_what_is_not_known_is_not_there() -> None:
    bare = a_status(credits=None, clock=None, latency=None, orders=None, links=())
    text = exposition(Bot(bare)).decode()
    names = {name.removeprefix("pacifica_fast_") for name, _ in samples(text)}
    wanted = {"opened_timestamp_seconds", "requests_in_flight"}
    assert names == wanted | {"requests_total", "late_replies_total", "reconnects_total"}
    assert read_exposition(text) == (bare,)


def test_in_a_registry_of_your_own() -> None:
    registry = CollectorRegistry()
    registry.register(collector(Bot()))
    assert value(generate_latest(registry).decode(), "requests_in_flight") == 3
    with pytest.raises(ValueError, match="Duplicated"):
        registry.register(collector(Bot()))


def test_a_client_that_fails_fails_the_scrape(capfd: pytest.CaptureFixture[str]) -> None:
    class Broken:
        def status(self) -> Status:
            raise RuntimeError("no status today")

    with serve(Broken(), port=0) as exporter:
        assert scrape(exporter.url)[0] == 500
    assert "no status today" in capfd.readouterr().err


def test_many_scrapes_at_once() -> None:
    with serve(Bot(), port=0) as exporter:
        got: list[int] = []
        threads = [threading.Thread(target=lambda: got.append(scrape(exporter.url)[0])) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert got == [200] * 8


@contextmanager
def served() -> Iterator[Exporter]:
    with serve(Bot(), port=0) as exporter:
        yield exporter


def test_a_port_that_is_taken() -> None:
    with served() as exporter, pytest.raises(OSError, match=r"in use"):
        serve(Bot(), port=exporter.port)


@pytest.mark.parametrize("port", [-1, 65_536, "9464", True, None])
def test_a_wrong_port(port: object) -> None:
    with pytest.raises(InvalidRequest, match="port"):
        serve(Bot(), port=port)  # type: ignore[arg-type]


def test_wrong_arguments() -> None:
    with pytest.raises(InvalidRequest, match="address"):
        serve(Bot(), port=0, address="")
    with pytest.raises(InvalidRequest, match="clients"):
        collector()
    with pytest.raises(InvalidRequest, match="clients"):
        serve(object(), port=0)  # type: ignore[arg-type]


def test_text_of_others() -> None:
    other = "# TYPE up gauge\nup 1\n"
    assert read_exposition(other) == ()
    assert read_exposition(other + exposition(Bot()).decode()) == (a_status(),)
    whole = exposition(Bot()).decode()
    for text in (
        whole.replace("pacifica_fast_requests_in_flight", "something_else"),
        whole.replace('client="0"', 'client="x"'),
        whole.replace("} 118.5", "} NaN"),
        whole.replace("} 120.0", "} +Inf"),
        "<html><body>404 not found</body></html>",
        'pacifica_fast_opened_timestamp_seconds{account="a" 1',
    ):
        with pytest.raises(ValueError, match=r"."):
            read_exposition(text)


def test_without_the_library() -> None:
    code = "import sys; sys.modules['prometheus_client'] = None; import pacifica_fast.prometheus"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "pip install 'pacifica-fast[metrics]'" in done.stderr
