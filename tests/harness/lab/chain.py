"""The chain: devices -> HAProxy -> EMQ x2 -> HAProxy -> bridge -> Kafka x3."""

import contextlib
import csv
import http.client
import json
import os
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tests.harness.bridge import BridgeProcess
from tests.harness.brokers import Brokers, External, TwoDoors
from tests.harness.devices import Devices
from tests.harness.grafana import Grafana
from tests.harness.haproxy import CONSOLE, DASHBOARDS, DEVICES, PASSWORD, SUBSCRIBER, USER, HAProxy
from tests.harness.host import LAB, Network
from tests.harness.kafka import CLIENTS, KafkaCluster
from tests.harness.lab.score import Scoreboard
from tests.harness.lab.snapshot import Seat, checked
from tests.harness.lab.words import TOPICS
from tests.harness.process import Node, Process, tcp_sources
from tests.harness.prometheus import Prometheus
from tests.harness.rabbitmq import RabbitPair
from tests.harness.relay import RecordingRelay, Sighting
from tests.harness.verifier import Verifier

PAGE = 9464  # the port of the bridge's [http] listen
CLIENT_ID = "lab"
"""The client id of the lab's bridge. It is not the default of `mqtt.client_id`: a bridge that the user starts
beside the lab would share the session."""

# By default a Kafka broker ends if it finds no majority of controllers for 60 s. In the lab it waits a day,
# because a user may start its peers one by one.
_PATIENT = "initial.broker.registration.timeout.ms=86400000\n"

_ROUTES = [
    {
        "name": "sensors",
        "filter": "sensors/{site}/{device}/{quantity}",
        "topic": TOPICS[0],
        "key": "{device}",
    },
    {"name": "others", "filter": "#", "topic": TOPICS[1]},
]


@dataclass(frozen=True)
class Plan:
    """The options of a lab. `emq` are two HOST:PORT of brokers that already run. `observe`: with Prometheus,
    and with Grafana if it is installed.
    """

    rate: float = 50.0
    qos: int = 1
    devices: int = 20
    brokers: Literal["doors", "rabbitmq"] = "doors"
    emq: tuple[str, ...] = ()
    emq_ctl: str | None = None
    observe: bool = False


