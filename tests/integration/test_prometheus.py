"""Debian's Prometheus scrapes the metrics: every expression of alerts and dashboard has data."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from bridge.status.metrics import CONTENT_TYPE, render
from bridge.status.snapshot import Snapshot, Transactions
from tests.harness.conditions import wait_until
from tests.harness.dashboard import alert_expressions, metrics_in, targets, without_variables
from tests.harness.host import Host
from tests.harness.prometheus import Prometheus
from tests.harness.snapshots import STATES, queue_filling

pytestmark = pytest.mark.apart

_ADDRESS = "127.30.2.90"


class _Bridge:
    """Answers /metrics with a snapshot that the test chooses."""

    def __init__(self, make: Callable[[], Snapshot]) -> None:
        self.make = make
        bridge = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = render(bridge.make())
                self.send_response(200)
                self.send_header("Content-Type", CONTENT_TYPE)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = HTTPServer((_ADDRESS, 0), Handler)
        self.target = f"{_ADDRESS}:{self._server.server_port}"

    @contextmanager
    def serving(self) -> Iterator[None]:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()


def _with_all_metrics() -> Snapshot:
    """What is configured for few: EMQX's API, and delivery exactly-once."""
    filling = queue_filling()
    transactions = Transactions(1_204, 2, 1, filling.flow.delivery_seconds)
    return replace(filling, kafka=replace(filling.kafka, transactions=transactions))


@pytest.fixture
def bridge() -> Iterator[_Bridge]:
    made = _Bridge(_with_all_metrics)
    with made.serving():
        yield made


@pytest.fixture
def prometheus(bridge: _Bridge, tmp_path: Path) -> Iterator[Prometheus]:
    program = Prometheus(Host("prometheus", _ADDRESS), tmp_path, bridge.target, interval="1s")
    program.start()
    try:
        wait_until(lambda: len(program.api.query('up{job="mqtt-kafka-bridge"} == 1')) == 1, 20.0, "a scrape")
        wait_until(
            lambda: program.api.query("count_over_time(mqtt_kafka_bridge_mqtt_live[1m]) > 3"), 20.0, "four"
        )
        yield program
    finally:
        program.terminate()


def test_the_expressions_of_alerts_and_dashboard_have_data(prometheus: Prometheus) -> None:
    """An alert that is quiet has no data, but each of its metrics has."""
    exceptions = {"mqtt_kafka_bridge_mqtt_trouble", "mqtt_kafka_bridge_kafka_trouble"}  # there is none
    for name, expression in targets().items():
        used = metrics_in(expression)
        assert prometheus.api.query(without_variables(expression)) or used & exceptions, (name, expression)
    for name, expression in alert_expressions().items():
        prometheus.api.query(expression)
        for metric in metrics_in(expression):
            assert prometheus.api.query(f"last_over_time({metric}[1m])"), (name, metric)


def test_an_alert_becomes_active_when_its_fault_happens_and_ends_with_it(
    prometheus: Prometheus, bridge: _Bridge
) -> None:
    bridge.make = STATES["healthy"]
    wait_until(lambda: not prometheus.api.firing(), 20.0, lambda: f"no alert, but {prometheus.api.firing()}")
    bridge.make = STATES["emq_down"]
    expected = {"MqttKafkaBridgeNotReceiving", "MqttKafkaBridgeEmqNodeDown"}
    wait_until(
        lambda: prometheus.api.firing().keys() == expected, 30.0, lambda: f"only {prometheus.api.firing()}"
    )
    assert "mqtt.unavailable at 172.30.1.10:1884" in prometheus.api.firing()["MqttKafkaBridgeNotReceiving"]
    bridge.make = STATES["healthy"]
    wait_until(lambda: not prometheus.api.firing(), 20.0, lambda: f"no alert, but {prometheus.api.firing()}")