class Chain:
    """All hosts of the founding document, the bridge and the devices. They run inside `up()`.

    If `recorded`, the bridge connects to HAProxy through a relay that records the MQTT packets.
    """

    def __init__(self, plan: Plan, directory: Path, *, recorded: bool = False) -> None:
        network = Network(LAB)
        self.plan = plan
        self.emq = self._brokers(network, directory)
        self.haproxy = HAProxy(network.haproxy, directory, self.emq.addresses)
        subscriber = self.haproxy.host.address, SUBSCRIBER
        self._relay = RecordingRelay(subscriber) if recorded else None
        if self._relay:
            subscriber = self._relay.address, self._relay.port
        self.kafka = KafkaCluster(network, directory, properties=_PATIENT)
        self._page = f"{network.bridge.address}:{PAGE}"
        self.bridge = BridgeProcess(self._settings(*subscriber), directory)
        self.watchers = _watchers(network, directory, self._page) if plan.observe else []
        self.devices = Devices(
            network.haproxy.address, DEVICES, count=plan.devices, rate=plan.rate, qos=plan.qos
        )
        self.verifier = Verifier(self.kafka.bootstrap, TOPICS)
        self.scoreboard = Scoreboard(self.devices, self.verifier, plan.qos, self.on_disk, self.is_shared)
        self._on_disk = 0
        self.nodes: Mapping[str, Node] = {
            "emq1": self.emq.node(1),
            "emq2": self.emq.node(2),
            "haproxy": self.haproxy,
            "kafka1": self.kafka.node(1),
            "kafka2": self.kafka.node(2),
            "kafka3": self.kafka.node(3),
            "bridge": self.bridge,
        }
        self.starting: set[str] = set()  # hosts that were started and do not serve yet

    def _brokers(self, network: Network, directory: Path) -> Brokers:
        if self.plan.emq:
            return External(self.plan.emq, self.plan.emq_ctl)
        if self.plan.brokers == "rabbitmq":
            return RabbitPair(network, directory)
        return TwoDoors(network, directory)

    def _settings(self, host: str, port: int) -> dict[str, object]:
        return {
            "mqtt": {"host": host, "port": port, "client_id": CLIENT_ID},
            "kafka": {"bootstrap_servers": self.kafka.bootstrap},
            "routes": _ROUTES,
            # `rounds` leads the bridge through a relay, whose port tells it nothing of a balancer.
            "haproxy": {"stats": f"http://{self.haproxy.host.address}:{CONSOLE}/metrics?scope=server"},
            "http": {"listen": self._page},
            "stop_timeout": "5s",
        }

    @contextlib.contextmanager
    def up(self, say: Callable[[str], object]) -> Iterator[None]:
        """Start all; inside the block messages flow. Afterwards all processes have ended."""
        with contextlib.ExitStack() as running:

            def begin(
                what: str,
                start: Callable[[], object],
                stop: Callable[[], object],
                progress: Callable[[], str] = str,
            ) -> None:
                started = time.monotonic()
                running.callback(stop)
                name = what.partition(":")[0]
                with ticking(lambda took: say(f"{name}: after {took:.0f} s not up yet{progress()}")):
                    start()
                say(f"{what} ({time.monotonic() - started:.1f} s)")

            begin(self._who_plays_emq, self.emq.start, self.emq.stop)
            begin(
                f"haproxy: haproxy/haproxy.cfg on {self.haproxy.host.address}",
                self.haproxy.start,
                self.haproxy.stop,
            )
            say("kafka1, kafka2, kafka3 start, which takes 10 to 60 s")
            begin(
                f"kafka1, kafka2, kafka3: Apache Kafka at {self.kafka.bootstrap}",
                self.kafka.start,
                self.kafka.stop,
                self._kafka_progress,
            )
            if self._relay:
                running.enter_context(self._relay)
            for topic in TOPICS:
                self.kafka.create_topic(topic)
            begin("bridge: live at HAProxy, with its topics in Kafka", self._start_bridge, self._stop_bridge)
            self.verifier.start()
            running.callback(self.verifier.stop)
            begin(
                f"{self.plan.devices} devices: {self.plan.rate:g} messages a second at QoS {self.plan.qos}",
                self.devices.start,
                lambda: self.devices.stop(0.0),
            )
            for watcher in self.watchers:
                begin(f"{watcher.name}: {watcher.url}", watcher.start, watcher.kill9)
            yield

    def _kafka_progress(self) -> str:
        return f"; {sum(node.host.listens(CLIENTS) for node in self.kafka.nodes)} of 3 brokers listen"

    @property
    def _who_plays_emq(self) -> str:
        match self.emq.family:
            case "mosquitto":
                return "emq1, emq2: not EMQ, but one mosquitto behind two doors, so sessions outlive a node"
            case "rabbitmq":
                return "emq1, emq2: not EMQ, but two RabbitMQ nodes with mirrored sessions"
            case "external":
                return f"emq1, emq2: {', '.join(self.emq.addresses)}, which run already"

    @property
    def is_controlled(self) -> bool:
        """Whether the lab can kill and hang the EMQ nodes."""
        return self.emq.family != "external" or self.plan.emq_ctl is not None

    @property
    def stand_in(self) -> str:
        """A sentence for the view that says which brokers simulate EMQ."""
        match self.emq.family:
            case "mosquitto":
                return "emq1 and emq2 are not EMQ: one mosquitto behind two doors stands in for them."
            case "rabbitmq":
                return "emq1 and emq2 are not EMQ: two RabbitMQ nodes with mirrored sessions stand in."
            case "external":
                if self.is_controlled:
                    return f"emq1 and emq2 are brokers of yours: {', '.join(self.emq.addresses)}."
                return "emq1 and emq2 are brokers of yours, which only --emq-ctl could kill and hang."

    def _start_bridge(self) -> None:
        self.bridge.start()
        self.bridge.wait_live()

    def _stop_bridge(self) -> None:
        if self.bridge.alive:
            self.bridge.terminate()

    @property
    def connections(self) -> int:
        """How many connections of the bridge the relay has carried, so the number of the last one."""
        return self._relay.connections if self._relay else 0

    @property
    def sightings(self) -> list[Sighting]:
        """The packets that the relay has recorded."""
        return list(self._relay.sightings) if self._relay else []

    def story(self, name: str) -> str:
        """How often the broker sent the message with this id, and what the bridge answered."""
        return self._relay.story(name) if self._relay else f"{name}: nothing was recorded"

    def condition(self, name: str) -> str:
        """ "up", "down", "hung" or "starts"; for a broker that the lab did not start, by HAProxy's checks."""
        node = self.nodes[name]
        if not isinstance(node, Process):
            return checked((self.seats() or {}).get(name))
        with contextlib.suppress(OSError):  # the main thread has just ended the process
            if not node.alive:
                return "down"
            state = Path(f"/proc/{node.pid}/stat").read_text().rpartition(")")[2].split()[0]
            return "hung" if state == "T" else "starts" if name in self.starting else "up"
        return "down"

    def seats(self) -> dict[str, Seat] | None:
        """The state of both EMQ nodes according to HAProxy; None while HAProxy does not answer."""
        if self.condition("haproxy") != "up":
            return None  # asking a HAProxy that hangs would block
        try:
            rows = list(csv.DictReader(self.haproxy.ask("show stat").removeprefix("# ").splitlines()))
            clients = self.haproxy.clients()
        except OSError:
            return None
        found = {(row["pxname"], row["svname"]): row for row in rows}
        own = self._sources_of_the_bridge()
        return {
            f"emq{number}": Seat(
                state=found["mqtt-kafka", f"server{number}"]["status"].split()[0],
                devices=int(found["tcp-in", f"server{number}"]["scur"]),
                bridge=sum(source in own for source, server in clients if server == f"server{number}"),
                others=sum(source not in own for source, server in clients if server == f"server{number}"),
            )
            for number in (1, 2)
        }

    def _sources_of_the_bridge(self) -> frozenset[str]:
        """The ADDRESS:PORT that HAProxy may see of the lab's own bridge. Other bridges use the same port."""
        if self._relay:
            return tcp_sources(os.getpid())  # the relay is part of this program
        return tcp_sources(self.bridge.pid) if self.bridge.alive else frozenset()

    def is_bridge_at(self, number: int) -> bool:
        """Whether the lab's own bridge is connected to EMQ node 1 or 2."""
        seat = (self.seats() or {}).get(f"emq{number}")
        return seat is not None and seat.bridge > 0

    def is_shared(self) -> bool:
        """Whether another client has used the client id of the lab's bridge, and with it the session."""
        return bool(self.bridge.journal.matching("mqtt.taken_over", {}))

    def on_disk(self) -> int:
        """How many messages wait on the bridge's disk. While the bridge does not answer, this is the
        last number, because they are still there.
        """
        if self.condition("bridge") == "up":
            with (
                contextlib.suppress(OSError, http.client.HTTPException, ValueError),
                urllib.request.urlopen(f"http://{self._page}/status.json", timeout=1.0) as answer,
            ):
                self._on_disk = spooled(answer.read())
        return self._on_disk

    @property
    def has_dropped(self) -> bool:
        """Whether mosquitto's queue for the bridge was full, so that mosquitto dropped messages."""
        return isinstance(self.emq, TwoDoors) and self.emq.has_dropped_for(CLIENT_ID)

    @property
    def page(self) -> str:
        return f"http://{self._page}/"

    @property
    def dashboards(self) -> str:
        return f"http://{self.haproxy.host.address}:{DASHBOARDS}/"

    @property
    def console(self) -> str:
        return f"http://{self.haproxy.host.address}:{CONSOLE}/haproxy?stats"

    def urls(self) -> str:
        urls = [
            f"dashboards {self.dashboards}",
            f"console {self.console} ({USER}, {PASSWORD})",
            f"bridge {self.page}",
            *(f"{watcher.name} {watcher.url}/" for watcher in self.watchers),
        ]
        return "  ".join(urls)


@contextlib.contextmanager
def ticking(tell: Callable[[float], object], period: float = 5.0) -> Iterator[None]:
    """Inside the block call `tell` every `period` seconds, with the seconds since the start."""
    ended = threading.Event()
    began = time.monotonic()

    def tick() -> None:
        while not ended.wait(period):
            tell(time.monotonic() - began)

    thread = threading.Thread(target=tick, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def spooled(document: bytes) -> int:
    """How many messages wait on disk, according to the bridge's /status.json."""
    return int(json.loads(document)["snapshot"]["flow"]["spooled"])


def _watchers(network: Network, directory: Path, page: str) -> "list[Prometheus | Grafana]":
    """Prometheus, and Grafana if it is installed: Debian has no package of it."""
    prometheus = Prometheus(network.observer, directory / "prometheus", page)
    if not Grafana.is_installed():
        return [prometheus]
    return [prometheus, Grafana(network.observer, directory / "grafana", prometheus.url)]
